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
use crate::base::Held;
use crate::base::policy::plain;
use rfs_tracer::event::Pid;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much room there is.
pub trait Room: Send + Sync + std::fmt::Debug {
    /// Bytes of memory for all steps together.
    fn bytes(&self) -> u64;

    /// What the machine has more to do with already than it should: `cpu pressure`.
    fn pressed(&self) -> Option<&'static str>;

    /// Whether [`Self::pressed`] can say anything.
    fn feels_pressure(&self) -> bool;
}

/// A step that needs less memory than this is not held, nor counted.
const SMALL: u64 = 32 << 20;
/// How often those who wait look again.
const LOOK: Duration = Duration::from_millis(100);
/// The same while somebody ends, of which nobody is told.
const SOON: Duration = Duration::from_millis(2);
/// So many looks of that kind: whoever does not end soon is looked at as everybody.
const QUICK: u32 = 100;
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
    /// The same of those that end, and have their memory until they are gone.
    ending: Vec<(Pid, u64)>,
    /// First processes, the one that has waited longest first.
    waiting: VecDeque<Pid>,
    /// Those that had to wait and go on now.
    held: BTreeMap<Pid, Held>,
}

impl Hold {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the step had to wait that starts in this process now. Told once.
    pub(super) fn was_held(&self, pid: Pid) -> Option<Held> {
        self.state().held.remove(&pid)
    }

    /// A process is about to end.
    pub(super) fn leave(&self, pid: Pid) {
        let mut state = self.state();
        if let Some(bytes) = state.given.remove(&pid) {
            state.ending.push((pid, bytes));
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
        let (mut still, mut quick) = (0, QUICK);
        let mut progress = None;
        let (since, mut reasons) = (Instant::now(), Vec::new());
        let mut state = self.hold.state();
        state.waiting.push_back(pid);
        loop {
            state.ending.retain(|(pid, _)| alive(*pid));
            let ending = state.ending.iter().map(|(_, bytes)| bytes);
            let given: u64 = state.given.values().chain(ending).sum();
            let first = state.waiting.front() == Some(&pid);
            let alone = state.given.is_empty() && state.ending.is_empty();
            let goes = alone || (still >= STILL && first);
            let lacks = match given.saturating_add(bytes) <= room.bytes() {
                _ if goes => None,
                false => Some("memory"),
                true => room.pressed(),
            };
            let Some(lacks) = lacks else {
                state.given.insert(pid, bytes);
                break;
            };
            if !reasons.contains(&lacks) {
                reasons.push(lacks);
                log::debug!("{} (process {pid}) is held back: {lacks}", tool.name);
            }
            let look = match !state.ending.is_empty() && quick > 0 {
                true => SOON,
                false => LOOK,
            };
            quick = quick.saturating_sub(1);
            let waited = self.hold.changed.wait_timeout(state, look);
            let timed_out;
            (state, timed_out) = match waited {
                Ok((state, how)) => (state, how.timed_out()),
                Err(poisoned) => (poisoned.into_inner().0, true),
            };
            if timed_out && look == LOOK {
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
        if !reasons.is_empty() {
            let held = Held {
                held_us: u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX),
                held_by: reasons.join(", "),
            };
            state.held.insert(pid, held);
        }
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
    /// them waits for a disk; or we do, whom they may wait for.
    fn progress(&self) -> (usize, u64, bool) {
        let model = self.model();
        let n_steps = model.steps.len();
        let ended: u64 = model.steps.first().map_or(0, |step| step.cost.cpu_us);
        let procs: Vec<Pid> = model.procs.keys().copied().collect();
        drop(model);
        let time: u64 = procs.iter().map(|pid| cpu_us(*pid)).sum();
        let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
        let ours = threads.filter_map(|task| Some(task.ok()?.path().join("stat")));
        let theirs = procs.iter().map(|pid| format!("/proc/{pid}/stat").into());
        (
            n_steps,
            ended + time,
            theirs.chain(ours).any(|stat| waits_for_disk(&stat)),
        )
    }
}

/// By a file `stat` in proc(5).
fn waits_for_disk(stat: &Path) -> bool {
    let text = std::fs::read_to_string(stat).unwrap_or_default();
    text.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('D'))
}

fn is_progress(before: (usize, u64, bool), now: (usize, u64, bool)) -> bool {
    before.0 != now.0 || now.1.abs_diff(before.1) > NOTHING || now.2
}
