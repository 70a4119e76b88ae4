//! What `strace -f` saw of a command is a subset of what was recorded of it, whichever backend watched,
//! and the backends record the same.
//!
//! A command runs several times in equal workspaces at one path: under strace, and under rfs in each way in
//! which it can watch. From the log of strace follows, for the whole command and for each program that it
//! started, which names must be inputs, with the states that they had and the ways in which they were
//! looked at, and which must be outputs. `rfs cache records` tells what was recorded.

mod builds;
mod compare;
mod demand;
mod direct;
mod names;
mod programs;
mod strace;
mod temporary;
mod views;

use std::fs;

use crate::run::Cmd;
use crate::space::TestSpace;

use compare::{Recorded, compare};
use demand::Oracle;
use names::Names;
use strace::Log;
use temporary::Temporary;

const BACKENDS: [&str; 2] = ["notify", "ptrace"];

/// Ways of seeing what a command does: with the preload library, with it in every second program, without it, and
/// by the other backend.
const WAYS: [(&str, &str); 4] = [
    ("notify", "RFS_PRELOAD=1"),
    ("notify", "RFS_PRELOAD=half"),
    ("notify", "RFS_PRELOAD=0"),
    ("ptrace", "RFS_PRELOAD=0"),
];

/// A command, and what it needs to be there.
pub struct Program {
    pub furnish: fn(&TestSpace),
    pub cmd: Cmd,
    /// Fewer looks of the whole command than this say that the oracle has seen nothing.
    pub at_least: usize,
    /// Programs that it starts and that must have records of their own.
    pub steps: &'static [&'static str],
    /// Names that are others in each run.
    pub temporary: Temporary,
    /// Last names outside of the workspace that are looked at only without rfs, where the workspace is no
    /// mount point.
    pub apart: &'static [&'static str],
}

impl Default for Program {
    fn default() -> Self {
        Self {
            furnish: |_| {},
            cmd: "true".into(),
            at_least: 1,
            steps: &[],
            temporary: Temporary(&["cc??????", "st??????", "sed??????", "tmp????????"]),
            apart: &[],
        }
    }
}

fn check(program: &Program) {
    check_with(program, &[]);
}

/// The same with more executable files in the workspace.
fn check_with(program: &Program, files: &[(&str, &[u8])]) {
    let space = TestSpace::new();
    let fresh = || {
        space.wipe();
        fs::remove_dir_all(space.root().join("home")).unwrap();
        fs::create_dir(space.root().join("home")).unwrap();
        (program.furnish)(&space);
        for (name, content) in files {
            space.write(name, content);
            space.chmod(name, 0o755);
        }
        // Time stamps that do not depend on when this was.
        for (n, name) in Names::of(space.ws()).below(space.ws()).iter().enumerate() {
            space.set_mtime(name, 1_000_000_000 + i64::try_from(n).unwrap());
        }
    };
    fresh();
    let names = Names::of(space.root());
    let log = space.root().join("strace.log");
    let mut cmd = program.cmd.clone();
    cmd.outer = strace::options(log.to_str().unwrap())
        .iter()
        .map(Into::into)
        .collect();
    let _bare = space.bare(cmd).expect_code(0);
    let text = fs::read(&log).unwrap();
    let log = Log::read(&String::from_utf8_lossy(&text));
    let cwd = space.ws().join(&program.cmd.cwd);
    let oracle = Oracle::of(&log, &cwd, names);
    let n_looks = oracle.demands[0].looks.len();
    assert!(
        n_looks >= program.at_least,
        "only {n_looks} names were looked at"
    );

    let mut all = Vec::new();
    for (n, (backend, preload)) in WAYS.into_iter().enumerate() {
        fresh();
        let cache = space.root().join(format!("cache-{n}"));
        let options = ["--tracer", backend, "--cache-dir", cache.to_str().unwrap()];
        let mut cmd = program.cmd.clone();
        cmd.outer = ["env", preload].map(Into::into).into();
        let run = space.rfs_with(&options, cmd).expect_code(0);
        let args = [
            "cache",
            "records",
            "--json",
            "--cache-dir",
            cache.to_str().unwrap(),
        ];
        let recorded = Recorded::read(&space.tool(&args).out(), &program.temporary);
        let report = compare(&oracle, &recorded, space.ws(), program);
        eprintln!("{backend} {preload}: {report}");
        let missed = first(&report.missed);
        assert!(
            missed.is_empty(),
            "{backend} {preload} has not recorded\n{missed}\n{:#?}",
            run.explain
        );
        for step in program.steps {
            let found = recorded
                .by_command
                .keys()
                .any(|command| command.starts_with(step));
            assert!(found, "{step} has no record of its own: {:#?}", run.explain);
        }
        all.push(recorded);
    }
    for (n, other) in all.iter().enumerate().skip(1) {
        let differences = all[0].differences(other);
        assert!(
            differences.is_empty(),
            "{:?} and {:?} differ\n{}",
            WAYS[0],
            WAYS[n],
            first(&differences)
        );
    }
}

/// The first few of many messages, shortened.
fn first(messages: &[String]) -> String {
    let short = messages.iter().take(20).map(|line| {
        let line: String = line.chars().take(500).collect();
        line + "\n"
    });
    let rest = messages.len().saturating_sub(20);
    let more = if rest > 0 {
        format!("and {rest} more")
    } else {
        String::new()
    };
    short.collect::<String>() + &more
}
