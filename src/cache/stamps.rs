//! Time stamps of served outputs: in the recorded order, and in order with everything else.
//!
//! What matters is how later comparisons come out. A served output must not be older than anything made
//! before it was served, nor newer than anything made afterwards. The kernel stamps files with a clock
//! that ticks every few milliseconds, so a time taken from a finer clock could be newer than what a
//! program writes a moment later. Therefore the time is taken from the filesystem itself, by touching a
//! file before and after, and the outputs are spread over what lies between.

use crate::disk::{self, Disk};
use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Between two ranks, ns, where there is room.
const STEP: i64 = 1000;
/// How often the clock is looked at, a millisecond apart, until it ticks.
const LOOKS: u32 = 20;

/// The clock of the filesystem on which `probe` lies, and what it said at the beginning.
#[derive(Debug)]
pub(super) struct Clock<'a> {
    disk: &'a dyn Disk,
    probe: &'a Path,
    start: i64,
}

impl<'a> Clock<'a> {
    /// Looks at the clock before the first output is made.
    pub(super) fn start(disk: &'a dyn Disk, probe: &'a Path) -> Result<Self, disk::Error> {
        let start = disk.touch(probe)?;
        Ok(Self { disk, probe, start })
    }

    /// A time stamp for each rank, all of them after the start and none in the future. Different ranks get
    /// different ones, unless the clock stands still.
    pub(super) fn times(&self, ranks: BTreeSet<u32>) -> Result<Times, disk::Error> {
        let ranks: Vec<u32> = ranks.into_iter().collect();
        let gaps = i64::try_from(ranks.len().saturating_sub(1)).unwrap_or(i64::MAX);
        let mut now = self.disk.touch(self.probe)?;
        for _ in 0..LOOKS {
            if now - self.start >= gaps {
                break;
            }
            thread::sleep(Duration::from_millis(1));
            now = self.disk.touch(self.probe)?;
        }
        let step = step(now - self.start, gaps);
        Ok(Times { now, step, ranks })
    }
}

/// Time stamps by ranks.
#[derive(Debug)]
pub(super) struct Times {
    now: i64,
    step: i64,
    ranks: Vec<u32>,
}

impl Times {
    /// The time stamp of a rank; the same for the same one.
    pub(super) fn of(&self, rank: u32) -> i64 {
        let after = self.ranks.partition_point(|other| *other <= rank);
        let before = i64::try_from(self.ranks.len() - after).unwrap_or(i64::MAX);
        self.now.saturating_sub(before.saturating_mul(self.step))
    }
}

/// Nanoseconds between two neighbours of `gaps + 1` when they must lie within `room`.
fn step(room: i64, gaps: i64) -> i64 {
    room.checked_div(gaps).unwrap_or(0).clamp(0, STEP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn steps_fit_into_the_room() {
        assert_eq!(step(1_000_000, 2), STEP);
        assert_eq!(step(1000, 10), 100);
        assert_eq!(step(5, 10), 0);
        assert_eq!(step(-5, 10), 0);
        assert_eq!(step(5, 0), 0);
    }

    #[test]
    fn order_is_kept_among_the_files_and_with_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let make = |name: &str| drop(fs::File::create(at(name)).unwrap());
        let mtime = |name: &str| {
            let meta = fs::metadata(at(name)).unwrap();
            meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
        };
        make("before");
        let clock = Clock::start(&RealDisk, dir.path()).unwrap();
        let ranked = [(9, "c"), (2, "a"), (2, "a2"), (5, "b")];
        ranked.iter().for_each(|(_, name)| make(name));
        let times = clock.times(ranked.iter().map(|(rank, _)| *rank).collect());
        let times = times.unwrap();
        for (rank, name) in ranked {
            RealDisk.set_mtime(&at(name), times.of(rank)).unwrap();
        }
        make("after");
        assert!(mtime("before") <= mtime("a"));
        assert!(mtime("a") == mtime("a2"));
        assert!(mtime("a") < mtime("b") && mtime("b") < mtime("c"));
        assert!(mtime("c") <= mtime("after"));
    }
}
