//! When something is lacking: room on the disk, memory, and what a logout or a reboot sweeps away.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Mounted, has_ended, is_mount, wait_until};
use crate::run::{Cmd, Run};
use crate::space::{Setting, TestSpace};

/// A small disk at a directory; goes away with all that is mounted over it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(s: &TestSpace) -> Self {
        let ws = s.ws().to_str().unwrap();
        s.must(Cmd::new(["mount", "-t", "tmpfs", "-o", "size=8m", "small", ws]).cwd("/"));
        Self(s.ws().to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        while is_mount(&self.0) {
            let gone = Command::new("umount").arg("-l").arg(&self.0).status();
            if !gone.is_ok_and(|status| status.success()) {
                break;
            }
        }
    }
}

/// Whoever writes is told what does not fit, as below the mount, and the rest goes on. What a removed file took is
/// free when the kernel has let it go, which may be a moment after rm has ended.
#[test]
fn room_on_the_disk() {
    let mut disk = None;
    let m = Mounted::new(|s| {
        disk = Some(SmallDisk::at(s));
        s.write("a", "one\n");
    });
    let daemon = m.pid();
    let full = m.sh(
        "head -c 20000000 /dev/zero > big 2>/dev/null; echo $?; echo x 2>/dev/null > d; cat a; \
         cat a a > c 2>/dev/null; ls",
    );
    assert_eq!(full, "1\none\na\nbig\nc\nd\n");
    let room = "rm -f big c d; n=0; until echo two 2>/dev/null > b; do n=$((n+1)); [ $n -lt 100000 ] || exit 1; done; cat a b";
    assert_eq!(m.sh(room), "one\ntwo\n");
    let built = m.space.rfs(Cmd::sh("cat a b > c")).expect_code(0);
    assert_eq!(built.summary().ran, 1, "{built:#?}");
    assert_eq!(m.pid(), daemon);
    assert_eq!(m.umount(&[]).expect_code(0).err(), "");
    assert_eq!(
        (m.space.read("b"), m.space.read("c")),
        ("two\n".into(), "one\ntwo\n".into())
    );
    drop(disk);
}

/// A control group whose members may have little memory, see cgroups(7).
struct Tight(PathBuf);

impl Tight {
    fn new(bytes: u32) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let is_new = controllers.split_whitespace().any(|name| name == "memory");
        let script = "mountpoint -q /sys/fs/cgroup || mount -t tmpfs cgroup /sys/fs/cgroup; cd /sys/fs/cgroup; \
            [ -d memory ] || { mkdir memory && mount -t cgroup -o memory cgroup memory; }";
        let script = if is_new {
            "echo +memory > /sys/fs/cgroup/cgroup.subtree_control"
        } else {
            script
        };
        let ready = Command::new("sh").args(["-c", script]).status().unwrap();
        assert!(ready.success(), "the test needs the memory controller");
        let top = if is_new {
            root.to_owned()
        } else {
            root.join("memory")
        };
        let dir = top.join(format!("rfs-e2e-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let limit = if is_new {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        fs::write(dir.join(limit), bytes.to_string()).unwrap();
        Self(dir)
    }

    /// Processes that the kernel has killed.
    fn killed(&self) -> u32 {
        let told = ["memory.events", "memory.oom_control"]
            .map(|name| fs::read_to_string(self.0.join(name)));
        let told = told.into_iter().find_map(Result::ok).unwrap();
        let killed = told.lines().find_map(|line| line.strip_prefix("oom_kill "));
        killed.unwrap().parse().unwrap()
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        let _gone = fs::remove_dir(&self.0);
    }
}

/// The kernel kills the daemon for want of memory: who uses the mount gets errors, nobody waits, nothing is lost.
#[test]
fn memory() {
    let m = Mounted::new(|s| {
        s.write("a", "one\n");
        s.must(Cmd::sh(
            "mkdir d; cd d; seq -f a-name-that-takes-a-little-room-%.0f 20000 | xargs touch",
        ));
    });
    let daemon = m.pid();
    m.sh("echo two > b");
    let tight = Tight::new(2 << 20);
    fs::write(tight.0.join("cgroup.procs"), daemon.to_string()).unwrap();
    let looked = m.space.bare(Cmd::sh("find d -size +1 > /dev/null"));
    wait_until(|| has_ended(daemon));
    assert!(tight.killed() > 0 && looked.code() != 0, "{looked:#?}");
    wait_until(|| !m.is_mounted());
    assert_eq!(m.space.read("b"), "two\n");
    let _again = m.mount(&[]).expect_code(0);
    assert_eq!(m.sh("cat a b; ls d | wc -l"), "one\ntwo\n20000\n");
}

/// A machine that stops leaves the lock's file, whose number is somebody else's by then, and perhaps a socket.
#[test]
fn what_a_reboot_takes() {
    let m = Mounted::new(|s| s.write("a", "one\n"));
    m.sh("echo two > b");
    let daemon = m.pid();
    kill(super::death::keeper(daemon), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    wait_until(|| has_ended(daemon));
    m.space
        .must(Cmd::new(["umount", "-l", m.at.to_str().unwrap()]).cwd("/"));
    m.space.write(".rfs/mount.lock", "1\n");
    let again = m.mount(&[]).expect_code(0);
    assert!(!again.err().contains("taken away"), "{again:#?}");
    assert_eq!(m.sh("cat a b"), "one\ntwo\n");
}

/// With his last session a user's runtime directory goes, and with that the daemon's socket, though not the daemon.
#[test]
fn what_a_logout_takes() {
    let nobody = Setting {
        nobody: true,
        tracer: None,
    };
    let s = TestSpace::with(nobody);
    s.write("a", "one\n");
    let runtime = s.root().join("runtime");
    let log_in = || {
        fs::create_dir(&runtime).unwrap();
        chown(&runtime, Some(65534), Some(65534)).unwrap();
    };
    let rfs = |s: &TestSpace, what: &str| -> Run {
        let argv = [s.program().as_os_str(), what.as_ref(), s.ws().as_os_str()];
        s.bare(Cmd::new(argv).cwd("/").env("XDG_RUNTIME_DIR", &runtime))
    };
    log_in();
    let _mounted = rfs(&s, "mount").expect_code(0);
    let m = Mounted {
        at: s.ws().to_owned(),
        space: s,
    };
    m.sh("echo two > b");
    fs::remove_dir_all(&runtime).unwrap();
    log_in();
    let told = rfs(&m.space, "status").expect_code(1);
    assert!(told.out().contains("does not answer"), "{told:#?}");
    let again = rfs(&m.space, "mount").expect_code(0);
    assert!(
        again.err().contains("taken away and made anew"),
        "{again:#?}"
    );
    assert_eq!(m.sh("cat a b"), "one\ntwo\n");
    assert_eq!(rfs(&m.space, "umount").expect_code(0).err(), "");
    assert!(!m.is_mounted());
}
