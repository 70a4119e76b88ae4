//! `rfs report`: all that is to be seen of one run, as data for a page.

use super::log::{self, Wanted};
use super::run::Run;
use super::stats::{self, Counts};
use super::{Error, graph};
use crate::report::advice;
use crate::report::explain::plain;
use crate::store::graph::Fate;
use crate::store::{Snapshot, history};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    schema: &'static str,
    /// The number of the run.
    pub run: u32,
    /// Its command.
    pub command: String,
    /// Seconds since 1970 at its start.
    pub began: i64,
    /// Exit status, or the negative number of a signal; none if it was killed together with rfs.
    pub status: Option<i32>,
    /// Seconds from start to end.
    pub wall_s: Option<f64>,
    /// What was served, ran and was refused.
    pub counts: Counts,
    /// All steps, in order of start.
    pub steps: Vec<Step>,
    /// Numbers of the steps of the critical path, the first one first.
    pub critical: Vec<u32>,
    /// Steps that were refused themselves.
    pub refused: Vec<Refused>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its number.
    pub step: u32,
    /// The step that started it.
    pub parent: Option<u32>,
    /// Its command.
    pub command: String,
    /// `hit`, `ran` or `refused`.
    pub verdict: &'static str,
    /// Why it ran or was refused.
    pub why: String,
    /// Seconds from the start of the run to its start.
    pub began_s: f64,
    /// Seconds from start to end.
    pub wall_s: f64,
    /// The same without the steps that it started.
    pub own_s: f64,
    /// The processor on which it ended, of one that ran and was recorded.
    pub cpu: Option<u32>,
    /// Files of the workspace whose content it read, and none that it started.
    pub inputs: Vec<Arc<str>>,
    /// Files of the workspace that it wrote, and none that it started.
    pub outputs: Vec<Arc<str>>,
}

/// A step that may not be cached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its number.
    pub step: u32,
    /// Why.
    pub why: String,
    /// What can be done.
    pub advice: &'static str,
}

/// Of a run.
///
/// # Errors
/// There is no such run, or the store is damaged.
pub fn report(store: &Snapshot, number: Option<u32>) -> Result<Report, Error> {
    let run = Run::open(store, number)?;
    let number = Some(run.build.number);
    let all = run.steps.len();
    let graph = graph::graph(store, number, None, None)?.steps.into_iter();
    let mut files: BTreeMap<u32, _> = graph
        .map(|vertex| (vertex.step, (vertex.inputs, vertex.outputs)))
        .collect();
    let mut slow: BTreeMap<u32, _> = log::steps(store, number, Wanted::Slow, all)?
        .steps
        .into_iter()
        .map(|line| (line.step.step, line))
        .collect();
    let mut steps = Vec::new();
    for step in &run.steps {
        let Some(line) = slow.remove(&step.number) else {
            continue;
        };
        let (inputs, outputs) = files.remove(&step.number).unwrap_or_default();
        let record = match (step.fate, step.execution) {
            (Fate::Ran | Fate::Refused, Some(execution)) => Some(history::rest(store, execution)?),
            _ => None,
        };
        let place = record.map(|record| record.provenance.placement);
        steps.push(Step {
            step: step.number,
            parent: step.parent,
            command: line.step.command,
            verdict: line.step.verdict,
            why: line.step.why,
            began_s: line.began_s,
            wall_s: line.wall_s,
            own_s: line.own_s,
            cpu: place
                .filter(|place| !place.cpus.is_empty())
                .map(|place| place.cpu),
            inputs,
            outputs,
        });
    }
    let numbers = |wanted| -> Result<Vec<log::Line>, Error> {
        Ok(log::steps(store, number, wanted, all)?.steps)
    };
    let critical = numbers(Wanted::CriticalPath)?.into_iter();
    let refused = numbers(Wanted::Refused)?.into_iter();
    Ok(Report {
        schema: "rfs.report/1",
        run: run.build.number,
        command: plain(&run.build.title),
        began: run.build.began,
        status: run.build.ended.map(|(status, _)| status),
        wall_s: run.build.ended.map(|(_, wall_us)| log::seconds(wall_us)),
        counts: stats::of_run(store, &run.build)?,
        steps,
        critical: critical.map(|line| line.step.step).collect(),
        refused: refused
            .map(|line| Refused {
                step: line.step.step,
                advice: advice::of(&line.step.why).advice,
                why: line.step.why,
            })
            .collect(),
    })
}

/// What a file of it is about.
impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "run {}: {}: {} {}",
            self.run,
            self.command,
            self.counts.steps,
            if self.counts.steps == 1 {
                "step"
            } else {
                "steps"
            }
        )
    }
}
