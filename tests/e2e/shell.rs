//! `rfs shell`, whose commands are steps, and the shims, by which any tool that an untraced shell calls is a build.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use crate::mount::Mounted;
use crate::run::{Cmd, Summary};
use crate::space::TestSpace;
use crate::terminal::Session;
use nix::sys::signal::Signal;

/// A tool that can be served; that it ran is seen by its process id.
const TOOL: &str = "#!/bin/sh\ncat in > out\necho \"ran by $$\"\nexit 3\n";

fn fill(s: &TestSpace) {
    s.write("in", "one\n");
    let bin = s.root().join("outside");
    s.script(bin.join("tool"), TOOL);
    s.script(bin.join("asks"), "#!/bin/sh\nread x\necho \"got $x $*\"\n");
    s.script(bin.join("dies"), "#!/bin/sh\nkill -TERM $$\n");
}

/// A shell command with the shims first in its path, and then the directory of the tools.
fn with_shims(s: &TestSpace, script: &str) -> Cmd {
    let (ws, root) = (s.ws().display(), s.root().display());
    Cmd::sh(script).env(
        "PATH",
        format!("{ws}/.rfs/bin:{root}/outside:/usr/local/bin:/usr/bin:/bin"),
    )
}

fn make_shims(s: &TestSpace) {
    let made = s
        .tool(&[
            "shims", "tool", "asks", "dies", "nowhere", "make", "sleeper",
        ])
        .expect_code(0);
    assert_eq!(made.out(), format!("{}/.rfs/bin\n", s.ws().display()));
}

fn n_builds(s: &TestSpace) -> usize {
    let log = s.tool(&["log", "--json"]).expect_code(0).out();
    let log: serde_json::Value = serde_json::from_str(&log).unwrap();
    log["runs"].as_array().unwrap().len()
}

impl TestSpace {
    fn shell(&self, command: &str) -> (String, Summary) {
        let file = self.root().join("summaries/shell.json");
        let run = self.tool(&[
            "shell",
            "-q",
            "--summary",
            file.to_str().unwrap(),
            "--shell",
            "sh",
            "-c",
            command,
        ]);
        let run = run.expect_code(0);
        let text = std::fs::read_to_string(file).unwrap();
        (run.out(), Summary::parse(&text))
    }
}

#[test]
fn commands_of_a_shell_are_served_and_the_shell_is_not() {
    let s = TestSpace::new();
    fill(&s);
    let (first, summary) = s.shell("../outside/tool; echo again >> log; true");
    assert_eq!((summary.hit, summary.ran), (0, 1), "{first}");
    for round in 2..4 {
        s.remove("out");
        let (out, summary) = s.shell("../outside/tool; echo again >> log; true");
        assert_eq!((summary.hit, summary.ran), (1, 0), "{round}");
        assert_eq!(out, first);
        assert_eq!(s.read("out"), "one\n");
        assert_eq!(s.read("log").lines().count(), round);
    }
}

#[test]
fn a_shell_passes_arguments_and_status_on() {
    let s = TestSpace::new();
    let run = |args: &[&str]| s.tool(&[&["shell", "-q", "--shell", "bash"], args].concat());
    let given = run(&["-c", "echo $0 $2; exit 7", "zero", "one", "two"]);
    assert_eq!((given.code(), given.out()), (7, "zero two\n".to_owned()));
    s.write("script", "echo script $1\n");
    assert_eq!(run(&["script", "x"]).out(), "script x\n");
    let none = s.tool(&["shell", "--shell", "/nowhere"]);
    assert_eq!(none.code(), 127, "{none:#?}");
}

/// On a terminal: prompts, job control, interrupts.
#[test]
fn a_shell_is_one_to_type_into() {
    let s = TestSpace::new();
    fill(&s);
    let (first, _) = s.shell("../outside/tool; true");
    s.remove("out");
    let program = s.program().to_str().unwrap();
    let argv = [
        program,
        "shell",
        "--shell",
        "bash",
        "--",
        "--norc",
        "--noprofile",
        "-i",
    ];
    let cmd = Cmd::new(argv).env("PS1", "ready> ").env("HISTFILE", "");
    let mut session = Session::start(&s, &cmd, false);
    session.wait_for("ready> ");
    session.type_in("TERM= ../outside/tool; echo status $?\n");
    session.wait_for("status 3");
    assert_eq!(s.read("out"), "one\n");
    session.type_in("sleep 1000\n");
    session.wait_for("sleep 1000");
    // Typed ahead it would be read by the shell.
    session.wait_until_foreground("sleep");
    session.type_in("\u{1a}");
    session.wait_for("Stopped");
    session.type_in("fg\n");
    session.wait_until_foreground("sleep");
    session.type_in("\u{3}");
    session.type_in("echo status $?\n");
    session.wait_for("status 130");
    session.type_in("exit 5\n");
    let (status, text) = session.end();
    assert_eq!(status.code(), Some(5), "{text}");
    assert!(text.contains(" steps"), "{text}");
    assert!(first.starts_with("ran by "));
}

/// What is called through a shim is a build: the second time it is served.
fn tools_by_shims(s: &TestSpace) {
    make_shims(s);
    let call = |script: &str| s.bare(with_shims(s, script));
    let first = call("exec tool");
    assert_eq!(first.code(), 3, "{first:#?}");
    for script in ["exec tool", "tool; exit $?"] {
        s.remove("out");
        let again = call(script);
        assert_eq!((again.code(), again.out()), (3, first.out()), "{again:#?}");
        assert_eq!(again.err(), "");
        assert_eq!(s.read("out"), "one\n");
    }
    s.write("in", "two\n");
    assert_ne!(call("tool").out(), first.out());
    assert_eq!(s.read("out"), "two\n");

    let asked = call("echo something | asks a 'b  c'");
    assert_eq!(asked.out(), "got something a b  c\n");
    assert_eq!(call("dies").code(), 143);
    let died = call("exec dies");
    assert_eq!(died.status.signal(), Some(libc::SIGTERM), "{died:#?}");
    let none = call("nowhere");
    assert_eq!(none.code(), 127, "{none:#?}");
    assert!(
        none.err().contains("nowhere: command not found"),
        "{none:#?}"
    );
}

#[test]
fn a_tool_that_is_called_by_a_shim_is_served() {
    let s = TestSpace::new();
    fill(&s);
    let _first = s.rfs(Cmd::new(["true"]));
    tools_by_shims(&s);
    // The key is that of a build without shims.
    s.remove("out");
    let path = format!(
        "{}/outside:/usr/local/bin:/usr/bin:/bin",
        s.root().display()
    );
    let plain = s.rfs(Cmd::new(["tool"]).env("PATH", path)).expect_code(3);
    assert_eq!(
        (plain.summary().hit, plain.summary().ran),
        (1, 0),
        "{plain:#?}"
    );
}

#[test]
fn a_tool_that_is_called_by_a_shim_in_a_mount_is_served() {
    let m = Mounted::new(|s| {
        fill(s);
        let _first = s.rfs(Cmd::new(["true"]));
    });
    tools_by_shims(&m.space);
    assert!(m.is_mounted());
}

/// What a build by a shim starts comes to no shim again, nor is the place of the shims looked at.
#[test]
fn shims_do_not_call_shims() {
    let s = TestSpace::new();
    fill(&s);
    s.write("Makefile", "all:\n\t-tool\n\t@echo $$PATH\n");
    let _first = s.rfs(Cmd::new(["true"]));
    make_shims(&s);
    let before = n_builds(&s);
    let made = s.bare(with_shims(&s, "make -s")).expect_code(0);
    assert!(made.out().contains("ran by"), "{made:#?}");
    assert!(!made.out().contains(".rfs/bin"), "{made:#?}");
    assert_eq!(n_builds(&s), before + 1);
    // A build that has them in its path does not see them.
    let env = with_shims(&s, "tool; exit 0");
    let first = s.rfs(env.clone()).expect_code(0);
    s.remove("out");
    let again = s.rfs(env).expect_code(0).expect_hit();
    assert_eq!(first.out(), again.out());
    assert_eq!(n_builds(&s), before + 3);
}

#[test]
fn outside_a_workspace_a_shim_runs_the_tool() {
    let s = TestSpace::new();
    fill(&s);
    make_shims(&s);
    let outside = s.root().join("outside");
    s.write(outside.join("in"), "three\n");
    let call = || s.bare(with_shims(&s, "tool").cwd(&outside));
    let (one, two) = (call(), call());
    assert_eq!((one.code(), two.code()), (3, 3), "{one:#?}");
    assert_ne!(one.out(), two.out());
    assert!(!outside.join(".rfs").exists());
    // As it is where the configuration is wrong: the tool is wanted, not rfs.
    s.write("rfs.toml", "[nonsense]\n");
    let wrong = s.bare(with_shims(&s, "tool"));
    assert_eq!(wrong.code(), 3, "{wrong:#?}");
    assert!(wrong.err().contains("nothing is recorded"), "{wrong:#?}");
}

/// A signal for the process is one for the tool.
#[test]
fn a_signal_reaches_the_tool_behind_a_shim() {
    let s = TestSpace::new();
    s.sleeper("");
    s.must("cp sleeper ../outside/sleeper");
    make_shims(&s);
    let mut started = s.start(with_shims(&s, "exec sleeper"), false);
    let mut line = String::new();
    let out = started.child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    nix::sys::signal::kill(started.pid(), Signal::SIGTERM).unwrap();
    let (status, ..) = started.finish(None);
    assert_eq!(status.signal(), Some(libc::SIGTERM), "{status:?}");
}

/// Without names there is a shim for each tool but those that a build does not watch by themselves.
#[test]
fn every_tool_has_a_shim() {
    let s = TestSpace::new();
    let _made = s.tool(&["shims"]).expect_code(0);
    let bin: PathBuf = s.path(".rfs/bin");
    for (tool, has) in [("gcc", true), ("make", true), ("cat", false), ("su", false)] {
        assert_eq!(bin.join(tool).symlink_metadata().is_ok(), has, "{tool}");
    }
    let bad = s.tool(&["shims", "../x"]);
    assert_eq!(bad.code(), 125, "{bad:#?}");
}
