//! The process between the host and the command: adopts, reaps, and cleans up after a dead host.
//!
//! It has one thread, blocks all signals and holds no descriptor but its line, so that nothing a build
//! does can disturb it and it keeps nothing alive. It knows nothing of calls.

use crate::line::{Line, Message};
use crate::ptrace::{self, Change, Whom};
use crate::spawn::Error;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use std::fs;
use std::os::fd::AsFd;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// The host's side of a reaper. Dropping it kills whatever is left of the command.
#[derive(Debug)]
pub(crate) struct Handle {
    pid: i32,
    command: i32,
    line: Option<Line>,
}

impl Handle {
    /// Takes the reaper that has just been forked, and learns the command's process id from it.
    pub(crate) fn new(pid: i32, line: Line) -> Result<Self, Error> {
        let mut handle = Self {
            pid,
            command: 0,
            line: Some(line),
        };
        match handle.line.as_ref().map(Line::receive) {
            Some(Ok(Some(Message::Forked(command)))) if command > 0 => handle.command = command,
            Some(Ok(Some(Message::Forked(errno)))) => {
                let source = std::io::Error::from_raw_os_error(-errno);
                return Err(Error::Sys {
                    call: "fork",
                    source,
                });
            }
            Some(Ok(_) | Err(_)) | None => return Err(Error::Lost),
        }
        Ok(handle)
    }

    pub(crate) fn command(&self) -> i32 {
        self.command
    }

    /// Waits for the end of the command.
    pub(crate) fn wait(&self) -> Result<Ended, Error> {
        match self.line.as_ref().map(Line::receive) {
            Some(Ok(Some(Message::Ended(ended)))) => Ok(ended),
            Some(Ok(_) | Err(_)) | None => Err(Error::Lost),
        }
    }

    /// Waits until no descendant of the reaper is left.
    pub(crate) fn drain(&self) {
        while let Some(Ok(Some(_))) = self.line.as_ref().map(Line::receive) {}
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.line.take());
        while let Err(e) = ptrace::wait(Whom::Tid(self.pid), true) {
            if e.raw_os_error() != Some(libc::EINTR) {
                break;
            }
        }
    }
}

/// Life of the reaper, from the fork of the command on. All signals are blocked. Returns its exit status.
pub(crate) fn main(line: &Line, command: Result<i32, Errno>) -> i32 {
    line.close_others();
    let command = match command {
        Ok(pid) => pid,
        Err(errno) => {
            line.send(&Message::Forked(-(errno as i32)), 0).ok();
            return 1;
        }
    };
    nix::unistd::chdir("/").ok();
    // Who kills the whole process group leaves us to clean up after it.
    nix::unistd::setsid().ok();
    nix::sys::prctl::set_name(c"rfs-reaper").ok();
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let mut alive = Some(command);
    let watched = nix::sys::prctl::set_child_subreaper(true)
        .and_then(|()| SignalFd::new(&children))
        .and_then(|signals| {
            line.send(&Message::Forked(command), 0)?;
            watch(line, &signals, &mut alive)
        });
    if watched.is_err() {
        kill_all(&mut alive);
    }
    0
}

/// Reaps until nothing is left (`Ok`) or the host is gone (`Err`). `alive` is the command until reaped.
fn watch(line: &Line, signals: &SignalFd, alive: &mut Option<i32>) -> Result<(), Errno> {
    loop {
        loop {
            match ptrace::wait(Whom::Child, false) {
                Ok(Some((pid, change))) if Some(pid) == *alive => {
                    *alive = None;
                    tell(line, change)?;
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                // ECHILD: the last descendant has ended.
                Err(_) => return Ok(()),
            }
        }
        let mut fds = [
            PollFd::new(line.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::NONE)?;
        if fds[0].any() != Some(false) {
            return Err(Errno::EPIPE);
        }
        signals.read_signal().ok();
    }
}

fn tell(line: &Line, change: Change) -> Result<(), Errno> {
    let ended = match change {
        Change::Exited(status) => Ended::Exit(status),
        Change::Killed(signal) => Ended::Signal(signal),
        Change::Stopped(..) | Change::Continued => return Ok(()),
    };
    line.send(&Message::Ended(ended), 0)
}

/// Kills all descendants. Those of a dead child become ours, so this ends with the last of them.
fn kill_all(alive: &mut Option<i32>) {
    loop {
        // Without /proc only the command is known.
        let listed = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        let children = listed
            .split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok());
        for pid in children.chain(*alive) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        match ptrace::wait(Whom::Child, true) {
            Ok(Some((pid, _))) if Some(pid) == *alive => *alive = None,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
