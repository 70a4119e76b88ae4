//! Signals, job control, and processes that outlive the command.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ChildStdout;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::probe::assert_same_run;
use crate::run::{Cmd, Started};
use crate::space::{Setting, TestSpace};

/// Makes a test of each function with each way of tracing, and one as an ordinary user.
macro_rules! each_way {
    ($($name:ident)*) => {
        mod by_notify { $(#[test] fn $name() {
            super::$name(crate::space::Setting::default());
        })* }
        mod by_ptrace { $(#[test] fn $name() {
            super::$name(crate::space::Setting { nobody: false, tracer: Some("ptrace") });
        })* }
        mod of_nobody { $(#[test] fn $name() {
            super::$name(crate::space::Setting { nobody: true, tracer: None });
        })* }
    };
}

each_way! {
    command_dies_by_a_signal step_dies_by_a_signal interrupt_in_mid_build make_is_interrupted
    only_rfs_is_terminated rfs_is_killed stop_and_continue command_handles_the_interrupt
    ignored_signals_stay_ignored background_process_outlives_the_command
    survivor_is_not_cached
}

/// Reads the lines of a started command up to and with `ready`.
fn until_ready(started: &mut Started) -> BufReader<ChildStdout> {
    let mut lines = BufReader::new(started.child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "ready\n" {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "it ended early: {}",
            started.what
        );
    }
    lines
}

/// Reads on to the end, which comes when all who could write are gone.
fn rest(mut lines: BufReader<ChildStdout>) -> String {
    let mut text = String::new();
    lines.read_to_string(&mut text).unwrap();
    text
}

fn command_dies_by_a_signal(setting: Setting) {
    let s = TestSpace::with(setting);
    for signal in [
        "HUP", "INT", "QUIT", "ILL", "ABRT", "KILL", "SEGV", "PIPE", "TERM", "USR1",
    ] {
        let cmd = Cmd::sh(&format!("echo said; kill -{signal} $$")).after("ulimit -c 0");
        let bare = s.bare(cmd.clone());
        for round in ["first", "second"] {
            let wrapped = s.rfs(cmd.clone());
            assert_eq!(
                wrapped.status.signal(),
                bare.status.signal(),
                "{signal}: {wrapped:#?}"
            );
            assert_same_run(&bare, &wrapped, &format!("{signal}, {round}"));
            assert!(
                !wrapped.summary().whole_hit,
                "a death is not served: {wrapped:#?}"
            );
        }
    }
}

/// A child that dies is told by the shell, with the bare text.
fn step_dies_by_a_signal(setting: Setting) {
    let s = TestSpace::with(setting);
    s.write("Makefile", "all:\n\tsh -c 'kill -SEGV $$$$'\n");
    let cmd = Cmd::sh("make; echo $?; sh -c 'kill -KILL $$'; echo $?").after("ulimit -c 0");
    let bare = s.bare(cmd.clone());
    for round in ["first", "second"] {
        assert_same_run(&bare, &s.rfs(cmd.clone()), round);
    }
}

/// Ctrl-C as a terminal sends it: to the whole group. All of the build is gone then, and the next
/// one is right.
fn interrupt_in_mid_build(setting: Setting) {
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let s = TestSpace::with(setting);
        s.write("in", "one\n");
        s.write(
            "build.sh",
            "ulimit -c 0; cat in > out1; sh -c 'sort in > out2'\n\
             sh -c 'cat in > half; ./sleeper | cat'; cat in > out3\n",
        );
        s.sleeper("");
        let mut started = s.start("sh build.sh", true);
        let guard = started.guard();
        let lines = until_ready(&mut started);
        started.signal(signal);
        assert_eq!(rest(lines), "", "{signal}");
        let status = started.child.wait().unwrap();
        guard.dismiss(&started.what);
        assert_eq!(status.signal(), Some(signal as i32), "{status:?}");
        assert_eq!(s.read("out1"), "one\n", "{signal}: what was done stays");
        assert!(!s.exists("out3"));

        s.write(
            "build.sh",
            "cat in > out1; sh -c 'sort in > out2'; cat in > out3\n",
        );
        let _next = s.rfs("sh build.sh").expect_code(0);
        assert_eq!(
            (s.read("out2"), s.read("out3")),
            ("one\n".into(), "one\n".into())
        );
    }
}

/// `make` cleans up after an interrupt and says so; it must be given the time. How it then ends is a
/// race of its own.
fn make_is_interrupted(setting: Setting) {
    let s = TestSpace::with(setting);
    s.write("Makefile", "out:\n\t@echo half > out; ./sleeper\n");
    s.sleeper("");
    for wrapped in [false, true] {
        let mut started = s.start("make", wrapped);
        let guard = started.guard();
        let lines = until_ready(&mut started);
        let stderr = started.child.stderr.take().unwrap();
        started.signal(Signal::SIGINT);
        assert_eq!(rest(lines), "");
        let stderr = std::io::read_to_string(stderr).unwrap();
        let status = started.child.wait().unwrap();
        guard.dismiss(&started.what);
        assert!(
            !s.exists("out"),
            "make removed the half-made target: {stderr}"
        );
        assert!(stderr.contains("Deleting file 'out'"), "{stderr}");
        assert!(
            status.signal() == Some(2) || status.code() == Some(2),
            "{status:?}: {stderr}"
        );
    }
}

/// Only rfs is told to go, by `kill` or a supervisor; it takes the build with it.
fn only_rfs_is_terminated(setting: Setting) {
    let s = TestSpace::with(setting);
    let handler = "$SIG{TERM} = sub { print qq(cleaned\\n); exit 7 };";
    for (handler, said, code) in [("", "", None), (handler, "cleaned\n", Some(7))] {
        s.sleeper(handler);
        let mut started = s.start("./sleeper", true);
        let guard = started.guard();
        let lines = until_ready(&mut started);
        kill(started.pid(), Signal::SIGTERM).unwrap();
        let status = started.child.wait().unwrap();
        if let Some(code) = code {
            assert_eq!(status.code(), Some(code), "{status:?}");
        } else {
            assert_eq!(status.signal(), Some(15), "{status:?}");
        }
        assert_eq!(rest(lines), said);
        guard.dismiss(&started.what);
    }
}

/// Nothing hangs for ever, no mount stays, and the next build is right.
fn rfs_is_killed(setting: Setting) {
    let s = TestSpace::with(setting);
    s.write("in", "one\n");
    s.write(
        "build.sh",
        "cat in > out1; sh -c 'cat in > out2'; exec ./sleeper\n",
    );
    s.sleeper("");
    for _ in 0..2 {
        let mut started = s.start("sh build.sh", true);
        let guard = started.guard();
        let lines = until_ready(&mut started);
        kill(started.pid(), Signal::SIGKILL).unwrap();
        assert_eq!(rest(lines), "");
        assert_eq!(started.child.wait().unwrap().signal(), Some(9));
        guard.dismiss(&started.what);
    }
    s.write(
        "build.sh",
        "cat in > out1; sh -c 'cat in > out2'; cat out1 out2 > out3\n",
    );
    let _next = s.rfs("sh build.sh").expect_code(0);
    assert_eq!(s.read("out3"), "one\none\n");
    s.remove("out3");
    let _served = s.rfs("sh build.sh").expect_hit();
    assert_eq!(s.read("out3"), "one\none\n");
}

/// Ctrl-Z and `fg`: the shell sees that we stopped, and the build goes on where it was.
fn stop_and_continue(setting: Setting) {
    let s = TestSpace::with(setting);
    for wrapped in [false, true] {
        let script = "echo ready; read x; echo \"got $x\"; sh -c 'echo deep'";
        let cmd = Cmd::sh(script);
        let mut command = match wrapped {
            true => s.build_command(vec!["-q".into()], &cmd),
            false => s.command(&cmd, Vec::new()),
        };
        command.stdin(std::process::Stdio::piped());
        let (mut started, _) = crate::run::start(command, false);
        let guard = started.guard();
        let lines = until_ready(&mut started);
        started.signal(Signal::SIGTSTP);
        let status = waitpid(started.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(
            matches!(status, WaitStatus::Stopped(_, _)),
            "wrapped {wrapped}: {status:?}"
        );
        started.signal(Signal::SIGCONT);
        started
            .child
            .stdin
            .take()
            .unwrap()
            .write_all(b"it\n")
            .unwrap();
        assert_eq!(rest(lines), "got it\ndeep\n");
        assert!(started.child.wait().unwrap().success());
        guard.dismiss(&started.what);
    }
}

/// A signal that the command handles is not rfs's to die by.
fn command_handles_the_interrupt(setting: Setting) {
    let s = TestSpace::with(setting);
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do :; done";
    for wrapped in [false, true] {
        let mut started = s.start(Cmd::sh(script), wrapped);
        let guard = started.guard();
        let lines = until_ready(&mut started);
        started.signal(Signal::SIGINT);
        assert_eq!(rest(lines), "caught\n");
        assert_eq!(
            started.child.wait().unwrap().code(),
            Some(9),
            "wrapped {wrapped}"
        );
        guard.dismiss(&started.what);
    }
}

/// `nohup`: an ignored signal is ignored by all of us.
fn ignored_signals_stay_ignored(setting: Setting) {
    let s = TestSpace::with(setting);
    let script = "echo ready; kill -HUP $$; read x; echo \"got $x\"";
    let cmd = Cmd::sh(script).after("trap '' HUP INT");
    let mut command = s.build_command(vec!["-q".into()], &cmd);
    command.stdin(std::process::Stdio::piped());
    let (mut started, _) = crate::run::start(command, false);
    let guard = started.guard();
    let lines = until_ready(&mut started);
    started.signal(Signal::SIGHUP);
    started.signal(Signal::SIGINT);
    started
        .child
        .stdin
        .take()
        .unwrap()
        .write_all(b"it\n")
        .unwrap();
    assert_eq!(rest(lines), "got it\n");
    assert!(started.child.wait().unwrap().success());
    guard.dismiss(&started.what);
}

/// The shell returns at once and so do we; what the process does later is not lost.
fn background_process_outlives_the_command(setting: Setting) {
    for wrapped in [false, true] {
        let s = TestSpace::with(setting);
        let script = "(read x < ../outside/fifo; cat in > late; echo bye) & echo early";
        s.write("in", "one\n");
        s.must("mkfifo ../outside/fifo");
        let mut started = s.start(Cmd::sh(script), wrapped);
        let guard = started.guard();
        let stdout = BufReader::new(started.child.stdout.take().unwrap());
        assert!(started.child.wait().unwrap().success(), "wrapped {wrapped}");
        assert!(!s.exists("late"));
        fs::write(s.root().join("outside/fifo"), "go\n").unwrap();
        assert_eq!(rest(stdout), "early\nbye\n", "wrapped {wrapped}");
        assert_eq!(s.read("late"), "one\n", "wrapped {wrapped}");
        guard.dismiss(&started.what);
    }
}

/// A command with a survivor is not served as if it had none.
fn survivor_is_not_cached(setting: Setting) {
    let s = TestSpace::with(setting);
    let script = "(read x < ../outside/fifo; cat in >> late; echo bye) & echo early";
    s.write("in", "one\n");
    s.must("mkfifo ../outside/fifo");
    for n in 1..3 {
        let mut started = s.start(Cmd::sh(script), true);
        let guard = started.guard();
        let stdout = BufReader::new(started.child.stdout.take().unwrap());
        assert!(started.child.wait().unwrap().success());
        fs::write(s.root().join("outside/fifo"), "go\n").unwrap();
        assert_eq!(rest(stdout), "early\nbye\n");
        assert_eq!(s.read("late"), "one\n".repeat(n));
        guard.dismiss(&started.what);
    }
}
