//! seccomp(2): installing a filter, and the notification listener. Thin, typed, safe to call.
//!
//! Knows the kernel's interface and its fallbacks; knows no rule, no process model and no thread.
#![allow(unsafe_code)]

use crate::filter::Insn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Flag of [`install_listener`]: only a fatal signal disturbs a trapped call (Linux 5.19).
pub(crate) const WAIT_KILLABLE: libc::c_ulong = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;

/// Installs `program` for the calling thread and everything that it becomes or starts. Sets no_new_privs
/// only where the kernel insists on it, so that root's builds may still run set-user-ID programs.
pub(crate) fn install(program: &[Insn]) -> io::Result<()> {
    install_with(program, 0).map(drop)
}

/// The same, and returns the descriptor (close-on-exec) that traps are told on.
pub(crate) fn install_listener(program: &[Insn], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let fd = install_with(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | flags)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn install_with(program: &[Insn], flags: libc::c_ulong) -> io::Result<RawFd> {
    match set_filter(program, flags) {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            nix::sys::prctl::set_no_new_privs()?;
            set_filter(program, flags)
        }
        other => other,
    }
}

fn set_filter(program: &[Insn], flags: libc::c_ulong) -> io::Result<RawFd> {
    // Linux before 5.16 slows every program under a filter down against Spectre, as if it were hostile.
    let flags = flags | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let fprog = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `fprog` points at `len` instructions in the layout of `struct sock_filter`, which the
    // kernel copies during the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            flags,
            &raw const fprog,
        )
    };
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        RawFd::try_from(ret).map_err(io::Error::other)
    }
}

/// One trapped call as the kernel tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notice {
    /// Names this very trap; never used again.
    pub(crate) id: u64,
    /// The thread, 0 if it is in no pid namespace that we see.
    pub(crate) tid: i32,
    /// `AUDIT_ARCH_*`.
    pub(crate) arch: u32,
    /// System call number as passed.
    pub(crate) nr: u32,
    /// Arguments.
    pub(crate) args: [u64; 6],
}

/// What the kernel does with a trapped call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    /// Carry it out.
    Continue,
    /// Return `-errno`.
    Fail(i32),
    /// Return this.
    Return(i64),
}

/// The listening end of a filter.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// Room for what the kernel writes; its structures may be larger than the ones we were built with.
#[repr(C, align(8))]
struct Room([u8; 512]);

impl Listener {
    /// Takes the descriptor that [`install`] has made, in this or another process.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let mut sizes = libc::seccomp_notif_sizes {
            seccomp_notif: 0,
            seccomp_notif_resp: 0,
            seccomp_data: 0,
        };
        // SAFETY: the kernel writes one `seccomp_notif_sizes` through the pointer.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::c_ulong::from(libc::SECCOMP_GET_NOTIF_SIZES),
                0,
                &raw mut sizes,
            )
        };
        if ret < 0 {
            return Err(io::Error::last_os_error());
        }
        let largest = sizes.seccomp_notif.max(sizes.seccomp_notif_resp);
        if usize::from(largest) > size_of::<Room>() {
            return Err(io::Error::other(
                "the kernel's seccomp notifications are too large",
            ));
        }
        Ok(Self(fd))
    }

    /// Whether both sides wake the other one on their own CPU (Linux 6.6): six times cheaper where nobody
    /// else is at work, but it makes the others wait for that CPU while another one may be idle.
    pub(crate) fn sync_wake_up(&self, on: bool) -> io::Result<()> {
        let flag = libc::c_ulong::from(on);
        // SAFETY: this ioctl takes its flags by value.
        let ret = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
                flag,
            )
        };
        check(ret)
    }

    /// Waits for the next trapped call. `None`: the call went away before it could be received.
    pub(crate) fn receive(&self) -> io::Result<Option<Notice>> {
        let mut room = Room([0; 512]);
        // SAFETY: the kernel writes one `seccomp_notif` of its size, which `new` has compared with the
        // room's, and the room is zeroed as it demands.
        let ret = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut room,
            )
        };
        if ret < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: the room is aligned and larger than a `seccomp_notif`, whose fields are all integers.
        let notice = unsafe { (&raw const room).cast::<libc::seccomp_notif>().read() };
        Ok(Some(Notice {
            id: notice.id,
            tid: notice.pid as i32,
            arch: notice.data.arch,
            nr: notice.data.nr as u32,
            args: notice.data.args,
        }))
    }

    /// Whether the thread still waits in this very call.
    pub(crate) fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the kernel reads one u64 through the pointer.
        let ret = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
                &raw const id,
            )
        };
        ret == 0
    }

    /// Answers. An error means that nobody waits for the answer any more.
    pub(crate) fn reply(&self, id: u64, reply: Reply) -> io::Result<()> {
        let mut room = Room([0; 512]);
        let (val, error, flags) = match reply {
            Reply::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Reply::Fail(errno) => (0, -errno, 0),
            Reply::Return(value) => (value, 0, 0),
        };
        let response = libc::seccomp_notif_resp {
            id,
            val,
            error,
            flags,
        };
        let place = (&raw mut room).cast::<libc::seccomp_notif_resp>();
        // SAFETY: the room is aligned and larger than a `seccomp_notif_resp`.
        unsafe { place.write(response) };
        // SAFETY: the kernel reads one `seccomp_notif_resp` of its size, which fits the room.
        let ret = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut room,
            )
        };
        check(ret)
    }
}

impl Listener {
    /// Answers with a descriptor (close-on-exec), which the call returns as one that it has opened
    /// (Linux 5.14). An error means that the call still waits for an answer, or that nobody waits.
    pub(crate) fn give(&self, id: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        let give = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
            srcfd: fd.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: libc::O_CLOEXEC as u32,
        };
        // SAFETY: the kernel reads one `seccomp_notif_addfd` through the pointer.
        let ret = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ADDFD,
                &raw const give,
            )
        };
        check(ret.min(0))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(ret: libc::c_int) -> io::Result<()> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
