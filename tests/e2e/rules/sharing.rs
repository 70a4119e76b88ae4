//! Several commands and several checkouts, and commands that are killed or told to stop.

use super::{Jobs, rules};
use crate::run::{Cmd, Started, start};
use crate::space::{Setting, TestSpace};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::time::{Duration, Instant};

/// The exit code of who dies by ^C.
const INTERRUPTED: i32 = 128 + Signal::SIGINT as i32;

/// `rfs build --explain ARGS`, not waited for.
pub fn begin(s: &TestSpace, args: &str) -> Started {
    let mut argv = vec![s.program().to_str().unwrap(), "build", "--explain"];
    argv.extend(args.split_whitespace());
    start(s.command(&Cmd::new(argv), Vec::new()), false).0
}

pub fn end(started: Started) -> Jobs {
    let (status, stdout, stderr) = started.finish(None);
    Jobs::of(crate::run::Run {
        status,
        stdout,
        stderr,
        explain: Vec::new(),
        summary: None,
    })
}

/// Waits until something is so; a test that waits for ever fails.
#[track_caller]
pub fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

/// The children of all threads of a process.
fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let pids: Vec<i32> = text
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        pids
    };
    tasks.flatten().flat_map(of_task).collect()
}

/// A job that has written half of its target and then needs a lock.
const HALF: &str = "rule('slow', targets = 'x', deps = 'src', \
     cmd = 'echo half > x; flock ../outside/lock true; cat src >> x')\n\
     rule('use', targets = 'y{n}', deps = 'x', cmd = 'cp x {target}')\n";

fn half() -> TestSpace {
    with_half(Setting::default())
}

fn with_half(setting: Setting) -> TestSpace {
    let s = TestSpace::with(setting);
    s.write("Rfsfile", HALF);
    s.write("src", "whole\n");
    s.write("../outside/lock", "");
    s
}

/// Keeps jobs at their half.
fn hold(s: &TestSpace) -> Flock<File> {
    let file = File::open(s.path("../outside/lock")).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

#[track_caller]
fn half_is_there(s: &TestSpace) {
    let is = || std::fs::read(s.path("x")).is_ok_and(|text| text == b"half\n");
    until("the half is never written", is);
}

/// Two commands in one workspace: what one is at the other waits for and does not run.
#[test]
fn two_commands_share_their_jobs() {
    let s = half();
    let held = hold(&s);
    let one = begin(&s, "y1");
    half_is_there(&s);
    let two = begin(&s, "y2");
    // It has looked at the rules and its records.
    let log = s.path(".rfs/made");
    until("the second command never began", || {
        std::fs::read_dir(format!("/proc/{}/fd", two.pid())).is_ok_and(|fds| {
            fds.flatten()
                .any(|fd| fd.path().read_link().is_ok_and(|to| to == log))
        })
    });
    drop(held);
    let _one = end(one).ran(&["slow x", "use y1"]);
    let _two = end(two).ran(&["use y2"]);
    assert_eq!(
        (s.read("y1"), s.read("y2")),
        ("half\nwhole\n".into(), "half\nwhole\n".into())
    );
    s.build("y1 y2").ran(&[]).served(&[]);
}

/// When the command that is at a job is told to stop, the other one runs it.
#[test]
fn a_job_that_another_command_gives_up_is_run() {
    let s = half();
    let held = hold(&s);
    let one = begin(&s, "y1");
    half_is_there(&s);
    let two = begin(&s, "y2");
    one.signal(Signal::SIGINT);
    let one = end(one);
    assert_eq!(one.run.code(), INTERRUPTED, "{}", one.run.err());
    half_is_there(&s);
    drop(held);
    let _two = end(two).ran(&["slow x", "use y2"]);
    assert_eq!(s.read("y2"), "half\nwhole\n");
}

/// ^C ends the jobs, leaves nothing half made, and what comes after is whole.
fn told_to_stop(setting: Setting) {
    let s = with_half(setting);
    let held = hold(&s);
    let one = begin(&s, &tracer(setting));
    half_is_there(&s);
    one.signal(Signal::SIGINT);
    let one = end(one);
    assert_eq!(one.run.code(), INTERRUPTED, "{}", one.run.err());
    assert!(!s.exists("x") && !s.exists("y1"));
    drop(held);
    let _two = end(begin(&s, &tracer(setting))).ran(&["slow x", "use y1"]);
    assert_eq!(s.read("y1"), "half\nwhole\n");
    let _null = end(begin(&s, &tracer(setting))).ran(&[]).served(&[]);
}

fn tracer(setting: Setting) -> String {
    match setting.tracer {
        Some(tracer) => format!("--tracer {tracer} y1"),
        None => "y1".to_owned(),
    }
}

#[test]
fn a_command_is_told_to_stop() {
    told_to_stop(Setting::default());
}

#[test]
fn a_command_under_ptrace_is_told_to_stop() {
    told_to_stop(Setting {
        tracer: Some("ptrace"),
        ..Setting::default()
    });
}

#[test]
fn an_ordinary_user_tells_his_command_to_stop() {
    told_to_stop(Setting {
        nobody: true,
        ..Setting::default()
    });
}

/// A command that is killed leaves no half of a target: not in the tree, nor for the next one.
#[test]
fn a_killed_command_leaves_no_half_made_target() {
    let s = half();
    let held = hold(&s);
    let one = begin(&s, "y1");
    half_is_there(&s);
    one.signal(Signal::SIGKILL);
    let _killed = one.finish(None);
    until("the half is left", || !s.exists("x"));
    drop(held);
    let two = end(begin(&s, "y1")).ran(&["slow x", "use y1"]);
    assert!(!s.exists(".rfs/quarantine"), "{}", two.run.err());
    assert_eq!(s.read("y1"), "half\nwhole\n");
}

/// Where even the guard is killed, the next command sets the half aside, asked for or not.
#[test]
fn what_nobody_could_remove_is_set_aside() {
    let s = half();
    s.append(
        "Rfsfile",
        "rule('other', targets = 'z', cmd = 'echo z > z')\n",
    );
    let _held = hold(&s);
    let one = begin(&s, "y1");
    half_is_there(&s);
    let guard = children(one.pid().as_raw())
        .into_iter()
        .find(|pid| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words
                .split(|byte| *byte == 0)
                .any(|word| word == b"guard-jobs")
        })
        .unwrap();
    kill(Pid::from_raw(guard), Signal::SIGKILL).unwrap();
    one.signal(Signal::SIGKILL);
    let _killed = one.finish(None);
    assert!(s.exists("x"));
    let two = s.build("z").ran(&["other z"]);
    assert!(!s.exists("x"), "{}", two.run.err());
    assert_eq!(s.read(".rfs/quarantine/x"), "half\n");
}

/// What a killed command had made whole is known to be made by jobs.
#[test]
fn what_was_whole_before_a_kill_is_not_set_aside() {
    let s = half();
    s.append(
        "Rfsfile",
        "rule('first', targets = 'f', deps = 'src', cmd = 'cp src f')\n",
    );
    let _held = hold(&s);
    let one = begin(&s, "-j1 f y1");
    half_is_there(&s);
    one.signal(Signal::SIGKILL);
    let _killed = one.finish(None);
    until("the half is left", || !s.exists("x"));
    s.write("src", "other\n");
    let two = s.build("f").ran(&["first f"]);
    assert!(!s.exists(".rfs/quarantine"), "{}", two.run.err());
}

/// Another checkout at another place is served from the same cache.
#[test]
fn checkouts_share_what_they_made() {
    let text = "rule('o', targets = 'obj/{n}.o', deps = 'src/{n}.c', cmd = 'gcc -Iinclude -c -o {target} {dep}')\n\
                rule('prog', targets = 'prog', deps = 'obj/main.o', cmd = ['gcc', '-o', '{target}', '{deps}'])\n";
    let s = rules(text);
    s.write("include/h.h", "#define N 3\n");
    s.write(
        "src/main.c",
        "#include \"h.h\"\nint main(void) { return N; }\n",
    );
    s.build("prog").ran(&["o obj/main.o", "prog prog"]);
    s.must(Cmd::sh(
        "mkdir ../outside/deep && cp -r Rfsfile include src ../outside/deep",
    ));
    let elsewhere = |argv: &str| {
        let argv = format!("{} {argv}", s.program().display());
        Jobs::of(s.bare(Cmd::sh(&argv).cwd("../outside/deep")))
    };
    elsewhere("build --explain prog")
        .ran(&[])
        .served(&["o obj/main.o", "prog prog"]);
    assert_eq!(s.bare(Cmd::new(["../outside/deep/prog"])).code(), 3);
    // What the other one changes is new, and then old here.
    s.must(Cmd::sh("echo '#define N 4' > ../outside/deep/include/h.h"));
    elsewhere("build --explain prog").ran(&["o obj/main.o", "prog prog"]);
    s.write("include/h.h", "#define N 4\n");
    s.build("prog")
        .ran(&[])
        .served(&["o obj/main.o", "prog prog"]);
}

/// Whether a process guards this workspace.
fn is_guarded(s: &TestSpace) -> bool {
    let words = format!("guard-jobs\0{}\0", s.ws().display());
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.ends_with(words.as_bytes())
    })
}

/// Killed at whatever moment: each target is whole or not there, nothing is set aside, and the next build
/// is right.
#[test]
fn killed_at_any_moment() {
    const N: usize = 8;
    let s = rules(
        "rule('part', targets = 'p{n}', deps = 'src', cmd = 'head -c 9 src > p{n}; cat src >> p{n}; sync p{n}')\n\
         rule('all', targets = 'all', deps = ['p%d' % n for n in range(8)], cmd = 'cat {deps} > all')\n",
    );
    for round in 0..24_u64 {
        let src = format!("round {round} of many\n");
        s.write("src", &src);
        let part = format!("{}{src}", &src[..9]);
        let one = begin(&s, "-j2 all");
        std::thread::sleep(Duration::from_millis(round * 7));
        one.signal(Signal::SIGKILL);
        let _killed = one.finish(None);
        until("its guard never ends", || !is_guarded(&s));
        for n in 0..N {
            let Ok(found) = std::fs::read_to_string(s.path(format!("p{n}"))) else {
                continue;
            };
            let whole = found.len() > 20 && found.ends_with("of many\n");
            assert!(whole, "round {round}: {found:?}");
        }
        let two = s.build("-j2 all");
        assert_eq!(
            two.run.status.code(),
            Some(0),
            "round {round}: {}",
            two.run.err()
        );
        assert_eq!(s.read("all"), part.repeat(N), "round {round}");
        assert!(
            !s.exists(".rfs/quarantine"),
            "round {round}: {}",
            two.run.err()
        );
    }
}
