//! The suites and programs that lean on a filesystem, under `rfs build`: pjdfstest, fsx, git, SQLite, tar,
//! rsync and cp. As root (with passthrough) and as an ordinary user (without).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::probe::assert_same_run;
use crate::run::{Cmd, Run};
use crate::space::{Setting, TestSpace};
use crate::tree::assert_same;

const SETTINGS: [Setting; 2] = [
    Setting {
        nobody: false,
        tracer: None,
    },
    Setting {
        nobody: true,
        tracer: None,
    },
];

/// Cases of pjdfstest.
const N_CASES: usize = 398;

/// A program that tests/run.sh installs, for every user.
fn suite(s: &TestSpace, name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let installed = exe.ancestors().nth(3).unwrap().join("tools/bin").join(name);
    let to = s.root().join(name);
    // Not by this process: a child of another test would hold the copy open for writing.
    let copied = Command::new("cp").args([&installed, &to]).status().unwrap();
    let from = installed.display();
    assert!(copied.success(), "no {from}: sh tests/run.sh installs it");
    to
}

/// What became of each case: its word (`ok`, `FAILED`, `skipped`).
fn verdicts(run: &Run) -> BTreeMap<String, String> {
    let out = run.out();
    let verdict = |line: &str| {
        let (name, word) = line.split_once(' ')?;
        let word = word.trim();
        let known = ["ok", "FAILED", "skipped"].contains(&word);
        known.then(|| (name.to_owned(), word.to_owned()))
    };
    let verdicts: BTreeMap<_, _> = out.lines().filter_map(verdict).collect();
    assert_eq!(verdicts.len(), N_CASES, "{run:#?}");
    verdicts
}

/// The gaps that the document lists, as fs/tests/conformance.rs reads them.
fn known_gaps() -> BTreeMap<String, String> {
    let text = include_str!("../../doc/semantics.md");
    let gap = |line: &str| {
        let (name, rest) = line.strip_prefix("- `")?.split_once("` (pjdfstest) ")?;
        let word = match rest.split_once(':')?.0 {
            "is skipped" => "skipped",
            _ => "FAILED",
        };
        Some((name.to_owned(), word.to_owned()))
    };
    text.lines().filter_map(gap).collect()
}

/// Tracer and view together answer each system call of the suite as the kernel alone does.
#[test]
fn pjdfstest_finds_what_is_documented() {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        let program = suite(&s, "pjdfstest");
        let text = "[features]\nposix_fallocate = {}\nutimensat = {}\nutime_now = {}\nrename_ctime = {}\n\
                    [settings]\nnaptime = 0.02\nallow_remount = false\nexpected_failures = []\n\
                    [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n";
        fs::write(s.root().join("outside/config.toml"), text).unwrap();
        let memory = tempfile::TempDir::new_in("/dev/shm").unwrap();
        if setting.nobody {
            std::os::unix::fs::chown(memory.path(), Some(65534), Some(65534)).unwrap();
        }
        let cmd = || {
            let mut cmd = Cmd::new([program.as_os_str()]);
            let words = ["-c", "../outside/config.toml", "-p", ".", "-s"];
            cmd.argv.extend(words.map(Into::into));
            cmd.argv.push(memory.path().into());
            cmd
        };
        let mut expected = verdicts(&s.bare(cmd()));
        expected.extend(known_gaps());
        let found = verdicts(&s.rfs(cmd()));
        let differing: Vec<_> = found
            .iter()
            .filter(|(name, word)| expected.get(*name) != Some(word))
            .collect();
        let n = |word| {
            found
                .values()
                .filter(|found| found.as_str() == word)
                .count()
        };
        let (passed, skipped) = (n("ok"), n("skipped"));
        eprintln!(
            "pjdfstest, {setting:?}: {passed} passed, {skipped} skipped of {}",
            found.len()
        );
        assert!(differing.is_empty(), "{setting:?}: {differing:?}");
    }
}

/// What it has made is recorded and served to the byte.
#[test]
fn fsx_finds_nothing_and_is_served() {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        let program = suite(&s, "fsx");
        let weights = "[weights]\nclose_open = 1\ninvalidate = 1\nmapread = 1\nmapwrite = 1\nread = 1\n\
                       write = 1\ntruncate = 1\nfsync = 0.1\nposix_fallocate = 1\npunch_hole = 1\n\
                       sendfile = 1\nposix_fadvise = 1\ncopy_file_range = 1\n";
        s.write("../outside/fsx.toml", format!("flen = 100000\n{weights}"));
        let program = program.to_str().unwrap();
        let line = format!("{program} -f ../outside/fsx.toml -q -N 2000 -S 5 exercised");
        let _bare = s.bare(line.as_str()).expect_code(0);
        let tree = s.tree();
        s.remove("exercised");
        let _ran = s.rfs(line.as_str()).expect_code(0).expect_ran();
        assert_same(&tree, &s.tree(), "ran");
        s.remove("exercised");
        let _again = s.rfs(line.as_str()).expect_code(0).expect_hit();
        assert_same(&tree, &s.tree(), "again");
    }
}

/// The same script bare and wrapped, twice: same output, same tree.
fn compare(what: &str, script: &str) {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        let bare = s.bare(Cmd::sh(script)).expect_code(0);
        let tree = s.tree();
        for round in ["ran", "again"] {
            s.wipe();
            let wrapped = s.rfs(Cmd::sh(script));
            let when = format!("{what} {round} {setting:?} {wrapped:#?}");
            assert_same_run(&bare, &wrapped, &when);
            assert_same(&tree, &s.tree(), &when);
        }
    }
}

#[test]
fn git() {
    compare("git", include_str!("../../fs/tests/programs/git.sh"));
}

#[test]
fn sqlite_in_wal_mode() {
    compare("sqlite", include_str!("../../fs/tests/programs/sqlite.sh"));
}

#[test]
fn archives_and_copies() {
    let script = include_str!("../../fs/tests/programs/archives.sh");
    compare("archives", script);
}
