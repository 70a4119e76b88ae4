//! Events of a build on their way to people and programs. Values and a trait; printing is cli's.

pub mod advice;
pub mod calls;
pub mod duration;
pub mod explain;
pub mod page;
pub mod profile;
pub mod progress;
pub mod record;
pub mod size;
pub mod summary;
pub mod topology;

pub use calls::Calls;
pub use summary::Summary;

use crate::base::{Cost, Held, Miss, Placement, Refusal};

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Served from the cache.
    Hit,
    /// Executed, because of this.
    Ran(Miss),
    /// Executed, and may not be cached, because of this.
    Refused(Refusal),
}

/// One finished step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Number in order of start, from 0.
    pub number: u32,
    /// The step that started it.
    pub parent: Option<u32>,
    /// Its command for people.
    pub title: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Things worth knowing, such as a visible use of the clock.
    pub notes: Vec<String>,
    /// When it started: ns since 1970.
    pub began: i64,
    /// Microseconds from start to end.
    pub wall_us: u64,
    /// Microseconds of work that serving it has saved.
    pub saved_us: u64,
    /// What its processes used, but for the time from start to end; nothing for one that was served.
    pub cost: Cost,
    /// Where it ran.
    pub placement: Placement,
    /// What it had to wait for before it started; not counted in the time from start to end.
    pub held: Option<Held>,
}

#[cfg(test)]
impl Step {
    /// A step that took no time, for tests.
    fn of(number: u32, title: &str, verdict: Verdict) -> Self {
        Self {
            number,
            parent: None,
            title: title.to_owned(),
            verdict,
            notes: Vec::new(),
            began: 0,
            wall_us: 0,
            saved_us: 0,
            cost: Cost::default(),
            placement: Placement::default(),
            held: None,
        }
    }
}

/// What a build tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step has ended.
    Step(Box<Step>),
    /// Something the user should know, once; a full sentence that names path and remedy.
    Warning(String),
}

/// What happens right now, for those who show it.
#[derive(Debug, Clone, Copy)]
pub enum Live<'a> {
    /// A step has begun to run.
    Began {
        /// Its number.
        number: u32,
        /// The step that started it.
        parent: Option<u32>,
        /// Its command for people.
        title: &'a str,
    },
    /// These bytes will be written to a terminal when this has been taken.
    Prints(&'a [u8]),
    /// From now on somebody may write to a terminal without that being told.
    Unseen,
}

/// Takes events, from any thread. Must be quick.
pub trait Sink: Send + Sync {
    /// Takes one.
    fn take(&self, event: Event);

    /// Whether what happens is shown.
    fn is_live(&self) -> bool {
        false
    }

    /// Shows what happens.
    fn live(&self, _live: Live<'_>) {}
}
