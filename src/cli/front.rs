//! The front: the process that the user started and whose end the user sees. It passes signals on to the
//! command and ends as the command has ended.
//!
//! Of the signals that a terminal sends the command gets its own, being in the same process group. One
//! that a process has sent is passed on, unless it went to the whole group, which is seen by the host
//! having it too. The host never takes any, so that this is told once for each signal; of a later one it
//! cannot be told, and one too many is better than none.
//!
//! Host and front are not told at once that the command runs or has ended: one that comes just then is the
//! command's as long as that may be, whose end alone says what it made of it.

use super::signals::{self, Taken};
use super::wire::{End, Failure, Word};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp, getpid, getsid};
use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

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
        command: Cell::new(None),
        of_group: Cell::new(0),
        came_late: Cell::new(false),
    };
    let outcome = front.follow(started);
    let _was_kept = set_child_subreaper(false);
    outcome
}

/// How long the host may take, when there is a signal for the command, to say that this runs.
const START_MS: u16 = 1_000;
/// How long the host may take to end when it has said its last word.
const LEAVE_MS: u8 = 50;
/// How long the host may take to stop.
const STOP: Duration = Duration::from_millis(500);
/// How long a dead host's processes may take to be killed by the reaper.
const KILL_MS: u16 = 2_000;

struct Front<'a> {
    host: Pid,
    wire: &'a End,
    taken: &'a Taken,
    /// Once the host has said that it runs.
    command: Cell<Option<Pid>>,
    /// The signals, as bits, that the host has got with the group.
    of_group: Cell<u64>,
    /// Whether a signal has come for a command that was gone.
    came_late: Cell<bool>,
}

impl Front<'_> {
    fn follow(&self, started: impl FnOnce()) -> io::Result<Outcome> {
        let mut started = Some(started);
        loop {
            let (has_word, has_signal) = self.next()?;
            let outcome = match (has_word, has_signal) {
                (true, _) => self.hear(&mut started)?,
                (false, true) => self.heed(&mut started)?,
                (false, false) => None,
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
    }

    /// The host has something to say.
    fn hear(&self, started: &mut Option<impl FnOnce()>) -> io::Result<Option<Outcome>> {
        match self.wire.hear()? {
            Some(Word::Started(pid)) => {
                self.command.set(Some(Pid::from_raw(pid)));
                if let Some(started) = started.take() {
                    started();
                }
                Ok(None)
            }
            Some(last) => self.over(last).map(Some),
            None => {
                let status = self.end()?;
                self.lost(status).map(Some)
            }
        }
    }

    /// A signal has come.
    fn heed(&self, started: &mut Option<impl FnOnce()>) -> io::Result<Option<Outcome>> {
        let Some((signal, code)) = self.signal()? else {
            return Ok(None);
        };
        if signal == Signal::SIGCHLD {
            // Its end of the wire may live on in a process that it has forked.
            let ended = self.ended()?;
            return ended.map(|status| self.last_word(status)).transpose();
        }
        if signal == Signal::SIGTSTP {
            self.stop();
            return Ok(None);
        }
        if let Some(command) = self.command.get() {
            // One that finds no command may have been for the command, which has ended since: the host
            // will say how. Who sends another one does not want to wait for that.
            let heeded = self.pass_on(signal, code, command) || !self.came_late.replace(true);
            return Ok((!heeded).then_some(Outcome::Interrupted(signal)));
        }
        // The command may run already.
        let mut fds = [PollFd::new(self.wire.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, START_MS)? == 0 {
            self.kill()?;
            return Ok(Some(Outcome::Interrupted(signal)));
        }
        let outcome = self.hear(started)?;
        if matches!(outcome, Some(Outcome::Failed(_))) {
            // Nothing has run, and nothing is to.
            return Ok(Some(Outcome::Interrupted(signal)));
        }
        if let Some(command) = self.command.get() {
            let _gone = kill(command, signal);
        }
        Ok(outcome)
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

    /// Stops with the job, which a shell notices by us: after the host, which takes its line from the terminal first.
    fn stop(&self) {
        // Its end is for others to hear of.
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WSTOPPED;
        let is_on = || waitid(Id::Pid(self.host), flags) == Ok(WaitStatus::StillAlive);
        let begun = Instant::now();
        // What has come to us alone does not stop it.
        while is_on() && begun.elapsed() < STOP {
            thread::sleep(Duration::from_millis(1));
        }
        signals::stop();
    }

    /// Passes a signal on, unless the command has got it too. `false` when the command is no more.
    fn pass_on(&self, signal: Signal, code: i32, command: Pid) -> bool {
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

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;
    use nix::sys::signal::raise;
    use std::process::{Child, Command};
    use std::thread;

    fn child(argv: &[&str]) -> Child {
        Command::new(argv[0]).args(&argv[1..]).spawn().unwrap()
    }

    fn pid(child: &Child) -> Pid {
        Pid::from_raw(child.id().try_into().unwrap())
    }

    /// Follows a host that says `words`, after the first `before` of which a signal comes; it says the rest when the
    /// signal was heard.
    fn outcome(words: Vec<Word>, before: usize) -> Outcome {
        let mut host = child(&["sleep", "1000"]);
        let (front, other) = wire::pair().unwrap();
        let taken = Taken::take().unwrap();
        let mut words = words.into_iter();
        words
            .by_ref()
            .take(before)
            .for_each(|word| other.say(&word));
        raise(Signal::SIGUSR2).unwrap();
        let me = format!("/proc/self/task/{}/status", nix::unistd::gettid());
        let talker = thread::spawn(move || {
            let is_pending = || {
                let status = std::fs::read_to_string(&me).unwrap();
                let line = status.lines().find(|line| line.starts_with("SigPnd:"));
                line.is_some_and(|line| line.contains('8'))
            };
            while is_pending() {
                thread::yield_now();
            }
            words.for_each(|word| other.say(&word));
            other
        });
        let outcome = follow(pid(&host), &front, &taken, || {}).unwrap();
        let _other = talker.join().unwrap();
        taken.give_back();
        let _gone = host.kill().and_then(|()| host.wait());
        outcome
    }

    #[test]
    fn a_signal_for_a_command_that_has_ended_since_does_not_end_us() {
        let mut gone = child(&["true"]);
        let started = Word::Started(pid(&gone).as_raw());
        gone.wait().unwrap();
        let outcome = outcome(vec![started, Word::Exited(9)], 1);
        assert!(matches!(outcome, Outcome::Exited(9)), "{outcome:?}");
    }

    #[test]
    fn a_signal_reaches_a_command_that_runs_although_nobody_has_said_so() {
        use std::os::unix::process::ExitStatusExt;
        let mut command = child(&["sleep", "1000"]);
        let words = vec![Word::Started(pid(&command).as_raw()), Word::Exited(3)];
        let outcome = outcome(words, 0);
        assert!(matches!(outcome, Outcome::Exited(3)), "{outcome:?}");
        assert_eq!(
            command.wait().unwrap().signal(),
            Some(Signal::SIGUSR2 as i32)
        );
    }
}
