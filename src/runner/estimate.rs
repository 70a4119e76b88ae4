//! What a build would move on a machine: its recorded steps are laid out in time on the slots of a plan, and the
//! bytes are counted that a step reads from a file that its cache, or its memory node, does not have yet. Pure.
//!
//! A model, not a measurement: caches never forget, and time is that of the recording.

use super::slots::Slot;
use crate::base::topology::{Kind, Machine, Object};
use crate::base::{Access, Digest, Name, Record, State, What};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// How a step is given a slot, of those that are free first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The one that is free first, whatever the step reads.
    First,
    /// Of those that are free when the step can start, the one that has most of what it reads.
    Nearest,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// How slots were given.
    pub choice: Choice,
    /// Steps.
    pub steps: usize,
    /// Bytes read by all steps together.
    pub read: u64,
    /// Of these, such as another of the largest caches had and the step's own had not.
    pub caches: u64,
    /// Of these, such as another memory node had and the step's own had not.
    pub nodes: u64,
    /// Microseconds from the first start to the last end.
    pub wall_us: u64,
}

/// A step: what it reads and writes, by content, with sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Microseconds.
    pub wall_us: u64,
    /// Files that it reads.
    pub reads: Vec<(Digest, u64)>,
    /// Files that it makes.
    pub makes: Vec<(Digest, u64)>,
}

impl Work {
    /// Of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let made: HashSet<&Name> = record.outputs.iter().map(|output| &output.name).collect();
        let read = record
            .deps
            .iter()
            .filter(|dep| dep.access.has(Access::REG) && !made.contains(&dep.name));
        let reads = read.filter_map(|dep| {
            let State::File { size, digest, .. } = &dep.state else {
                return None;
            };
            Some(((*digest)?, *size))
        });
        let makes = record.outputs.iter().filter_map(|output| {
            let What::File { digest, size, .. } = &output.what else {
                return None;
            };
            Some((*digest, *size))
        });
        Self {
            wall_us: record.cost.wall_us,
            reads: reads.collect(),
            makes: makes.collect(),
        }
    }
}

/// Lays the steps out. One that reads what another makes starts after that one; slots must not be none.
#[must_use]
pub fn moved(machine: &Machine, slots: &[Slot], steps: &[Work], choice: Choice) -> Moved {
    let (caches, nodes) = (machine.last_caches(), machine.of_kind(Kind::Numa));
    let part = |objects: &[&Object], slot: &Slot| {
        objects
            .iter()
            .position(|object| object.cpus.meets(&slot.cpus))
            .unwrap_or(0)
    };
    let home: Vec<(usize, usize)> = slots
        .iter()
        .map(|slot| (part(&caches, slot), part(&nodes, slot)))
        .collect();
    let makers: HashMap<&Digest, usize> = steps
        .iter()
        .enumerate()
        .flat_map(|(at, step)| step.makes.iter().map(move |(file, _)| (file, at)))
        .collect();
    let mut free = vec![0_u64; slots.len()];
    let mut ended: Vec<Option<u64>> = vec![None; steps.len()];
    let mut has: HashMap<Digest, (HashSet<usize>, HashSet<usize>)> = HashMap::new();
    let mut moved = Moved {
        choice,
        steps: steps.len(),
        read: 0,
        caches: 0,
        nodes: 0,
        wall_us: 0,
    };
    let mut left: Vec<usize> = (0..steps.len()).collect();
    while !left.is_empty() {
        // When each could start; one that waits for another that is left, not yet, but in a circle.
        let ready = |at: &usize| -> Option<u64> {
            let makers = steps[*at]
                .reads
                .iter()
                .filter_map(|(file, _)| makers.get(file));
            makers
                .filter(|maker| *maker != at)
                .try_fold(0, |last: u64, maker| Some(last.max(ended[*maker]?)))
        };
        let next = left
            .iter()
            .enumerate()
            .filter_map(|(i, at)| Some((ready(at)?, i)))
            .min()
            .unwrap_or((0, 0));
        let (start, at) = (next.0, left.remove(next.1));
        let step = &steps[at];
        let first = free.iter().copied().min().unwrap_or(0).max(start);
        let near = |slot: usize| -> u64 {
            let here = |file: &Digest| {
                has.get(file)
                    .is_some_and(|(caches, _)| caches.contains(&home[slot].0))
            };
            step.reads
                .iter()
                .filter(|(file, _)| here(file))
                .map(|(_, size)| size)
                .sum()
        };
        let candidates = (0..slots.len()).filter(|slot| free[*slot] <= first);
        let slot = match choice {
            Choice::First => candidates.min_by_key(|slot| (free[*slot], *slot)),
            Choice::Nearest => {
                candidates.max_by_key(|slot| (near(*slot), std::cmp::Reverse(*slot)))
            }
        };
        let slot = slot.unwrap_or(0);
        let (cache, node) = home[slot];
        for (file, size) in &step.reads {
            moved.read += size;
            let (in_caches, on_nodes) = has.entry(*file).or_default();
            // What nobody has comes from the disk, wherever the step is.
            moved.caches += if in_caches.insert(cache) && in_caches.len() > 1 {
                *size
            } else {
                0
            };
            moved.nodes += if on_nodes.insert(node) && on_nodes.len() > 1 {
                *size
            } else {
                0
            };
        }
        for (file, _) in &step.makes {
            has.insert(*file, (HashSet::from([cache]), HashSet::from([node])));
        }
        free[slot] = first + step.wall_us;
        ended[at] = Some(free[slot]);
        moved.wall_us = moved.wall_us.max(free[slot]);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::slots::{Policy, plan};
    use crate::runner::topology::{Source, read};

    fn file(name: &str, size: u64) -> (Digest, u64) {
        (Digest::of(name.as_bytes()), size)
    }

    fn step(reads: &[(Digest, u64)], makes: &[(Digest, u64)]) -> Work {
        Work {
            wall_us: 10,
            reads: reads.to_vec(),
            makes: makes.to_vec(),
        }
    }

    /// Two pairs of steps, each second one reading what the first one made; a header that all read.
    #[test]
    fn what_is_far_is_counted() {
        let machine = read(&Source::Synthetic(
            "pack:2 numa:1 l3:1 core:1 pu:1".to_owned(),
        ))
        .unwrap();
        let slots = plan(&machine, &machine.allowed, 2, Policy::Pack);
        let header = file("h", 1);
        let steps = [
            step(&[header], &[file("a.o", 100)]),
            step(&[header], &[file("b.o", 1000)]),
            step(&[file("b.o", 1000)], &[file("b", 5)]),
            step(&[file("a.o", 100)], &[file("a", 5)]),
        ];
        let first = moved(&machine, &slots, &steps, Choice::First);
        assert_eq!((first.steps, first.read, first.wall_us), (4, 1102, 20));
        assert_eq!(
            (first.caches, first.nodes),
            (1101, 1101),
            "each is where the other's input is"
        );
        let nearest = moved(&machine, &slots, &steps, Choice::Nearest);
        assert_eq!((nearest.caches, nearest.nodes), (1, 1), "the header alone");
        let one = plan(&machine, &machine.allowed, 1, Policy::Pack);
        let alone = moved(&machine, &one, &steps, Choice::First);
        assert_eq!((alone.caches, alone.nodes, alone.wall_us), (0, 0, 40));
    }

    #[test]
    fn a_circle_ends() {
        let machine = read(&Source::Synthetic("core:2 pu:1".to_owned())).unwrap();
        let slots = plan(&machine, &machine.allowed, 2, Policy::Pack);
        let (a, b) = (file("a", 1), file("b", 1));
        let moved = moved(
            &machine,
            &slots,
            &[step(&[a], &[b]), step(&[b], &[a])],
            Choice::First,
        );
        assert_eq!(moved.steps, 2);
    }
}
