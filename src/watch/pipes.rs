//! Processes that die because nobody reads what they write any more: `yes | head`.
//!
//! When such a process dies is chance. Whoever holds both ends of the pipe need not care, as long as the
//! process did nothing else that lasts: what it would have done in a longer life could not be seen.

use super::Watch;
use super::model::Model;
use crate::record::Step;
use rfs_tracer::event::{FdTarget, Pid};

/// More different targets than this are not kept apart.
const MAX_TARGETS: usize = 8;

/// What a process and its dead children did that can be seen when they are gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Traces {
    /// They changed files, or who knows what.
    lasting: bool,
    /// Pipes, sockets and terminals that they wrote to, and files of which they moved the offset.
    touched: Vec<FdTarget>,
    /// Where the last call of the process itself wrote to.
    last: Option<FdTarget>,
}

impl Traces {
    /// The process changes something.
    pub(super) fn change(&mut self) {
        self.lasting = true;
    }

    /// The process makes another call than the one that was told before.
    pub(super) fn next(&mut self) {
        self.last = None;
    }

    /// The process writes.
    pub(super) fn write(&mut self, target: &FdTarget) {
        match target {
            FdTarget::Null => (),
            FdTarget::Pipe(..) | FdTarget::Socket(_) | FdTarget::Tty(_) => {
                self.touch(target);
                self.last = Some(target.clone());
            }
            FdTarget::File { .. } | FdTarget::Dir(_) | FdTarget::Other(_) => self.lasting = true,
        }
    }

    /// The process moves the offset of a file that it was started with.
    pub(super) fn touch(&mut self, target: &FdTarget) {
        if self.touched.contains(target) {
            return;
        }
        if self.touched.len() < MAX_TARGETS {
            self.touched.push(target.clone());
        } else {
            self.lasting = true;
        }
    }

    /// A child has ended.
    pub(super) fn add(&mut self, child: &Self) {
        self.lasting |= child.lasting;
        child.touched.iter().for_each(|target| self.touch(target));
    }

    /// Whether a step around cannot see anything of it but what went into a pipe of the step's own.
    fn hidden_from(&self, step: &Step) -> bool {
        !self.lasting && !self.touched.iter().any(|target| holds(step, target))
    }

    /// The pipe that the process was writing to when it died of it.
    fn broken(&self) -> Option<&FdTarget> {
        // A fifo with a name may have been opened by anybody.
        self.last
            .as_ref()
            .filter(|target| matches!(target, FdTarget::Pipe(_, 0) | FdTarget::Socket(_)))
    }
}

/// Whether a step was started with this pipe.
fn holds(step: &Step, pipe: &FdTarget) -> bool {
    step.fds.iter().any(|entry| entry.target == *pipe)
}

impl Model {
    /// A process of step `at` was killed; not by chance, if a broken pipe did it. Refuses the steps that
    /// can see it.
    pub(super) fn killed(&mut self, pid: Pid, at: usize, traces: &Traces, signal: Option<i32>) {
        let broken = traces.broken().filter(|_| {
            // Somebody who sends the signal by hand may do so at any time.
            signal == Some(libc::SIGPIPE) && !self.pipe_signal_sent
        });
        let why = match (signal, broken) {
            (_, Some(_)) => "a process of it wrote to a pipe that nobody read any more".to_owned(),
            (Some(signal), None) => format!("a process of it was killed by signal {signal}"),
            (None, None) => "a process of it was killed".to_owned(),
        };
        self.up(at, |step| {
            match broken {
                Some(pipe) if step.pid != pid && !holds(step, pipe) && traces.hidden_from(step) => {
                    step.cut_short = true;
                }
                Some(_) | None => step.refuse(why.as_str()),
            }
            true
        });
        if let Some(pipe) = broken {
            // Those between go on, and what they do from now on depends on the time of the death.
            self.up(at, |step| {
                if step.pid != pid && holds(step, pipe) {
                    step.broken.get_or_insert_with(|| pipe.clone());
                }
                true
            });
        }
    }

    /// Step `at` ends, one with a process that a broken pipe killed: what it did depends on when that
    /// was, and the steps around it that can see it may not be recorded.
    pub(super) fn cut_short(&mut self, at: usize, traces: &Traces) {
        let (Some(_), Some(parent)) = (self.steps[at].broken.take(), self.steps[at].parent) else {
            return;
        };
        self.up(parent, |step| {
            if !traces.hidden_from(step) {
                step.refuse("a part of it wrote to a pipe that nobody read any more");
            }
            true
        });
    }

    /// A served step could not print all to a pipe.
    pub(super) fn unread(&mut self, parent: usize, pipe: &FdTarget, lasting: bool) {
        self.up(parent, |step| {
            let held = holds(step, pipe);
            if held {
                step.broken.get_or_insert_with(|| pipe.clone());
            }
            if held || lasting || !matches!(pipe, FdTarget::Pipe(_, 0) | FdTarget::Socket(_)) {
                step.refuse("a part of it wrote to a pipe that nobody read any more");
            } else {
                step.cut_short = true;
            }
            true
        });
    }
}

impl Watch {
    /// A process does something: forgets what it did last, unless it is written down here again.
    pub(super) fn next_call(&self, pid: Pid) {
        if let Some(proc) = self.model().procs.get_mut(&pid) {
            proc.traces.next();
        }
    }
}
