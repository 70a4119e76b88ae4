//! ptrace(2) and wait(2): thin, typed, safe to call. Any signal number is carried, real-time ones too.
//!
//! A tracee belongs to the thread that attached to it, so nothing here may be moved to another thread.
//! This file makes no decision about a call.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;

/// What a wait reports about a process or thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It ended with this exit status.
    Exited(i32),
    /// It died by this signal.
    Killed(i32),
    /// It stopped by this signal; the event is a `PTRACE_EVENT_*` or 0.
    Stopped(i32, i32),
    /// It was continued.
    Continued,
}

/// Whom to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Any child of this process.
    Child,
    /// Any child or tracee of this thread, threads included.
    Mine,
    /// This tracee of this thread or child of this process.
    Tid(i32),
}

/// Waits for a change. `Ok(None)` only where `block` is false and nothing has changed.
pub(crate) fn wait(whom: Whom, block: bool) -> io::Result<Option<(i32, Change)>> {
    let (pid, mine) = match whom {
        Whom::Child => (-1, 0),
        Whom::Mine => (-1, libc::__WALL | libc::__WNOTHREAD),
        Whom::Tid(tid) => (tid, libc::__WALL),
    };
    let mut status = 0;
    let options = mine | if block { 0 } else { libc::WNOHANG };
    // SAFETY: waitpid writes one int through the pointer.
    let ret = unsafe { libc::waitpid(pid, &raw mut status, options) };
    match ret {
        0 => Ok(None),
        1.. => Ok(Some((ret, change(status)))),
        _ => Err(io::Error::last_os_error()),
    }
}

fn change(status: i32) -> Change {
    if libc::WIFEXITED(status) {
        Change::Exited(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Change::Killed(libc::WTERMSIG(status))
    } else if libc::WIFSTOPPED(status) {
        Change::Stopped(libc::WSTOPSIG(status), status >> 16)
    } else {
        Change::Continued
    }
}

/// Attaches this thread to a running thread, with these `PTRACE_O_*` options, without stopping it.
pub(crate) fn seize(tid: i32, options: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0, options as usize)
}

/// Makes a tracee stop at the next chance, at the latest when it leaves the kernel.
pub(crate) fn interrupt(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// Sends a signal to one thread.
pub(crate) fn tkill(tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: tkill takes two integers.
    let ret = unsafe { libc::syscall(libc::SYS_tkill, tid, signal) };
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Ends another thread's [`wait`] with `EINTR`, by a signal with a handler that does nothing. Nobody else
/// may want SIGURG. A ring before the wait has begun is not heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bell {
    tid: i32,
}

impl Bell {
    /// Sets the signal's disposition for the process.
    pub(crate) fn install() -> io::Result<Self> {
        extern "C" fn nothing(_: libc::c_int) {}
        let handler: extern "C" fn(libc::c_int) = nothing;
        // SAFETY: zero is a value of every field; without SA_RESTART a wait is interrupted.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: the handler does nothing, so it is safe at any point of any thread.
        let ret = unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) };
        if ret < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self { tid: 0 })
        }
    }

    /// The bell of the calling thread, which can hear it from now on.
    pub(crate) fn here(self) -> Self {
        let mut urgent = nix::sys::signal::SigSet::empty();
        urgent.add(nix::sys::signal::Signal::SIGURG);
        urgent.thread_unblock().ok();
        Self {
            tid: nix::unistd::gettid().as_raw(),
        }
    }

    /// Rings until `heard`, for its thread may just be about to wait. Does nothing on that thread itself.
    pub(crate) fn ring_until(self, mut heard: impl FnMut() -> bool) {
        if self.tid == nix::unistd::gettid().as_raw() {
            return;
        }
        loop {
            tkill(self.tid, libc::SIGURG).ok();
            if heard() {
                return;
            }
        }
    }
}

/// A tracee in a ptrace stop that this thread has waited for. To let it go on consumes this.
///
/// A stopped tracee can still be killed: then every request fails with `ESRCH`, which is no error of ours.
#[derive(Debug)]
pub(crate) struct Stopped {
    tid: i32,
    /// Ptrace requests must come from the thread that attached.
    not_send: PhantomData<*const ()>,
}

/// A call as `PTRACE_GET_SYSCALL_INFO` tells it at a seccomp stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// `AUDIT_ARCH_*`.
    pub(crate) arch: u32,
    /// System call number as passed.
    pub(crate) nr: u32,
    /// Arguments.
    pub(crate) args: [u64; 6],
}

impl Stopped {
    /// For a tracee that [`wait`] has just reported as stopped to this thread.
    pub(crate) fn new(tid: i32) -> Self {
        Self {
            tid,
            not_send: PhantomData,
        }
    }

    /// Its thread id.
    pub(crate) fn tid(&self) -> i32 {
        self.tid
    }

    /// Lets it run; `signal` is delivered to it if not 0.
    pub(crate) fn resume(self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_CONT, self.tid, 0, signal as usize)
    }

    /// Leaves it in its group stop, so that SIGCONT can end that.
    pub(crate) fn listen(self) -> io::Result<()> {
        request(libc::PTRACE_LISTEN, self.tid, 0, 0)
    }

    /// Lets it run untraced.
    pub(crate) fn detach(self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_DETACH, self.tid, 0, signal as usize)
    }

    /// At the stop of an execve: the id that the thread had before. At that of a fork: the new process.
    pub(crate) fn message(&self) -> io::Result<i32> {
        let mut message: libc::c_ulong = 0;
        request(
            libc::PTRACE_GETEVENTMSG,
            self.tid,
            0,
            &raw mut message as usize,
        )?;
        i32::try_from(message).map_err(io::Error::other)
    }

    /// The call at whose entry it stopped. `None` in any other stop.
    pub(crate) fn entry(&self) -> io::Result<Option<Entry>> {
        // SAFETY: all fields are integers, for which zero is a value.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let (size, info_ptr) = (size_of_val(&info), &raw mut info as usize);
        request(libc::PTRACE_GET_SYSCALL_INFO, self.tid, size, info_ptr)?;
        if info.op != libc::PTRACE_SYSCALL_INFO_SECCOMP {
            return Ok(None);
        }
        // SAFETY: the kernel has filled this variant of the union, as `op` says.
        let call = unsafe { info.u.seccomp };
        Ok(Some(Entry {
            arch: info.arch,
            nr: call.nr as u32,
            args: call.args,
        }))
    }

    /// Its general registers.
    pub(crate) fn registers(&self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: all fields are integers, for which zero is a value.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        self.register_set(libc::PTRACE_GETREGSET, libc::NT_PRSTATUS, &mut regs)?;
        Ok(regs)
    }

    /// Changes its general registers.
    pub(crate) fn set_registers(&self, mut regs: libc::user_regs_struct) -> io::Result<()> {
        self.register_set(libc::PTRACE_SETREGSET, libc::NT_PRSTATUS, &mut regs)
    }

    /// Changes the number of the call that it is about to make or to return from; -1 is no call.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn set_call(&self, mut nr: i32) -> io::Result<()> {
        const NT_ARM_SYSTEM_CALL: i32 = 0x404;
        self.register_set(libc::PTRACE_SETREGSET, NT_ARM_SYSTEM_CALL, &mut nr)
    }

    /// `T` must be the layout of register set `which`.
    fn register_set<T>(&self, op: Request, which: i32, regs: &mut T) -> io::Result<()> {
        let mut room = libc::iovec {
            iov_base: (&raw mut *regs).cast(),
            iov_len: size_of::<T>(),
        };
        request(op, self.tid, which as usize, &raw mut room as usize)
    }
}

#[cfg(target_env = "gnu")]
type Request = libc::c_uint;
#[cfg(not(target_env = "gnu"))]
type Request = libc::c_int;

fn request(op: Request, tid: i32, addr: usize, data: usize) -> io::Result<()> {
    // SAFETY: `addr` and `data` are plain values, or point at structures of our callers that outlive the
    // call and that the kernel fills no further than the size it is given with them.
    let ret = unsafe { libc::ptrace(op, tid, addr, data) };
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
