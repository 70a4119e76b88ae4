//! No room: a small disk under the workspace, or under the cache. Where the bare command has room enough,
//! the wrapped one has.

use super::small;
use crate::run::{Cmd, Run};
use crate::space::TestSpace;
use crate::tree::{Tree, assert_same};

/// More than what `.rfs/` and a few directories take.
const SLACK: u64 = 1024;

/// A space with the sources of version 0 set aside.
fn space() -> TestSpace {
    let s = TestSpace::new();
    small::edit(&s, 0);
    s.must("cp -a . ../source");
    s
}

/// The command in the workspace on a disk of so many KiB; what it leaves is then in `../result`.
fn on_disk(kib: u64, cmd: Cmd) -> Cmd {
    let script = format!(
        "ulimit -c 0; ws=$PWD; rm -rf ../result; mount -t tmpfs -o size={kib}k tmpfs $ws && cd $ws && \
         cp -a ../source/. . && {{ \"$@\"; code=$?; cp -a $ws ../result; exit $code; }}"
    );
    cmd.outer(["unshare", "-m", "sh", "-c", &script, "sh"])
}

fn result(s: &TestSpace) -> Tree {
    Tree::read(&s.root().join("result"))
}

#[test]
fn workspace_on_a_small_disk() {
    let s = space();
    let tree = &small::bare(false).trees[0];
    let _recorded = s.rfs(small::command(0)).expect_code(0);
    let (mut n_failed, mut n_whole) = (0, 0);
    for kib in (600..5000).step_by(400) {
        let bare = s.bare(on_disk(kib, small::command(0)));
        if bare.code() == 0 {
            assert_same(tree, &result(&s), &format!("bare, {kib} KiB"));
            n_whole += 1;
        } else {
            n_failed += 1;
        }
        for (options, nonce) in [(&["--rerun"][..], 0), (&[], 1), (&[], 0)] {
            let when = format!("{kib} KiB, {options:?} {nonce}");
            let cmd = on_disk(kib + SLACK, small::command(nonce));
            let run = s.rfs_with(options, cmd.plain());
            assert!(!run.err().contains("panicked"), "{when}: {run:#?}");
            if bare.code() == 0 {
                assert_eq!(run.code(), 0, "{when}: {run:#?}");
            }
            if run.code() == 0 {
                assert_same(tree, &result(&s), &when);
            } else {
                assert!(
                    run.err().contains("No space left on device"),
                    "{when}: {run:#?}"
                );
            }
        }
    }
    assert!(
        n_failed > 2 && n_whole > 2,
        "{n_failed} without room, {n_whole} with"
    );
    let _elsewhere = s.rfs(small::command(5)).expect_code(0);
    assert_same(tree, &s.tree(), "elsewhere");
    small::assert_whole_cache(&s, "at the end");
}

/// Twice on a cache of its own, and then its verification.
fn with_cache_on_disk(s: &TestSpace, kib: u64) -> Run {
    let cache = s.cache();
    std::fs::create_dir_all(&cache).unwrap();
    let script = format!(
        "mount -t tmpfs -o size={kib}k tmpfs {} && cd $PWD && \"$@\" && rm -r out && \"$@\" && \
         {{ [ ! -e {}/VERSION ] || {} cache verify >&2; }}",
        cache.display(),
        cache.display(),
        s.program().display(),
    );
    let outer = ["unshare", "-m", "sh", "-c", &script, "sh"];
    s.rfs(small::command(0).outer(outer).plain())
}

#[test]
fn cache_on_a_small_disk() {
    let s = space();
    let tree = &small::bare(false).trees[0];
    let mut n_full = 0;
    for kib in [
        4, 8, 12, 28, 40, 60, 100, 150, 250, 400, 1000, 1500, 2000, 2500, 8000,
    ] {
        s.remove("out");
        let run = with_cache_on_disk(&s, kib);
        let when = format!("{kib} KiB");
        assert_eq!(run.code(), 0, "{when}: {run:#?}");
        assert_eq!(run.out(), small::SAID.repeat(2), "{when}: {run:#?}");
        assert_same(tree, &s.tree(), &when);
        let err = run.err();
        let told: Vec<&str> = err
            .lines()
            .filter(|line| line.contains("No space left"))
            .collect();
        assert!(told.len() <= 4, "said once a build: {when}: {run:#?}");
        assert!(!err.contains("panicked"), "{when}: {run:#?}");
        assert!(
            kib < 100 || err.contains("; 0 files were wrong"),
            "{when}: {run:#?}"
        );
        n_full += u32::from(!told.is_empty());
    }
    assert!(n_full > 5, "{n_full} were full");
}
