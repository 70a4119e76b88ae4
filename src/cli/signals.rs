//! Which signals the program takes over, and what becomes of them.
//!
//! Front and host only block them. Nothing is ignored and no handler is installed, so that the command
//! starts with the very dispositions that we were started with, and with the mask that is kept here.

use super::error::CommandError;
use crate::runner::spawn;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// Signals that end a process which does not care for them, and that people and programs send.
const TAKEN: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// The taken signals, blocked from now on.
#[derive(Debug)]
pub(super) struct Taken {
    /// The mask before, which is the command's.
    pub(super) mask: SigSet,
    /// Those that come from now on.
    pub(super) coming: SignalFd,
}

impl Taken {
    /// Blocks them. Those that are ignored stay so: they end neither us nor the command.
    pub(super) fn take() -> Result<Self, CommandError> {
        Self::take_and(&[])
    }

    /// Takes what a terminal sends for ^Z as well: whoever draws there has to put it in order before a shell does.
    pub(super) fn take_with_stop() -> Result<Self, CommandError> {
        Self::take_and(&[Signal::SIGTSTP])
    }

    fn take_and(more: &[Signal]) -> Result<Self, CommandError> {
        let failed = |call, error: &dyn std::fmt::Display| {
            CommandError::new(format_args!("cannot take over signals: {call}: {error}"))
        };
        // waitpid(2) tells nothing of children where SIGCHLD is ignored.
        if ignores(Signal::SIGCHLD) {
            spawn::reset(Signal::SIGCHLD).map_err(|error| failed("sigaction", &error))?;
        }
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        for signal in TAKEN.iter().chain(more) {
            if !ignores(*signal) {
                set.add(*signal);
            }
        }
        let coming = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|error| failed("signalfd", &error))?;
        // A write to a reader that has gone is to fail, not to kill us.
        set.add(Signal::SIGPIPE);
        let mask = set
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .map_err(|error| failed("sigprocmask", &error))?;
        Ok(Self { mask, coming })
    }

    /// Gives them back. What has come in the meantime acts now.
    pub(super) fn give_back(self) {
        let _restored = self.mask.thread_set_mask();
    }
}

/// Leaves what stops a job to who asks for [`stops`]. For a process that has one thread so far.
pub(super) fn leave_stop() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTSTP);
    if !ignores(Signal::SIGTSTP) {
        let _blocked = set.thread_block();
    }
}

/// Those that stop a job, as they come; none where nobody here has taken them.
pub(super) fn stops() -> Option<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTSTP);
    let is_taken = SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(Signal::SIGTSTP));
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let coming = is_taken.then(|| SignalFd::with_flags(&set, flags).ok());
    coming.flatten()
}

/// Stops this process as ^Z does, until it is told to go on.
pub(super) fn stop() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTSTP);
    // It is blocked in all other threads, so that it comes here. An orphaned job is not stopped by it.
    if raise(Signal::SIGTSTP).is_ok() && set.thread_unblock().is_ok() {
        let _blocked = set.thread_block();
    }
}

fn ignores(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    mask(&status, "SigIgn:") >> (signal as i32 - 1) & 1 == 1
}

/// The signals, as bits, that wait for a process as a whole.
pub(super) fn pending(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    mask(&status, "ShdPnd:")
}

/// A line of proc_pid_status(5).
fn mask(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001000\n";
        assert_eq!(mask(status, "SigIgn:"), 1 << (Signal::SIGPIPE as i32 - 1));
        assert_eq!(mask("", "SigIgn:"), 0);
    }
}
