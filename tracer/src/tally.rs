//! How many calls stopped, of which program and why, and how many looks did not have to.
//!
//! Counting must cost next to nothing: a cell for each row of the table and each reason, once for each
//! program. Nothing is decided by what is counted.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Counts, Stopped, Why};

/// So many programs are told apart by name.
const PROGRAMS: usize = 256;
/// The name of all others.
const OTHERS: &str = "(others)";

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The calls that there are, by row of the table; a stop of a call without a row comes after them.
    calls: Vec<&'static str>,
    programs: Mutex<BTreeMap<String, Arc<Program>>>,
    /// Looks that the preload library noted.
    pub(crate) noted: AtomicU64,
    /// Programs that were given the library.
    pub(crate) loaded: AtomicU64,
    /// Processes that got memory for notes.
    pub(crate) attached: AtomicU64,
}

/// The stops of one program.
#[derive(Debug)]
pub(crate) struct Program(Box<[AtomicU64]>);

impl Program {
    /// Counts a stop.
    pub(crate) fn stopped(&self, row: Option<usize>, why: Why) {
        let rows = self.0.len() / Why::ALL.len();
        let row = row.unwrap_or(rows - 1);
        if let Some(cell) = self.0.get(row * Why::ALL.len() + why as usize) {
            cell.fetch_add(1, Relaxed);
        }
    }
}

impl Tally {
    pub(crate) fn new(calls: Vec<&'static str>) -> Self {
        Self {
            calls,
            ..Self::default()
        }
    }

    /// Where the stops of a program are counted.
    pub(crate) fn program(&self, name: &str) -> Arc<Program> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = programs.contains_key(name) || programs.len() < PROGRAMS;
        let name = if known { name } else { OTHERS };
        if let Some(program) = programs.get(name) {
            return Arc::clone(program);
        }
        let cells = (self.calls.len() + 1) * Why::ALL.len();
        let program = Arc::new(Program((0..cells).map(|_| AtomicU64::new(0)).collect()));
        programs.insert(name.to_owned(), Arc::clone(&program));
        program
    }

    /// What was counted so far; of the stops the most frequent ones first.
    pub(crate) fn counts(&self) -> Counts {
        let programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stopped = Vec::new();
        for (name, program) in &*programs {
            for (at, cell) in program.0.iter().enumerate() {
                let times = cell.load(Relaxed);
                if times > 0 {
                    stopped.push(Stopped {
                        call: self.calls.get(at / Why::ALL.len()).unwrap_or(&"unknown"),
                        program: name.clone(),
                        why: Why::ALL[at % Why::ALL.len()],
                        times,
                    });
                }
            }
        }
        // Stable: what is equal stays in the order of programs and calls.
        stopped.sort_by_key(|stopped| std::cmp::Reverse(stopped.times));
        Counts {
            noted: self.noted.load(Relaxed),
            stopped,
            loaded: self.loaded.load(Relaxed),
            attached: self.attached.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_told_by_program_call_and_reason() {
        let tally = Tally::new(vec!["openat", "unlink"]);
        let cc = tally.program("cc");
        cc.stopped(Some(0), Why::Loader);
        tally.program("cc").stopped(Some(0), Why::Loader);
        cc.stopped(Some(1), Why::Acts);
        tally.program("as").stopped(None, Why::Acts);
        let told = tally.counts().stopped.into_iter();
        let told: Vec<_> = told.map(|s| (s.program, s.call, s.why, s.times)).collect();
        assert_eq!(
            told,
            [
                ("cc".to_owned(), "openat", Why::Loader, 2),
                ("as".to_owned(), "unknown", Why::Acts, 1),
                ("cc".to_owned(), "unlink", Why::Acts, 1),
            ]
        );
    }

    #[test]
    fn programs_without_number_are_counted_together() {
        let tally = Tally::new(vec!["openat"]);
        for n in 0..2 * PROGRAMS {
            tally.program(&n.to_string()).stopped(Some(0), Why::Inside);
        }
        let told = tally.counts().stopped;
        assert_eq!(told.len(), PROGRAMS + 1);
        assert_eq!(
            (&*told[0].program, told[0].times),
            (OTHERS, PROGRAMS as u64)
        );
    }
}
