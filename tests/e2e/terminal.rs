//! On a terminal: it is the command's own, colours and all, and what is served looks the same.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::thread;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::run::{self, Cmd, Guard, Started};
use crate::space::TestSpace;

/// Both sides of a new terminal of 24 rows of 80. No other test's children may inherit them.
fn open_terminal() -> (File, File) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let mut open = File::options();
    open.read(true)
        .write(true)
        .custom_flags(OFlag::O_NOCTTY.bits());
    let slave = open.open(ptsname_r(&master).unwrap()).unwrap();
    let mut stty = std::process::Command::new("stty");
    stty.args(["rows", "24", "cols", "80"])
        .stdin(slave.try_clone().unwrap());
    assert!(stty.status().unwrap().success());
    (File::from(OwnedFd::from(master)), slave)
}

/// A command whose three descriptors are a terminal of its own, and that terminal's other side.
#[derive(Debug)]
pub struct Session {
    started: Started,
    guard: Guard,
    terminal: File,
}

impl Session {
    pub fn start(s: &TestSpace, cmd: &Cmd, wrapped: bool) -> Self {
        Self::with(s, cmd, wrapped.then_some(&["-q"]))
    }

    /// By rfs with these options, or bare.
    pub fn with(s: &TestSpace, cmd: &Cmd, options: Option<&[&str]>) -> Self {
        let (terminal, slave) = open_terminal();
        let mut cmd = cmd.clone();
        if !cmd.env.iter().any(|(name, _)| name == "TERM") {
            cmd = cmd.env("TERM", "xterm");
        }
        let setsid = ["setsid", "--ctty", "--wait"].map(Into::into);
        cmd.outer.splice(0..0, setsid);
        let mut command = match options {
            Some(options) => s.build_command(options.iter().map(Into::into).collect(), &cmd),
            None => s.command(&cmd, Vec::new()),
        };
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        let what = format!("{command:?}");
        let child = run::spawn(&mut command).unwrap_or_else(|e| panic!("spawn {what}: {e}"));
        let started = Started::new(child, what);
        let guard = started.guard();
        Self {
            started,
            guard,
            terminal,
        }
    }

    /// Reads until the text has come.
    pub fn wait_for(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut piece = [0; 1000];
            let n = self.terminal.read(&mut piece).unwrap_or(0);
            assert_ne!(n, 0, "it ended early: {:?}", String::from_utf8_lossy(&seen));
            seen.extend(&piece[..n]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    pub fn type_in(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until a program of this name has the terminal.
    pub fn wait_until_foreground(&self, name: &str) {
        let start = std::time::Instant::now();
        let is_there = || {
            let group = nix::unistd::tcgetpgrp(&self.terminal).ok()?;
            let comm = std::fs::read_to_string(format!("/proc/{group}/comm")).ok()?;
            // Stopped it does not read what is typed.
            let stat = std::fs::read_to_string(format!("/proc/{group}/stat")).ok()?;
            Some(comm.trim() == name && !stat.contains(") T "))
        };
        while is_there() != Some(true) {
            assert!(start.elapsed().as_secs() < 60, "{name} never comes");
            thread::yield_now();
        }
    }

    /// The window is closed.
    pub fn hang_up(self) -> ExitStatus {
        drop(self.terminal);
        let Self {
            mut started, guard, ..
        } = self;
        let status = started.child.wait().unwrap();
        guard.dismiss(&started.what);
        status
    }

    /// Reads on until nobody has the terminal any more.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        // The error at the end is EIO: the other side is closed.
        while let Ok(n @ 1..) = self.terminal.read(&mut piece) {
            bytes.extend(&piece[..n]);
        }
        let status = self.started.child.wait().unwrap();
        self.guard.dismiss(&self.started.what);
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn on_terminal(s: &TestSpace, cmd: &Cmd, wrapped: bool) -> (ExitStatus, String) {
    Session::start(s, cmd, wrapped).end()
}

#[test]
fn terminal_stays_a_terminal() {
    let s = TestSpace::new();
    let script = "for fd in 0 1 2; do [ -t $fd ] && echo $fd; done; tty; stty size; \
                  sh -c '[ -t 1 ] && echo deep'; (: > /dev/tty) && echo controlled";
    let cmd = Cmd::sh(script);
    let bare = on_terminal(&s, &cmd, false).1.replace("/dev/pts/", "");
    assert!(
        bare.contains("deep") && bare.contains("24 80") && bare.contains("controlled"),
        "{bare}"
    );
    let wrapped = on_terminal(&s, &cmd, true).1.replace("/dev/pts/", "");
    assert_eq!(
        bare.lines().count(),
        wrapped.lines().count(),
        "{bare}\n{wrapped}"
    );
    for line in ["0", "1", "2", "24 80", "deep", "controlled"] {
        assert!(
            wrapped.lines().any(|found| found == line),
            "{line} in {wrapped}"
        );
    }
}

#[test]
fn colours_are_kept_and_replayed() {
    let s = TestSpace::new();
    s.write("main.c", "int main(void) { int unused; return 0; }\n");
    let gcc = Cmd::from("gcc -Wall -c main.c");
    let (_, bare) = on_terminal(&s, &gcc, false);
    assert!(bare.contains("\u{1b}["), "gcc is coloured here: {bare:?}");
    for round in ["first", "second", "third"] {
        s.remove("main.o");
        let (status, wrapped) = on_terminal(&s, &gcc, true);
        assert!(status.success());
        assert_eq!(bare, wrapped, "{round}");
    }
    // Into a pipe the same command has no colours, and then again has them.
    let piped = s.rfs(gcc.clone().env("TERM", "xterm")).expect_code(0);
    assert!(
        !piped.err().contains('\u{1b}') && piped.err().contains("unused"),
        "{piped:#?}"
    );
    assert_eq!(on_terminal(&s, &gcc, true).1, bare);
}

#[test]
fn order_on_the_terminal() {
    let s = TestSpace::new();
    let cmd = Cmd::sh("for i in 1 2 3 4 5 6 7 8; do echo out $i; echo err $i >&2; done");
    let bare = on_terminal(&s, &cmd, false);
    assert_eq!(bare, on_terminal(&s, &cmd, true));
    assert_eq!(bare, on_terminal(&s, &cmd, true));
}

/// What the user types is read by the command, today as yesterday.
#[test]
fn command_asks_its_user() {
    let s = TestSpace::new();
    let cmd = Cmd::sh("printf 'name? '; read name; echo \"hello $name\"; cat");
    for (name, wrapped) in [("a", false), ("a", true), ("a", true), ("b", true)] {
        let mut session = Session::start(&s, &cmd, wrapped);
        session.wait_for("name? ");
        session.type_in(&format!("{name}\n"));
        session.wait_for(&format!("hello {name}"));
        session.type_in("more\n\u{4}");
        let (status, text) = session.end();
        assert!(
            status.success() && text.matches("more").count() == 2,
            "{wrapped}: {text:?}"
        );
    }
}

/// The terminal's driver sends the signal to the foreground group, in which we all are.
#[test]
fn control_c() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    s.sleeper("");
    let cmd = Cmd::sh("cat in > out; ./sleeper");
    for wrapped in [false, true] {
        let mut session = Session::start(&s, &cmd, wrapped);
        session.wait_for("ready");
        session.type_in("\u{3}");
        let (status, text) = session.end();
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap());
        assert_eq!((code, text.trim()), (130, "^C"), "wrapped {wrapped}");
    }
    assert_eq!(s.read("out"), "one\n");
}

/// The terminal is closed: everybody hangs up. Whoever does not keeps the fifo open.
#[test]
fn terminal_is_closed() {
    let s = TestSpace::new();
    s.must("mkfifo ../outside/fifo");
    let fifo = s.root().join("outside/fifo");
    let gone = thread::spawn(move || std::fs::read_to_string(fifo).unwrap());
    let cmd = Cmd::sh("exec 3> ../outside/fifo; echo ready; sleep 1000");
    let mut session = Session::start(&s, &cmd, true);
    session.wait_for("ready");
    let status = session.hang_up();
    assert_eq!(
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap()),
        129,
        "{status:?}"
    );
    assert_eq!(gone.join().unwrap(), "");
}

/// Without a pipe in between there is no need to forget anything: job control of a shell inside.
#[test]
fn shell_with_job_control_inside() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    let script = "set -m; cat in > out & wait $!; echo \"status $?\"; sleep 1000 & p=$!; \
                  kill -KILL $p; wait $p 2> /dev/null; echo \"then $?\"";
    let cmd = Cmd::new(["bash", "-c", script]);
    for wrapped in [false, true, true] {
        let (status, text) = on_terminal(&s, &cmd, wrapped);
        assert!(status.success(), "{text}");
        assert!(
            text.contains("status 0") && text.contains("then 137"),
            "{wrapped}: {text:?}"
        );
    }
}
