//! Processes that do not behave: left behind, detached, without descriptors, thousands at once.

use super::twice;
use crate::probe::{Hit, Refused};
use crate::run::Cmd;
use crate::space::TestSpace;
use std::fs;

/// Waits until it is told to go on, then writes a file and says so. It holds none of the descriptors
/// that the command was started with.
const DAEMON: &str = "read go < ../outside/go; cat in > late; echo done > ../outside/answer";

/// How processes are left behind: a script with DAEMON in the place of `@`.
const WAYS: [&str; 5] = [
    "sh -c '@' </dev/null >/dev/null 2>&1 &",
    "setsid sh -c '@' </dev/null >/dev/null 2>&1 &",
    "nohup sh -c '@' </dev/null >/dev/null 2>&1 &",
    "setsid --fork sh -c '@' </dev/null >/dev/null 2>&1",
    "perl -e 'use POSIX; fork and exit; setsid; fork and exit; POSIX::close($_) for 0..9;
      open STDIN, q(</dev/null); open STDOUT, q(>/dev/null); open STDERR, q(>/dev/null);
      exec q(sh), q(-c), q(@)'",
];

/// The command ends when it ends, whatever it leaves behind; what that does later is done.
#[test]
fn daemons_left_behind() {
    for way in WAYS {
        let s = TestSpace::new();
        for fifo in ["go", "answer"] {
            s.must(Cmd::new(["mkfifo", &format!("../outside/{fifo}")]));
        }
        s.write("in", "one\n");
        let script = format!("cat in > early; {}; echo started", way.replace('@', DAEMON));
        let script = script.replace("&;", "&");
        for run in [Cmd::sh(&script)] {
            for wrapped in [false, true, true] {
                s.remove("late");
                let ended = if wrapped {
                    s.rfs(run.clone())
                } else {
                    s.bare(run.clone())
                };
                assert_eq!(
                    (ended.code(), ended.out()),
                    (0, "started\n".to_owned()),
                    "{way}: {ended:#?}"
                );
                if wrapped {
                    assert!(ended.summary().refused > 0, "{way}: {ended:#?}");
                }
                assert!(!s.exists("late"), "{way}: it waits");
                fs::write(s.root().join("outside/go"), "go\n").unwrap();
                let answer = fs::read_to_string(s.root().join("outside/answer")).unwrap();
                assert_eq!(
                    (answer.as_str(), s.read("late")),
                    ("done\n", "one\n".to_owned()),
                    "{way}"
                );
            }
        }
    }
}

/// A daemon that the step itself starts, uses and stops: by a signal, so it is never served.
#[test]
fn server_of_one_step() {
    let cmd =
        "sleep 1000 & cc --version > version; { kill $!; wait $!; } 2> /dev/null; echo stopped";
    twice(|_| {}, Cmd::sh(cmd), Refused);
}

/// Signals for a child that has ended already, as cmake sends them to be sure.
#[test]
fn signals_for_a_child_that_has_ended() {
    let cmd = "python3 -c 'import os, signal\n\
               child = os.fork() or os._exit(3)\n\
               os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)\n\
               os.kill(child, signal.SIGSTOP); os.kill(child, signal.SIGKILL)\n\
               print(os.waitpid(child, 0)[1])' > out";
    twice(|_| {}, Cmd::sh(cmd), Hit);
}

/// Children that are waited for belong to the step, however deep and late.
#[test]
fn children_that_are_waited_for() {
    let cmd = "sh -c 'cat in > a & cat in > b & wait'; sh -c '(sleep 0.1; cat in > late) & wait'";
    twice(|s| s.write("in", "one\n"), Cmd::sh(cmd), Hit);
}

/// Programs that close whatever they inherit, and shells without the standard descriptors.
#[test]
fn all_descriptors_closed() {
    let cmd = "perl -e 'use POSIX; POSIX::close($_) for 0..1023; open F, q(>), q(out); \
               print F fileno(F), qq(\\n); close F; system q(cat in > b)'; \
               sh -c 'exec 0<&- 1>&- 2>&-; cat in > c; sort in > d'; cat out";
    twice(|s| s.write("in", "one\n"), Cmd::sh(cmd), Hit);
}

/// All of them wait until the last one is there, then all go on at once.
#[test]
fn two_thousand_processes() {
    let cmd = "perl -e 'pipe R, W; for $n (1..2000) { $p = fork; die $! unless defined $p; next if $p; \
               close W; sysread R, $b, 1; open F, q(>), qq(out/$n) or die; print F $n; close F; \
               exec q(cat), q(in) if $n % 20 == 0; exit 0 } \
               close R; close W; 1 while wait > 0' | sort | uniq -c";
    let lay = |s: &TestSpace| {
        s.write("in", "one\n");
        s.mkdir("out");
    };
    twice(lay, Cmd::sh(cmd), Hit);
}

/// A step that is refused at its very end keeps nobody waiting for its outputs.
#[test]
fn output_of_a_step_that_is_refused_late() {
    let late =
        "$| = 1; print qq(said\\n); open F, q(>), q(out); print F 1; close F; seek STDOUT, 0, 0";
    let cmd = format!("perl -e '{late}' > log; echo 2 >> out; cat log out");
    twice(|_| {}, Cmd::sh(&cmd), Hit);
}

/// Whether message queue 4711 is there, then its making, use and removal, as fakeroot does it.
const QUEUE: &str = r#"
    use IPC::SysV qw(IPC_CREAT IPC_RMID S_IRUSR S_IWUSR);
    my ($key, $what) = @ARGV;
    my $q = msgget($key, ($what =~ /make/ ? IPC_CREAT : 0) | 0600) // die "no queue\n";
    msgsnd($q, pack("l! a*", 1, "said"), 0) if $what =~ /say/;
    if ($what =~ /hear/) { msgrcv($q, my $heard, 9, 0, 0); print unpack("x[l!] a*", $heard), "\n" }
    msgctl($q, IPC_RMID, 0) if $what =~ /remove/;
"#;

/// A System V queue of a step's own, with a key as no other test has it.
#[test]
fn message_queues() {
    let key = 0x5253_0000 + i64::from(std::process::id() & 0xffff);
    let lay = |s: &TestSpace| s.write("queue.pl", QUEUE);
    let cmd = |words: &str| {
        let lines = words
            .split(' ')
            .map(|what| format!("perl queue.pl {key} {what}; "));
        Cmd::sh(&lines.collect::<String>())
    };
    twice(lay, cmd("make-say-hear-remove"), Hit);
    // From step to step: those inside share it, the one around has it for itself.
    twice(lay, cmd("make-say hear-remove"), Hit);

    let s = TestSpace::new();
    lay(&s);
    for _ in 0..2 {
        let left = s.rfs(cmd("make-say")).expect_code(0);
        assert!(left.summary().refused == 2, "{left:#?}");
        let found = s.rfs(cmd("make-hear-remove")).expect_code(0);
        assert_eq!(found.out(), "said\n");
        assert!(found.summary().refused == 2, "{found:#?}");
    }
}
