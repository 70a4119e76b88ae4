//! How many instructions a piece of work takes, counted by valgrind's callgrind: unlike its time that does not
//! depend on what else the machine does. Compiled into the unit tests that count.
//!
//! A test `NAME` does the work as often as `RFS_COUNTED` says, once when it is unset, in a function that has
//! `counted_` in its name and is not inlined: what that function and those that it calls do is counted.

#![allow(clippy::disallowed_methods, reason = "a test's own environment")]

use std::process::Command;

/// How often the work is to be done.
pub(super) fn times() -> usize {
    let times = std::env::var("RFS_COUNTED").ok();
    times.map_or(1, |times| times.parse().unwrap())
}

/// The instructions that each of many takes, of work that a test of this program does. They must be at most
/// `ceiling`, and as many for each however many there are.
pub(super) fn assert_each(test: &str, n: usize, ceiling: u64) {
    let [some, more] = [n, 3 * n].map(|n| instructions(test, n));
    let n = n as u64;
    let each = (more - some) / (2 * n);
    println!(
        "{test}: {each} instructions each, {} besides",
        some.saturating_sub(each * n)
    );
    assert!(
        each <= ceiling,
        "{test}: {each} instructions each, at most {ceiling} are expected"
    );
    // Half as much again for each would be a loop in a loop.
    let at_first = some / n;
    assert!(
        2 * each <= 3 * at_first,
        "{test}: {at_first} each of {n}, {each} each of more"
    );
}

fn instructions(test: &str, n: usize) -> u64 {
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--toggle-collect=*counted_*"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1"])
        .env("RFS_COUNTED", n.to_string())
        .output()
        .unwrap_or_else(|error| panic!("valgrind cannot be run: {error}"));
    let told = String::from_utf8_lossy(&done.stderr);
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && out.contains("1 passed"),
        "{out}{told}"
    );
    let count = told
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let count = count.unwrap_or_else(|| panic!("{told}")).1;
    let count: u64 = count.trim().parse().unwrap();
    assert!(count > 0, "{test} has done nothing");
    count
}
