//! What happens around a mount that is nobody's fault: full disks, stopped, hung and killed daemons, a new version of the
//! program, other users.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Mounted, has_ended, hear, in_own_namespace, service, wait_until};
use crate::run::{self, Cmd};
use crate::space::TestSpace;

const MAKEFILE: &str = "all: one two three\n\
    one: in\n\tcat in > one\n\
    two: one\n\techo waiting; read x < ../outside/fifo; cat one > two\n\
    three: two\n\tcat two > three\n";

/// Nobody waits for ever for a daemon that was killed (by whom ever: the kernel, when memory is short), what was
/// written is there, and after `rfs mount` the same command completes the build.
#[test]
fn a_daemon_that_is_killed_in_the_middle_of_a_build() {
    let m = Mounted::new(|s| {
        s.write("in", "text\n");
        s.write("Makefile", MAKEFILE);
        s.must("mkfifo ../outside/fifo");
    });
    let fifo = m.space.root().join("outside/fifo");
    let mut command = m.space.command(&Cmd::sh("make"), vec![]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut build = run::spawn(&mut command).unwrap();
    let mut out = BufReader::new(build.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "waiting" {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "make has ended");
    }
    let daemon = m.pid();
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    wait_until(|| !m.is_mounted());
    // The recipe goes on and meets a mount that is gone.
    let writer = std::thread::spawn(move || fs::write(fifo, "go\n"));
    let ended = build.wait().unwrap();
    let _written = writer.join().unwrap();
    assert!(!ended.success(), "its working directory is gone");
    assert_eq!(m.space.read("one"), "text\n");
    let _again = m.mount(&[]).expect_code(0);
    m.space
        .must(Cmd::sh("rm -f ../outside/fifo; echo > ../outside/fifo"));
    assert!(m.sh("make -s && cat three").ends_with("text\n"));
}

/// A daemon that is stopped (a machine that sleeps): who asks waits, and goes on with it.
#[test]
fn a_daemon_that_is_stopped_goes_on() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    let daemon = Pid::from_raw(m.pid());
    kill(daemon, Signal::SIGSTOP).unwrap();
    // Not started in there: who starts it would wait too.
    let script = format!(
        "echo begun; cd {} && cat a; echo two > b; mv b c; cat c",
        m.at.display()
    );
    let command = m.space.command(&Cmd::sh(&script).cwd("/"), vec![]);
    let (mut started, _) = run::start(command, false);
    let mut out = BufReader::new(started.child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    assert!(started.child.try_wait().unwrap().is_none());
    kill(daemon, Signal::SIGCONT).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    let (status, _, err) = started.finish(None);
    assert!(status.success(), "{}", String::from_utf8_lossy(&err));
    assert_eq!(rest, "one\ntwo\n");
    assert_eq!(m.status()["alive"], true);
}

/// A daemon that hangs is not told of as alive, so that systemd kills it; who waits for it gets an error then.
#[test]
fn a_hung_daemon_is_killed_by_the_watchdog() {
    let space = TestSpace::new();
    space.write("a", "one\n");
    let (started, socket) = service(&space);
    let hear = || hear(&socket);
    while hear().as_deref() != Some("WATCHDOG=1") {}
    let m = Mounted {
        at: space.ws().to_owned(),
        space,
    };
    kill(started.pid(), Signal::SIGSTOP).unwrap();
    let script = format!("cd {} && cat a", m.at.display());
    let waiting = m.space.command(&Cmd::sh(&script).cwd("/"), vec![]);
    let (waiting, _) = run::start(waiting, false);
    // What systemd does: silence for longer than the service has promised, and it is killed.
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    while hear().is_some() {}
    kill(started.pid(), Signal::SIGKILL).unwrap();
    let _ended = started.finish(None);
    wait_until(|| !m.is_mounted());
    let (status, ..) = waiting.finish(None);
    assert!(!status.success(), "{status:?}");
    assert_eq!(m.space.read("a"), "one\n");
}

/// A package manager puts a new file in the program's place: the daemon goes on, the new program knows it.
#[test]
fn the_program_is_replaced_while_it_serves() {
    let space = TestSpace::new();
    space.write("a", "one\n");
    let copy = space.root().join("outside/rfs-copy");
    let new = copy.with_extension("new");
    let rfs = |args: &[&str]| {
        let argv = std::iter::once(copy.to_str().unwrap()).chain(args.iter().copied());
        space.bare(Cmd::new(argv).cwd("/"))
    };
    fs::copy(space.program(), &copy).unwrap();
    let ws = space.ws().to_str().unwrap();
    let _mounted = rfs(&["mount", ws]).expect_code(0);
    fs::copy(space.program(), &new).unwrap();
    fs::rename(&new, &copy).unwrap();
    space.must(Cmd::sh("cat a > b; mkdir d; mv b d"));
    let status = rfs(&["status", ws]).expect_code(0);
    assert!(status.out().contains("mounted for"), "{status:#?}");
    let pid: i32 = {
        let json = rfs(&["status", "--json", ws]).out();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["pid"].as_i64().unwrap().try_into().unwrap()
    };
    let built = space.rfs(Cmd::sh("cat a > c")).expect_code(0);
    assert_eq!(built.summary().ran, 1);
    let _gone = rfs(&["umount", ws]).expect_code(0);
    wait_until(|| has_ended(pid));
    assert_eq!(
        (space.read("d/b"), space.read("c")),
        ("one\n".into(), "one\n".into())
    );
}

/// What an ordinary user has mounted others may use where he says so and the administrator lets him.
#[test]
fn other_users_are_let_in_where_that_is_asked_for() {
    let s = TestSpace::new();
    s.write("a", "one\n");
    s.must(Cmd::sh(
        "chmod 755 . ..; chown -R 65534:65534 . ../home ../cache 2>/dev/null; true",
    ));
    let program = s.root().join("outside/rfs-copy");
    fs::copy(s.program(), &program).unwrap();
    s.must("chmod 755 ../outside ../outside/rfs-copy");
    let script = "set -e; printf 'user_allow_other\\n' > ../outside/fuse.conf; touch /etc/fuse.conf\n\
        mount --bind ../outside/fuse.conf /etc/fuse.conf\n\
        cd ..\n\
        user='setpriv --reuid 65534 --regid 65534 --clear-groups'\n\
        other='setpriv --reuid 4001 --regid 4001 --clear-groups'\n\
        trap '$user outside/rfs-copy umount --force WS' EXIT\n\
        $user outside/rfs-copy mount OPTION WS >/dev/null\n\
        $user cat WS/a\n\
        $other cat WS/a 2>/dev/null || echo denied\n";
    for (option, expected) in [("--allow-other", "one\none\n"), ("", "one\ndenied\n")] {
        let script = script
            .replace("WS", s.ws().to_str().unwrap())
            .replace("OPTION", option);
        let cmd = in_own_namespace(&script);
        let run = s.bare(cmd).expect_code(0);
        assert_eq!(run.out(), expected, "{option} {run:#?}");
    }
}

/// Two users build at once, each his own, in one mount.
#[test]
fn two_users_build_at_once() {
    let m = Mounted::new(|s| {
        s.mkdir("all");
        s.chmod("all", 0o1777);
    });
    let script = "mkdir all/$U && cd all/$U && for i in 1 2 3 4 5 6 7 8 9; do echo $U $i > in$i; done && \
        printf 'all: %s\\nout%%: in%%\\n\\tcat $< > $@\\n' \"$(echo out1 out2 out3 out4 out5 out6 out7 out8 out9)\" > Makefile && \
        for round in 1 2 3; do make -s -j3 && rm out1 && make -s && make -q || exit 1; done; cat out*";
    let started: Vec<_> = [4001_u32, 4002]
        .into_iter()
        .map(|uid| {
            let mut command = m
                .space
                .command(&Cmd::sh(&script.replace("$U", &uid.to_string())), vec![]);
            command.uid(uid).gid(uid);
            (uid, run::start(command, false).0)
        })
        .collect();
    for (uid, started) in started {
        let (status, out, err) = started.finish(None);
        assert!(status.success(), "{}", String::from_utf8_lossy(&err));
        let expected: String = (1..10).map(|i| format!("{uid} {i}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
    assert_eq!(m.status()["warnings"], serde_json::json!([]));
}

/// Memory and descriptors of a daemon do not grow with what was done. `RFS_LONG=MINUTES` (1 stands for 20), else
/// some rounds.
#[test]
fn a_daemon_does_not_grow() {
    let m = Mounted::new(|s| {
        let sources: Vec<_> = (0..40).map(|n| format!("o{n}")).collect();
        s.write(
            "Makefile",
            format!(
                "all: {}\no%: i%\n\tcat $< > $@\nclean:\n\trm -f o*\n",
                sources.join(" ")
            ),
        );
        for n in 0..40 {
            s.write(format!("i{n}"), format!("{n}\n"));
        }
    });
    let daemon = m.pid();
    let round = || {
        let _done = m.sh(
            "make -s clean && make -s -j2 && make -q && mkdir -p t/u && for i in 1 2 3 4 5 6 7 8 9; do echo $i > t/u/$i; done && \
             mv t/u t/v && ln -s v t/w && cat t/w/* > t/all && find . > /dev/null && rm -r t",
        );
    };
    let size = || {
        let status = fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        let fds = fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count();
        (kib, fds)
    };
    let minutes = std::env::var("RFS_LONG")
        .ok()
        .map(|text| match text.parse() {
            Ok(0 | 1) | Err(_) => 20,
            Ok(minutes) => minutes,
        });
    (0..5).for_each(|_| round());
    let before = size();
    let (start, mut rounds) = (Instant::now(), 0);
    while rounds < 5 || minutes.is_some_and(|n| start.elapsed() < Duration::from_secs(60 * n)) {
        round();
        rounds += 1;
    }
    // What is written down lately is let go.
    let _settled = m
        .space
        .tool(&["store", "check", "--workspace"])
        .expect_code(0);
    let after = size();
    println!("{rounds} rounds: {before:?} KiB and descriptors before, {after:?} after");
    assert!(
        after.0 < before.0 * 5 / 4 + 8192,
        "{before:?} {after:?} KiB after {rounds} rounds"
    );
    assert!(
        after.1 <= before.1 + 8,
        "{before:?} {after:?} descriptors after {rounds} rounds"
    );
    assert_eq!(m.pid(), daemon);
    assert!(Path::new(&m.at).exists());
}
