//! One budget of jobs for the tools of a build: makes of both protocols, and ninja.

use super::{Space, text};
use std::path::{Path, PathBuf};

/// A tool that tests/run.sh makes in the target directory, by its version.
fn tool(name: &str) -> PathBuf {
    let rfs = Path::new(env!("CARGO_BIN_EXE_rfs"));
    let dirs = rfs.ancestors().skip(1).map(|dir| dir.join("tools"));
    let found = dirs.map(|dir| dir.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("no {name}: tests/run.sh puts it below tools/ of the target directory")
    })
}

/// The two protocols: a make that knows descriptors only (Debian 12's, 4.3), and one that knows fifos.
fn makes() -> [(PathBuf, &'static str); 2] {
    let fifo = "open(T, '+<', $ENV{MAKEFLAGS} =~ /fifo:(\\S+)/)";
    [
        (PathBuf::from("/usr/bin"), "open(T, '<&=60')"),
        (tool("make-4.4.1"), fifo),
    ]
}

/// `PATH` with a directory before all others.
fn first(dir: &Path) -> String {
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap())
}

/// Runs until two are there at once, and writes down how many are.
const JOB: &str = "mkdir running/$1; ls running | wc -l >>counts
until [ -e two ]; do [ $(ls running | wc -l) -lt 2 ] || : >two; done
ls running | wc -l >>counts; sleep 0.02; rmdir running/$1
";

/// The most jobs that were there at once.
fn most(space: &Space) -> u32 {
    let counts = std::fs::read_to_string(space.ws().join("counts")).unwrap();
    let counts = counts.lines().map(|line| line.trim().parse().unwrap());
    counts.max().unwrap()
}

/// However deep makes are nested: never more jobs than were allowed, and no token is left over or missing.
#[test]
fn nested_makes_have_one_budget() {
    for (dir, tokens) in makes() {
        let space = Space::new();
        space.write("Makefile", "all: a b c\na b c: ; +$(MAKE) -f sub.mk X=$@\n");
        space.write("sub.mk", "all: 1 2 3 4\n1 2 3 4: ; sh job $(X)$@\n");
        space.write("job", JOB);
        let script = format!(
            "mkdir running; make >/dev/null; perl -MFcntl -e \"{}; fcntl(T, F_SETFL, O_NONBLOCK);
             print sysread(T, \\$_, 99)\"",
            tokens.replace('$', "\\$")
        );
        let mut build = space.rfs(&["build", "-j3", "-q", "--", "sh", "-c", &script]);
        let output = build.env("PATH", first(&dir)).output().unwrap();
        assert!((2..=3).contains(&most(&space)), "{dir:?}: {output:?}");
        assert_eq!(
            text(&output.stdout),
            "2",
            "three jobs: two tokens: {output:?}"
        );
        assert!(!text(&output.stderr).contains("warning"), "{output:?}");
    }
}

/// A make that is killed with all that it runs leaves its tokens to the next one.
#[test]
fn tokens_of_the_killed_come_back() {
    for (dir, tokens) in makes() {
        let space = Space::new();
        space.write(
            "Makefile",
            "all: 1 2 3\n1 2 3: ; @echo $$$$ >pid.$@; exec sleep 1000\n",
        );
        let script = format!(
            "make & make=$!
             until [ -s pid.1 ] && [ -s pid.2 ] && [ -s pid.3 ]; do sleep 0.02; done
             kill -9 $make $(cat pid.1 pid.2 pid.3); wait
             timeout 60 perl -MFcntl -e \"{}; fcntl(T, F_SETFL, 0); my \\$n = 0;
             \\$n += sysread(T, \\$_, 1) while \\$n < 2; print \\$n\"",
            tokens.replace('$', "\\$")
        );
        let mut build = space.rfs(&["build", "-q", "-j3", "--", "sh", "-c", &script]);
        let output = build.env("PATH", first(&dir)).output().unwrap();
        assert_eq!(text(&output.stdout), "2", "{output:?}");
    }
}

/// A ninja that knows jobservers starts no more than there are tokens for, whatever it finds of processors.
#[test]
fn ninja_has_the_same_budget() {
    let ninja = tool("ninja-1.13.0/bin/ninja");
    let space = Space::new();
    let mut rules = "rule job\n command = sh job $out && : >$out\n".to_owned();
    for n in 0..9 {
        rules += &format!("build {n}: job\n");
    }
    space.write("build.ninja", &rules);
    space.write("job", JOB);
    std::fs::create_dir(space.ws().join("running")).unwrap();
    let output = space
        .rfs(&["build", "-q", "-j2", "--", ninja.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(most(&space), 2, "{output:?}");
    assert!(space.ws().join("8").exists(), "{output:?}");
    // And the makes below it take part.
    space.write(
        "build.ninja",
        "rule job\n command = make -f $in\nbuild a: job a.mk\nbuild b: job b.mk\n",
    );
    let make = "all: m1 m2 m3 m4\nm1 m2 m3 m4: ; sh job";
    space.write("a.mk", &format!("{make} a$@\n"));
    space.write("b.mk", &format!("{make} b$@\n"));
    std::fs::remove_file(space.ws().join("counts")).unwrap();
    let mut build = space.rfs(&["build", "-q", "-j2", "--", ninja.to_str().unwrap()]);
    let output = build
        .env("PATH", first(&tool("make-4.4.1")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(most(&space) <= 2, "{output:?}");
}
