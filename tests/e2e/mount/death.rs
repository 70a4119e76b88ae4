//! What is left when somebody is killed, and who clears up.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;

use super::{Mounted, has_ended, is_mount, wait_until};

/// The keeper of a daemon: its child of that name.
pub fn keeper(daemon: i32) -> Pid {
    let children = fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).unwrap();
    let mut pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let named = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "rfs-keeper\n")
    };
    Pid::from_raw(pids.find(named).expect("a keeper"))
}

/// The keeper takes the mount of a killed daemon away: nobody hangs, and what was written is there.
#[test]
fn a_killed_daemon_leaves_no_mount() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    m.sh("echo two > b");
    kill(Pid::from_raw(m.pid()), Signal::SIGKILL).unwrap();
    wait_until(|| !m.is_mounted());
    assert_eq!(m.space.read("b"), "two\n");
    let again = m.mount(&[]).expect_code(0);
    assert!(!again.err().contains("taken away"), "{again:#?}");
    assert_eq!(m.sh("cat a b"), "one\ntwo\n");
}

/// With the keeper killed too the mount is dead. `rfs mount` takes it away, says so, and mounts anew.
#[test]
fn a_dead_mount_is_mounted_anew() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    let daemon = m.pid();
    kill(keeper(daemon), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    wait_until(|| {
        fs::metadata(&m.at).is_err_and(|e| e.raw_os_error() == Some(nix::Error::ENOTCONN as i32))
    });
    let told = m.space.bare(
        crate::run::Cmd::new([
            m.space.program().as_os_str(),
            "status".as_ref(),
            m.at.as_os_str(),
        ])
        .cwd("/"),
    );
    assert!(told.out().contains("does not answer"), "{told:#?}");
    let again = m
        .space
        .bare(
            crate::run::Cmd::new([
                m.space.program().as_os_str(),
                "mount".as_ref(),
                m.at.as_os_str(),
            ])
            .cwd("/"),
        )
        .expect_code(0);
    assert!(
        again
            .err()
            .contains("its mount is taken away and made anew"),
        "{again:#?}"
    );
    assert_eq!(m.sh("cat a"), "one\n");
}

#[test]
fn a_dead_mount_is_unmounted() {
    let m = Mounted::new(|_| {});
    let daemon = m.pid();
    kill(keeper(daemon), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    wait_until(|| fs::metadata(&m.at).is_err());
    let gone = m
        .space
        .bare(
            crate::run::Cmd::new([
                m.space.program().as_os_str(),
                "umount".as_ref(),
                m.at.as_os_str(),
            ])
            .cwd("/"),
        )
        .expect_code(0);
    assert!(gone.err().contains("its mount is taken away"), "{gone:#?}");
    assert!(!is_mount(&m.at));
}

/// Without its keeper a daemon serves on, until it is unmounted by hand.
#[test]
fn a_killed_keeper_is_told() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    let daemon = m.pid();
    kill(keeper(daemon), Signal::SIGKILL).unwrap();
    wait_until(|| !m.status()["warnings"].as_array().unwrap().is_empty());
    assert_eq!(m.sh("cat a"), "one\n");
    let warnings = m.status()["warnings"].clone();
    assert_eq!(warnings.as_array().unwrap().len(), 1, "once: {warnings}");
    m.space
        .must(crate::run::Cmd::new(["umount", m.at.to_str().unwrap()]).cwd("/"));
    wait_until(|| has_ended(daemon));
}

/// `umount` by hand ends the daemon.
#[test]
fn a_mount_can_be_unmounted_by_others() {
    for options in [&[][..], &["-l"]] {
        let m = Mounted::new(|_| {});
        let daemon = m.pid();
        let argv = [&["umount", m.at.to_str().unwrap()], options].concat();
        m.space.must(crate::run::Cmd::new(argv).cwd("/"));
        wait_until(|| has_ended(daemon));
    }
}
