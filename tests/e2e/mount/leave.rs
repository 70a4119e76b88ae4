//! Unmounting: who is in the way, and for whom a mount stays.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Stdio};

use super::{Mounted, has_ended, in_own_namespace, wait_until};
use crate::run::{self, Cmd};
use crate::space::TestSpace;

/// A command that has said `in` and waits for its standard input to end; then it says the rest.
struct User {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl User {
    fn start(space: &TestSpace, cmd: &Cmd) -> Self {
        let mut command = space.command(cmd, vec![]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = run::spawn(command.process_group(0)).unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "in\n");
        Self { child, out }
    }

    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

#[test]
fn what_is_in_use_stays_unless_it_is_told_to_go() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    let user = User::start(&m.space, &Cmd::sh("exec 3<a; echo in; read x; cat <&3"));
    let busy = m.umount(&[]).expect_code(125);
    assert!(
        busy.err()
            .contains(&format!("in use by {} (", user.child.id())),
        "{busy:#?}"
    );
    assert!(m.is_mounted());
    // The daemon goes on for the one who is still in there.
    let lazy = m.umount(&["--lazy"]).expect_code(0);
    assert!(!m.is_mounted(), "{lazy:#?}");
    assert_eq!(user.end(), "one\n");
}

/// A library that was loaded has no descriptor; and what stands in the covered directory uses nothing.
#[test]
fn who_is_in_the_way_is_told() {
    let mut outside = None;
    let m = Mounted::new(|s| {
        s.must(Cmd::sh(
            "cp $(ldd /bin/sh | grep -o '/[^ ]*libc[^ ]*') lib.so",
        ));
        outside = Some(User::start(
            s,
            &Cmd::sh("echo in; read x; true").cwd(s.ws()),
        ));
    });
    let outside = outside.unwrap();
    let lib = m.at.join("lib.so");
    let script = "LD_PRELOAD=$LIB exec sh -c 'echo in; read x; true'";
    let user = User::start(&m.space, &Cmd::sh(script).cwd("/").env("LIB", &lib));
    let busy = m.umount(&[]).expect_code(125).err();
    assert!(
        busy.contains(&format!("in use by {} (sh)\n", user.child.id())),
        "{busy}"
    );
    user.end();
    assert_eq!(m.umount(&[]).expect_code(0).err(), "");
    outside.end();
}

/// A namespace that was made while it was mounted has it too: that nobody uses there does not keep it.
#[test]
fn a_namespace_does_not_keep_what_nobody_uses() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    let pid = m.pid();
    let script = format!(
        "echo in; read x; cat {}/a 2>/dev/null; echo $?",
        m.at.display()
    );
    let script = in_own_namespace(&script);
    let user = User::start(&m.space, &script.cwd("/"));
    assert_eq!(m.umount(&[]).expect_code(0).err(), "");
    wait_until(|| has_ended(pid));
    let _again = m.mount(&[]).expect_code(0);
    assert_eq!(user.end(), "1\n");
}

#[test]
fn a_namespace_keeps_what_it_uses() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    let pid = m.pid();
    let script = format!("cd {}; echo in; read x; cat a", m.at.display());
    let script = in_own_namespace(&script);
    let user = User::start(&m.space, &script.cwd("/"));
    let gone = m.umount(&[]).expect_code(0);
    assert!(
        gone.err().contains("goes on for those who still use it"),
        "{gone:#?}"
    );
    assert!(!m.is_mounted());
    assert_eq!(user.end(), "one\n");
    wait_until(|| has_ended(pid));
}
