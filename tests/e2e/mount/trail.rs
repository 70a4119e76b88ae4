//! What plain commands did in a mount is known, as after a build under watch.

use super::Mounted;
use crate::run::{self, Cmd};
use crate::space::TestSpace;
use rfs::base::{Access, Name, Record, What};
use rfs::disk::RealDisk;
use rfs::store::graph::{self, Build};
use rfs::store::{Snapshot, Store, history};
use std::sync::Arc;

const MAKEFILE: &str = "\
app: a.o b.o\n\tcat a.o b.o > $@\n\
%.o: %.c all.h\n\t./compile $< $@\n";

fn fill(s: &TestSpace) {
    s.write("Makefile", MAKEFILE);
    s.script(
        "compile",
        "#!/bin/sh\ntest -e absent.h && exit 1\ncat all.h $1 > $2\n",
    );
    for (name, text) in [("all.h", "h\n"), ("a.c", "a\n"), ("b.c", "b\n")] {
        s.write(name, text);
        s.set_mtime(name, 1_000_000_000);
    }
}

fn name(text: &str) -> Name {
    Name::from_bytes(text.as_bytes())
}

/// What is known when a command of rfs asks: all that was done until then.
fn known(m: &Mounted) -> Arc<Snapshot> {
    let _settled = m
        .space
        .tool(&["store", "check", "--workspace"])
        .expect_code(0);
    state(m)
}

fn state(m: &Mounted) -> Arc<Snapshot> {
    // By the real directory, which a mount elsewhere does not cover.
    let store = Store::open_existing(&m.space.path(".rfs/state"), Arc::new(RealDisk)).unwrap();
    store.snapshot().unwrap()
}

fn writer(state: &Snapshot, text: &str) -> Record {
    let writer = graph::writer(state, &name(text)).unwrap();
    let writer = writer.unwrap_or_else(|| panic!("nobody wrote {text}"));
    history::record(state, writer).unwrap()
}

fn builds(state: &Snapshot) -> Vec<Build> {
    graph::builds(state).unwrap()
}

/// Mounted beside the directory, so that the test sees the store.
fn mounted() -> Mounted {
    let space = TestSpace::new();
    fill(&space);
    let at = space.root().join("outside");
    let _mounted = space
        .tool(&["mount", space.ws().to_str().unwrap(), at.to_str().unwrap()])
        .expect_code(0);
    Mounted { space, at }
}

impl Mounted {
    fn run(&self, script: &str) {
        self.space.must(Cmd::sh(script).cwd(&self.at));
    }

    fn tell(&self) -> Arc<Snapshot> {
        let mut argv: Vec<std::ffi::OsString> = vec![self.space.program().into()];
        argv.extend(["store", "stats", "--workspace"].map(Into::into));
        self.space.must(Cmd::new(argv).cwd(&self.at));
        state(self)
    }
}

#[test]
fn a_plain_make_is_known() {
    let m = mounted();
    m.run("make -s -j2");
    let state = m.tell();
    for (output, input) in [
        ("a.o", "a.c"),
        ("b.o", "b.c"),
        ("a.o", "all.h"),
        ("app", "a.o"),
    ] {
        let record = writer(&state, output);
        let dep = record.deps.iter().find(|dep| dep.name == name(input));
        let dep = dep.unwrap_or_else(|| panic!("{output} does not depend on {input}: {record:#?}"));
        assert!(dep.access.any(Access::REG), "{output} {dep:?}");
        let it = record
            .outputs
            .iter()
            .find(|one| one.name == name(output))
            .unwrap();
        let digest = rfs::base::Digest::of(m.space.read(output).as_bytes());
        assert!(
            matches!(&it.what, What::File { digest: found, .. } if *found == digest),
            "{it:?}"
        );
    }
    assert_eq!(writer(&state, "a.o").title, "/bin/sh ./compile a.c a.o");
    let absent = writer(&state, "a.o")
        .deps
        .into_iter()
        .find(|dep| dep.name == name("absent.h"));
    assert_eq!(absent.unwrap().state, rfs::base::State::Absent);

    let build = builds(&state).pop().unwrap();
    assert_eq!(build.title, "sh -c make -s -j2");
    assert!(build.ended.is_some());
    let steps = graph::steps(&*state, build.number).unwrap();
    let titled = |text: &str| {
        let of = |step: &&graph::Step| {
            let execution = step.execution.unwrap();
            history::rest(&*state, execution).unwrap().title == text
        };
        steps
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("no step {text}"))
    };
    // make starts what compiles.
    let (make, compile) = (titled("make -s -j2"), titled("/bin/sh ./compile a.c a.o"));
    assert_eq!(compile.parent, Some(make.number));
}

#[test]
fn what_a_plain_make_made_is_attested() {
    let m = mounted();
    m.run("make -s");
    let rfs = m.space.program().display().to_string();
    m.run(&format!(
        "'{rfs}' attest --new-key app && '{rfs}' verify app"
    ));
    m.run(&format!("'{rfs}' sbom app > bill"));
    let bill: serde_json::Value = serde_json::from_str(&m.space.read("bill")).unwrap();
    let packages = bill["packages"].as_array().unwrap().iter();
    let names: Vec<&str> = packages.map(|one| one["name"].as_str().unwrap()).collect();
    for source in ["a.c", "b.c", "all.h", "compile", "Makefile"] {
        assert!(names.contains(&source), "{source}: {names:?}");
    }
    assert!(!names.contains(&"a.o"), "{names:?}");
}

#[test]
fn what_has_changed_is_known() {
    let m = mounted();
    m.run("make -s");
    // Contents are read when the command is written down.
    let _first = m.tell();
    m.space.write("a.c", "A\n");
    m.run("make -s");
    let state = m.tell();
    let last = graph::writer(&*state, &name("a.o")).unwrap().unwrap();
    let since = graph::since(&*state, last).unwrap().unwrap();
    let text = format!("{since:?}");
    assert!(text.contains("a.c") && !text.contains("all.h"), "{text}");
}

/// Each command line of a shell that somebody types into is a command, and so is a process that comes from
/// elsewhere; what only looks around is none.
#[test]
fn commands_are_told_apart() {
    let m = mounted();
    m.run("ls > /dev/null; test -e Makefile");
    m.run("cat a.c > one");
    m.run("cat a.c > two; cat one > three");
    let state = m.tell();
    let titles: Vec<_> = builds(&state)
        .into_iter()
        .map(|build| build.title)
        .collect();
    assert_eq!(
        titles,
        [
            "sh -c cat a.c > one",
            "sh -c cat a.c > two; cat one > three"
        ]
    );
}

/// What goes on for long is known when it has been quiet for a while, and when somebody asks.
#[test]
fn what_goes_on_is_known_when_somebody_asks() {
    let m = mounted();
    let command = Cmd::sh("cat a.c > one; echo ready; read x; cat b.c > two").cwd(&m.at);
    let mut command = m.space.command(&command, vec![]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut running = run::spawn(&mut command).unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(running.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let state = m.tell();
    assert!(
        writer(&state, "one")
            .deps
            .iter()
            .any(|dep| dep.name == name("a.c"))
    );
    assert_eq!(builds(&state).pop().unwrap().ended, None);
    drop(running.stdin.take());
    assert!(running.wait().unwrap().code().is_some());
    let state = m.tell();
    assert!(
        writer(&state, "two")
            .deps
            .iter()
            .any(|dep| dep.name == name("b.c"))
    );
    assert_eq!(builds(&state).len(), 1);
}

/// `rfs build` in a mounted workspace works on the real files, and what it makes is seen in the mount.
#[test]
fn a_build_in_a_mount_is_one_as_any_other() {
    let m = Mounted::new(fill);
    let build = || m.space.rfs(Cmd::new(["make", "-s"]));
    let first = build().expect_code(0).expect_ran();
    assert!(first.summary().ran > 1, "{first:#?}");
    assert_eq!(m.sh("cat app"), "h\na\nh\nb\n");
    m.sh("rm app *.o");
    let _served = build().expect_code(0).expect_hit();
    assert_eq!(m.sh("cat app"), "h\na\nh\nb\n");
    m.sh("echo A > a.c");
    let _again = build().expect_code(0).expect_ran();
    assert_eq!(m.sh("cat app"), "h\nA\nh\nb\n");
    // The same records hold without the mount.
    let _gone = m.umount(&[]).expect_code(0);
    m.space.must(Cmd::sh("rm app *.o"));
    let served = build().expect_code(0);
    assert_eq!(
        (served.summary().hit, served.summary().ran),
        (3, 1),
        "{served:#?}"
    );
    let _looked = known(&m);
}

/// While a build runs in a mount there is one mount to be seen, what it makes is seen in it at once, and it sees what
/// others do in it.
#[test]
fn a_build_is_seen_in_the_mount_while_it_runs() {
    let m = Mounted::new(|s| s.write("in", "one\n"));
    m.space.must("mkfifo ../outside/fifo");
    let script =
        "cat in > first; echo begun; read x < ../outside/fifo; cat later > second; ls > names";
    let mut build = m.space.start(Cmd::sh(script), true);
    let mut line = String::new();
    let mut out = std::io::BufReader::new(build.child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "begun\n");
    assert_eq!(m.sh("cat first"), "one\n");
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let here = |line: &&str| line.split(' ').nth(4) == m.at.to_str();
    assert_eq!(table.lines().filter(here).count(), 1, "{table}");
    let pid = m.pid();
    m.sh("echo two > later; echo more > another; rm in");
    m.sh("echo go > ../outside/fifo");
    let (status, _, err) = build.finish(None);
    assert!(status.success(), "{}", String::from_utf8_lossy(&err));
    assert_eq!(
        m.sh("cat second names"),
        "two\nanother\nfirst\nlater\nnames\nsecond\n"
    );
    assert_eq!(m.pid(), pid);
    // It is known as any other.
    let known = known(&m);
    assert!(
        builds(&known)
            .iter()
            .any(|build| build.title.contains("cat in > first"))
    );
}
