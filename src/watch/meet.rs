//! Names at which processes meet: local sockets and fifos.
//!
//! What goes through them is never known. A step that both sides belong to has kept it to itself; to
//! one that only one side belongs to it is input from nowhere. Which side comes first is chance, and whether a
//! call finds the other side there is not known before it has returned, so each counts for the other
//! whatever their order.

use super::Watch;
use super::model::Model;
use crate::base::{Kind, PathId};
use crate::record::Wrote;
use rfs_tracer::event::{Pid, Walk};
use std::collections::BTreeSet;

/// The steps that have come to one name.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// Those that gave the name to a socket.
    bound: BTreeSet<usize>,
    /// Those that asked for a socket of that name, or opened a fifo.
    came: BTreeSet<usize>,
}

impl Watch {
    /// A process is about to give a socket this name: whoever asks for it will be let in.
    pub(super) fn bind(&self, pid: Pid, id: PathId, walk: &Walk) {
        self.hear();
        let mut model = self.model();
        let Some(at) = model.step_of(pid) else { return };
        let met = model.met.entry(id).or_default();
        met.bound.insert(at);
        let callers: Vec<usize> = met.came.iter().copied().collect();
        let why = format!("lets others in at the socket {}", walk.path.display());
        for caller in callers {
            if model.steps[caller].closed {
                continue;
            }
            model.refuse_between(at, caller, &why);
        }
    }

    /// A process asks for the socket of this name.
    pub(super) fn call(&self, pid: Pid, walk: &Walk) {
        self.read(pid, walk, crate::base::Access::KIND);
        let look = self.world.last(&walk.path);
        let mut model = self.model();
        let Some(at) = model.changing(pid) else {
            return;
        };
        let met = model.met.entry(look.id).or_default();
        met.came.insert(at);
        let hosts = met.bound.clone();
        let why = format!("talks to the socket {}", walk.path.display());
        if hosts.is_empty() && look.seen.kind != Kind::Absent {
            self.foreign(&mut model, at, look.id, &why);
        }
        for host in hosts {
            model.refuse_between(at, host, &why);
        }
    }

    /// A process opens a fifo.
    pub(super) fn open_fifo(&self, model: &mut Model, at: usize, id: PathId, walk: &Walk) {
        let why = format!("opens the fifo {}", walk.path.display());
        self.foreign(model, at, id, &why);
        let met = model.met.entry(id).or_default();
        let others = met.came.clone();
        met.came.insert(at);
        for other in others {
            model.refuse_between(at, other, &why);
        }
    }

    /// Refuses the step and those around it that did not make the object themselves.
    fn foreign(&self, model: &mut Model, at: usize, id: PathId, why: &str) {
        self.hear();
        model.up(at, |step| {
            if !step.wrote(id).any(Wrote::WHOLE) {
                step.refuse(why);
            }
            true
        });
    }
}

impl Model {
    /// Step `at` ends. If it has waited at a socket to which nobody of its own came, it has waited for
    /// others, who may come another time.
    pub(super) fn awaited(&mut self, at: usize) {
        let within =
            |steps: &BTreeSet<usize>| steps.iter().any(|step| self.chain(*step).contains(&at));
        let alone = |met: &Met| within(&met.bound) && !within(&met.came);
        if self.met.values().any(alone) {
            self.steps[at].refuse("waits for others at a socket");
        }
    }
}
