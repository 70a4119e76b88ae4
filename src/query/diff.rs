//! `rfs diff`: what was different in one run from another one.

use super::Error;
use super::run::{Run, StepRef};
use crate::base::{Command, Difference, difference};
use crate::store::history::{self, Execution};
use crate::store::{Snapshot, graph};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Differences of one step that are told, at most.
const MAX_TOLD: usize = 12;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    schema: &'static str,
    /// The earlier run.
    pub old: u32,
    /// The later run.
    pub new: u32,
    /// Steps that did the same in both, or were served with what the other had done.
    pub same: usize,
    /// Steps that did something else, or from something else.
    pub changed: Vec<Changed>,
    /// Steps of the earlier run alone.
    pub lost: Vec<StepRef>,
    /// Steps of the later run alone.
    pub added: Vec<StepRef>,
}

/// One step that is in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What became of it in the later run.
    pub step: StepRef,
    /// What is different.
    pub differences: Vec<String>,
}

/// What was different in `new` from `old`. Steps are the same when their command and directory are.
///
/// # Errors
/// One of them is not known, or the store is damaged.
pub fn diff(store: &Snapshot, old: u32, new: u32) -> Result<Diff, Error> {
    let (old, new) = (Run::open(store, Some(old))?, Run::open(store, Some(new))?);
    // What did the same is one execution, and needs no second look.
    let (gone, others) = unpaired(&executions(&old), &executions(&new));
    let mut before = ByCommand::new();
    for (execution, place) in gone {
        let command = command(store, execution)?;
        before.entry(command).or_default().push((place, execution));
    }
    // A step of which nobody knows any more what it did is not told of.
    let n_unknown = new.steps.iter().filter(|step| step.execution.is_none());
    let n_unknown = n_unknown.count();
    let mut answer = Diff {
        schema: "rfs.diff/1",
        old: old.build.number,
        new: new.build.number,
        same: new.steps.len() - others.len() - n_unknown,
        changed: Vec::new(),
        lost: Vec::new(),
        added: Vec::new(),
    };
    for (execution, place) in others {
        let step = &new.steps[place];
        let command = command(store, execution)?;
        let others = before.get_mut(&command).filter(|others| !others.is_empty());
        let Some(other) = others.map(|others| others.remove(0)) else {
            answer.added.push(new.name(step)?);
            continue;
        };
        let (_, known) = other;
        let found = difference(
            &history::record(store, known)?,
            &history::record(store, execution)?,
        );
        if found.is_empty() {
            answer.same += 1;
            continue;
        }
        answer.changed.push(Changed {
            step: new.name(step)?,
            differences: found.iter().map(text).collect(),
        });
    }
    let mut lost: Vec<usize> = before
        .into_values()
        .flatten()
        .map(|(place, _)| place)
        .collect();
    lost.sort_unstable();
    for place in lost {
        answer.lost.push(old.name(&old.steps[place])?);
    }
    Ok(answer)
}

/// The run before one.
///
/// # Errors
/// There is none, or the store is damaged.
pub fn before(store: &Snapshot, run: u32) -> Result<u32, Error> {
    let builds = graph::builds(store)?;
    let mut older = builds.iter().rev().map(|build| build.number);
    older
        .find(|number| *number < run)
        .ok_or(Error::NoRunBefore(run))
}

type Left = Vec<(Execution, usize)>;
type ByCommand = BTreeMap<Vec<Vec<u8>>, Vec<(usize, Execution)>>;

/// What the steps of a run did, those that did the same beside each other, with their places.
fn executions(run: &Run<'_>) -> Vec<(Execution, usize)> {
    let steps = run.steps.iter().enumerate();
    let known = steps.filter_map(|(place, step)| Some((step.execution?, place)));
    let mut found: Vec<_> = known.collect();
    found.sort_unstable();
    found
}

/// Those of two runs without as many as both have of each, by their places.
fn unpaired(old: &[(Execution, usize)], new: &[(Execution, usize)]) -> (Left, Left) {
    let (mut only_old, mut only_new) = (Left::new(), Left::new());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(one), Some(other)) => one.0.cmp(&other.0),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let lost = old.next_if(|_| order.is_le());
        let added = new.next_if(|_| order.is_ge());
        if order.is_ne() {
            only_old.extend(lost);
            only_new.extend(added);
        }
    }
    only_old.sort_unstable_by_key(|(_, place)| *place);
    only_new.sort_unstable_by_key(|(_, place)| *place);
    (only_old, only_new)
}

fn command(store: &Snapshot, execution: Execution) -> Result<Vec<Vec<u8>>, Error> {
    Ok(words(&history::rest(store, execution)?.command))
}

/// What a step is the same by from one run to another.
pub(super) fn words(command: &Command) -> Vec<Vec<u8>> {
    let mut words = vec![command.cwd.bytes().to_vec()];
    words.extend(command.argv.iter().cloned());
    words
}

/// One difference for people.
pub(super) fn text(found: &Difference) -> String {
    match found {
        Difference::Command => "the command is another one".to_owned(),
        Difference::NewInput(name) => format!("looks at {name} too"),
        Difference::LostInput(name) => format!("does not look at {name} any more"),
        Difference::Input(name, change) => format!("{name} {change}"),
        Difference::NewOutput(name) => format!("writes {name} too"),
        Difference::LostOutput(name) => format!("does not write {name} any more"),
        Difference::Output(name) => format!("writes something else to {name}"),
        Difference::Printed => "prints something else".to_owned(),
        Difference::Status => "ends with another status".to_owned(),
    }
}

impl Display for Diff {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (changed, lost, added) = (self.changed.len(), self.lost.len(), self.added.len());
        write!(
            f,
            "run {} to run {}: {} steps as before, {changed} changed, {lost} gone, {added} new",
            self.old, self.new, self.same
        )?;
        for step in &self.changed {
            write!(f, "\n~ {} {}", step.step.verdict, step.step)?;
            for one in step.differences.iter().take(MAX_TOLD) {
                write!(f, "\n    {one}")?;
            }
            if step.differences.len() > MAX_TOLD {
                write!(f, "\n    and {} more", step.differences.len() - MAX_TOLD)?;
            }
        }
        for step in &self.lost {
            write!(f, "\n- {step}")?;
        }
        for step in &self.added {
            write!(f, "\n+ {} {step}", step.verdict)?;
        }
        Ok(())
    }
}
