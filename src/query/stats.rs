//! `rfs stats`: counts over all runs that are known and of the last one, for people, as JSON, and in the text
//! format of Prometheus (version 0.0.4).

use super::Error;
use crate::report::{advice, duration, explain::plain};
use crate::store::Snapshot;
use crate::store::graph::{self, Fate, Step};
use crate::store::history::{self, Execution};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::time::Duration;

/// Tools that are told to people, at most.
const MAX_TOLD: usize = 20;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    schema: &'static str,
    /// The last run.
    pub last: Counts,
    /// All runs that are known.
    pub all: Counts,
}

/// Counts over some runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Counts {
    /// The number of the first run.
    pub first: u32,
    /// The number of the last run.
    pub last: u32,
    /// Seconds since 1970 at the start of the last run.
    pub began: i64,
    /// Runs.
    pub builds: u64,
    /// Runs whose command was served as a whole.
    pub whole_hits: u64,
    /// Runs that ended with another status than 0, or were killed together with rfs.
    pub failed: u64,
    /// Steps: the sum of the three below.
    pub steps: u64,
    /// Steps that were served.
    pub hit: u64,
    /// Steps that ran.
    pub ran: u64,
    /// Steps that ran and may not be cached.
    pub refused: u64,
    /// Seconds from start to end, of all runs together.
    pub wall_s: f64,
    /// Seconds of work that hits have saved.
    pub saved_s: f64,
    /// Refused steps by kind of reason, the innermost ones.
    pub refused_by_reason: Vec<Reason>,
    /// By tool, those of the most steps first.
    pub tools: Vec<Tool>,
}

/// A kind of refusals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Its name.
    pub kind: &'static str,
    /// Steps.
    pub steps: u64,
    /// What can be done.
    pub advice: &'static str,
}

/// A program, by its name without directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tool {
    /// The name.
    pub tool: String,
    /// Its steps that were served.
    pub hit: u64,
    /// Its steps that ran.
    pub ran: u64,
    /// Its steps that ran and may not be cached.
    pub refused: u64,
    /// Part of its steps that were served, from 0 to 1.
    pub hit_rate: f64,
    /// Seconds of work that its hits have saved.
    pub saved_s: f64,
}

/// Of all runs that are known.
///
/// # Errors
/// Nothing was built, or the store is damaged.
pub fn stats(store: &Snapshot) -> Result<Stats, Error> {
    let builds = graph::builds(store)?;
    let last = builds.last().map(|build| build.number);
    let last = last.ok_or(Error::NoRuns)?;
    let (mut of_all, mut of_last) = (Counting::default(), Counting::default());
    let mut known = HashMap::new();
    for build in &builds {
        let steps = graph::steps(store, build.number)?;
        of_all.build(store, build, &steps, &mut known)?;
        if build.number == last {
            of_last.build(store, build, &steps, &mut known)?;
        }
    }
    Ok(Stats {
        schema: "rfs.stats/1",
        last: of_last.counts(),
        all: of_all.counts(),
    })
}

/// Of one run.
///
/// # Errors
/// The store is damaged.
pub(super) fn of_run(store: &Snapshot, build: &graph::Build) -> Result<Counts, Error> {
    let mut counting = Counting::default();
    let steps = graph::steps(store, build.number)?;
    counting.build(store, build, &steps, &mut Known::new())?;
    Ok(counting.counts())
}

/// What is needed of an execution: its tool, and microseconds from its start to its end when it ran.
type Known = HashMap<Execution, (String, u64)>;

#[derive(Debug, Default)]
struct Counting {
    counts: Counts,
    wall_us: u64,
    saved_us: u64,
    reasons: BTreeMap<advice::Advice, u64>,
    /// By tool: hit, ran, refused, microseconds saved.
    tools: BTreeMap<String, ([u64; 3], u64)>,
}

impl Counting {
    fn build(
        &mut self,
        store: &Snapshot,
        build: &graph::Build,
        steps: &[Step],
        known: &mut Known,
    ) -> Result<(), Error> {
        let counts = &mut self.counts;
        counts.builds += 1;
        if counts.first == 0 {
            counts.first = build.number;
        }
        (counts.last, counts.began) = (build.number, build.began);
        let (status, wall_us) = build.ended.unwrap_or((-1, 0));
        counts.failed += u64::from(status != 0);
        self.wall_us += wall_us;
        for step in steps {
            let counts = &mut self.counts;
            counts.steps += 1;
            let place = match step.fate {
                Fate::Served => 0,
                Fate::Ran => 1,
                Fate::Refused => 2,
            };
            *[&mut counts.hit, &mut counts.ran, &mut counts.refused][place] += 1;
            let is_hit = step.fate == Fate::Served;
            counts.whole_hits += u64::from(is_hit && step.parent.is_none());
            let (tool, took_us) = match step.execution {
                Some(execution) => tool(store, execution, known)?,
                None => ("-".to_owned(), 0),
            };
            let saved_us = match is_hit {
                true => took_us.saturating_sub(step.wall_us),
                false => 0,
            };
            self.saved_us += saved_us;
            let of_tool = self.tools.entry(tool).or_default();
            of_tool.0[place] += 1;
            of_tool.1 += saved_us;
        }
        for step in innermost_refused(steps) {
            *self.reasons.entry(advice::of(&step.why)).or_default() += 1;
        }
        Ok(())
    }

    fn counts(self) -> Counts {
        let reasons = self.reasons.into_iter().map(|(known, steps)| Reason {
            kind: known.kind,
            steps,
            advice: known.advice,
        });
        let mut reasons: Vec<_> = reasons.collect();
        reasons.sort_by_key(|reason| (std::cmp::Reverse(reason.steps), reason.kind));
        let tools = self.tools.into_iter();
        let tools = tools.map(|(tool, ([hit, ran, refused], saved_us))| Tool {
            hit_rate: hit as f64 / (hit + ran + refused) as f64,
            saved_s: seconds(saved_us),
            tool,
            hit,
            ran,
            refused,
        });
        let mut tools: Vec<_> = tools.collect();
        tools.sort_by_key(|tool| std::cmp::Reverse(tool.hit + tool.ran + tool.refused));
        Counts {
            wall_s: seconds(self.wall_us),
            saved_s: seconds(self.saved_us),
            refused_by_reason: reasons,
            tools,
            ..self.counts
        }
    }
}

/// Those that were refused themselves, not for one that they had started.
fn innermost_refused(steps: &[Step]) -> impl Iterator<Item = &Step> {
    let refused = || steps.iter().filter(|step| step.fate == Fate::Refused);
    let around: std::collections::HashSet<(u32, &str)> = refused()
        .filter_map(|step| Some((step.parent?, step.why.as_str())))
        .collect();
    refused().filter(move |step| !around.contains(&(step.number, step.why.as_str())))
}

fn tool(store: &Snapshot, execution: Execution, known: &mut Known) -> Result<(String, u64), Error> {
    if let Some(known) = known.get(&execution) {
        return Ok(known.clone());
    }
    let record = history::rest(store, execution)?;
    let program = Path::new(record.command.program.as_path());
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let found = (plain(&name), record.cost.wall_us);
    known.insert(execution, found.clone());
    Ok(found)
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

impl Counts {
    /// Part of the steps that were served, from 0 to 1.
    fn hit_rate(&self) -> f64 {
        match self.steps {
            0 => 0.0,
            steps => self.hit as f64 / steps as f64,
        }
    }
}

impl Stats {
    /// In the text format of Prometheus, for the textfile collector of its node exporter. All are gauges: what is
    /// forgotten of old runs is not counted any more.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let spans = [("last", &self.last), ("all", &self.all)];
        let mut metric = |name: &str, help: &str, of: &dyn Fn(&Counts) -> Vec<(String, f64)>| {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
            for (span, counts) in spans {
                for (labels, value) in of(counts) {
                    let comma = if labels.is_empty() { "" } else { "," };
                    text.push_str(&format!(
                        "{name}{{span=\"{span}\"{comma}{labels}}} {value}\n"
                    ));
                }
            }
        };
        let one = |value: f64| vec![(String::new(), value)];
        metric("rfs_builds", "Builds.", &|c| one(c.builds as f64));
        metric("rfs_builds_failed", "Builds that failed.", &|c| {
            one(c.failed as f64)
        });
        metric("rfs_builds_served", "Builds served as a whole.", &|c| {
            one(c.whole_hits as f64)
        });
        metric("rfs_steps", "Steps by what became of them.", &|c| {
            let fates = [("hit", c.hit), ("ran", c.ran), ("refused", c.refused)];
            let lines = fates.map(|(fate, n)| (label("verdict", fate), n as f64));
            lines.to_vec()
        });
        metric(
            "rfs_steps_refused",
            "Innermost refused steps by kind of reason.",
            &|c| {
                let reasons = c.refused_by_reason.iter();
                let lines = reasons.map(|one| (label("reason", one.kind), one.steps as f64));
                lines.collect()
            },
        );
        metric("rfs_build_seconds", "Time from start to end.", &|c| {
            one(c.wall_s)
        });
        metric("rfs_saved_seconds", "Work that hits have saved.", &|c| {
            one(c.saved_s)
        });
        metric(
            "rfs_hit_ratio",
            "Part of the steps that were served.",
            &|c| one(c.hit_rate()),
        );
        metric(
            "rfs_tool_steps",
            "Steps by program and what became of them.",
            &|c| {
                let mut lines = Vec::new();
                for tool in &c.tools {
                    let fates = [
                        ("hit", tool.hit),
                        ("ran", tool.ran),
                        ("refused", tool.refused),
                    ];
                    for (fate, n) in fates {
                        let labels = [label("tool", &tool.tool), label("verdict", fate)];
                        lines.push((labels.join(","), n as f64));
                    }
                }
                lines
            },
        );
        metric(
            "rfs_last_build_start_time_seconds",
            "Start of the last build since 1970.",
            &|c| one(c.began as f64),
        );
        text
    }
}

/// A label with its value, in which the format gives a meaning to three characters.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{name}=\"{}\"", value.replace('\n', "\\n"))
}

impl Display for Stats {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = |seconds: f64| duration::text(Duration::from_secs_f64(seconds));
        write!(f, "{:<24} {:>12} {:>12}", "", "last build", "all builds")?;
        let (last, all) = (&self.last, &self.all);
        let lines: [(&str, String, String); 9] = [
            ("builds", last.builds.to_string(), all.builds.to_string()),
            (
                "  served as a whole",
                last.whole_hits.to_string(),
                all.whole_hits.to_string(),
            ),
            ("  failed", last.failed.to_string(), all.failed.to_string()),
            ("steps", last.steps.to_string(), all.steps.to_string()),
            (
                "  hit",
                percent(last.hit, last.steps),
                percent(all.hit, all.steps),
            ),
            ("  ran", last.ran.to_string(), all.ran.to_string()),
            (
                "  refused",
                last.refused.to_string(),
                all.refused.to_string(),
            ),
            ("time", text(last.wall_s), text(all.wall_s)),
            ("work saved", text(last.saved_s), text(all.saved_s)),
        ];
        for (what, last, all) in lines {
            write!(f, "\n{what:<24} {last:>12} {all:>12}")?;
        }
        let tools = || all.tools.iter().take(MAX_TOLD);
        let longest = tools().map(|tool| tool.tool.chars().count()).max();
        let width = longest.unwrap_or_default().max(16);
        write!(
            f,
            "\n\n{:<width$} {:>8} {:>8} {:>8} {:>9} {:>9}",
            "tool", "hit", "ran", "refused", "hit rate", "saved"
        )?;
        for tool in tools() {
            write!(
                f,
                "\n{:<width$} {:>8} {:>8} {:>8} {:>8.0}% {:>9}",
                tool.tool,
                tool.hit,
                tool.ran,
                tool.refused,
                tool.hit_rate * 100.0,
                text(tool.saved_s)
            )?;
        }
        for reason in &all.refused_by_reason {
            write!(
                f,
                "\nrefused, {}: {} steps: {}",
                reason.kind, reason.steps, reason.advice
            )?;
        }
        Ok(())
    }
}

/// `12 (40%)`
fn percent(part: u64, whole: u64) -> String {
    match (part * 100).checked_div(whole) {
        Some(percent) => format!("{part} ({percent}%)"),
        None => part.to_string(),
    }
}
