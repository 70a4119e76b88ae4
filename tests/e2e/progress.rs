//! `rfs build --progress`: a line that is there while the build is silent, and that nobody can tell was there.

use crate::kill::left::processes;
use crate::run::Cmd;
use crate::space::TestSpace;
use crate::terminal::Session;

/// What a terminal shows after these bytes, line by line. Panics at what it does not know.
fn screen(bytes: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut at = 0;
    let mut rest = bytes;
    while let Some(c) = rest.chars().next() {
        let line = lines.last_mut().unwrap();
        if let Some(after) = rest.strip_prefix("\u{1b}[K") {
            line.truncate(at);
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\r' => at = 0,
            '\n' => {
                lines.push(" ".repeat(at));
            }
            c => {
                assert!(c.is_ascii() && !c.is_control(), "{bytes:?}");
                line.replace_range(at..(at + 1).min(line.len()), &c.to_string());
                at += 1;
            }
        }
    }
    lines
        .into_iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// Waits in a step of its own until the test lets it go on.
fn project() -> TestSpace {
    let s = TestSpace::new();
    s.script(
        "wait",
        "#!/bin/sh\nwhile ! test -e $1; do sleep 0.05; done\n",
    );
    s
}

const TWICE: &str = "echo one; ./wait first; echo two >&2; ./wait second; printf three";

/// Runs [`TWICE`]; `shown` tells what must be seen before each of the two waits ends.
fn twice(s: &TestSpace, options: Option<&[&str]>, shown: Option<&str>) -> (String, String) {
    for made in ["first", "second"] {
        if s.exists(made) {
            s.remove(made);
        }
    }
    let mut session = Session::with(s, &Cmd::sh(TWICE), options);
    let mut all = String::new();
    for (said, go) in [("one\r\n", "first"), ("two\r\n", "second")] {
        all += &session.wait_for(said);
        if let Some(shown) = shown.filter(|shown| !all.ends_with(shown)) {
            all += &session.wait_for(shown);
        }
        s.write(go, "");
    }
    let (status, rest) = session.end();
    assert!(status.success(), "{all}{rest}");
    (all.clone() + &rest, all)
}

#[test]
fn a_line_comes_in_silence_and_leaves_no_trace() {
    let s = project();
    let (bare, _) = twice(&s, None, None);
    assert_eq!(screen(&bare), ["one", "two", "three"]);
    let line = Some(&["-q", "--progress", "line"][..]);
    let (bytes, _) = twice(&s, line, Some("1 running: ./wait"));
    assert_eq!(screen(&bytes), screen(&bare), "{bytes:?}");
    // Now it is known how long that took.
    let (bytes, seen) = twice(&s, line, Some("left; 1 running: ./wait"));
    assert_eq!(screen(&bytes), screen(&bare), "{bytes:?}");
    assert!(seen.contains(" s of "), "{seen:?}");
    // And in the configuration.
    s.write("rfs.toml", "[build]\nprogress = 'line'\n");
    let (bytes, _) = twice(&s, Some(&["-q"]), Some("1 running"));
    assert_eq!(screen(&bytes), screen(&bare), "{bytes:?}");
}

#[test]
fn nobody_who_has_not_asked_is_shown_a_line() {
    let s = project();
    let (bare, _) = twice(&s, None, None);
    // Longer than a line takes to come.
    s.script(
        "wait",
        "#!/bin/sh\nwhile ! test -e $1; do sleep 0.05; done; sleep 1.2\n",
    );
    assert_eq!(twice(&s, Some(&["-q"]), None).0, bare);
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let cmd = Cmd::sh("echo one; ./wait first").env(name, value);
        let session = Session::with(&s, &cmd, Some(&["-q", "--progress", "line"]));
        assert_eq!(session.end().1, "one\r\n", "{name}");
    }
    let cmd = Cmd::sh("echo one; ./wait first");
    let piped = s.rfs_with(&["--progress", "line"], cmd.plain());
    assert_eq!((piped.out().as_str(), piped.err().as_str()), ("one\n", ""));
}

/// An unfinished line, a moved cursor, a terminal in another mode, a descriptor where nobody looks.
#[test]
fn where_a_line_could_be_in_the_way_there_is_none() {
    let s = project();
    s.write("first", "");
    s.script("wait", "#!/bin/sh\nsleep 1.2\n");
    for script in [
        "printf 'checking for it... '; ./wait; echo yes",
        "printf '\\033[2J\\n'; ./wait",
        "stty -echo; ./wait; stty echo",
        "bash -c './wait' 12>&2",
    ] {
        let cmd = Cmd::sh(script);
        let bare = Session::with(&s, &cmd, None).end().1;
        let session = Session::with(&s, &cmd, Some(&["-q", "--progress", "line"]));
        assert_eq!(session.end().1, bare, "{script}");
    }
}

#[test]
fn terminals_with_an_indicator_show_it_until_the_end() {
    let s = project();
    s.script("wait", "#!/bin/sh\nsleep 1.2\n");
    let cmd = Cmd::sh("echo one; ./wait; echo two").env("TERM_PROGRAM", "WezTerm");
    let begun = "\u{1b}]9;4;3;\u{1b}\\";
    let ended = "\u{1b}]9;4;0;\u{1b}\\";
    let session = Session::with(&s, &cmd, Some(&["-q", "--rerun"]));
    let (_, first) = session.end();
    assert_eq!(first, format!("one\r\n{begun}two\r\n{ended}"));
    // How far it is, now that it is known how long it takes.
    let (_, second) = Session::with(&s, &cmd, Some(&["-q", "--rerun"])).end();
    let (start, rest) = second.split_once("one\r\n\u{1b}]9;4;1;").unwrap();
    assert!(
        start.is_empty() && rest.ends_with(&format!("two\r\n{ended}")),
        "{second:?}"
    );
    let never = Session::with(&s, &cmd, Some(&["-q", "--rerun", "--progress", "never"]));
    assert_eq!(never.end().1, "one\r\ntwo\r\n");
}

#[test]
fn a_killed_host_leaves_no_line() {
    let s = project();
    let cmd = Cmd::sh("echo one; ./wait first");
    let mut session = Session::with(&s, &cmd, Some(&["-q", "--progress", "line"]));
    let seen = session.wait_for("1 running: ./wait");
    let hosts = processes(&s)
        .into_iter()
        .filter(|process| process.name == "rfs-host");
    for host in hosts {
        let _gone = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(host.pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    let (status, rest) = session.end();
    assert_eq!(status.code(), Some(125));
    let shown = screen(&(seen + &rest));
    assert_eq!(shown[0], "one", "{shown:?}");
    assert!(shown[1].starts_with("rfs: error: lost sight"), "{shown:?}");
}

/// Jobs of rules print when they have ended, so that the terminal is rfs's own meanwhile.
#[test]
fn rules_show_what_runs_too() {
    let s = TestSpace::new();
    let rule = "rule('slow', targets = 'slow.out', cmd = 'sleep 3; echo said; echo > {target}')\n";
    s.write("Rfsfile", rule);
    let mut words = vec![s.program().as_os_str().to_owned()];
    words.extend(["build", "--progress", "line", "slow.out"].map(Into::into));
    let mut session = Session::with(&s, &Cmd::new(words), None);
    let seen = session.wait_for("0 hit, 0 ran; 1 running: ");
    let (status, rest) = session.end();
    let shown = screen(&(seen + &rest));
    assert!(status.success(), "{shown:?}");
    assert!(shown.iter().any(|line| line == "said"), "{shown:?}");
    let lines = |word| shown.iter().filter(|line| line.contains(word)).count();
    assert_eq!((lines("running"), lines("1 ran")), (0, 1), "{shown:?}");
}

/// A shell takes the terminal when the job has stopped: the line is gone by then, and comes back after `fg`.
#[test]
fn a_stopped_build_leaves_no_line() {
    let s = project();
    let shell = Cmd::new(["bash", "--norc", "--noprofile", "-i"]);
    let shell = shell
        .env("TERM", "dumb")
        .env("PS1", "ready> ")
        .env("HISTFILE", "");
    let mut session = Session::with(&s, &shell, None);
    session.wait_for("ready> ");
    let program = s.program().display();
    let build = "build -q --progress line -- sh -c 'echo one; ./wait first'";
    session.type_in(&format!("TERM=xterm {program} {build}\n"));
    let mut seen = session.wait_for("1 running: ./wait");
    for _ in 0..3 {
        session.type_in("\u{1a}");
        seen = session.wait_for("Stopped");
        let (drawn, prompt) = seen.rsplit_once("Stopped").unwrap();
        let (_, after) = drawn.rsplit_once("\r\u{1b}[K").expect(&seen);
        assert!(!after.contains("running"), "{seen:?}");
        if !prompt.contains("ready> ") {
            session.wait_for("ready> ");
        }
        session.type_in("fg\n");
        seen = session.wait_for("1 running: ./wait");
    }
    s.write("first", "");
    seen += &session.wait_for("ready> ");
    assert!(seen.contains("\r\u{1b}[K"), "{seen:?}");
    session.type_in("exit 5\n");
    let (status, text) = session.end();
    assert_eq!(status.code(), Some(5), "{text}");
}
