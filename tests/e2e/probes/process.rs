//! What processes do with each other, and what goes on beside a run.

use std::io::{BufRead, BufReader};

use nix::fcntl::{Flock, FlockArg};

use super::tests;
use crate::probe::{AtMost, Hit, Probe, Ran, assert_same_run};
use crate::run::Cmd;
use crate::space::TestSpace;
use crate::tree::assert_same;

tests! { socket_pair parallel_children deep_nesting many_processes exec_chain daemon_of_the_step }

pub fn socket_pair() -> Probe {
    let source = "import os, socket\na, b = socket.socketpair()\n\
                  if os.fork() == 0:\n    b.sendall(open('in', 'rb').read())\n    os._exit(0)\n\
                  os.wait()\nopen('out', 'wb').write(a.recv(100))\n";
    Probe::new(
        move |s| {
            s.write("pair.py", source);
            s.write("in", "one\n");
        },
        "/usr/bin/python3 -S -E pair.py",
    )
    .first(1)
    .again(AtMost(1))
    .again(Hit)
    .without("out", Hit)
    .with("in", "two\n", Ran(1))
}

pub fn parallel_children() -> Probe {
    let script = "for n in 1 2 3 4 5 6 7 8; do sh -c \"cat in$n > out$n\" & done\nwait\n";
    Probe::script(script, |s| {
        (1..9).for_each(|n| s.write(format!("in{n}"), format!("{n}\n")));
    })
    .first(17)
    .again(Hit)
    .without("out4", Hit)
    .with("in5", "five\n", Ran(3))
    .with("in5", "5\n", Hit)
}

pub fn deep_nesting() -> Probe {
    let script = "n=${1:-12}\nif [ $n = 0 ]; then cat in > out; else sh build.sh $((n - 1)); fi\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(15)
        .again(Hit)
        .without("out", Hit)
        .with("in", "two\n", Ran(15))
}

pub fn many_processes() -> Probe {
    let script = "i=0\nwhile [ $i -lt 150 ]; do cat in; i=$((i + 1)); done > out\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(152)
        .again(Hit)
        .with("in", "two\n", Ran(152))
}

/// One process, several programs.
pub fn exec_chain() -> Probe {
    Probe::script("exec sh second.sh\n", |s| {
        s.write("second.sh", "echo two > two\nexec sh third.sh\n");
        s.write("third.sh", "exec cat in\n");
        s.write("in", "one\n");
    })
    .first(4)
    .again(Hit)
    .without("two", Hit)
    .with("in", "two\n", Ran(4))
    .with("second.sh", "echo three > two\nexec sh third.sh\n", Ran(4))
}

/// It ends before the step does, though nobody waits for it.
pub fn daemon_of_the_step() -> Probe {
    let script = "rm -f done\n(setsid sh -c 'cat in > out; echo > done' &)\n\
                  until [ -e done ]; do :; done\nrm done\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(6)
        .again(AtMost(6))
        .with("in", "two\n", Ran(6))
}

/// A step must never be recorded with the first half of one version of an input and the second half
/// of another.
#[test]
fn input_changes_while_the_step_runs() {
    let s = TestSpace::new();
    s.write(
        "build.sh",
        "cat in > out1\necho ready\nuntil [ -e go ]; do :; done\ncat in > out2\n",
    );
    let run = |first: &str, then: &str| {
        s.remove("go");
        s.write("in", first);
        let mut started = s.start("sh build.sh", true);
        let guard = started.guard();
        let mut lines = BufReader::new(started.child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        if first != then {
            s.write("in", then);
        }
        s.write("go", "");
        assert!(started.child.wait().unwrap().success());
        guard.dismiss(&started.what);
        (s.read("out1"), s.read("out2"))
    };
    assert_eq!(run("old\n", "new\n"), ("old\n".into(), "new\n".into()));
    assert_eq!(run("old\n", "old\n"), ("old\n".into(), "old\n".into()));
    assert_eq!(run("new\n", "new\n"), ("new\n".into(), "new\n".into()));
    let _ran = s.rfs("sh build.sh").expect_code(0);
    assert_eq!(
        (s.read("out1"), s.read("out2")),
        ("new\n".into(), "new\n".into())
    );
}

/// An edit of a source that a running build has not looked at yet is not lost.
#[test]
fn edits_during_a_build_stay() {
    let s = TestSpace::new();
    s.write(
        "build.sh",
        "echo ready\nuntil [ -e go ]; do :; done\ncat src/* > out\n",
    );
    s.write("src/a", "a\n");
    let mut started = s.start("sh build.sh", true);
    let guard = started.guard();
    let mut lines = BufReader::new(started.child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    s.write("src/b", "b\n");
    s.write("src/a", "A\n");
    s.rename("src/a", "src/c");
    s.write("go", "");
    assert!(started.child.wait().unwrap().success());
    guard.dismiss(&started.what);
    assert_eq!(s.read("out"), "b\nA\n");
    assert_eq!(s.read("src/c"), "A\n");
    assert!(!s.exists("src/a"));
}

/// Both finish, and both are right, on one cache and in one workspace.
#[test]
fn two_builds_at_once() {
    let s = TestSpace::new();
    for n in 0..2 {
        s.write(
            format!("b{n}.sh"),
            format!("for i in 1 2 3 4 5; do cat in > out{n}.$i; done\n"),
        );
    }
    s.write("in", "one\n");
    for round in 0..3 {
        let both = [0, 1].map(|n| s.start(format!("sh b{n}.sh").as_str(), true));
        for started in both {
            let what = started.what.clone();
            let (status, _, stderr) = started.finish(None);
            assert!(
                status.success(),
                "{what}: {}",
                String::from_utf8_lossy(&stderr)
            );
        }
        for n in 0..2 {
            for i in 1..6 {
                let out = format!("out{n}.{i}");
                assert_eq!(s.read(&out), "one\n", "round {round}");
                s.remove(out);
            }
        }
    }
    assert!(!s.exists("out0.1"));
}

/// The same command twice at the same time: neither breaks the other's record.
#[test]
fn the_same_build_twice_at_once() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    s.write(
        "build.sh",
        "for i in 1 2 3 4 5; do cat in > out.$i; done; echo said\n",
    );
    for _ in 0..3 {
        for started in [0, 1].map(|_| s.start("sh build.sh", true)) {
            let (status, stdout, stderr) = started.finish(None);
            let stderr = String::from_utf8_lossy(&stderr).into_owned();
            assert!(status.success(), "{stderr}");
            assert_eq!((stdout.as_slice(), stderr.as_str()), (&b"said\n"[..], ""));
        }
    }
    let bare = s.bare("sh build.sh");
    let tree = s.tree();
    let served = s.rfs("sh build.sh");
    assert_same_run(&bare, &served, "after all");
    assert_same(&tree, &s.tree(), "after all");
}

/// An edit between a step's first look at an input and its second: what it made is not what it makes of the
/// input as it was at first, nor as it is now.
#[test]
fn input_changed_while_it_is_used() {
    let ways = [
        (
            "[ -s in ]",
            "cat in > out",
            "echo two > in",
            "echo one > in",
        ),
        (
            "[ -x in ]",
            "stat -c %a in > out",
            "chmod 755 in",
            "chmod 644 in",
        ),
        (
            "[ -L link ]",
            "readlink link > out",
            "ln -sfn two link",
            "ln -sfn in link",
        ),
        (
            "[ -e link ]",
            "cat link > out",
            "ln -sfn other link",
            "ln -sfn in link",
        ),
    ];
    for (first, second, edit, back) in ways {
        let s = TestSpace::new();
        s.write("in", "one\n");
        s.write("other", "other\n");
        s.symlink("in", "link");
        s.write("build.sh", format!("{first}\n{WAIT}{second}\n"));
        // What the input holds is known.
        let _known = s.rfs("sort in link").expect_code(0);
        while_it_waits(&s, || s.must(Cmd::sh(edit)));
        for change in [edit, back, edit] {
            s.must(Cmd::sh(change));
            s.must(Cmd::sh(second));
            let bare = s.read("out");
            s.remove("out");
            let run = s.rfs("sh build.sh").expect_code(0);
            assert_eq!(s.read("out"), bare, "{first}, {change}: {run:#?}");
        }
    }
}

/// Says that it is there, and waits until it may go on.
const WAIT: &str = "echo ready\nflock ../outside/lock true\n";

/// Runs `build.sh` under rfs and does something when it has come to its [`WAIT`].
fn while_it_waits(s: &TestSpace, act: impl FnOnce()) {
    s.write("../outside/lock", "");
    let lock = std::fs::File::open(s.path("../outside/lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    let mut started = s.start("sh build.sh", true);
    let guard = started.guard();
    let mut lines = BufReader::new(started.child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    act();
    drop(lock);
    assert!(started.child.wait().unwrap().success());
    guard.dismiss(&started.what);
}

/// What another build does to an output before the step has ended is not recorded as the step's own.
#[test]
fn output_changed_by_another_build() {
    for change in ["echo two > out", ": > out", "rm out", "mv other out"] {
        let s = TestSpace::new();
        s.write("in", "one\n");
        s.write("other", "other\n");
        s.write("build.sh", format!("cat in > out\n{WAIT}"));
        while_it_waits(&s, || drop(s.rfs(Cmd::sh(change)).expect_code(0)));
        let again = s.rfs("sh build.sh").expect_code(0);
        assert_eq!(s.read("out"), "one\n", "after {change}: {again:?}");
        s.remove("out");
        let _served = s.rfs("sh build.sh").expect_hit();
        assert_eq!(s.read("out"), "one\n", "after {change}");
    }
}

/// A step that says where it is must not be served from elsewhere.
#[test]
fn the_same_tree_at_another_path() {
    let s = TestSpace::new();
    let setup = |dir: &str| {
        s.write(format!("{dir}/.git/HEAD"), "");
        s.write(format!("{dir}/build.sh"), "pwd > out\ncat in >> out\n");
        s.write(format!("{dir}/in"), "one\n");
    };
    setup("here");
    setup("there");
    for dir in ["here", "there", "here", "there"] {
        let mut cmd = Cmd::from("sh build.sh").cwd(dir);
        cmd.env.push(("PWD".into(), None));
        let _ran = s.rfs(cmd).expect_code(0);
        let expected = format!("{}\none\n", s.path(dir).display());
        assert_eq!(s.read(format!("{dir}/out")), expected);
    }
}

/// The name of the workspace stays, everything in it is another one.
#[test]
fn workspace_is_replaced() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    let _ran = s.rfs(Cmd::sh("cat in > out")).expect_ran();
    s.wipe();
    s.write("in", "one\n");
    let _served = s.rfs(Cmd::sh("cat in > out")).expect_hit();
    assert_eq!(s.read("out"), "one\n");
    s.wipe();
    s.write("in", "two\n");
    let _ran = s.rfs(Cmd::sh("cat in > out")).expect_ran();
    assert_eq!(s.read("out"), "two\n");
}
