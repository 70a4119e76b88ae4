//! Tools of people in a mount: an editor in a terminal, cargo.

use super::{Mounted, wait_until};
use crate::run::Cmd;
use std::fs;

/// A terminal of its own, until the end.
struct Tmux<'a>(&'a Mounted, String);

impl Tmux<'_> {
    fn run(&self, args: &[&str]) {
        let argv = [&["tmux", "-L", &self.1, "-f", "/dev/null"][..], args].concat();
        self.0.space.must(Cmd::new(argv).env("TERM", "xterm"));
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let argv = ["tmux", "-L", &self.1, "kill-server"];
        let _gone = self.0.space.bare(Cmd::new(argv));
    }
}

/// Edits as editors do: swap file, backup, the new text under the old name or in place.
#[test]
fn vim_in_tmux() {
    let m = Mounted::new(|s| {
        s.write("text", "one\n");
        s.write("Makefile", "out: text\n\tcat text > out\n");
        s.set_mtime("text", 1_000_000_000);
    });
    let _made = m.sh("make -s");
    let tmux = Tmux(&m, format!("rfs-test-{}", std::process::id()));
    // Its server would end with each session, be it that the next one is just asked for.
    tmux.run(&["start-server", ";", "set-option", "-g", "exit-empty", "off"]);
    for (n, copy) in ["no", "yes", "auto"].iter().enumerate() {
        let vim = format!("vim -u NONE -N -c 'set backup backupskip= backupcopy={copy}' text");
        tmux.run(&[
            "new-session",
            "-d",
            "-s",
            &format!("s{n}"),
            "-x",
            "80",
            "-y",
            "24",
            &vim,
        ]);
        let swap = m.at.join(".text.swp");
        wait_until(|| swap.exists());
        let line = format!("Goline {copy}");
        tmux.run(&[
            "send-keys",
            "-t",
            &format!("s{n}"),
            &line,
            "Escape",
            ":wq",
            "Enter",
        ]);
        // The swap file alone does not tell: it comes and goes while vim starts.
        let read = || fs::read_to_string(m.at.join("text")).unwrap_or_default();
        wait_until(|| read().ends_with(&format!("line {copy}\n")));
        wait_until(|| !swap.exists());
        let text = read();
        let made = m.sh("make -s && cat out");
        assert_eq!(made, text);
    }
    drop(tmux);
    let known = m.sh("cat text~ && ls -A | grep -v '^.rfs$'");
    assert_eq!(
        known,
        "one\nline no\nline yes\nMakefile\nout\ntext\ntext~\n"
    );
    let _gone = m.umount(&[]).expect_code(0);
    assert_eq!(m.space.read("text"), "one\nline no\nline yes\nline auto\n");
}

#[test]
fn cargo() {
    let m = Mounted::new(|s| {
        s.write(
            "Cargo.toml",
            "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        );
        s.write(
            "src/lib.rs",
            "pub fn f() -> u32 { 42 }\n#[test]\nfn t() { assert_eq!(f(), 42) }\n",
        );
        s.write("src/main.rs", "fn main() { println!(\"{}\", p::f()) }\n");
    });
    let cargo = |args: &str| m.space.bare(crate::idioms::cargo(args)).expect_code(0);
    let _built = cargo("cargo build --offline --quiet");
    assert_eq!(m.sh("target/debug/p"), "42\n");
    let fresh = cargo("cargo build --offline");
    assert!(!fresh.err().contains("Compiling"), "{fresh:#?}");
    m.sh("sleep 0; echo 'pub fn g() {}' >> src/lib.rs");
    let again = cargo("cargo build --offline");
    assert!(again.err().contains("Compiling p "), "{again:#?}");
    let _tested = cargo("cargo test --offline --quiet");
}
