//! `rfs log`: the runs that are known, and of one run what ran, failed, was refused, took long, or decided how
//! long it took.

use super::run::{Run, StepRef};
use super::{Error, needs};
use crate::report::duration;
use crate::report::explain::plain;
use crate::store::graph::{self, Build, Fate, Step};
use crate::store::{Snapshot, history};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// Lines of what a failed step printed, at most.
const MAX_LINES: usize = 20;

/// The runs that are known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Runs {
    schema: &'static str,
    /// The newest first.
    pub runs: Vec<RunLine>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunLine {
    /// Its number.
    pub run: u32,
    /// Seconds since 1970 at its start.
    pub began: i64,
    /// Its command.
    pub command: String,
    /// Exit status, or the negative number of a signal; none if it was killed together with rfs.
    pub status: Option<i32>,
    /// Seconds from start to end.
    pub wall_s: Option<f64>,
    /// Steps that were served.
    pub hit: usize,
    /// Steps that ran.
    pub ran: usize,
    /// Steps that ran and may not be cached.
    pub refused: usize,
}

/// Which steps are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those that ran, in the order in which they started.
    Ran,
    /// Those that failed, the innermost ones, with what they printed.
    Failed,
    /// Those that took longest by themselves.
    Slow,
    /// Those that may not be cached, the innermost ones.
    Refused,
    /// The longest chain in which each needed what the one before had written.
    CriticalPath,
}

/// Steps of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Log {
    schema: &'static str,
    /// The number of the run.
    pub run: u32,
    /// What was asked for.
    pub what: &'static str,
    /// The steps.
    pub steps: Vec<Line>,
    /// Seconds that they took together, each without those that it started.
    pub own_s: f64,
    /// Seconds that the run took.
    pub wall_s: Option<f64>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Which one.
    #[serde(flatten)]
    pub step: StepRef,
    /// Seconds from the start of the run to its start.
    pub began_s: f64,
    /// Seconds from start to end.
    pub wall_s: f64,
    /// The same without the steps that it started.
    pub own_s: f64,
    /// Exit status.
    pub status: Option<i32>,
    /// What it printed to standard error, of one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub printed: Option<String>,
}

/// The newest runs.
///
/// # Errors
/// Nothing was built, or the store is damaged.
pub fn runs(store: &Snapshot, max: usize) -> Result<Runs, Error> {
    let mut builds = graph::builds(store)?;
    if builds.is_empty() {
        return Err(Error::NoRuns);
    }
    builds.reverse();
    Ok(Runs {
        schema: "rfs.log/1",
        runs: builds.into_iter().take(max).map(run_line).collect(),
    })
}

fn run_line(build: Build) -> RunLine {
    let n_ran = build
        .n_steps
        .saturating_sub(build.n_served.saturating_add(build.n_refused));
    RunLine {
        run: build.number,
        began: build.began,
        command: plain(&build.title),
        status: build.ended.map(|(status, _)| status),
        wall_s: build.ended.map(|(_, wall_us)| seconds(wall_us)),
        hit: build.n_served as usize,
        ran: n_ran as usize,
        refused: build.n_refused as usize,
    }
}

/// Some steps of a run, at most `max`.
///
/// # Errors
/// There is no such run, or the store is damaged.
pub fn steps(store: &Snapshot, run: Option<u32>, wanted: Wanted, max: usize) -> Result<Log, Error> {
    let run = Run::open(store, run)?;
    let all = 0..run.steps.len();
    let mut places: Vec<usize> = match wanted {
        Wanted::Ran => all
            .filter(|place| run.steps[*place].fate != Fate::Served)
            .collect(),
        Wanted::Failed => failed(&run),
        Wanted::Slow => {
            let mut slow: Vec<_> = all.collect();
            let own = own_times(&run, &slow);
            slow.sort_by_key(|place| std::cmp::Reverse(own[*place]));
            slow
        }
        Wanted::Refused => refused(&run),
        Wanted::CriticalPath => needs::critical(&run)?,
    };
    places.truncate(max);
    let own = own_times(&run, &places);
    let lines = places.iter().zip(&own).map(|(place, own_us)| {
        let step = &run.steps[*place];
        line(&run, step, *own_us, wanted == Wanted::Failed)
    });
    let own_us = own.iter().sum();
    Ok(Log {
        schema: "rfs.log/1",
        run: run.build.number,
        what: wanted.name(),
        steps: lines.collect::<Result<_, _>>()?,
        own_s: seconds(own_us),
        wall_s: run.build.ended.map(|(_, wall_us)| seconds(wall_us)),
    })
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Ran => "what-ran",
            Self::Failed => "failed",
            Self::Slow => "slow",
            Self::Refused => "refused",
            Self::CriticalPath => "critical-path",
        }
    }
}

/// Of steps at these places: microseconds that each took when none that it had started was running.
fn own_times(run: &Run<'_>, places: &[usize]) -> Vec<u64> {
    let mut wanted = vec![false; run.steps.len()];
    places.iter().for_each(|place| wanted[*place] = true);
    let mut inner: HashMap<usize, Vec<(i64, i64)>> = HashMap::new();
    for step in &run.steps {
        let parent = step.parent.and_then(|parent| run.place(parent));
        if let Some(parent) = parent.filter(|parent| wanted[*parent]) {
            let span = (step.began_us, needs::end(step));
            inner.entry(parent).or_default().push(span);
        }
    }
    let own = places.iter().map(|place| {
        let step = &run.steps[*place];
        let mut spans = inner.remove(place).unwrap_or_default();
        spans.sort_unstable();
        let (mut covered, mut reached) = (0, step.began_us);
        for (began, end) in spans {
            let end = end.min(needs::end(step));
            covered += (end - began.max(reached)).max(0);
            reached = reached.max(end);
        }
        step.wall_us
            .saturating_sub(u64::try_from(covered).unwrap_or(0))
    });
    own.collect()
}

/// Those that failed and in which no other one did.
fn failed(run: &Run<'_>) -> Vec<usize> {
    let all = 0..run.steps.len();
    let failed: Vec<usize> = all.filter(|place| run.steps[*place].status != 0).collect();
    let mut outer: HashSet<u32> = HashSet::new();
    for place in &failed {
        let mut next = run.steps[*place].parent;
        // What is around a known one is known.
        while let Some(number) = next.filter(|number| outer.insert(*number)) {
            next = run.step(number).ok().and_then(|step| step.parent);
        }
    }
    let inner = |place: &usize| !outer.contains(&run.steps[*place].number);
    failed.into_iter().filter(inner).collect()
}

/// Those that may not be cached, but for those that only hold another one which may not for the same reason.
fn refused(run: &Run<'_>) -> Vec<usize> {
    let is_refused = |place: &usize| run.steps[*place].fate == Fate::Refused;
    let all: Vec<usize> = (0..run.steps.len()).filter(is_refused).collect();
    let mut outer: HashSet<(u32, &str)> = HashSet::new();
    for place in &all {
        let why = run.steps[*place].why.as_str();
        let mut next = run.steps[*place].parent;
        while let Some(number) = next.filter(|number| outer.insert((*number, why))) {
            next = run.step(number).ok().and_then(|step| step.parent);
        }
    }
    let inner = |place: &usize| {
        let step = &run.steps[*place];
        !outer.contains(&(step.number, step.why.as_str()))
    };
    all.iter().copied().filter(inner).collect()
}

fn line(run: &Run<'_>, step: &Step, own_us: u64, printed: bool) -> Result<Line, Error> {
    let first = run.steps.first().map_or(0, |first| first.began_us);
    let record = step
        .execution
        .map(|one| history::rest(run.state, one))
        .transpose()?;
    let said = record.as_ref().filter(|_| printed).map(|record| {
        let errors = record.chunks.iter().filter(|chunk| chunk.fd == 2);
        let bytes: Vec<u8> = errors.flat_map(|chunk| chunk.bytes.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let began = u64::try_from(step.began_us.saturating_sub(first)).unwrap_or(0);
    Ok(Line {
        step: run.name(step)?,
        began_s: seconds(began),
        wall_s: seconds(step.wall_us),
        own_s: seconds(own_us),
        status: record.map(|record| record.status),
        printed: said,
    })
}

pub(super) fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

fn text(seconds: f64) -> String {
    duration::text(Duration::from_secs_f64(seconds))
}

impl Display for Runs {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "  run     hit     ran refused     time  status  command")?;
        for run in &self.runs {
            let wall = run.wall_s.map_or_else(|| "-".to_owned(), text);
            let status = run
                .status
                .map_or_else(|| "killed".to_owned(), |n| n.to_string());
            write!(
                f,
                "\n{:>5} {:>7} {:>7} {:>7} {wall:>8}  {status:>6}  {}",
                run.run, run.hit, run.ran, run.refused, run.command
            )?;
        }
        Ok(())
    }
}

impl Display for Log {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "run {}: {}: {} steps, {}",
            self.run,
            self.what,
            self.steps.len(),
            text(self.own_s)
        )?;
        if let Some(wall) = self.wall_s {
            write!(f, " of {}", text(wall))?;
        }
        for line in &self.steps {
            let StepRef {
                step, command, why, ..
            } = &line.step;
            write!(f, "\n{step:>5} {:>8}  {command}", text(line.own_s))?;
            match line.step.verdict {
                "ran" if !why.is_empty() => write!(f, ": because {why}")?,
                "refused" => write!(f, ": refused: {why}")?,
                _ => (),
            }
            if let Some(printed) = &line.printed {
                let status = line.status.unwrap_or(0);
                write!(f, "\n      exit status {status}")?;
                for said in printed.lines().take(MAX_LINES) {
                    write!(f, "\n      | {}", plain(said))?;
                }
            }
        }
        Ok(())
    }
}
