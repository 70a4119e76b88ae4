//! What the program does to its own process: become two, and die as its command died.
//!
//! Knows nothing of commands and builds. One of the listed files with unsafe code.
#![allow(unsafe_code)]

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::unistd::ForkResult;
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
    fn a_process_with_threads_does_not_fork() {
        let (hold, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let refused = fork().expect_err("the test has a second thread");
        assert!(refused.to_string().contains("threads"), "{refused}");
        drop(hold);
        thread.join().unwrap().unwrap_err();
    }
}
