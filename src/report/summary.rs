//! Counts of a build, as one line for people and as `rfs.summary/1` for programs.

use super::{Step, Verdict, duration};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// What became of the command as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Whole {
    /// It was served without being run.
    Hit,
    /// It was run.
    Ran,
}

/// The counts of one build. `steps` is the sum of the three below it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    schema: &'static str,
    /// Steps that were served or executed; programs folded into their parents do not count.
    pub steps: u64,
    /// Served.
    pub hit: u64,
    /// Executed because of a miss.
    pub ran: u64,
    /// Executed, and may not be cached.
    pub refused: u64,
    /// Seconds of work that hits have saved.
    pub saved_s: f64,
    /// Seconds from start to end.
    pub wall_s: f64,
    /// The command as a whole.
    pub whole: Whole,
}

impl Summary {
    /// Counts the steps of a build that took `wall`.
    #[must_use]
    pub fn of(steps: &[Step], wall: Duration) -> Self {
        let (mut hit, mut ran, mut refused, mut saved_us) = (0, 0, 0, 0_u64);
        let mut whole = Whole::Ran;
        for step in steps {
            match &step.verdict {
                Verdict::Hit => {
                    hit += 1;
                    saved_us = saved_us.saturating_add(step.saved_us);
                    if step.parent.is_none() {
                        whole = Whole::Hit;
                    }
                }
                Verdict::Ran(_) => ran += 1,
                Verdict::Refused(_) => refused += 1,
            }
        }
        Self {
            schema: "rfs.summary/1",
            steps: hit + ran + refused,
            hit,
            ran,
            refused,
            saved_s: Duration::from_micros(saved_us).as_secs_f64(),
            wall_s: round_to_us(wall).as_secs_f64(),
            whole,
        }
    }

    /// One JSON object on one line, with its line end.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("BUG: plain numbers make JSON");
        text.push('\n');
        text
    }
}

/// `412 steps: 398 hit, 12 ran, 2 refused; 14m12s of work saved; 9.8 s`
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.steps == 1 { "step" } else { "steps" };
        write!(
            f,
            "{} {noun}: {} hit, {} ran, {} refused; {} of work saved; {}",
            self.steps,
            self.hit,
            self.ran,
            self.refused,
            duration::text(Duration::from_secs_f64(self.saved_s)),
            duration::text(Duration::from_secs_f64(self.wall_s)),
        )
    }
}

fn round_to_us(wall: Duration) -> Duration {
    Duration::from_micros(u64::try_from(wall.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Miss, Refusal};

    fn step(number: u32, parent: Option<u32>, verdict: Verdict, saved_us: u64) -> Step {
        Step {
            parent,
            wall_us: 1,
            saved_us,
            ..Step::of(number, "cc -c a.c", verdict)
        }
    }

    #[test]
    fn counts_add_up() {
        let steps = [
            step(0, None, Verdict::Ran(Miss::Unknown), 0),
            step(1, Some(0), Verdict::Hit, 852_000_000),
            step(2, Some(0), Verdict::Refused(Refusal("network".into())), 0),
        ];
        let summary = Summary::of(&steps, Duration::from_millis(9_800));
        assert_eq!(
            summary.to_string(),
            "3 steps: 1 hit, 1 ran, 1 refused; 14m12s of work saved; 9.8 s"
        );
        assert_eq!(
            summary.json(),
            "{\"schema\":\"rfs.summary/1\",\"steps\":3,\"hit\":1,\"ran\":1,\"refused\":1,\
             \"saved_s\":852.0,\"wall_s\":9.8,\"whole\":\"ran\"}\n"
        );
    }

    #[test]
    fn a_whole_hit_is_one_step() {
        let summary = Summary::of(&[step(0, None, Verdict::Hit, 5)], Duration::ZERO);
        assert_eq!((summary.steps, summary.whole), (1, Whole::Hit));
        assert!(summary.to_string().starts_with("1 step: 1 hit"));
    }

    #[test]
    fn nothing_seen_is_a_run() {
        let summary = Summary::of(&[], Duration::ZERO);
        assert_eq!((summary.steps, summary.whole), (0, Whole::Ran));
    }
}
