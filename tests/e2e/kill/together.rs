//! Several builds at once: on one cache, and in one workspace.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{left, small};
use crate::dice::Dice;
use crate::run::{self, Cmd, Started};
use crate::space::TestSpace;
use crate::tree::assert_same;

/// The command with a workspace of its own at the path of all of them.
fn apart(s: &TestSpace, n: usize, nonce: u64) -> Cmd {
    let ws = s.ws().display();
    let script = format!("mount --bind {ws}.{n} {ws} && cd {ws} && exec \"$@\"");
    small::command(nonce).outer(["unshare", "-m", "sh", "-c", &script, "sh"])
}

/// Builds at once at the same path, so that they find each other's records; some are killed.
fn builds_on_one_cache(n_builds: usize, rounds: u64) {
    let s = TestSpace::new();
    let bare = small::bare(false);
    let there = |n: usize| s.root().join(format!("ws.{n}"));
    for n in 0..n_builds {
        fs::create_dir(there(n)).unwrap();
    }
    for round in 0..rounds {
        let dice = &mut Dice::new(round * 100 + n_builds as u64);
        let versions: Vec<u64> = (0..n_builds).map(|_| dice.roll(2) + round % 2).collect();
        if dice.roll(2) == 0 {
            fs::remove_dir_all(s.cache()).unwrap_or_default();
        }
        let builds: Vec<(Started, bool)> = (0..n_builds)
            .map(|n| {
                small::edit_at(&there(n), versions[n]);
                fs::remove_dir_all(there(n).join("out")).unwrap_or_default();
                let cmd = apart(&s, n, round * 10 + dice.roll(2));
                let command = s.build_command(vec!["-q".into()], &cmd);
                let (started, _) = run::start(command, false);
                (started, round > 0 && dice.roll(4) == 0)
            })
            .collect();
        thread::sleep(Duration::from_micros(dice.roll(200_000)));
        for (started, _) in builds.iter().filter(|(_, killed)| *killed) {
            started.signal(Signal::SIGKILL);
        }
        let when = format!("{n_builds} builds, round {round}, versions {versions:?}");
        let ends: Vec<_> = builds
            .into_iter()
            .map(|(started, killed)| (started.finish(None), killed))
            .collect();
        for (n, ((status, stdout, stderr), killed)) in ends.into_iter().enumerate() {
            let when = format!(
                "{when}: build {n}: {status}: {}",
                String::from_utf8_lossy(&stderr)
            );
            if killed && !status.success() {
                continue;
            }
            assert!(
                status.success() && stdout == small::SAID.as_bytes(),
                "{when}"
            );
            assert!(stderr.is_empty(), "{when}");
            let tree = crate::tree::Tree::read(&there(n));
            assert_same(
                &bare.trees[usize::try_from(versions[n]).unwrap()],
                &tree,
                &when,
            );
        }
        left::wait_gone(&s, &when);
        left::assert_unmounted(&s, &[], &when);
        small::assert_whole_cache(&s, &when);
    }
}

#[test]
fn two_builds_on_one_cache() {
    builds_on_one_cache(2, 12);
}

#[test]
fn eight_builds_on_one_cache() {
    builds_on_one_cache(8, 5);
}

/// Two commands that make the same files from the same sources, whoever is first, and some of their own.
const SCRIPT: &str = "set -e\nmkdir -p out\nsh -c 'cat text > out/copy'\nsh -c 'sort text > out/sorted'\n\
                      sh -c 'cat text big > out/both'\nsh -c \"cat text > out/own.$1\"\n\
                      sh -c \"wc -c < big > out/count.$1\"\necho built\n";

fn all_built(builds: impl IntoIterator<Item = Started>, when: &str) {
    for started in builds {
        let (status, stdout, stderr) = started.finish(None);
        let said = String::from_utf8_lossy(&stderr);
        assert!(
            status.success() && stdout == b"built\n",
            "{when}: {status}: {said}"
        );
        assert_eq!(said, "", "{when}");
    }
}

#[test]
fn eight_builds_in_one_workspace() {
    let s = TestSpace::new();
    s.write("both.sh", SCRIPT);
    let words = |n: u32| Cmd::new(["sh", "both.sh", &n.to_string()]);
    for round in 0..3 {
        let when = format!("round {round}");
        small::edit(&s, round);
        s.remove("out");
        let builds: Vec<_> = (0..8).map(|n| s.start(words(n), true)).collect();
        all_built(builds, &when);
        left::wait_gone(&s, &when);
        left::assert_unmounted(&s, &[], &when);
        let tree = s.tree();
        s.remove("out");
        for n in 0..8 {
            s.must(words(n));
        }
        assert_same(&s.tree(), &tree, &when);
        s.remove("out");
        let _next = s.rfs(words(0)).expect_code(0);
        small::assert_whole_cache(&s, &when);
    }
}

#[test]
fn two_builds_in_one_workspace() {
    let s = TestSpace::new();
    s.write("both.sh", SCRIPT);
    for round in 0..12 {
        let dice = &mut Dice::new(round);
        small::edit(&s, dice.roll(3));
        if dice.roll(2) == 0 {
            s.remove("out");
        }
        let when = format!("round {round}");
        let same = dice.roll(2) == 0;
        let words = |n: u64| Cmd::new(["sh", "both.sh", if same || n == 0 { "a" } else { "b" }]);
        let builds = [0, 1].map(|n| {
            let started = s.start(words(n), true);
            thread::sleep(Duration::from_micros(dice.roll(30_000)));
            started
        });
        all_built(builds, &when);
        left::wait_gone(&s, &when);
        left::assert_unmounted(&s, &[], &when);
        let tree = s.tree();
        s.remove("out");
        for n in [0, 1] {
            s.must(words(n));
        }
        let others = ["a", "b"].map(|n| [format!("out/own.{n}"), format!("out/count.{n}")]);
        let bare = s.tree();
        let differing = bare.differing(&tree).into_iter().filter(|path| {
            // Of an earlier round.
            !(same
                && others[1]
                    .iter()
                    .any(|other| path.as_os_str() == other.as_str()))
        });
        assert_eq!(
            differing.collect::<Vec<_>>(),
            Vec::<std::path::PathBuf>::new(),
            "{when}"
        );
        s.remove("out");
        let next = s.rfs(words(0)).expect_code(0);
        assert!(
            s.read("out/both") == s.read("text") + &s.read("big"),
            "{when}: {next:#?}"
        );
        small::assert_whole_cache(&s, &when);
    }
}
