//! Whose a process is and what has become of it, asked through its pidfd: nobody else's number can be meant, and
//! no text of `/proc` has to be made, which takes the kernel twenty times as long.

#![allow(unsafe_code)] // no safe crate has PIDFD_GET_INFO

use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::process::{PidfdFlags, pidfd_open};

use crate::event::Pid;
use crate::proc_files::FdInfo;

/// `struct pidfd_info` (linux/pidfd.h) as it was at first.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `_IOWR(0xff, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;
/// The process, its parent and its users and groups.
const PIDFD_INFO_BASE: u64 = 3;
/// How the process ended (Linux 6.15), known when it has been waited for.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

impl Info {
    /// None: the kernel is too old (before Linux 6.13), or the process is gone.
    fn ask(pidfd: &OwnedFd, mask: u64) -> Option<Self> {
        let mut info = Self {
            mask,
            ..Self::default()
        };
        // SAFETY: the descriptor is open, and the kernel writes at most as many bytes as the number of the
        // ioctl says, which is the size of `Info`.
        let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
        (done == 0 && info.mask & mask == mask).then_some(info)
    }
}

/// A pidfd of a process.
pub(crate) fn open(pid: Pid) -> Option<OwnedFd> {
    pidfd_open(rustix::process::Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// The parent of a process that is still there; none where only `/proc` can tell.
pub(crate) fn parent(pidfd: &OwnedFd) -> Option<Pid> {
    let info = Info::ask(pidfd, PIDFD_INFO_BASE)?;
    Pid::try_from(info.ids[2]).ok()
}

/// Real, effective, saved and filesystem user ids of a process that is still there, in our user namespace; none where
/// only `/proc` can tell (before Linux 6.13).
#[must_use]
pub fn users(pid: Pid) -> Option<[u32; 4]> {
    let info = Info::ask(&open(pid)?, PIDFD_INFO_BASE)?;
    let [_, _, _, real, _, effective, _, saved, _, filesystem, _] = info.ids;
    Some([real, effective, saved, filesystem])
}

/// The signal that killed a process which is gone or a zombie; none where it ended otherwise or the
/// kernel is too old to say it of one that has been waited for.
pub(crate) fn killed_by(pid: Pid, pidfd: &OwnedFd) -> Option<i32> {
    let zombie = exit_code(pid);
    // The number is its own as long as somebody can wait for it.
    let me = Pid::try_from(std::process::id()).ok()?;
    let unreaped = FdInfo::read(me, pidfd.as_raw_fd()).is_ok_and(|fd| fd.pidfd_of == Some(pid));
    let status = if unreaped { zombie? } else { exit_info(pidfd)? };
    Some(status & 0x7f).filter(|signal| *signal != 0)
}

fn exit_info(pidfd: &OwnedFd) -> Option<i32> {
    Info::ask(pidfd, PIDFD_INFO_EXIT).map(|info| info.exit_code)
}

/// The signal that ended a zombie, 0 where none did; none where the number is not a zombie's.
pub(crate) fn signal_of_zombie(pid: Pid) -> Option<i32> {
    exit_code(pid).map(|status| status & 0x7f)
}

/// The status of a zombie as wait(2) will tell it: field 52 of `/proc/<pid>/stat`.
fn exit_code(pid: Pid) -> Option<i32> {
    let mut text = String::with_capacity(1024);
    // A bound keeps the library from asking for the size, which is not told.
    let file = fs::File::open(format!("/proc/{pid}/stat")).ok()?;
    file.take(u64::MAX).read_to_string(&mut text).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace();
    // The first after the name is field 3.
    matches!(fields.next()?, "Z" | "X").then_some(())?;
    fields.nth(52 - 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc_files::Status;
    use std::process::Command;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Info>(), 64);
    }

    #[test]
    fn the_kernel_tells_the_same_both_ways() {
        let me = std::process::id() as Pid;
        let status = Status::read(me).unwrap();
        let pidfd = open(me).unwrap();
        let told = parent(&pidfd);
        assert!(told.is_none_or(|parent| parent == status.ppid), "{told:?}");
        let users = users(me);
        assert_eq!(users.is_some(), told.is_some());
        assert!(
            users.is_none_or(|ids| ids[..2] == status.ids[..2]),
            "{users:?}"
        );
        // Only the first thread of a process has one.
        let thread = std::thread::spawn(|| open(nix::unistd::gettid().as_raw()).is_none());
        assert!(thread.join().unwrap());
    }

    #[test]
    fn the_signal_is_known_before_and_after_the_wait() {
        let _alone = crate::proc_files::CHILDREN
            .write()
            .unwrap_or_else(|e| e.into_inner());
        for (script, signal) in [
            ("kill -PIPE $$", Some(libc::SIGPIPE)),
            ("kill -KILL $$", Some(libc::SIGKILL)),
            ("exit 13", None),
        ] {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pid = child.id() as Pid;
            let pidfd = open(pid).unwrap();
            while exit_code(pid).is_none() {
                std::thread::yield_now();
            }
            assert_eq!(killed_by(pid, &pidfd), signal, "zombie of {script}");
            child.wait().unwrap();
            let told = killed_by(pid, &pidfd);
            assert!(told == signal || told.is_none(), "{told:?} of {script}");
        }
    }
}
