//! What this machine allows a supervisor to do, found out by doing it in short-lived children.

use crate::filter::{self, Action, Insn, Table, Treatment};
use crate::line::Line;
use crate::ptrace::{self, Change, Whom};
use crate::regs::NATIVE;
use crate::seccomp::{self, Listener};
use crate::spawn;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Each is either to be had, or the reason why not.
#[derive(Debug)]
pub struct Abilities {
    /// Seccomp user notification (Linux 5.5). `EBUSY`: an outer supervisor has it.
    pub notify: io::Result<()>,
    /// Its cheap wake-up (Linux 6.6). Without, each trapped call costs several times as much.
    pub sync_wake_up: io::Result<()>,
    /// That no signal disturbs a trapped call (Linux 5.19). Without, calls may return `EINTR`.
    pub wait_killable: io::Result<()>,
    /// Seccomp filters that stop for a tracer, and attaching to a child. Without, no process can be ended
    /// in place of its call under notification either.
    pub ptrace: io::Result<()>,
    /// Access to the descriptors of a child (Linux 5.6). Without, no output can be replayed.
    pub pidfd_getfd: io::Result<()>,
}

/// Tries everything. To be called while the process has one thread.
pub fn probe() -> Abilities {
    Abilities {
        notify: in_child(|| listener(0).map(drop)),
        sync_wake_up: in_child(|| listener(0)?.sync_wake_up(true)),
        wait_killable: in_child(|| listener(seccomp::WAIT_KILLABLE).map(drop)),
        ptrace: in_child(|| seccomp::install(&harmless(Action::Trace)?))
            .and_then(|()| with_child(|pid, _| ptrace::seize(pid, 0))),
        pidfd_getfd: with_child(|pid, fd| {
            let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())?;
            Ok(())
        }),
    }
}

/// A filter that stops none of the calls that a probe makes after installing it.
fn harmless(action: Action) -> io::Result<Vec<Insn>> {
    let rows = (0..1024).map(|nr| (nr, Treatment::Allow)).collect();
    let tables = [Table { abi: NATIVE, rows }];
    filter::program(&tables, action, None).map_err(io::Error::other)
}

fn listener(flag: libc::c_ulong) -> io::Result<Listener> {
    let fd = seccomp::install_listener(&harmless(Action::Notify)?, flag)?;
    Listener::new(fd)
}

/// Runs `body` in a process of its own, which it may spoil.
fn in_child(body: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let pid = spawn::fork(|| match body() {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    })?;
    match ended(pid) {
        Some(Change::Exited(0)) => Ok(()),
        Some(Change::Exited(errno)) => Err(io::Error::from_raw_os_error(errno)),
        // A container may answer a forbidden call by a signal.
        Some(Change::Killed(_) | Change::Stopped(..) | Change::Continued) | None => {
            Err(io::Error::other("the kernel killed the process that tried"))
        }
    }
}

/// Runs `body` with the id of a process that waits, and the number of a descriptor that it has open.
fn with_child(body: impl FnOnce(i32, i32) -> io::Result<()>) -> io::Result<()> {
    let (ours, theirs) = Line::pair()?;
    let fd = theirs.as_fd().as_raw_fd();
    let pid = spawn::fork(|| {
        ours.close_copy();
        theirs.receive().is_err().into()
    })?;
    let result = body(pid, fd);
    ptrace::tkill(pid, libc::SIGKILL).ok();
    ended(pid);
    result
}

fn ended(pid: i32) -> Option<Change> {
    loop {
        match ptrace::wait(Whom::Tid(pid), true) {
            Ok(Some((_, Change::Stopped(..) | Change::Continued))) => {}
            Ok(changed) => return changed.map(|(_, change)| change),
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_comes_back_from_the_child() {
        let _alone = crate::proc_files::CHILDREN
            .write()
            .unwrap_or_else(|e| e.into_inner());
        let refused = in_child(|| Err(io::Error::from_raw_os_error(libc::EBUSY)));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBUSY));
        in_child(|| Ok(())).unwrap();
        let killed = in_child(|| ptrace::tkill(nix::unistd::gettid().as_raw(), libc::SIGKILL));
        assert!(killed.unwrap_err().to_string().contains("killed"));
    }
}
