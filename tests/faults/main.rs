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
mod rules;
mod sweep;
mod sweep_rules;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("host") => return host::main(&arguments[1..]),
        Some("host-rules") => return rules::main(&arguments[1..]),
        Some("spawn-jobs") => return rules::spawn_jobs(&arguments[1..]),
        _ => {}
    }
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let cases: Vec<(String, Box<dyn Fn() + Send>)> = sweep::all()
        .into_iter()
        .map(|(name, case)| (name, Box::new(move || sweep::run(&case)) as _))
        .chain(
            sweep_rules::all()
                .into_iter()
                .map(|(name, case)| (name, Box::new(move || sweep_rules::run(&case)) as _)),
        )
        .collect();
    let cases: Vec<_> = cases
        .into_iter()
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
            let since = std::time::Instant::now();
            let passed = catch_unwind(AssertUnwindSafe(case)).is_ok();
            let how = if passed { "ok" } else { "FAILED" };
            println!(
                "test {name} ... {how} ({:.1} s)",
                since.elapsed().as_secs_f64()
            );
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
