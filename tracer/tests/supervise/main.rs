//! Commands under supervision, by both backends, as root and as nobody: what they show to the world is
//! what they would show without, and what is asked of the supervisor happens.
//!
//! `supervise [FILTER]` runs the cases whose names contain FILTER. A case starts this program again as
//! the host of a supervised command (`host.rs`) and looks at it from outside.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test, and a program of its own"
)]

mod cases;
mod host;
mod outside;

use outside::Host;
use std::panic::catch_unwind;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "host") {
        return host::main(&arguments[1..]);
    }
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let (mut ran, mut failed) = (0, Vec::new());
    let hosts = Host::all();
    for (name, case) in cases::ALL {
        for host in &hosts {
            let name = format!("{name}::{host}");
            if !wanted.iter().all(|w| name.contains(*w)) {
                continue;
            }
            ran += 1;
            let passed = catch_unwind(|| case(host)).is_ok();
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            if !passed {
                failed.push(name);
            }
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
