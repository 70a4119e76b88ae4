//! Entering the view, and failing to.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use rfs_fs::{EnterOptions, Gate};
use std::fs;
use std::io;
use std::path::Path;
use view::{Mode, everywhere, modes, sh, with_host};

#[test]
fn a_child_that_dies_is_an_error() {
    let _alone = view::alone();
    let gate = Gate::new().unwrap();
    // Nobody else has the child's end.
    let error = gate.receive().unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(
        error.to_string(),
        "recvmsg of the fuse descriptor: unexpected end of file"
    );
}

#[test]
fn a_root_that_is_not_there_is_told_to_both() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let _alone = view::alone();
    // A thread can enter namespaces as a process can, but only root does it without a user namespace.
    let gate = std::thread::spawn(|| {
        let gate = Gate::new().unwrap();
        let error = gate
            .enter(Path::new("/nowhere/at all"), &EnterOptions::default())
            .unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(libc::ENOENT));
        assert_eq!(
            error.to_string(),
            "mount fuse for /nowhere/at all: No such file or directory (os error 2)"
        );
        gate
    });
    let error = gate.join().unwrap().receive().unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(
        error.to_string(),
        "mount fuse: No such file or directory (os error 2)"
    );
}

#[test]
fn the_mount_is_seen_inside_only() {
    for mode in modes() {
        with_host(
            mode,
            |_| {},
            |host| {
                host.talk.hear();
                let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
                assert!(!mounts.contains("fuse.rfs"));
                assert_eq!(fs::read_to_string(host.root.join("f")).unwrap(), "x");
                host.talk.say();
            },
            |inside| {
                let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
                assert_eq!(mounts.matches(" fuse.rfs ").count(), 1);
                fs::write("f", "x").unwrap();
                inside.talk.say();
                inside.talk.hear();
            },
        );
    }
}

#[test]
fn ids_are_the_own_ones() {
    everywhere(|inside| {
        let id = if inside.mode == Mode::Unprivileged {
            nix::unistd::geteuid().as_raw()
        } else {
            0
        };
        assert_eq!(sh("id -u; touch f; stat -c %u f"), format!("{id}\n{id}"));
    });
}

#[test]
fn an_aborted_mount_fails_and_hangs_nobody() {
    for mode in modes() {
        // Without privilege it depends on whether fusectl is mounted.
        if mode == Mode::Unprivileged {
            continue;
        }
        with_host(
            mode,
            |_| {},
            |host| {
                host.talk.hear();
                host.mounted.abort().unwrap();
                host.talk.say();
            },
            |inside| {
                fs::write("f", "x").unwrap();
                inside.talk.say();
                inside.talk.hear();
                let errno = fs::read_dir(".").unwrap_err().raw_os_error();
                assert!(
                    matches!(errno, Some(libc::ENOTCONN | libc::ECONNABORTED)),
                    "{errno:?}"
                );
            },
        );
    }
}

#[test]
fn a_process_that_is_left_behind_keeps_the_mount() {
    for mode in modes() {
        with_host(
            mode,
            |_| {},
            |host| {
                host.talk.hear();
                // Written by a process whose parent has ended.
                while !fs::exists(host.root.join("late")).unwrap() {
                    std::thread::yield_now();
                }
            },
            |inside| {
                sh("mkfifo fifo; (read x < fifo; echo late > late) > /dev/null 2>&1 &");
                sh("echo go > fifo");
                inside.talk.say();
            },
        );
    }
}
