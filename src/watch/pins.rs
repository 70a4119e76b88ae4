//! Gives steps that compute their places on the machine, for as long as they run.

use super::Watch;
use super::model::Model;
use super::tool::Tool;
use crate::base::policy::plain;
use rfs_tracer::event::{Exec, Pid};

/// Hands out places.
pub trait Pins: Send + Sync + std::fmt::Debug {
    /// Whether programs of this name have a place that they are to be near.
    fn has_near(&self, program: &str) -> bool;

    /// Binds a process of one thread, about to become this program, to a place. None: it stays where it is.
    fn take(&self, pid: Pid, program: &str) -> Option<usize>;

    /// What a place is, for people.
    fn name(&self, place: usize) -> String;

    /// The place is free again.
    fn give(&self, place: usize);
}

impl Watch {
    /// A step has been opened. What it starts inherits its place, so there is one on each way down.
    pub(super) fn pin(&self, model: &mut Model, at: usize, exec: &Exec, tool: &Tool) {
        let Some(pins) = &self.config.pins else {
            return;
        };
        let name = plain(&tool.name);
        let computes = self.config.policy.pin.iter().any(|known| known == name);
        let near = pins.has_near(name);
        let spreads = exec.argv.iter().any(|arg| arg.starts_with(b"-flto"));
        if !(near || computes && !spreads)
            || model
                .chain(at)
                .iter()
                .any(|at| model.places.contains_key(at))
        {
            return;
        }
        if let Some(place) = pins.take(exec.pid, name) {
            model.places.insert(at, place);
            model.steps[at].placement.asked = Some(pins.name(place));
        }
    }

    /// A step has ended.
    pub(super) fn unpin(&self, model: &mut Model, at: usize) {
        if let (Some(place), Some(pins)) = (model.places.remove(&at), &self.config.pins) {
            pins.give(place);
        }
    }
}
