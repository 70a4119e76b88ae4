//! Files outside of the workspace: looked at once by a build, and never stale.

use std::collections::BTreeMap;
use std::fs;

use crate::run::Cmd;
use crate::space::{Setting, TestSpace};

/// Steps that all use the same files outside.
const MANY: &str = "for i in $(seq 40); do m4 -Dx=$i in.m4 >out$i; done";

/// How often each path outside of the workspace was looked at, of what a log of strace tells.
fn looks(space: &TestSpace, log: &str, header: &str) -> BTreeMap<String, usize> {
    let mine = space.root().to_str().unwrap();
    let mut all = BTreeMap::new();
    for line in log.lines() {
        let name = line.split_once("statx(AT_FDCWD, \"");
        let name = name.and_then(|(_, rest)| rest.split_once('"'));
        let Some((path, _)) = name else {
            continue;
        };
        let is_file = !path.starts_with("/proc") && !path.starts_with("/dev") && path != "/tmp";
        if is_file && (!path.starts_with(mine) || path == header) {
            *all.entry(path.to_owned()).or_default() += 1;
        }
    }
    all
}

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
    let options = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "signal=none",
        "-s",
        "4096",
        "-e",
        "trace=statx,inotify_init1",
        "-o",
        log,
    ];
    let script = format!("{MANY}; {MANY}");
    // How often the header was looked at, and how often all paths after something was to run.
    let built = || {
        let _built = space
            .rfs(Cmd::sh(&script).outer(options))
            .expect_code(0)
            .expect_ran();
        let log = fs::read_to_string(log).unwrap();
        let (_, running) = log.split_once("inotify_init1(").unwrap();
        let all = looks(&space, running, &header);
        assert!(all.len() > 10, "{all:?}");
        // A directory, and a file with another name, is looked at again after it has been asked that its changes be
        // told.
        let often: Vec<_> = all.iter().filter(|(_, n)| **n > 2).collect();
        assert!(often.is_empty(), "{often:?}");
        looks(&space, &log, &header)[&header]
    };
    assert_eq!(built(), 1);
    // Once to find out that the whole cannot be served, once by all that runs then.
    space.write("in.m4", format!("include({header})again"));
    assert!(built() <= 2);
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
