//! Receives calls while the thread that waits at the listener (the leader) decides about another one.
//!
//! A call that has been received waits for its answer whatever signals come (`WAIT_KILLABLE_RECV`); one that
//! has not is interrupted by them, and a handler without `SA_RESTART` then makes stat(2) fail with EINTR. So
//! nothing may wait to be received for as long as it takes to decide about the calls before it. While the
//! leader is not busy the assistants sleep: it is woken directly, on the caller's own CPU.

use crate::seccomp::{Listener, Notice};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was received while the leader was busy.
pub(crate) struct Standby {
    listener: Arc<Listener>,
    epoll: Epoll,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The leader decides, so the assistants receive.
    busy: bool,
    received: VecDeque<Notice>,
    pace: Pace,
}

/// How calls come: one after the other, as from one process at a time, or several at once. While they come one
/// after the other, caller and leader do best on one CPU; several callers would all end there.
struct Pace {
    /// How many calls the leader has received since the last one that came while it was busy.
    alone: u32,
    /// So many are taken for one process at a time.
    enough: u32,
}

const LEAST: u32 = 25;
const MOST: u32 = 400;

impl Default for Pace {
    fn default() -> Self {
        Self {
            alone: 0,
            enough: LEAST,
        }
    }
}

impl Pace {
    /// The leader receives a call. Whether from now on they are taken to come one after the other.
    fn one(&mut self) -> bool {
        self.alone = self.alone.saturating_add(1);
        self.alone == self.enough
    }

    /// A call came while the leader was busy. Whether they were taken to come one after the other. Who was
    /// wrong in that is more careful next time.
    fn another(&mut self) -> bool {
        let was = self.alone >= self.enough;
        if was {
            let lasted = self.alone - self.enough;
            self.enough = match lasted < 4 * self.enough {
                true => self.enough.saturating_mul(2).min(MOST),
                false => (self.enough / 2).max(LEAST),
            };
        }
        self.alone = 0;
        was
    }
}

impl Standby {
    pub(crate) fn new(listener: Arc<Listener>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(listener.as_fd(), EpollEvent::new(EpollFlags::empty(), 0))?;
        Ok(Self {
            listener,
            epoll,
            state: Mutex::default(),
        })
    }

    /// The leader has received a call: from now on, until [`Self::rest`] or [`Self::next`], others' calls
    /// are received here.
    pub(crate) fn busy(&self) {
        let mut state = self.lock();
        state.busy = true;
        if state.pace.one() {
            // Linux before 6.6 cannot; it only costs time.
            let _slower = self.listener.sync_wake_up(true);
        }
        self.watch(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT);
    }

    /// The leader's decision is taken. To be called before it is told: whose call it was may make the next
    /// one at once, which is better received by the leader.
    pub(crate) fn rest(&self) {
        let mut state = self.lock();
        if state.busy && state.received.is_empty() {
            state.busy = false;
            self.watch(EpollFlags::empty());
        }
    }

    /// The next call that was received ahead, for the leader. With `None` it is to receive by itself.
    pub(crate) fn next(&self) -> Option<Notice> {
        let mut state = self.lock();
        let next = state.received.pop_front();
        if next.is_none() && state.busy {
            state.busy = false;
            self.watch(EpollFlags::empty());
        }
        next
    }

    /// Waits for a call, for an assistant. `None`: no process has the filter any more.
    pub(crate) fn wait(&self) -> Option<Notice> {
        let mut events = [EpollEvent::empty()];
        loop {
            if let Some(notice) = self.lock().received.pop_front() {
                return Some(notice);
            }
            match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(_) if events[0].events().contains(EpollFlags::EPOLLHUP) => {
                    // It is told once only, but to all.
                    self.watch(EpollFlags::empty());
                    return None;
                }
                Ok(_) => self.receive(),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Receives all that waits, unless the leader is about to do so.
    fn receive(&self) {
        let mut state = self.lock();
        while state.busy && self.is_waiting() {
            match self.listener.receive() {
                Ok(Some(notice)) => {
                    if state.pace.another() {
                        let _as_before = self.listener.sync_wake_up(false);
                    }
                    state.received.push_back(notice);
                }
                Ok(None) => {}
                Err(_) => return,
            }
        }
        if state.busy {
            self.watch(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT);
        }
    }

    fn is_waiting(&self) -> bool {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
            && fds[0]
                .revents()
                .is_some_and(|seen| seen == PollFlags::POLLIN)
    }

    /// What wakes an assistant; the end of all processes does anyway.
    fn watch(&self, flags: EpollFlags) {
        let mut event = EpollEvent::new(flags, 0);
        // It fails only when the listener is gone, and then there is nothing to watch.
        let _gone = self.epoll.modify(self.listener.as_fd(), &mut event);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On a busy machine what is received late is interrupted, so these threads go before those of the build,
/// where that is allowed.
pub(crate) fn hasten() {
    use rustix::process::{getpriority_process, setpriority_process};
    let Ok(nice) = getpriority_process(None) else {
        return;
    };
    let _not_allowed = setpriority_process(None, (nice - 10).max(-20));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_wrong_about_the_pace_waits_longer() {
        let mut pace = Pace::default();
        let run = |pace: &mut Pace, calls: u32| (0..calls).filter(|_| pace.one()).count();
        assert_eq!(run(&mut pace, LEAST - 1), 0);
        assert!(!pace.another() && pace.enough == LEAST);
        assert_eq!(run(&mut pace, LEAST + 1), 1);
        assert!(pace.another() && pace.enough == 2 * LEAST);
        assert_eq!(run(&mut pace, 20 * LEAST), 1);
        assert!(pace.another() && pace.enough == LEAST);
        for _ in 0..10 {
            let calls = pace.enough + 1;
            run(&mut pace, calls);
            pace.another();
        }
        assert_eq!(pace.enough, MOST);
    }
}
