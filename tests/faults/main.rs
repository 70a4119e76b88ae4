//! What happens when a write of ours fails: every one of them, one after the other, in a build that is
//! recorded and in one that is served. The build must not notice, the next one must be right, and the
//! cache whole.
//!
//! `faults [FILTER]` runs the cases whose names contain FILTER. A case starts this program again as the
//! host of a build on a disk that fails (`host.rs`), once for each operation on it, until one is not reached.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "a test, and a program of its own"
)]

mod host;
mod project;
mod sweep;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "host") {
        return host::main(&arguments[1..]);
    }
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let cases = sweep::all().into_iter();
    let cases: Vec<_> = cases
        .filter(|(name, _)| wanted.iter().all(|w| name.contains(*w)))
        .collect();
    let ran = cases.len();
    let queue = Mutex::new(cases.into_iter());
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some((name, case)) = queue.lock().unwrap().next() else {
                return;
            };
            let passed = catch_unwind(|| sweep::run(&case)).is_ok();
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            if !passed {
                failed.lock().unwrap().push(name);
            }
        }
    };
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
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
