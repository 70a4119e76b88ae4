//! Holds a step back at its start until there is room for it: in memory, as far as it is known from its
//! records how much it needs, and under the machine's load.
//!
//! Nobody waits for ever. The first that needs room has it; a step inside one that has room has it too, since
//! that one waits for it; and when the whole build stands still, somebody who waits may be who the others wait
//! for (the writer of a pipe), so that the one that has waited longest goes on.

use super::Watch;
use super::close::alive;
use super::tool::Tool;
use super::usage::cpu_us;
use crate::base::policy::plain;
use rfs_tracer::event::Pid;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much room there is.
pub trait Room: Send + Sync + std::fmt::Debug {
    /// Bytes of memory for all steps together.
    fn bytes(&self) -> u64;

    /// Whether the machine has more to do already than it should.
    fn pressed(&self) -> bool;

    /// Whether the answer of [`Self::pressed`] can be yes.
    fn feels_pressure(&self) -> bool;
}

/// A step that needs less memory than this is not held, nor counted.
const SMALL: u64 = 32 << 20;
/// How often those who wait look again.
const LOOK: Duration = Duration::from_millis(100);
/// So many looks without any progress of the build, and somebody is let go.
const STILL: u32 = 10;
/// Processor time between two looks that is no progress, in microseconds.
const NOTHING: u64 = 2_000;

/// Who has room, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Hold {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By the first process of a step, the bytes that it may need.
    given: BTreeMap<Pid, u64>,
    /// First processes, the one that has waited longest first.
    waiting: VecDeque<Pid>,
}

impl Hold {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process has ended.
    pub(super) fn leave(&self, pid: Pid) {
        if self.state().given.remove(&pid).is_some() {
            self.changed.notify_all();
        }
    }
}

impl Watch {
    /// Waits until there is room for a program that is about to start in a process of the step `parent` and
    /// that needed `bytes` of memory the last time.
    pub(super) fn wait_for_room(&self, pid: Pid, parent: Option<usize>, tool: &Tool, bytes: u64) {
        let Some(room) = &self.config.room else {
            return;
        };
        let computes = || {
            let name = plain(&tool.name);
            room.feels_pressure() && self.config.policy.pin.iter().any(|known| known == name)
        };
        if (bytes < SMALL && !computes()) || self.is_inside(parent) {
            return;
        }
        let mut still = 0;
        let mut progress = None;
        let mut state = self.hold.state();
        state.waiting.push_back(pid);
        loop {
            let given: u64 = state.given.values().sum();
            let fits = || given.saturating_add(bytes) <= room.bytes() && !room.pressed();
            let first = state.waiting.front() == Some(&pid);
            if state.given.is_empty() || (still >= STILL && first) || fits() {
                state.given.insert(pid, bytes);
                break;
            }
            let waited = self.hold.changed.wait_timeout(state, LOOK);
            let timed_out;
            (state, timed_out) = match waited {
                Ok((state, how)) => (state, how.timed_out()),
                Err(poisoned) => (poisoned.into_inner().0, true),
            };
            if timed_out {
                drop(state);
                let now = self.progress();
                still = match progress {
                    Some(before) if !is_progress(before, now) => still + 1,
                    _ => 0,
                };
                progress = Some(now);
                let gone = !alive(pid);
                state = self.hold.state();
                if gone {
                    break;
                }
            }
        }
        state.waiting.retain(|waiting| *waiting != pid);
    }

    /// Whether a step is or lies in one that has room.
    fn is_inside(&self, parent: Option<usize>) -> bool {
        let Some(parent) = parent else {
            return false;
        };
        let model = self.model();
        let first: Vec<Pid> = model
            .chain(parent)
            .into_iter()
            .map(|at| model.steps[at].pid)
            .collect();
        drop(model);
        let state = self.hold.state();
        first.iter().any(|pid| state.given.contains_key(pid))
    }

    /// What all processes of the build have done so far: steps started, processor time, and whether one of
    /// them waits for a disk.
    fn progress(&self) -> (usize, u64, bool) {
        let model = self.model();
        let n_steps = model.steps.len();
        let ended: u64 = model.steps.first().map_or(0, |step| step.cost.cpu_us);
        let procs: Vec<Pid> = model.procs.keys().copied().collect();
        drop(model);
        let time: u64 = procs.iter().map(|pid| cpu_us(*pid)).sum();
        let disk = |pid: &Pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('D'))
        };
        (n_steps, ended + time, procs.iter().any(disk))
    }
}

fn is_progress(before: (usize, u64, bool), now: (usize, u64, bool)) -> bool {
    before.0 != now.0 || now.1.abs_diff(before.1) > NOTHING || now.2
}
