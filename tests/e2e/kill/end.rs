//! Who ends with whom when processes of ours are killed.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc::{self, RecvTimeoutError::Timeout};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::left;
use crate::run::Cmd;
use crate::space::{Setting, TestSpace};

const SETTINGS: [Setting; 4] = [
    Setting {
        nobody: false,
        tracer: None,
    },
    Setting {
        nobody: true,
        tracer: None,
    },
    Setting {
        nobody: false,
        tracer: Some("ptrace"),
    },
    Setting {
        nobody: true,
        tracer: Some("ptrace"),
    },
];

/// The whole group is killed: so is what had left it, which nobody could watch any more.
#[test]
fn group_is_killed() {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        s.sleeper("");
        let mut started = s.start(Cmd::sh("setsid ./sleeper | cat"), true);
        let guard = started.guard();
        let mut lines = BufReader::new(started.child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{setting:?}");
        started.signal(Signal::SIGKILL);
        assert_eq!(started.child.wait().unwrap().signal(), Some(9));
        lines.read_to_string(&mut line).unwrap();
        guard.dismiss(&started.what);
        left::wait_gone(&s, &format!("{setting:?}"));
    }
}

/// The host is killed: all of the build is, and the user is told.
#[test]
fn host_is_killed() {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        s.sleeper("");
        let mut started = s.start(Cmd::sh("setsid ./sleeper | cat"), true);
        let guard = started.guard();
        let mut lines = BufReader::new(started.child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{setting:?}");
        let front = started.pid().as_raw();
        let hosts = left::processes(&s).into_iter();
        let hosts: Vec<_> = hosts
            .filter(|process| process.name == "rfs-host" && process.parent == front)
            .collect();
        assert_eq!(hosts.len(), 1, "{hosts:?}");
        kill(Pid::from_raw(hosts[0].pid), Signal::SIGKILL).unwrap();
        lines.read_to_string(&mut line).unwrap();
        let errors = std::io::read_to_string(started.child.stderr.take().unwrap()).unwrap();
        let status = started.child.wait().unwrap();
        guard.dismiss(&started.what);
        left::wait_gone(&s, &format!("{setting:?}"));
        assert_eq!(status.code(), Some(125), "{setting:?}: {errors}");
        assert!(
            errors.contains("lost sight of the command") && errors.contains("SIGKILL"),
            "{setting:?}: {errors}"
        );
    }
}

/// `pkill -9 rfs`: the command dies with us.
#[test]
fn all_of_ours_are_killed() {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        s.sleeper("");
        let mut started = s.start("./sleeper", true);
        let guard = started.guard();
        let mut lines = BufReader::new(started.child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let ours = left::processes(&s).into_iter();
        let ours: Vec<_> = ours
            .filter(|process| process.name.starts_with("rfs"))
            .collect();
        assert_eq!(ours.len(), 3, "{ours:?}");
        for process in &ours {
            // Some die with those before them.
            let _gone = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        lines.read_to_string(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{setting:?}");
        let _status = started.child.wait().unwrap();
        guard.dismiss(&started.what);
        left::wait_gone(&s, &format!("{setting:?}"));
    }
}

/// A process is killed before its first call that anybody looks at: what its parent makes of that is not
/// served.
#[test]
fn child_is_killed_before_it_does_anything() {
    for setting in SETTINGS {
        let s = TestSpace::with(setting);
        let waits =
            "my $child = fork; if (!$child) { 1 while 1 } waitpid $child, 0; exit($? ? 1 : 0)";
        // Nobody can wait for this child: its parent learns of the end by that of a pipe.
        let ignores =
            "$SIG{CHLD} = 'IGNORE'; pipe R, W; if (!fork) { 1 while 1 } close W; exit !<R>";
        for script in [waits, waits, ignores] {
            let (running, ended) = mpsc::channel::<()>();
            let run = thread::scope(|scope| {
                let _until_it_ends = running;
                scope.spawn(|| {
                    let ended = ended;
                    while ended.recv_timeout(Duration::from_millis(1)) == Err(Timeout) {
                        slay_child(&s);
                    }
                });
                s.rfs(Cmd::new(["perl", "-e", script]))
            });
            assert_eq!(run.code(), 1, "{setting:?}: {run:#?}");
            assert_eq!(run.summary().refused, 1, "{setting:?}: {run:#?}");
        }
    }
}

/// Kills a process called `perl` whose parent is one.
fn slay_child(s: &TestSpace) {
    let perls = left::processes(s).into_iter();
    let perls: Vec<_> = perls.filter(|process| process.name == "perl").collect();
    let child = perls
        .iter()
        .find(|child| perls.iter().any(|other| other.pid == child.parent));
    if let Some(child) = child {
        let _gone = kill(Pid::from_raw(child.pid), Signal::SIGKILL);
    }
}
