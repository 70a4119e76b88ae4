//! Threads that take turns at one task, of which only one may be at it at a time (leader and followers).
//!
//! When the leader finds work that may take long it gives the lead away and does the work itself, at once
//! and on the CPU where it is: the follower that is woken for the lead is not waited for by anybody. There
//! is always a follower, made when needed, so a worker that blocks never holds up the task.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What one turn at the task came to.
pub(crate) enum Turn {
    /// Take another.
    Again,
    /// Work to be done aside from the task.
    Aside(Box<dyn FnOnce()>),
    /// There is no more to do, for all.
    Over,
}

/// How long a follower waits before it leaves, if it is not the only one.
const IDLE: Duration = Duration::from_secs(5);

/// How long the last leader may take to see that the task is over.
const SEE_THE_END: Duration = Duration::from_secs(1);

type Task = dyn Fn() -> Turn + Send + Sync;

/// A handle on the threads.
pub(crate) struct Crew(Arc<Shared>);

struct Shared {
    name: &'static str,
    /// What each thread does first.
    prepare: fn(),
    task: Box<Task>,
    state: Mutex<State>,
    /// The lead is free, or the task over.
    free: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    led: bool,
    idle: usize,
    threads: usize,
    over: bool,
}

impl Crew {
    /// Starts with one thread. Each thread begins with `prepare`.
    pub(crate) fn start(
        name: &'static str,
        prepare: fn(),
        task: impl Fn() -> Turn + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (state, free, ended) = Default::default();
        let shared = Arc::new(Shared {
            name,
            prepare,
            task: Box::new(task),
            state,
            free,
            ended,
        });
        shared.clone().enlist()?;
        Ok(Self(shared))
    }

    /// Waits until the task is over and no work is left. To be called when it must soon be over.
    pub(crate) fn finish(&self) {
        let shared = &*self.0;
        let (mut state, _) = shared
            .ended
            .wait_timeout_while(shared.lock(), SEE_THE_END, |s| !s.over)
            .unwrap_or_else(PoisonError::into_inner);
        // A leader that does not see the end (Linux before 6.11 can lose it) is left where it waits.
        let stuck = usize::from(!state.over);
        state.over = true;
        shared.free.notify_all();
        let done = shared.ended.wait_while(state, |s| s.threads > stuck);
        drop(done);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enlist(self: Arc<Self>) -> io::Result<()> {
        self.lock().threads += 1;
        let shared = self.clone();
        let started = thread::Builder::new()
            .name(self.name.into())
            .spawn(move || {
                (shared.prepare)();
                shared.serve();
            });
        if let Err(error) = started {
            self.lock().threads -= 1;
            return Err(error);
        }
        Ok(())
    }

    fn serve(self: Arc<Self>) {
        while self.take_the_lead() {
            while let Some(work) = self.lead() {
                let leads = !self.clone().hand_over();
                catch_unwind(AssertUnwindSafe(work)).ok();
                if !leads {
                    break;
                }
            }
        }
        self.lock().threads -= 1;
        self.ended.notify_all();
    }

    /// Does turns until one comes to work to be done aside. `None`: the task is over.
    fn lead(&self) -> Option<Box<dyn FnOnce()>> {
        loop {
            match (self.task)() {
                Turn::Again => {}
                Turn::Aside(work) => return Some(work),
                Turn::Over => {
                    self.lock().over = true;
                    self.free.notify_all();
                    return None;
                }
            }
        }
    }

    /// Waits for the lead. False: the task is over, or there are followers enough.
    fn take_the_lead(&self) -> bool {
        let mut state = self.lock();
        state.idle += 1;
        loop {
            let waited = self
                .free
                .wait_timeout_while(state, IDLE, |s| s.led && !s.over);
            let timeout;
            (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if !timeout.timed_out() || state.over || state.idle > 1 {
                break;
            }
        }
        state.idle -= 1;
        let free = !state.led && !state.over;
        state.led |= free;
        free
    }

    /// Gives the lead to a follower. False if there is none to be had: then it is still ours.
    fn hand_over(self: Arc<Self>) -> bool {
        let mut state = self.lock();
        state.led = false;
        let idle = state.idle;
        drop(state);
        if idle > 0 {
            self.free.notify_one();
            return true;
        }
        if self.clone().enlist().is_ok() {
            return true;
        }
        // Nobody but a thread that has just ended its work can have taken it.
        let mut state = self.lock();
        let ours = !state.led;
        state.led = true;
        !ours
    }
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn work_that_waits_for_later_turns_gets_through() {
        const LAST: usize = 50;
        let (send, receive) = mpsc::channel();
        let channels: Vec<_> = (0..=LAST).map(|_| mpsc::channel::<usize>()).collect();
        let (tell, hear): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
        let state = Mutex::new((0, hear.into_iter()));
        let task = move || {
            let mut state = state.lock().unwrap();
            let turn = state.0;
            state.0 += 1;
            let Some(before) = state.1.next() else {
                return Turn::Over;
            };
            // Each work waits for that of the next turn; the last one has nobody to wait for.
            let (tell, send) = (tell.clone(), send.clone());
            Turn::Aside(Box::new(move || {
                let got = if turn == LAST {
                    1
                } else {
                    before.recv().unwrap() + 1
                };
                match turn.checked_sub(1) {
                    Some(to) => tell[to].send(got).unwrap(),
                    None => send.send(got).unwrap(),
                }
            }))
        };
        let crew = Crew::start("crew", || {}, task).unwrap();
        assert_eq!(receive.recv().unwrap(), LAST + 1);
        crew.finish();
    }

    #[test]
    fn turns_are_in_order_and_a_panic_ends_only_its_work() {
        let (send, receive) = mpsc::channel();
        let turns = Mutex::new(0..100);
        let task = move || match turns.lock().unwrap().next() {
            None => Turn::Over,
            Some(n) if n % 3 == 0 => {
                send.send(n).unwrap();
                Turn::Aside(Box::new(move || assert!(n % 2 == 0, "on purpose")))
            }
            Some(n) => {
                send.send(n).unwrap();
                Turn::Again
            }
        };
        let crew = Crew::start("crew", || {}, task).unwrap();
        crew.finish();
        drop(crew);
        assert!(receive.iter().eq(0..100));
    }
}
