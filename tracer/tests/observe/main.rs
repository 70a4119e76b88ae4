//! Commands under observation, by both backends: what is told of them, and that `strace` sees nothing
//! that is not told.
//!
//! `observe [FILTER]` runs the cases whose names contain FILTER. A case starts this program again as the
//! host of a command (`host.rs`); what the command must do that no shell can is in `actor.rs`.

#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::exit,
    clippy::multiple_unsafe_ops_per_block,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test, and a program of its own"
)]

mod actor;
mod cases;
mod fast;
mod host;
mod oracle;

use std::panic::catch_unwind;
use std::process::ExitCode;

/// A name, and what is tried with a backend.
pub type Case = (&'static str, fn(&str));

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("host") => return host::main(&arguments[1..]),
        Some("actor") => return actor::main(&arguments[1]),
        _ => {}
    }
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let (mut ran, mut failed) = (0, Vec::new());
    let all = cases::ALL.iter().chain(oracle::ALL);
    let all = all.flat_map(|case| ["notify", "fast", "ptrace"].map(|backend| (case, backend)));
    let fast = fast::ALL.iter().map(|case| (case, "fast"));
    for ((name, case), backend) in all.chain(fast) {
        let name = format!("{name}::{backend}");
        if !wanted.iter().all(|w| name.contains(*w)) {
            continue;
        }
        ran += 1;
        let passed = catch_unwind(|| case(backend)).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name);
        }
    }
    println!(
        "\ntest result: {ran} run, {} failed: {failed:?}",
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
