//! How many looks at names the preload library noted, and which calls stopped instead and why.

use super::{duration, size};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The counts of a build.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Calls {
    /// Looks that were noted without a stop.
    pub noted: u64,
    /// Programs that were given the preload library.
    pub loaded: u64,
    /// The stops, the most frequent ones first.
    pub stopped: Vec<Stopped>,
    /// What rfs itself has used for them.
    #[serde(default)]
    pub own: Own,
}

/// What the process used that watches a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Own {
    /// Processor time of all its threads.
    pub cpu_us: u64,
    /// The most memory that it had.
    pub peak_bytes: u64,
    /// Names that it knows.
    pub names: u64,
}

/// Calls that stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The call's name.
    pub call: String,
    /// The name of the program that made it.
    pub program: String,
    /// Why, in one word of [`REASONS`].
    pub why: String,
    /// How often.
    pub times: u64,
}

/// The reasons, and what each means.
pub const REASONS: [(&str, &str); 6] = [
    (
        "acts",
        "changes something, starts or ends a program, uses what was inherited",
    ),
    (
        "no-library",
        "the program has no preload library: static, folded, or it is switched off",
    ),
    ("loader", "made before the preload library is at work"),
    (
        "inside",
        "made by the C library inside itself, without it, or in a form that is not noted",
    ),
    ("full", "the memory for notes was full"),
    ("shut", "the library may not note any more"),
];

impl Calls {
    /// How many calls stopped.
    #[must_use]
    pub fn stops(&self) -> u64 {
        self.stopped.iter().map(|stopped| stopped.times).sum()
    }

    /// As a table: the reasons, then the most frequent of the stops.
    #[must_use]
    pub fn text(&self, at_most: usize) -> String {
        let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
        for stopped in &self.stopped {
            *by_reason.entry(&stopped.why).or_default() += stopped.times;
        }
        let mut text = format!(
            "{} looks were noted by the preload library in {} programs, {} calls stopped",
            self.noted,
            self.loaded,
            self.stops()
        );
        for (why, meaning) in REASONS {
            if let Some(times) = by_reason.get(why) {
                text.push_str(&format!("\n{times:>9} {why:<10} {meaning}"));
            }
        }
        let Own {
            cpu_us,
            peak_bytes,
            names,
        } = self.own;
        text.push_str(&format!(
            "\nrfs itself used {} of processor time and {} of memory, for {names} names",
            duration::text(Duration::from_micros(cpu_us)),
            size::text(peak_bytes)
        ));
        text.push_str(&format!(
            "\n\n{:>9} {:<10} {:<18} program",
            "stops", "why", "call"
        ));
        for stopped in self.stopped.iter().take(at_most) {
            let program = super::explain::plain(&stopped.program);
            text.push_str(&format!(
                "\n{:>9} {:<10} {:<18} {program}",
                stopped.times, stopped.why, stopped.call
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_summed_and_the_most_frequent_come_first() {
        let stopped = |call: &str, why: &str, times| Stopped {
            call: call.to_owned(),
            program: "cc1".to_owned(),
            why: why.to_owned(),
            times,
        };
        let calls = Calls {
            noted: 7,
            loaded: 2,
            stopped: vec![
                stopped("openat", "loader", 30),
                stopped("unlink", "acts", 2),
                stopped("write", "acts", 1),
            ],
            own: Own::default(),
        };
        let text = calls.text(2);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("7 looks were noted"), "{text}");
        assert!(lines[0].ends_with("33 calls stopped"), "{text}");
        assert!(lines[1].trim_start().starts_with("3 acts"), "{text}");
        assert!(lines[2].trim_start().starts_with("30 loader"), "{text}");
        assert_eq!(lines.len(), 8, "{text}");
        assert!(lines[6].ends_with("openat             cc1"), "{text}");
    }
}
