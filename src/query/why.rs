//! `rfs why`: why a step was served, ran or was refused: the steps around it with their reasons, and the
//! first input that was not as recorded, followed back to who wrote it.

use super::run::{Run, StepRef};
use super::{Error, Subject, state};
use crate::base::{Cause, Name, State};
use crate::store::graph::{self, Fate, Step};
use crate::store::{Snapshot, edges, history, nodes};
use serde::Serialize;
use serde_json::Value;
use std::fmt::{self, Display, Formatter};

/// Inputs that are followed back, at most.
const MAX_LINKS: usize = 64;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    schema: &'static str,
    /// What was asked about.
    pub asked: String,
    /// The step, and before it those around it, the outermost first. None for what no step wrote.
    pub steps: Vec<StepRef>,
    /// The step of the last run in which it was served together with others, where it was not a step by itself.
    pub within: Option<StepRef>,
    /// For a step that was served: inputs that were looked at and are as they were.
    pub held: Option<usize>,
    /// What was not as recorded, then what made that so, and so on.
    pub because: Vec<Link>,
    /// For a step that was refused: the one inside it that is the reason.
    pub culprit: Option<StepRef>,
}

/// An input that was not as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Its path.
    pub path: String,
    /// How it differs.
    pub change: String,
    /// What was recorded.
    pub was: Option<Value>,
    /// What was found.
    pub is: Option<Value>,
    /// The step of the same run that wrote it; none for what was there before.
    pub writer: Option<StepRef>,
    #[serde(skip)]
    states: String,
}

/// Answers.
///
/// # Errors
/// Nothing is known of it, or the store is damaged.
pub fn why(store: &Snapshot, run: Option<u32>, subject: &Subject) -> Result<Why, Error> {
    let run = Run::for_subject(store, run, subject)?;
    match subject {
        Subject::Step(_, number) => {
            let step = run.step(*number)?;
            of_step(&run, step, format!("step {number}"))
        }
        Subject::Path(name) => of_path(store, &run, name),
    }
}

fn of_path(store: &Snapshot, run: &Run<'_>, name: &Name) -> Result<Why, Error> {
    let asked = name.to_string();
    if let Some(step) = run.writer(name)? {
        let within = step.fate == Fate::Served;
        // Served as a part of it: another run may have seen the step that made it.
        let inner = graph::writer(store, name)?.filter(|inner| Some(*inner) != step.execution);
        if let Some(inner) = inner.filter(|_| within) {
            let older = Run::open(store, Some(history::facts(store, inner)?.used));
            if let Ok(older) = older {
                if let Some(made) = older.of(inner) {
                    let mut why = of_step(&older, made, asked)?;
                    why.within = Some(run.name(step)?);
                    return Ok(why);
                }
            }
        }
        return of_step(run, step, asked);
    }
    if let Some(made) = graph::writer(store, name)? {
        // Not touched by this run.
        let older = Run::open(store, Some(history::facts(store, made)?.used))?;
        if let Some(step) = older.of(made) {
            return of_step(&older, step, asked);
        }
    }
    if nodes::find(store, name.bytes())?.is_none() {
        return Err(Error::Unknown(name.clone()));
    }
    Ok(Why {
        steps: Vec::new(),
        ..empty(asked)
    })
}

fn of_step(run: &Run<'_>, step: &Step, asked: String) -> Result<Why, Error> {
    let mut why = empty(asked);
    for outer in run.around(step) {
        why.steps.push(run.name(outer)?);
    }
    why.steps.push(run.name(step)?);
    match step.fate {
        Fate::Served => {
            let execution = step.execution;
            let facts = execution
                .map(|one| history::facts(run.state, one))
                .transpose()?;
            why.held = facts.map(|facts| facts.n_deps as usize);
        }
        Fate::Ran => why.because = links(run, step)?,
        Fate::Refused => {
            why.because = links(run, step)?;
            let culprit = run.steps.iter().rev().find(|inner| {
                inner.fate == Fate::Refused && inner.why == step.why && run.is_in(inner, step)
            });
            why.culprit = culprit.map(|culprit| run.name(culprit)).transpose()?;
        }
    }
    Ok(why)
}

/// Follows the reason of a step back to what no step of the run wrote.
fn links(run: &Run<'_>, step: &Step) -> Result<Vec<Link>, Error> {
    let mut found: Vec<Link> = Vec::new();
    let mut next = Some(step);
    while let Some(step) = next.take() {
        let Some(cause) = &step.cause else { break };
        let path = cause.name.to_string();
        let known = found.iter().any(|link| link.path == path);
        if known || found.len() == MAX_LINKS {
            break;
        }
        let writer = written(run, step, &cause.name)?;
        found.push(link(run, step, cause, writer)?);
        next = writer;
    }
    Ok(found)
}

/// The step that had written an input of a step of the same run by then.
fn written<'a>(run: &'a Run<'_>, step: &Step, name: &Name) -> Result<Option<&'a Step>, Error> {
    let before = |writer: &&Step| {
        writer.number != step.number
            && writer.began_us <= step.began_us
            && !run.is_in(step, writer)
            && !run.is_in(writer, step)
    };
    if let Some(writer) = run.writer(name)?.filter(before) {
        return Ok(Some(writer));
    }
    // The last one may have come later.
    let Some(node) = nodes::find(run.state, name.bytes())? else {
        return Ok(None);
    };
    let mut found: Option<&Step> = None;
    for writer in run.steps.iter().filter(before) {
        let Some(execution) = writer.execution else {
            continue;
        };
        edges::writes(run.state, execution, |wrote| {
            if wrote == node {
                found = Some(writer);
            }
        })?;
    }
    Ok(found)
}

fn link(run: &Run<'_>, step: &Step, cause: &Cause, writer: Option<&Step>) -> Result<Link, Error> {
    let mut is = cause.is.clone();
    if let Some(State::File { digest: None, .. } | State::Dir { list: None, .. }) | None = &is {
        // The step has looked at it too.
        let record = step.execution.map(|_| run.record(step)).transpose()?;
        let seen = record.and_then(|record| {
            let mut deps = record.deps.into_iter();
            deps.find(|dep| dep.name == cause.name).map(|dep| dep.state)
        });
        is = seen.or(is);
    }
    let text = |state: &Option<State>| {
        state
            .as_ref()
            .map_or_else(|| "not recorded".to_owned(), state::text)
    };
    Ok(Link {
        path: cause.name.to_string(),
        change: cause.change.to_string(),
        states: format!("{} -> {}", text(&cause.was), text(&is)),
        was: cause.was.as_ref().map(state::json),
        is: is.as_ref().map(state::json),
        writer: writer.map(|writer| run.name(writer)).transpose()?,
    })
}

fn empty(asked: String) -> Why {
    Why {
        schema: "rfs.why/1",
        asked,
        steps: Vec::new(),
        within: None,
        held: None,
        because: Vec::new(),
        culprit: None,
    }
}

impl Display for Why {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(last) = self.steps.last() else {
            return write!(
                f,
                "{}: no step is known to have written it (`rfs rdeps` tells who reads it)",
                self.asked
            );
        };
        write!(f, "{}: run {}, {last}", self.asked, last.run)?;
        if let Some(within) = &self.within {
            let run = within.run;
            write!(
                f,
                "\nserved in run {run} as a part of {within}; when it was a step itself:"
            )?;
        }
        for (depth, step) in self.steps.iter().enumerate() {
            write!(
                f,
                "\n  {:>5}  {:<7}  {:depth$}{}",
                step.step, step.verdict, "", step.command
            )?;
            if !step.why.is_empty() {
                let because = if step.verdict == "ran" {
                    "because "
                } else {
                    ""
                };
                write!(f, ": {because}{}", step.why)?;
            }
        }
        if let Some(held) = self.held {
            write!(f, "\nits {held} inputs were as recorded")?;
        }
        if let Some(culprit) = &self.culprit {
            write!(f, "\nthe reason lies in {culprit}")?;
        }
        for link in &self.because {
            write!(f, "\n{} {}: {}", link.path, link.change, link.states)?;
            match &link.writer {
                Some(writer) if writer.verdict == "hit" => {
                    write!(f, "\n  as {writer} left it, which was served")?;
                }
                Some(writer) if writer.why.is_empty() => write!(f, "\n  written by {writer}")?,
                Some(writer) => {
                    write!(
                        f,
                        "\n  written by {writer}, which {}: {}",
                        writer.verdict, writer.why
                    )?;
                }
                None => f.write_str("\n  no step of this run wrote it: it was changed before")?,
            }
        }
        Ok(())
    }
}
