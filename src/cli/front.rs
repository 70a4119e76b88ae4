//! The front: the process that the user started and whose end the user sees. It passes signals on to the
//! command and ends as the command has ended.
//!
//! Of the signals that a terminal sends the command gets its own, being in the same process group. One
//! that a process has sent is passed on, unless it went to the whole group, which is seen by the host
//! having it too. The host never takes any, so that this is told once for each signal; of a later one it
//! cannot be told, and one too many is better than none.

use super::signals::{self, Taken};
use super::wire::{End, Failure, Word};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp, getpid, getsid};
use std::cell::Cell;
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

/// Follows the build of a host, a child of ours, to its end. `started` is called once when the command
/// runs. No process of ours is left when the command did not run or was lost.
pub(super) fn follow(
    host: Pid,
    wire: &End,
    taken: &Taken,
    started: impl FnOnce(),
) -> io::Result<Outcome> {
    // Where the host dies, what it leaves behind becomes ours.
    let _is_kept = set_child_subreaper(true);
    let front = Front {
        host,
        wire,
        taken,
        of_group: Cell::new(0),
    };
    let outcome = front.follow(started);
    let _was_kept = set_child_subreaper(false);
    outcome
}

/// How long the host may take to end when it has said its last word.
const LEAVE_MS: u8 = 50;
/// How long a dead host's processes may take to be killed by the reaper.
const KILL_MS: u16 = 2_000;

struct Front<'a> {
    host: Pid,
    wire: &'a End,
    taken: &'a Taken,
    /// The signals, as bits, that the host has got with the group.
    of_group: Cell<u64>,
}

impl Front<'_> {
    fn follow(&self, started: impl FnOnce()) -> io::Result<Outcome> {
        let mut started = Some(started);
        let mut command = None;
        loop {
            let (has_word, has_signal) = self.next()?;
            if has_word {
                match self.wire.hear()? {
                    Some(Word::Started(pid)) => {
                        command = Some(Pid::from_raw(pid));
                        if let Some(started) = started.take() {
                            started();
                        }
                    }
                    Some(last) => return self.over(last),
                    None => {
                        let status = self.end()?;
                        return self.lost(status);
                    }
                }
            } else if has_signal {
                while let Some((signal, code)) = self.signal()? {
                    if signal == Signal::SIGCHLD {
                        // Its end of the wire may live on in a process that it has forked.
                        if let Some(status) = self.ended()? {
                            return self.last_word(status);
                        }
                    } else if !self.pass_on(signal, code, command) {
                        if command.is_none() {
                            self.kill()?;
                        }
                        return Ok(Outcome::Interrupted(signal));
                    }
                }
            }
        }
    }

    /// Waits: whether the host has something to say, whether a signal has come.
    fn next(&self) -> io::Result<(bool, bool)> {
        let mut fds = [
            PollFd::new(self.wire.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.taken.coming.as_fd(), PollFlags::POLLIN),
        ];
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => return Ok((fds[0].any() != Some(false), fds[1].any() != Some(false))),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The next signal that has come, with how it was sent.
    fn signal(&self) -> io::Result<Option<(Signal, i32)>> {
        let Some(info) = self.taken.coming.read_signal()? else {
            return Ok(None);
        };
        let number = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
        Ok(Some((Signal::try_from(number)?, info.ssi_code)))
    }

    /// The host has said how it ends.
    fn over(&self, last: Word) -> io::Result<Outcome> {
        let left = self.wait_children(Some(self.host), PollTimeout::from(LEAVE_MS))?;
        let outcome = match last {
            Word::Exited(status) => Outcome::Exited(status),
            Word::Died(signal) => Outcome::Died(signal),
            Word::Failed(failure) => Outcome::Failed(failure),
            Word::Lost(reason) => Outcome::Lost(reason),
            Word::Started(_) => Outcome::Lost("the host has said twice that it runs".to_owned()),
        };
        match outcome {
            // What the build has left in the background goes on under the host.
            Outcome::Exited(_) | Outcome::Died(_) | Outcome::Interrupted(_) => {}
            Outcome::Failed(_) | Outcome::Lost(_) => {
                if !left {
                    self.kill()?;
                }
            }
        }
        Ok(outcome)
    }

    /// The host has ended: what it has said before counts.
    fn last_word(&self, status: WaitStatus) -> io::Result<Outcome> {
        let mut fds = [PollFd::new(self.wire.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::ZERO)? > 0 {
            match self.wire.hear()? {
                Some(Word::Started(_)) => {}
                Some(Word::Exited(status)) => return Ok(Outcome::Exited(status)),
                Some(Word::Died(signal)) => return Ok(Outcome::Died(signal)),
                Some(Word::Failed(failure)) => return Ok(Outcome::Failed(failure)),
                Some(Word::Lost(reason)) => return Ok(Outcome::Lost(reason)),
                None => break,
            }
        }
        self.lost(status)
    }

    /// The host has ended without a word. Its reaper kills the build.
    fn lost(&self, status: WaitStatus) -> io::Result<Outcome> {
        self.wait_children(None, PollTimeout::from(KILL_MS))?;
        Ok(Outcome::Lost(describe(status)))
    }

    /// Ends the host and, by its reaper, the build.
    fn kill(&self) -> io::Result<()> {
        let _gone = kill(self.host, Signal::SIGKILL);
        self.end()?;
        self.wait_children(None, PollTimeout::from(KILL_MS))?;
        Ok(())
    }

    /// Waits until this child, or all children, have ended; `false` when none ends for this long.
    fn wait_children(&self, child: Option<Pid>, patience: PollTimeout) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.taken.coming.as_fd(), PollFlags::POLLIN)];
        loop {
            // There is no command any more that a signal could be for. One that comes after this ends
            // the poll below, so that no end of a child is missed.
            while self.signal()?.is_some() {}
            match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(_) if child.is_none() => continue,
                Ok(_) | Err(Errno::ECHILD) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
            if poll(&mut fds, patience)? == 0 {
                return Ok(false);
            }
        }
    }

    /// Whether the host has ended.
    fn ended(&self) -> io::Result<Option<WaitStatus>> {
        let status = waitpid(self.host, Some(WaitPidFlag::WNOHANG))?;
        Ok((status != WaitStatus::StillAlive).then_some(status))
    }

    /// Waits until the host has ended.
    fn end(&self) -> io::Result<WaitStatus> {
        loop {
            match waitpid(self.host, None) {
                Ok(status) => return Ok(status),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Passes a signal on, unless the command has got it too. `false` when there is no command: not yet,
    /// or no more.
    fn pass_on(&self, signal: Signal, code: i32, command: Option<Pid>) -> bool {
        let Some(command) = command else {
            return false;
        };
        let sent = if self.has_it(signal, code, command) {
            kill(command, None)
        } else {
            kill(command, signal)
        };
        sent != Err(Errno::ESRCH)
    }

    /// Whether the command has got this signal with us, by a terminal or a process that sent it to our
    /// group. The kernel serves the youngest of a group first, so that host and command have it by now.
    fn has_it(&self, signal: Signal, code: i32, command: Pid) -> bool {
        let group = Ok(getpgrp());
        if getpgid(Some(command)) != group {
            return false;
        }
        if code == libc::SI_KERNEL {
            // A terminal that is closed tells the leader of its session alone.
            return signal != Signal::SIGHUP || getsid(None) != Ok(getpid());
        }
        let bit = 1 << (signal as u32 - 1);
        let known = self.of_group.get();
        let pending = getpgid(Some(self.host)) == group && signals::pending(self.host) & bit != 0;
        if pending {
            self.of_group.set(known | bit);
        }
        pending && known & bit == 0
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
