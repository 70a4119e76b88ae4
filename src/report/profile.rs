//! Where the time of a build went: `rfs.profile/1` for programs, the dearest steps for people, and a Chrome
//! trace (the Trace Event Format of about:tracing and Perfetto) with a lane for each processor.

use super::{Calls, Step, Verdict, duration, explain, size};
use crate::base::{Cost, Held, Placement};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Name and version of the format.
const SCHEMA: &str = "rfs.profile/1";
/// Groups of lanes in a trace.
const PROCESSORS: u32 = 1;
const AROUND: u32 = 2;

/// One build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    schema: String,
    /// Its steps, in order of start.
    pub steps: Vec<Line>,
    /// The calls that were watched.
    #[serde(default)]
    pub calls: Calls,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Number in order of start, from 0.
    pub number: u32,
    /// The step that started it.
    pub parent: Option<u32>,
    /// Its command.
    pub title: String,
    /// `hit`, `ran` or `refused`.
    pub verdict: String,
    /// Microseconds from the first step's start to its own.
    pub begin_us: u64,
    /// What it used.
    #[serde(flatten)]
    pub cost: Cost,
    /// Where it ran.
    #[serde(flatten)]
    pub placement: Placement,
    /// What it had to wait for before it began.
    #[serde(flatten)]
    pub held: Option<Held>,
}

impl Profile {
    /// Of the steps of a build.
    #[must_use]
    pub fn of(steps: &[Step], calls: Calls) -> Self {
        let first = steps.iter().map(|step| step.began).min().unwrap_or(0);
        let mut lines: Vec<Line> = steps.iter().map(|step| line(step, first)).collect();
        lines.sort_by_key(|line| line.number);
        Self {
            schema: SCHEMA.to_owned(),
            steps: lines,
            calls,
        }
    }

    /// Reads what [`Self::json`] wrote.
    ///
    /// # Errors
    /// When it is something else: a reason for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if profile.schema == SCHEMA {
            Ok(profile)
        } else {
            Err(format!(
                "it is of schema {:?}, not {SCHEMA}",
                profile.schema
            ))
        }
    }

    /// As one line.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("BUG: plain values make JSON")
    }

    /// The steps that took longest, and what each used.
    #[must_use]
    pub fn text(&self, at_most: usize) -> String {
        let mut steps: Vec<&Line> = self.steps.iter().collect();
        steps.sort_by_key(|line| (std::cmp::Reverse(line.cost.wall_us), line.number));
        let mut text = format!(
            "{:>9} {:>9} {:>10} {:>7} {:>8}  {:<12} command",
            "time", "CPU", "memory", "faults", "switches", "ran on"
        );
        for line in steps.into_iter().take(at_most) {
            let place = match (&line.placement.asked, line.verdict.as_str()) {
                (_, "hit") => "(served)".to_owned(),
                (Some(asked), _) => format!("{} of {asked}", line.placement.cpu),
                (None, _) => format!("{} of {}", line.placement.cpu, line.placement.cpus),
            };
            text.push_str(&format!(
                "\n{:>9} {:>9} {:>10} {:>7} {:>8}  {place:<12} {}{}",
                time(line.cost.wall_us),
                time(line.cost.cpu_us),
                size::text(line.cost.peak_bytes),
                line.cost.major_faults,
                line.cost.switches,
                explain::plain(&line.title),
                line.held.as_ref().map_or_else(String::new, |held| {
                    format!(" ({})", explain::waited(held))
                }),
            ));
        }
        text
    }

    /// The trace. A step without steps inside it lies in the lane of the processor on which it ended, or in
    /// another one of that processor where two were there in turn; those around lie in a group of their own.
    #[must_use]
    pub fn trace(&self) -> String {
        let parents: BTreeSet<u32> = self.steps.iter().filter_map(|line| line.parent).collect();
        let mut lanes: BTreeMap<(u32, u32), Vec<u64>> = BTreeMap::new();
        let mut events: Vec<Value> = Vec::new();
        let mut steps: Vec<&Line> = self.steps.iter().collect();
        steps.sort_by_key(|line| (line.begin_us, line.number));
        for line in steps {
            let computes = !parents.contains(&line.number) && line.verdict != "hit";
            let (group, key) = match computes {
                true => (PROCESSORS, line.placement.cpu),
                false => (AROUND, 0),
            };
            let ends = lanes.entry((group, key)).or_default();
            let end = line.begin_us + line.cost.wall_us;
            let lane = match ends.iter().position(|&last| last <= line.begin_us) {
                Some(free) => free,
                None => {
                    ends.push(0);
                    ends.len() - 1
                }
            };
            ends[lane] = end;
            events.push(event(line, group, lane_id(key, lane)));
        }
        for ((group, key), ends) in &lanes {
            for lane in 0..ends.len() {
                let name = match (*group, lane) {
                    (PROCESSORS, 0) => format!("cpu {key}"),
                    (PROCESSORS, _) => format!("cpu {key} ({})", lane + 1),
                    _ => format!("around {lane}"),
                };
                let id = lane_id(*key, lane);
                events.push(named("thread_name", *group, id, &name));
            }
        }
        events.push(named("process_name", PROCESSORS, 0, "processors"));
        events.push(named(
            "process_name",
            AROUND,
            0,
            "steps around others, and served ones",
        ));
        json!({"traceEvents": events, "displayTimeUnit": "ms"}).to_string()
    }
}

/// Lanes are sorted by their number.
fn lane_id(key: u32, lane: usize) -> u64 {
    u64::from(key) * 1000 + lane as u64
}

fn event(line: &Line, group: u32, lane: u64) -> Value {
    json!({
        "ph": "X", "pid": group, "tid": lane, "ts": line.begin_us, "dur": line.cost.wall_us,
        "name": line.title, "cat": line.verdict, "args": line,
    })
}

fn named(what: &str, group: u32, lane: u64, name: &str) -> Value {
    json!({"ph": "M", "pid": group, "tid": lane, "name": what, "args": {"name": name}})
}

fn line(step: &Step, first: i64) -> Line {
    let verdict = match step.verdict {
        Verdict::Hit => "hit",
        Verdict::Ran(_) => "ran",
        Verdict::Refused(_) => "refused",
    };
    Line {
        number: step.number,
        parent: step.parent,
        title: step.title.clone(),
        verdict: verdict.to_owned(),
        begin_us: u64::try_from((step.began - first) / 1000).unwrap_or(0),
        cost: Cost {
            wall_us: step.wall_us,
            ..step.cost
        },
        placement: step.placement.clone(),
        held: step.held.clone(),
    }
}

fn time(us: u64) -> String {
    duration::text(Duration::from_micros(us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Miss;

    fn step(number: u32, parent: Option<u32>, began: i64, wall_us: u64, cpu: u32) -> Step {
        let ran = Verdict::Ran(Miss::Unknown);
        Step {
            parent,
            began: 1_000_000_000 + began * 1000,
            wall_us,
            cost: Cost {
                cpu_us: 7,
                ..Cost::default()
            },
            placement: Placement {
                cpu,
                ..Placement::default()
            },
            ..Step::of(number, &format!("cc {number}"), ran)
        }
    }

    fn profile() -> Profile {
        let mut held = step(1, Some(0), 10, 50, 3);
        held.held = Some(Held {
            held_us: 3_000_000,
            held_by: "memory".to_owned(),
        });
        Profile::of(
            &[
                held,
                step(2, Some(0), 20, 50, 3),
                step(3, Some(0), 60, 10, 3),
                step(0, None, 0, 100, 1),
            ],
            Calls::default(),
        )
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Profile::parse(&profile().json()), Ok(profile()));
        Profile::parse("{\"schema\":\"x\",\"steps\":[]}").unwrap_err();
        Profile::parse("").unwrap_err();
    }

    #[test]
    fn the_longest_come_first() {
        let text = profile().text(2);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines[1].ends_with("cc 0") && lines[2].ends_with("cc 1 (held 3.0 s by memory)"),
            "{text}"
        );
    }

    #[test]
    fn what_is_in_one_lane_does_not_overlap() {
        let trace: Value = serde_json::from_str(&profile().trace()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let lane = |name: &str| {
            let event = events.iter().find(|event| event["name"] == name).unwrap();
            (
                event["pid"].as_u64().unwrap(),
                event["tid"].as_u64().unwrap(),
            )
        };
        assert_eq!(lane("cc 0"), (2, 0));
        assert_eq!(lane("cc 1"), (1, 3000));
        assert_eq!(lane("cc 2"), (1, 3001), "cc 1 still runs");
        assert_eq!(lane("cc 3"), (1, 3000));
        let names: Vec<&str> = events
            .iter()
            .filter(|event| event["name"] == "thread_name")
            .map(|event| event["args"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["cpu 3", "cpu 3 (2)", "around 0"]);
    }
}
