//! From mount to unmount when nobody does anything bad.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Mounted, has_ended, hear, is_mount, service, wait_until};
use crate::space::TestSpace;

#[test]
fn a_workspace_is_mounted_over_itself_and_unmounted() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    assert!(m.is_mounted());
    assert_eq!(m.sh("cat a; echo two > b; mkdir d; ls"), "one\na\nb\nd\n");
    let status = m.status();
    assert_eq!(status["schema"], "rfs.status/1");
    assert_eq!(status["at"], m.at.to_str().unwrap());
    assert_eq!(status["alive"], true);
    assert_eq!(status["passthrough"], true, "{status}");
    // Its code tells of other tests' mounts too, some of which are dead.
    let said = m.space.tool(&["status"]).out();
    assert!(
        said.contains(&format!("{}: mounted for", m.at.display())),
        "{said}"
    );

    let pid = m.pid();
    assert_eq!(m.umount(&[]).expect_code(0).err(), "");
    assert!(!m.is_mounted());
    wait_until(|| has_ended(pid));
    assert_eq!(
        m.space.read("b"),
        "two\n",
        "what was written is in the directory"
    );
}

#[test]
fn a_workspace_is_mounted_elsewhere() {
    let space = TestSpace::new();
    space.write("a", "one\n");
    let at = space.root().join("outside");
    let (ws, mnt) = (space.ws().to_str().unwrap(), at.to_str().unwrap());
    let _mounted = space.tool(&["mount", ws, mnt]).expect_code(0);
    let m = Mounted {
        at: at.clone(),
        space,
    };
    assert!(is_mount(&at) && !is_mount(m.space.ws()));
    fs::write(at.join("b"), "two\n").unwrap();
    assert_eq!(m.space.read("b"), "two\n");
    // It is found by what it shows, too.
    let ws = m.space.ws().to_str().unwrap();
    let said = m.space.tool(&["status", ws]).expect_code(0).out();
    assert!(said.contains(&format!("(shows {ws})")), "{said}");
    let _gone = m.space.tool(&["umount", ws]).expect_code(0);
    assert!(!is_mount(&at));
}

#[test]
fn mounting_twice_is_one_mount() {
    let m = Mounted::new(|_| {});
    let again = m.mount(&[]).expect_code(0);
    assert!(
        again.out().contains("is mounted already, by process"),
        "{again:#?}"
    );
    // What is left of one that ends has nothing to do with the next, though that has the same numbers.
    for _ in 0..5 {
        assert_eq!(m.umount(&[]).expect_code(0).err(), "");
        assert!(!m.is_mounted());
        let _again = m.mount(&[]).expect_code(0);
        assert!(m.is_mounted());
    }
    assert_eq!(m.status()["alive"], true);
}

#[test]
fn a_daemon_that_is_told_to_end_unmounts() {
    let m = Mounted::new(|_| {});
    let pid = m.pid();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait_until(|| has_ended(pid));
    assert!(!m.is_mounted());
}

#[test]
fn one_that_nobody_uses_ends_by_itself() {
    for (options, config) in [
        (&["--idle", "1"][..], ""),
        (&[], "[mount]\nidle = '1s'\npassthrough = false\n"),
    ] {
        let m = Mounted::with(Default::default(), options, |s| s.write("rfs.toml", config));
        let status = m.status();
        assert_eq!(status["passthrough"], config.is_empty(), "{status}");
        let pid = status["pid"].as_i64().unwrap().try_into().unwrap();
        wait_until(|| has_ended(pid));
        assert!(!m.is_mounted());
    }
}

/// As systemd starts it: in the foreground, with a socket for what it has to tell.
#[test]
fn a_service_tells_when_it_is_ready_alive_and_over() {
    let space = TestSpace::new();
    let (started, socket) = service(&space);
    let hear = || hear(&socket).unwrap();
    assert!(hear().starts_with("READY=1\nSTATUS="));
    assert!(is_mount(space.ws()));
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    kill(started.pid(), Signal::SIGTERM).unwrap();
    let (status, _, stderr) = started.finish(None);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let last = std::iter::repeat_with(hear).find(|text| text != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert!(!is_mount(space.ws()));
}

#[test]
fn what_cannot_be_mounted_is_told() {
    let space = TestSpace::new();
    let none = space.tool(&["mount", "not-there"]).expect_code(125);
    assert!(none.err().contains("not-there: No such file"), "{none:#?}");
    space.write("file", "");
    let file = space.tool(&["mount", "file"]).expect_code(125);
    assert!(file.err().starts_with("rfs: error: "), "{file:#?}");
    let stranger = space.tool(&["umount", "."]).expect_code(125);
    assert!(
        stranger.err().contains("is not mounted by rfs"),
        "{stranger:#?}"
    );
}
