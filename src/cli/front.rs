//! The front: the process that the user started and whose end the user sees. It passes signals on to the
//! command and ends as the command has ended.
//!
//! Of the signals that a terminal sends the command gets its own, being in the same process group. One
//! that a process has sent is passed on: whether it went to the whole group cannot be told, and one too
//! many is better than none.

use super::signals::Taken;
use super::wire::{End, Failure, Word};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};
use std::io;
use std::os::fd::AsFd;

/// How the build has ended, as far as the front can tell.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The command has exited with this status.
    Exited(i32),
    /// The command has died by this signal.
    Died(i32),
    /// The command did not run.
    Failed(Failure),
    /// A signal came when there was no command to pass it on to.
    Interrupted(Signal),
    /// Sight of the command was lost, for this reason.
    Lost(String),
}

/// Follows the build to its end. `started` is called once when the command runs.
pub(super) fn follow(
    host: Pid,
    wire: &End,
    taken: &Taken,
    started: impl FnOnce(),
) -> io::Result<Outcome> {
    let mut started = Some(started);
    let mut command = None;
    loop {
        let (word, signal) = next(wire, taken)?;
        if word {
            match wire.hear()? {
                Some(Word::Started(pid)) => {
                    command = Some(Pid::from_raw(pid));
                    if let Some(started) = started.take() {
                        started();
                    }
                }
                Some(last) => {
                    // The outcome is known, whatever becomes of the host.
                    let _gone = see_off(host, taken);
                    return Ok(outcome(last));
                }
                None => return Ok(Outcome::Lost(describe(end(host)?))),
            }
        } else if signal {
            while let Some(info) = taken.coming.read_signal()? {
                let Ok(signal) =
                    i32::try_from(info.ssi_signo).map_or(Err(Errno::EINVAL), Signal::try_from)
                else {
                    continue;
                };
                if signal == Signal::SIGCHLD {
                    // A copy of the host's end may live on in a process that the host has forked.
                    if let Some(status) = ended(host)? {
                        return last_word(wire, status);
                    }
                } else if !pass_on(signal, info.ssi_code, command) {
                    if command.is_none() {
                        let _gone = kill(host, Signal::SIGKILL);
                        end(host)?;
                    }
                    return Ok(Outcome::Interrupted(signal));
                }
            }
        }
    }
}

/// How the host has ended, in words.
fn describe(how: WaitStatus) -> String {
    match how {
        WaitStatus::Exited(_, status) => format!("its host ended with exit status {status}"),
        WaitStatus::Signaled(_, signal, _) => format!("its host was killed by {signal}"),
        WaitStatus::Stopped(..)
        | WaitStatus::PtraceEvent(..)
        | WaitStatus::PtraceSyscall(_)
        | WaitStatus::Continued(_)
        | WaitStatus::StillAlive => "its host still runs".to_owned(),
    }
}

/// Waits: whether the host has something to say, whether a signal has come. Words first.
fn next(wire: &End, taken: &Taken) -> io::Result<(bool, bool)> {
    let mut fds = [
        PollFd::new(wire.as_fd(), PollFlags::POLLIN),
        PollFd::new(taken.coming.as_fd(), PollFlags::POLLIN),
    ];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return Ok((fds[0].any().unwrap_or(true), fds[1].any().unwrap_or(true))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Passes a signal on, unless the terminal has sent it to the command too. `false` when there is no
/// command: not yet, or no more.
fn pass_on(signal: Signal, code: i32, command: Option<Pid>) -> bool {
    let Some(command) = command else {
        return false;
    };
    let from_terminal = code == libc::SI_KERNEL && getpgid(Some(command)) == Ok(getpgrp());
    let sent = if from_terminal {
        kill(command, None)
    } else {
        kill(command, signal)
    };
    sent != Err(Errno::ESRCH)
}

/// Waits a moment for the host to end when it has said its last word: as a rule nothing keeps it, and then
/// no process of ours and no mount outlives us, nor a dead one where nobody reaps orphans.
fn see_off(host: Pid, taken: &Taken) -> io::Result<()> {
    const MS: u8 = 50;
    let mut fds = [PollFd::new(taken.coming.as_fd(), PollFlags::POLLIN)];
    while ended(host)?.is_none() {
        // Any other signal is for the command, which has ended.
        while taken.coming.read_signal()?.is_some() {}
        if ended(host)?.is_some() || poll(&mut fds, PollTimeout::from(MS))? == 0 {
            break;
        }
    }
    Ok(())
}

/// The host has ended: what it has said before counts.
fn last_word(wire: &End, status: WaitStatus) -> io::Result<Outcome> {
    let mut fds = [PollFd::new(wire.as_fd(), PollFlags::POLLIN)];
    while poll(&mut fds, PollTimeout::ZERO)? > 0 {
        match wire.hear()? {
            Some(Word::Started(_)) => {}
            Some(last) => return Ok(outcome(last)),
            None => break,
        }
    }
    Ok(Outcome::Lost(describe(status)))
}

fn outcome(last: Word) -> Outcome {
    match last {
        Word::Exited(status) => Outcome::Exited(status),
        Word::Died(signal) => Outcome::Died(signal),
        Word::Failed(failure) => Outcome::Failed(failure),
        Word::Lost(reason) => Outcome::Lost(reason),
        Word::Started(_) => Outcome::Lost("the host has said it twice".to_owned()),
    }
}

/// Whether the host has ended.
fn ended(host: Pid) -> io::Result<Option<WaitStatus>> {
    let status = waitpid(host, Some(WaitPidFlag::WNOHANG))?;
    Ok((status != WaitStatus::StillAlive).then_some(status))
}

/// Waits until the host has ended.
fn end(host: Pid) -> io::Result<WaitStatus> {
    loop {
        match waitpid(host, None) {
            Ok(status) => return Ok(status),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
