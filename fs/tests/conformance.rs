//! What others ask of a filesystem: the suites pjdfstest and fsx, in a view and, for comparison, on a plain
//! directory. tests/run.sh installs them.
//!
//! Known gaps are listed in doc/semantics.md, section Conformance. A case that fails and is not listed, and
//! one that is listed and does not show, fail the test.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use nix::unistd::{Group, User};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use view::{Mode, NOBODY, modes, with_host};

/// The cases of pjdfstest; fewer of them say that something went wrong on the way.
const N_CASES: usize = 398;

const N_FSX: u32 = 6000;
const N_FSX_LONG: u32 = 200_000;

/// A directory with the suites' programs, for every user.
fn programs() -> TempDir {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    for name in ["pjdfstest", "fsx"] {
        let installed = target.join("tools/bin").join(name);
        let to = dir.path().join(name);
        // Not by this process: a child of another test would hold the copy open for writing.
        let copied = Command::new("cp").args([&installed, &to]).status().unwrap();
        let from = installed.display();
        assert!(copied.success(), "no {from}: sh tests/run.sh installs it");
    }
    dir
}

/// A directory that the user of `mode` may use.
fn directory(mode: Mode, around: impl AsRef<Path>) -> TempDir {
    let dir = TempDir::new_in(around).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    if mode == Mode::Unprivileged && nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    dir
}

/// Runs `command` as the user of `mode`.
fn plainly(mode: Mode, command: &mut Command) -> Output {
    if mode == Mode::Unprivileged && nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passes,
    Fails,
    Skipped,
}

use Verdict::{Fails, Passes, Skipped};

type Verdicts = BTreeMap<String, Verdict>;

fn pjdfstest(programs: &Path, other_filesystem: &Path, dir: &Path) -> Command {
    let mut command = Command::new(programs.join("pjdfstest"));
    command.arg("-c").arg(programs.join("pjdfstest.toml"));
    command.arg("-s").arg(other_filesystem).arg("-p").arg(dir);
    command
}

/// Time stamps here are finer than the nap; the users are two that every system has.
fn configure(programs: &Path) {
    let user = |name: &str| {
        let user = User::from_name(name).unwrap().unwrap();
        let group = Group::from_gid(user.gid).unwrap().unwrap();
        format!("[{name:?}, {:?}]", group.name)
    };
    let text = format!(
        "[features]\nposix_fallocate = {{}}\nutimensat = {{}}\nutime_now = {{}}\nrename_ctime = {{}}\n\
         [settings]\nnaptime = 0.02\nallow_remount = false\nexpected_failures = []\n\
         [dummy_auth]\nentries = [{}, {}]\n",
        user("nobody"),
        user("daemon")
    );
    fs::write(programs.join("pjdfstest.toml"), text).unwrap();
}

fn verdicts(output: &Output) -> Verdicts {
    let text = String::from_utf8_lossy(&output.stdout);
    let verdict = |line: &str| {
        let (name, word) = line.split_once(' ')?;
        let verdict = match word.trim() {
            "ok" => Passes,
            "FAILED" => Fails,
            "skipped" => Skipped,
            _ => return None,
        };
        Some((name.to_owned(), verdict))
    };
    let verdicts: Verdicts = text.lines().filter_map(verdict).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(verdicts.len(), N_CASES, "{text}{said}");
    verdicts
}

/// The gaps that the document lists: lines such as "- `link::some_case` (pjdfstest) is skipped: why".
fn known_gaps() -> Verdicts {
    let text = include_str!("../../doc/semantics.md");
    let gap = |line: &str| {
        let (name, rest) = line.strip_prefix("- `")?.split_once("` (pjdfstest) ")?;
        let verdict = match rest.split_once(':')?.0 {
            "is skipped" => Skipped,
            "fails" => Fails,
            other => panic!("{name} {other}"),
        };
        Some((name.to_owned(), verdict))
    };
    text.lines().filter_map(gap).collect()
}

#[test]
fn pjdfstest_finds_what_is_documented() {
    let programs = programs();
    configure(programs.path());
    let gaps = known_gaps();
    for mode in modes() {
        let memory = directory(mode, "/dev/shm");
        let plain = directory(mode, std::env::temp_dir());
        let dev = |dir: &TempDir| fs::metadata(dir.path()).unwrap().dev();
        assert_ne!(dev(&memory), dev(&plain), "two filesystems are needed");
        let mut command = pjdfstest(programs.path(), memory.path(), plain.path());
        let mut expected = verdicts(&plainly(mode, &mut command));
        let failed: Vec<_> = expected.iter().filter(|(_, v)| **v == Fails).collect();
        assert!(failed.is_empty(), "on a plain directory: {failed:?}");
        for (name, gap) in &gaps {
            let old = expected.insert(name.clone(), *gap);
            assert!(old.is_some_and(|old| old != *gap), "{name} is no gap");
        }
        with_host(
            mode,
            |_| {},
            |_| {},
            |inside| {
                let mut command = pjdfstest(programs.path(), memory.path(), inside.root);
                let found = verdicts(&command.output().unwrap());
                let differing: Vec<_> = found
                    .iter()
                    .filter(|(name, verdict)| expected.get(*name) != Some(verdict))
                    .collect();
                let n = |word| found.values().filter(|verdict| **verdict == word).count();
                let (passed, skipped) = (n(Passes), n(Skipped));
                eprintln!(
                    "pjdfstest, {mode:?}: {passed} passed, {skipped} skipped of {}",
                    found.len()
                );
                assert!(differing.is_empty(), "not as expected: {differing:?}");
            },
        );
    }
}

fn fsx(programs: &Path, config: &str, seed: u32, n: u32, dir: &Path) -> Command {
    let mut command = Command::new(programs.join("fsx"));
    command.arg("-f").arg(programs.join(config)).arg("-q");
    command.args(["-S", &seed.to_string(), "-N", &n.to_string()]);
    command.arg("-P").arg(dir).arg(dir.join("exercised"));
    command
}

#[test]
fn fsx_finds_nothing() {
    let programs = programs();
    let weights = "[weights]\nclose_open = 1\ninvalidate = 1\nmapread = 1\nmapwrite = 1\nread = 1\n\
                   write = 1\ntruncate = 1\nfsync = 0.2\nfdatasync = 0.2\nposix_fallocate = 1\n\
                   punch_hole = 1\nsendfile = 1\nposix_fadvise = 1\ncopy_file_range = 1\n";
    let configs = [
        ("any.toml", "flen = 300000\n[opsize]\nmax = 70000\n"),
        // Small ones meet in a page. What was written through a mapping is not synced before it is read.
        (
            "small.toml",
            "flen = 20000\nnomsyncafterwrite = true\n[opsize]\nmax = 3000\n",
        ),
    ];
    for (name, text) in configs {
        fs::write(programs.path().join(name), format!("{text}{weights}")).unwrap();
    }
    let n = match std::env::var_os("RFS_LONG") {
        Some(_) => N_FSX_LONG,
        None => N_FSX,
    };
    for mode in modes() {
        with_host(
            mode,
            |_| {},
            |_| {},
            |inside| {
                for (config, _) in configs {
                    for seed in [1, 2] {
                        let mut command = fsx(programs.path(), config, seed, n, inside.root);
                        let output = command.output().unwrap();
                        assert!(output.status.success(), "{command:?}: {output:?}");
                    }
                }
            },
        );
    }
}

/// The suites can find something: a case that must fail does.
#[test]
fn the_suites_are_awake() {
    let programs = programs();
    configure(programs.path());
    let dir = directory(Mode::Cached, std::env::temp_dir());
    fs::write(programs.path().join("any.toml"), "").unwrap();
    let mut command = fsx(programs.path(), "any.toml", 1, 1000, dir.path());
    let output = command.args(["--inject", "300"]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(known_gaps().get("link::link_count_max"), Some(&Skipped));
}
