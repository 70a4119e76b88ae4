//! Files outside of the workspace: looked at once by a build, and never stale.

use std::collections::HashMap;
use std::fs;

use crate::run::Cmd;
use crate::space::{Setting, TestSpace};

/// Steps enough that rfs asks the kernel to tell of changes outside (inotify(7)).
const MANY: &str = "for i in $(seq 40); do m4 -Dx=$i in.m4 >out$i; done";

/// After that many looks at one path rfs is told of changes: until then each step looks again.
const AT_FIRST: usize = 40;

#[test]
fn a_path_outside_is_looked_at_once() {
    let space = TestSpace::new();
    let tools = space.root().join("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("a.m4"), "one\n").unwrap();
    let header = tools.join("a.m4").to_str().unwrap().to_owned();
    space.write("in.m4", format!("include({header})"));
    let log = space.root().join("strace.log");
    let log = log.to_str().unwrap();
    let calls = "trace=inotify_init1,statx";
    let options = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "signal=none",
        "-s",
        "4096",
        "-e",
        calls,
        "-o",
        log,
    ];
    let script = format!("{MANY}; {MANY}");
    let _built = space
        .rfs_with(&["--rerun"], Cmd::sh(&script).outer(options))
        .expect_code(0);
    let text = fs::read_to_string(log).unwrap();
    let (before, after) = text
        .split_once("inotify_init1(")
        .expect("nobody is told of changes");
    let looks =
        |text: &str, path: &str| text.matches(&format!("statx(AT_FDCWD, \"{path}\"")).count();
    assert!((1..AT_FIRST).contains(&looks(before, &header)), "{before}");
    // Once: that time the kernel tells from then on. What another name of the file could change, and
    // a directory, is looked at again after that has been asked for.
    let mut all: HashMap<&str, usize> = HashMap::new();
    for line in after.lines() {
        let name = line
            .split_once("statx(AT_FDCWD, \"")
            .and_then(|(_, rest)| rest.split_once('"'));
        if let Some((path, _)) = name {
            *all.entry(path).or_default() += 1;
        }
    }
    let rest = |path: &&&str| !path.starts_with("/proc") && !path.starts_with("/dev");
    let mine = space.root().to_str().unwrap();
    let outside = |path: &&&str| rest(path) && (!path.starts_with(mine) || ***path == header);
    let paths: Vec<_> = all.keys().filter(outside).collect();
    assert!(paths.len() > 10, "{paths:?}");
    for path in paths {
        assert!(all[path] <= 2, "{path} was looked at {} times", all[path]);
    }
    assert_eq!(all[&*header], 1);
}

/// Somebody changes a file of the system, and one of a directory that is not, while a build goes on.
#[test]
fn a_file_outside_that_changes_during_the_build() {
    if !nix::unistd::geteuid().is_root() {
        panic!("only root can mount a directory for the test");
    }
    for tracer in ["notify", "ptrace"] {
        let setting = Setting {
            tracer: Some(tracer),
            ..Setting::default()
        };
        for place in ["/opt", "/srv"] {
            changes(place, &TestSpace::with(setting));
        }
    }
}

fn changes(place: &str, space: &TestSpace) {
    space.write("in.m4", format!("include({place}/tools/a.m4)"));
    let outer = format!(
        "mount -t tmpfs none {place} && mkdir {place}/tools && echo one >{place}/tools/a.m4 || exit
         (until [ -e ready ]; do sleep 0.02; done; echo two >{place}/tools/a.m4; : >go) &
         exec \"$@\""
    );
    let script = format!(
        "{MANY}\n\
         m4 in.m4 >before; : >ready\n\
         until [ -e go ]; do sleep 0.02; done\n\
         m4 in.m4 >after; m4 -Dx=1 in.m4 >other"
    );
    let cmd = Cmd::sh(&script).outer(["unshare", "-m", "sh", "-c", &outer, "sh"]);
    let _built = space.rfs(cmd).expect_code(0);
    assert_eq!(space.read("before"), "one\n");
    assert_eq!(space.read("after"), "two\n", "{place}");
    assert_eq!(space.read("other"), "two\n", "{place}");
}
