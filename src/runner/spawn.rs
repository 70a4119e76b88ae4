//! What the program does to its own process: become two, bind itself, and die as its command died.
//!
//! Knows nothing of commands and builds. One of the listed files with unsafe code.
#![allow(unsafe_code)]

use super::bind::Memory;
use super::views::Views;
use crate::base::cpuset::CpuSet;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::unistd::{ForkResult, Pid};
use std::ffi::CString;
use std::io;

/// fork(2), for a process with one thread.
///
/// # Errors
/// When the process has several threads, or fork(2) fails.
pub fn fork() -> io::Result<ForkResult> {
    let n_threads = std::fs::read_dir("/proc/self/task")?.count();
    if n_threads != 1 {
        return Err(io::Error::other(format!(
            "fork with {n_threads} threads running"
        )));
    }
    // SAFETY: the process has one thread (looked at above, and only that thread could start another), so
    // that no lock is held by a thread that the child does not have.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// What the child of [`program`] needs, and where it says why it is none.
struct Program<'a> {
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    views: Option<&'a Views>,
    errno: libc::c_int,
}

/// Bytes of the stack of a child until it is the program.
const STACK: usize = 32 << 10;

/// Starts a program, by its absolute path, in a process group of its own, with our descriptors, no signal blocked and none
/// ignored that we do not ignore, but SIGPIPE, and with views, if it has any. As posix_spawn(3), which asks for the action of every signal for that.
/// For a process that handles no signal.
///
/// # Errors
/// Those of clone(2); those of mount(2) and execve(2), and then there is a child to be waited for all the same.
pub fn program(argv: &[CString], env: &[CString], views: Option<&Views>) -> io::Result<Pid> {
    let pointers = |words: &[CString]| -> Vec<*const libc::c_char> {
        let words = words.iter().map(|word| word.as_ptr());
        words.chain([std::ptr::null()]).collect()
    };
    let mut program = Program {
        argv: pointers(argv),
        env: pointers(env),
        views,
        errno: 0,
    };
    let apart = views.map_or(0, Views::namespaces);
    if argv.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut stack = Box::<[u128]>::new_uninit_slice(STACK / size_of::<u128>());
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the child runs `become_program` on a stack of its own that lives, like `program`, until it has
    // executed a program or is gone: the kernel holds us until then (CLONE_VFORK). It makes system calls only.
    let pid = unsafe {
        libc::clone(
            become_program,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | apart,
            (&raw mut program).cast(),
        )
    };
    match (pid, program.errno) {
        (-1, _) => Err(io::Error::last_os_error()),
        (pid, 0) => Ok(Pid::from_raw(pid)),
        (_, errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// What the child of [`program`] does.
extern "C" fn become_program(program: *mut libc::c_void) -> libc::c_int {
    // SAFETY: our parent, who waits, passes what lives until we are gone and what nobody else uses.
    let program = unsafe { &mut *program.cast::<Program<'_>>() };
    if let Some(Err(errno)) = program.views.map(Views::enter) {
        program.errno = errno.raw_os_error();
        leave(127);
    }
    // A group that cannot be made is one that nobody can end; the program runs all the same.
    let _group = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
    let _kept = reset(Signal::SIGPIPE);
    let _blocked = SigSet::empty().thread_set_mask();
    // SAFETY: both arrays end with a null pointer, and what they point to lives in our parent, who waits. No library
    // may stand in its way, for its memory is our parent's.
    unsafe {
        libc::syscall(
            libc::SYS_execve,
            program.argv[0],
            program.argv.as_ptr(),
            program.env.as_ptr(),
        )
    };
    program.errno = nix::errno::Errno::last_raw();
    leave(127)
}

/// What a process has used, from wait4(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// User and system time, in microseconds.
    pub cpu_us: u64,
    /// Largest resident set, in bytes.
    pub peak_bytes: u64,
    /// Page faults that needed the disk.
    pub major_faults: u64,
    /// Switches to another process, wanted or not.
    pub switches: u64,
}

/// wait4(2) without waiting: a child that has ended, how, and what it has used.
///
/// # Errors
/// ECHILD when there is no child.
pub fn ended_child() -> io::Result<Option<(Pid, super::Ended, Usage)>> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to values that live through the call and have the kernel's layout.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    match pid {
        -1 => return Err(io::Error::last_os_error()),
        0 => return Ok(None),
        _ => {}
    }
    // SAFETY: it was zeroed, and a `rusage` of zeros is a value.
    let usage = unsafe { usage.assume_init() };
    let ended = if libc::WIFSIGNALED(status) {
        super::Ended::Signal(libc::WTERMSIG(status))
    } else {
        super::Ended::Exit(libc::WEXITSTATUS(status))
    };
    let count = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
    let micros = |time: libc::timeval| count(time.tv_sec) * 1_000_000 + count(time.tv_usec);
    let used = Usage {
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        peak_bytes: count(usage.ru_maxrss) * 1024,
        major_faults: count(usage.ru_majflt),
        switches: count(usage.ru_nvcsw) + count(usage.ru_nivcsw),
    };
    Ok(Some((Pid::from_raw(pid), ended, used)))
}

/// sched_setaffinity(2) of a thread, 0 for the calling one. Not by way of a `cpu_set_t`, which ends at 1024 processors.
///
/// # Errors
/// EINVAL when none of the processors is there and allowed, ESRCH when there is no such thread.
pub fn set_affinity(thread: Pid, cpus: &CpuSet) -> io::Result<()> {
    let words = cpus.words();
    // SAFETY: the kernel reads `size_of_val(words)` bytes from a slice that lives through the call, and
    // writes nothing.
    let done = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            thread.as_raw(),
            size_of_val(words),
            words.as_ptr(),
        )
    };
    told(done)
}

/// set_mempolicy(2) of the calling thread; what it executes inherits it.
///
/// # Errors
/// EINVAL when a node is not there or not allowed; ENOSYS on kernels without memory nodes.
pub fn set_memory_policy(memory: &Memory) -> io::Result<()> {
    let (mode, nodes) = match memory {
        Memory::Default => return Ok(()),
        Memory::Local(nodes) if nodes.len() < 2 => (libc::MPOL_PREFERRED, nodes),
        Memory::Local(nodes) => (PREFERRED_MANY, nodes),
        Memory::Bind(nodes) => (libc::MPOL_BIND, nodes),
        Memory::Interleave(nodes) => (libc::MPOL_INTERLEAVE, nodes),
    };
    let words = nodes.words();
    // The kernel takes one bit less than it is told.
    let bits = words.len() * 64 + 1;
    // SAFETY: the kernel reads `bits - 1` bits, all in a slice that lives through the call.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, words.as_ptr(), bits) };
    told(done)
}

/// MPOL_PREFERRED_MANY of linux/mempolicy.h, since Linux 5.15.
const PREFERRED_MANY: libc::c_int = 5;

fn told(done: libc::c_long) -> io::Result<()> {
    if done == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// _exit(2), for a child that could not become what it was to be: nothing of the parent's is flushed.
pub fn leave(status: i32) -> ! {
    // SAFETY: ends the process and touches nothing of it.
    unsafe { libc::_exit(status) }
}

/// Gives a signal its default action.
///
/// # Errors
/// When sigaction(2) fails, as it does for SIGKILL and SIGSTOP.
pub fn reset(signal: Signal) -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed, so that nothing can run in signal context.
    unsafe { sigaction(signal, &default) }?;
    Ok(())
}

/// Dies by `signal` without a core file, so that who waits sees the status that the command had.
///
/// Returns the status of a shell for such a death, where the signal does not kill.
#[must_use]
pub fn die_by(signal: i32) -> i32 {
    if let Ok(known) = Signal::try_from(signal) {
        // Best effort: whatever fails here, the status below still says it.
        let _unlimited = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let _kept = reset(known);
        let mut set = SigSet::empty();
        set.add(known);
        let _sent = raise(known);
        let _blocked = set.thread_unblock();
    }
    128 + signal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_started_or_it_is_said_why_not() {
        let words = |words: &[&str]| -> Vec<CString> {
            words
                .iter()
                .map(|word| CString::new(*word).unwrap())
                .collect()
        };
        let script = "kill -0 -$$ && test \"$X\" = 1 || exit 1; kill -PIPE $$; exit 2";
        let argv = words(&["/bin/sh", "-c", script]);
        let shell = program(&argv, &words(&["X=1"]), None).unwrap();
        let ended = nix::sys::wait::waitpid(shell, None).unwrap();
        assert_eq!(
            ended,
            nix::sys::wait::WaitStatus::Signaled(shell, Signal::SIGPIPE, false)
        );
        let error = program(&words(&["/nonexistent"]), &[], None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        program(&[], &[], None).unwrap_err();
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let (hold, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let refused = fork().expect_err("the test has a second thread");
        assert!(refused.to_string().contains("threads"), "{refused}");
        drop(hold);
        thread.join().unwrap().unwrap_err();
    }
}
