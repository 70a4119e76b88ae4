//! A thread for everyone who may block: a pool that grows when no thread is idle.
//!
//! A worker may wait for something that only another worker's decision brings about (a full pipe whose
//! reader is itself waiting for its exec), so the number of threads must not be bounded by anything
//! but the number of stopped threads of the build.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// How long a thread waits for more work before it ends.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Default)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a job in the queue.
    ready: Condvar,
    /// A job has ended.
    ended: Condvar,
}

/// INVARIANT: `queue.len() <= idle`, so that every queued job has a thread that will take it.
#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    idle: usize,
    unfinished: usize,
}

impl Pool {
    /// Runs `job` soon, whatever other jobs are waiting for. A panic in it ends only the job.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        state.unfinished += 1;
        let job: Job = Box::new(job);
        if state.queue.len() < state.idle {
            state.queue.push_back(job);
            drop(state);
            self.0.ready.notify_one();
            return;
        }
        drop(state);
        let slot = Arc::new(Mutex::new(Some(job)));
        let (shared, first) = (self.0.clone(), slot.clone());
        let spawned = thread::Builder::new()
            .name("rfs-worker".into())
            .spawn(move || shared.work(take(&first)));
        if spawned.is_err() {
            // No thread to be had: better to hold up the others than never to answer.
            if let Some(job) = take(&slot) {
                self.0.perform(job);
            }
        }
    }

    /// Waits until every job given so far has ended.
    pub(crate) fn finish(&self) {
        let state = self.0.lock();
        let done = self.0.ended.wait_while(state, |s| s.unfinished > 0);
        drop(done);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, first: Option<Job>) {
        let mut next = first;
        while let Some(job) = next {
            self.perform(job);
            next = self.next();
        }
    }

    fn perform(&self, job: Job) {
        drop(catch_unwind(AssertUnwindSafe(job)));
        self.lock().unfinished -= 1;
        self.ended.notify_all();
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        state.idle += 1;
        let (mut state, _) = self
            .ready
            .wait_timeout_while(state, IDLE, |s| s.queue.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        state.queue.pop_front()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

fn take(slot: &Mutex<Option<Job>>) -> Option<Job> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_chain_of_jobs_that_wait_for_later_ones_gets_through() {
        let pool = Pool::default();
        let (tell, told) = mpsc::channel();
        let mut last = tell;
        for _ in 0..50 {
            let (send, receive) = mpsc::channel();
            let before = std::mem::replace(&mut last, send);
            pool.run(move || before.send(receive.recv().unwrap()).unwrap());
        }
        last.send(7).unwrap();
        assert_eq!(told.recv().unwrap(), 7);
        pool.finish();
    }

    #[test]
    fn a_panic_ends_only_its_job() {
        let pool = Pool::default();
        let (tell, told) = mpsc::channel();
        for n in 0..20 {
            let tell = tell.clone();
            pool.run(move || {
                assert!(n % 2 == 0, "on purpose");
                tell.send(n).unwrap();
            });
        }
        pool.finish();
        drop(tell);
        let mut seen: Vec<i32> = told.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
    }
}
