//! `rfs why-miss`: why a step was not served with what another run, checkout or machine has recorded of it: all
//! that is known before it runs, then its inputs.

use super::diff::words;
use super::run::{Run, StepRef};
use super::{Error, Subject, state};
use crate::base::policy::Policy;
use crate::base::{Access, Dep, Record, Start};
use crate::report::explain::plain;
use crate::store::graph::{self, Step};
use crate::store::{Snapshot, history};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Characters of a value that are told.
const MAX_VALUE: usize = 200;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Miss {
    schema: &'static str,
    /// The step that was asked about.
    pub step: StepRef,
    /// The same step of the other run.
    pub other: StepRef,
    /// What is different, what is known before it runs first.
    pub differences: Vec<Unlike>,
}

/// One thing that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unlike {
    /// `program`, `argument`, `environment`, `around` or `input`.
    pub what: &'static str,
    /// Which one.
    pub name: String,
    /// In the other run.
    pub other: Option<String>,
    /// In the run that was asked about.
    pub this: Option<String>,
}

/// Compares a step with the same one of a run in another store, or in the same one.
///
/// # Errors
/// It is not known in one of them, or a store is damaged.
pub fn miss(
    store: &Snapshot,
    run: Option<u32>,
    subject: &Subject,
    (other_store, other_run): (&Snapshot, Option<u32>),
    policy: &Policy,
) -> Result<Miss, Error> {
    let this = Run::for_subject(store, run, subject)?;
    let step = match subject {
        Subject::Step(_, number) => this.step(*number)?,
        Subject::Path(name) => {
            let unknown = Error::Unknown(name.clone());
            this.writer(name)?.ok_or(unknown)?
        }
    };
    let record = this.record(step)?;
    let other = Run::open(other_store, other_run)?;
    let counterpart = counterpart(&other, &record)?;
    let counterpart = counterpart
        .ok_or_else(|| Error::NoCounterpart(plain(&record.title), other.build.number))?;
    let recorded = other.record(counterpart)?;

    let mut found = Vec::new();
    let mut tell = |what, name: String, other: Option<String>, this: Option<String>| {
        if other != this {
            found.push(Unlike {
                what,
                name,
                other: other.map(|text| short(&text)),
                this: this.map(|text| short(&text)),
            });
        }
    };
    let program = |record: &Record| {
        let program = &record.command.program;
        let dep = record.deps.iter().find(|dep| dep.name == *program);
        let content = dep.map_or_else(String::new, |dep| state::text(&dep.state));
        Some(format!("{program} {content}"))
    };
    tell(
        "program",
        "program".to_owned(),
        program(&recorded),
        program(&record),
    );
    let argument =
        |words: &[Vec<u8>], at: usize| words.get(at).map(|word| word.escape_ascii().to_string());
    let (argv, argv2) = (&record.command.argv, &recorded.command.argv);
    for at in 0..argv.len().max(argv2.len()) {
        tell(
            "argument",
            at.to_string(),
            argument(argv2, at),
            argument(argv, at),
        );
    }
    let given = graph::start(store, this.build.number, step.number)?.unwrap_or_default();
    let given2 = graph::start(other_store, other.build.number, counterpart.number)?;
    let given2 = given2.unwrap_or_default();
    let (env, env2) = (environment(&given, policy), environment(&given2, policy));
    // An export may have left it out.
    let is_known = !given.env.is_empty() && !given2.env.is_empty();
    for name in union(&env, &env2).into_iter().filter(|_| is_known) {
        tell(
            "environment",
            name.clone(),
            env2.get(&name).cloned(),
            env.get(&name).cloned(),
        );
    }
    let (around, around2) = (around(&given), self::around(&given2));
    for name in union(&around, &around2) {
        tell(
            "around",
            name.clone(),
            around2.get(&name).cloned(),
            around.get(&name).cloned(),
        );
    }
    let before: BTreeMap<_, &Dep> = recorded.deps.iter().map(|dep| (&dep.name, dep)).collect();
    for dep in &record.deps {
        let Some(old) = before.get(&dep.name) else {
            continue;
        };
        let both = Access::from_bits(dep.access.bits() & old.access.bits());
        if old.state.change(&dep.state, both).is_some() {
            let states = (state::text(&old.state), state::text(&dep.state));
            tell(
                "input",
                dep.name.to_string(),
                Some(states.0),
                Some(states.1),
            );
        }
    }
    Ok(Miss {
        schema: "rfs.why-miss/1",
        step: this.name(step)?,
        other: other.name(counterpart)?,
        differences: found,
    })
}

/// The step with the same command, else the one that has most of its words.
fn counterpart<'a>(run: &'a Run<'_>, this: &Record) -> Result<Option<&'a Step>, Error> {
    let wanted = words(&this.command);
    // Most often who wrote the same file: that is known without a look at all of them.
    if let Some(output) = this.outputs.first() {
        if let Some(step) = run.writer(&output.name)? {
            let execution = step.execution;
            let record = execution.map(|one| history::rest(run.state, one));
            let record = record.transpose()?;
            if record.is_some_and(|record| words(&record.command) == wanted) {
                return Ok(Some(step));
            }
        }
    }
    let mut nearest: Option<(usize, &Step)> = None;
    let program = this.title.split(' ').next();
    for step in &run.steps {
        let Some(execution) = step.execution else {
            continue;
        };
        let record = history::rest(run.state, execution)?;
        let found = words(&record.command);
        if found == wanted {
            return Ok(Some(step));
        }
        if record.title.split(' ').next() != program {
            continue;
        }
        let same = found.iter().filter(|word| wanted.contains(word)).count();
        if nearest.is_none_or(|(best, _)| same > best) {
            nearest = Some((same, step));
        }
    }
    Ok(nearest.map(|(_, step)| step))
}

/// The variables that count.
fn environment(start: &Start, policy: &Policy) -> BTreeMap<String, String> {
    let entries = start.env.iter().filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        policy
            .env_counts(&entry[..at])
            .then(|| (text(&entry[..at]), text(&entry[at + 1..])))
    });
    entries.collect()
}

fn around(start: &Start) -> BTreeMap<String, String> {
    let entries = start.around.iter().map(|entry| {
        let at = entry
            .find(": ")
            .map(|at| at + 1)
            .or_else(|| entry.find(' '));
        let (name, value) = entry.split_at(at.unwrap_or(entry.len()));
        (
            name.trim_end_matches(':').to_owned(),
            value.trim().to_owned(),
        )
    });
    entries.collect()
}

fn union(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let mut names: Vec<_> = one.keys().chain(other.keys()).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

impl Display for Miss {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (run, other) = (self.step.run, self.other.run);
        write!(
            f,
            "run {run}, {}\nagainst run {other}, {}",
            self.step, self.other
        )?;
        if self.differences.is_empty() {
            f.write_str("\nnothing is different: what the one recorded serves the other")?;
        }
        for one in &self.differences {
            let text =
                |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
            write!(
                f,
                "\n{} {}: {} -> {}",
                one.what,
                one.name,
                text(&one.other),
                text(&one.this)
            )?;
        }
        Ok(())
    }
}
