//! One run of a build as questions see it: its steps, who started whom, who wrote what.

use super::{Error, Subject};
use crate::base::{Name, Record};
use crate::report::explain::plain;
use crate::store::graph::{self, Build, Fate, Step};
use crate::store::history::{self, Execution};
use crate::store::nodes;
use crate::store::{Snapshot, edges};
use serde::Serialize;
use std::cell::OnceCell;
use std::fmt;

/// A step, as answers name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepRef {
    /// The number of its run.
    pub run: u32,
    /// Its number in the run.
    pub step: u32,
    /// Its command, shortened.
    pub command: String,
    /// `hit`, `ran` or `refused`.
    pub verdict: &'static str,
    /// Why it ran or was refused.
    pub why: String,
}

/// `step 5 (cc -c a.c)`
impl fmt::Display for StepRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} ({})", self.step, self.command)
    }
}

/// A run and the state of the store that knows of it.
#[derive(Debug)]
pub struct Run<'a> {
    /// The state.
    pub state: &'a Snapshot,
    /// The run.
    pub build: Build,
    /// Its steps, by their numbers.
    pub steps: Vec<Step>,
    /// Numbers of the steps, in the order in which they ended.
    ended: Vec<u32>,
    /// By node: the place of the innermost step that wrote it last, and one more; 0 for none.
    writers: OnceCell<Vec<u32>>,
}

impl<'a> Run<'a> {
    /// The run of this number, or the last one.
    ///
    /// # Errors
    /// It is not known, or the store is damaged.
    pub fn open(state: &'a Snapshot, number: Option<u32>) -> Result<Self, Error> {
        let builds = graph::builds(state)?;
        let (Some(first), Some(last)) = (builds.first(), builds.last()) else {
            return Err(Error::NoRuns);
        };
        let (first, last) = (first.number, last.number);
        let wanted = number.unwrap_or(last);
        let build = builds.into_iter().find(|build| build.number == wanted);
        let build = build.ok_or(Error::NoRun(wanted, first, last))?;
        let mut steps = graph::steps(state, wanted)?;
        let ended = steps.iter().map(|step| step.number).collect();
        steps.sort_by_key(|step| step.number);
        Ok(Self {
            state,
            build,
            steps,
            ended,
            writers: OnceCell::new(),
        })
    }

    /// The run that a subject is of: the one that it names, else this one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn for_subject(
        state: &'a Snapshot,
        number: Option<u32>,
        subject: &Subject,
    ) -> Result<Self, Error> {
        match subject {
            Subject::Step(Some(run), _) => Self::open(state, Some(*run)),
            Subject::Step(None, _) | Subject::Path(_) => Self::open(state, number),
        }
    }

    /// The step of a number.
    ///
    /// # Errors
    /// There is none.
    pub fn step(&self, number: u32) -> Result<&Step, Error> {
        let none = Error::NoStep(self.build.number, number);
        self.known(number).ok_or(none)
    }

    /// The place of the step of a number.
    #[must_use]
    pub fn place(&self, number: u32) -> Option<usize> {
        // Most runs have all numbers.
        let place = number as usize;
        if self
            .steps
            .get(place)
            .is_some_and(|step| step.number == number)
        {
            return Some(place);
        }
        let place = self.steps.binary_search_by_key(&number, |step| step.number);
        place.ok()
    }

    fn known(&self, number: u32) -> Option<&Step> {
        self.place(number).map(|place| &self.steps[place])
    }

    /// The last step that was this execution.
    #[must_use]
    pub fn of(&self, execution: Execution) -> Option<&Step> {
        let is_it = |step: &&Step| step.execution == Some(execution);
        self.steps.iter().rev().find(is_it)
    }

    /// The steps around one, the outermost first.
    #[must_use]
    pub fn around(&self, step: &Step) -> Vec<&Step> {
        let mut found = Vec::new();
        let mut next = step.parent;
        while let Some(step) = next.and_then(|number| self.known(number)) {
            found.push(step);
            // Who started a step has a smaller number.
            next = step.parent.filter(|number| *number < step.number);
        }
        found.reverse();
        found
    }

    /// Whether one step lies in another one.
    #[must_use]
    pub fn is_in(&self, inner: &Step, outer: &Step) -> bool {
        let mut next = inner.parent;
        while let Some(number) = next.filter(|number| *number > outer.number) {
            next = self.known(number).and_then(|step| step.parent);
        }
        next == Some(outer.number)
    }

    /// The innermost step of this run that wrote a name last.
    ///
    /// # Errors
    /// Damage.
    pub fn writer(&self, name: &Name) -> Result<Option<&Step>, Error> {
        let node = nodes::find(self.state, name.bytes())?;
        let writers = self.writers()?;
        let last = node.and_then(|node| writers.get(node.0 as usize));
        let place = last.and_then(|last| (*last as usize).checked_sub(1));
        Ok(place.map(|place| &self.steps[place]))
    }

    fn writers(&self) -> Result<&[u32], Error> {
        if let Some(known) = self.writers.get() {
            return Ok(known);
        }
        let mut writers = vec![0; nodes::count(self.state)? as usize + 1];
        for place in self.ended.iter().filter_map(|number| self.place(*number)) {
            let step = &self.steps[place];
            let Some(execution) = step.execution else {
                continue;
            };
            let this = u32::try_from(place + 1).unwrap_or(0);
            edges::writes(self.state, execution, |node| {
                let Some(last) = writers.get_mut(node.0 as usize) else {
                    return;
                };
                let inner = (*last as usize).checked_sub(1);
                if inner.is_none_or(|inner| !self.is_in(&self.steps[inner], step)) {
                    *last = this;
                }
            })?;
        }
        Ok(self.writers.get_or_init(|| writers))
    }

    /// What a step did.
    ///
    /// # Errors
    /// It is not known any more, or the store is damaged.
    pub fn record(&self, step: &Step) -> Result<Record, Error> {
        let forgotten = Error::Forgotten(self.build.number, step.number);
        let execution = step.execution.ok_or(forgotten)?;
        Ok(history::record(self.state, execution)?)
    }

    /// How answers name a step.
    ///
    /// # Errors
    /// Damage.
    pub fn name(&self, step: &Step) -> Result<StepRef, Error> {
        let command = match step.execution {
            Some(execution) => plain(&history::rest(self.state, execution)?.title),
            None => "not known any more".to_owned(),
        };
        Ok(StepRef {
            run: self.build.number,
            step: step.number,
            command,
            verdict: verdict(step.fate),
            why: plain(&step.why),
        })
    }
}

fn verdict(fate: Fate) -> &'static str {
    match fate {
        Fate::Served => "hit",
        Fate::Ran => "ran",
        Fate::Refused => "refused",
    }
}
