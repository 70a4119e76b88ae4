//! Where jobs go: a machine, what may be used of it, and a policy give a list of slots. Pure.

use crate::base::cpuset::CpuSet;
use crate::base::topology::{Kind, Machine, Object};
use serde::Serialize;
use std::fmt;

/// How jobs are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Everywhere that is allowed; the kernel decides.
    None,
    /// As far from each other as can be, each with its share of the tree (as hwloc-distrib does).
    Spread,
    /// One processor each, neighbours next to each other, a core filled before the next.
    Pack,
    /// One core each, with all its threads.
    Core,
    /// One of the largest caches each, several jobs to a cache when there are more.
    Cache,
    /// One memory node each, several jobs to a node when there are more.
    Numa,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Spread,
        Self::Pack,
        Self::Core,
        Self::Cache,
        Self::Numa,
    ];
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Spread => "spread",
            Self::Pack => "pack",
            Self::Core => "core",
            Self::Cache => "cache",
            Self::Numa => "numa",
        })
    }
}

/// Room for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// The processors it may use. Never empty.
    pub cpus: CpuSet,
    /// The memory nodes near them.
    pub nodes: CpuSet,
    /// What it is, as a location that `--bind` takes where there is one.
    pub place: String,
}

/// One slot for each of `jobs` jobs, in the order in which they should be filled.
///
/// Slots overlap only where there are more jobs than things to have for oneself; then each thing is used
/// again only after all others were.
///
/// Invariants: every slot lies within what is allowed, and none is empty, unless nothing is allowed.
#[must_use]
pub fn plan(machine: &Machine, allowed: &CpuSet, jobs: usize, policy: Policy) -> Vec<Slot> {
    let pus = machine.of_kind(Kind::Pu);
    let things: Vec<(CpuSet, String)> = match policy {
        Policy::None => Vec::new(),
        Policy::Spread => distribute(&machine.root, allowed, jobs)
            .into_iter()
            .map(|cpus| {
                let place = format!("cpus {cpus}");
                (cpus, place)
            })
            .collect(),
        Policy::Pack => by_strength(machine, named(&pus, allowed)),
        Policy::Core => by_strength(machine, named(&cores(machine, pus), allowed)),
        Policy::Cache => named(&machine.last_caches(), allowed),
        Policy::Numa => named(&machine.of_kind(Kind::Numa), allowed),
    };
    let slot = |(cpus, place): &(CpuSet, String)| Slot {
        nodes: machine.nodes_near(cpus),
        cpus: cpus.clone(),
        place: place.clone(),
    };
    let everywhere = [(allowed.clone(), "anywhere".to_owned())];
    let things = if things.is_empty() {
        &everywhere[..]
    } else {
        &things
    };
    things.iter().cycle().take(jobs).map(slot).collect()
}

/// Cores; where the machine's description has none, processors.
fn cores<'a>(machine: &'a Machine, pus: Vec<&'a Object>) -> Vec<&'a Object> {
    let cores = machine.of_kind(Kind::Core);
    if cores.is_empty() { pus } else { cores }
}

/// What of these objects may be used, each with its name.
fn named(objects: &[&Object], allowed: &CpuSet) -> Vec<(CpuSet, String)> {
    let usable = objects.iter().map(|object| {
        let kind = if object.kind == Kind::Numa {
            "numa".to_owned()
        } else {
            object.kind.to_string().to_lowercase()
        };
        (
            object.cpus.and(allowed),
            format!("{kind}:{}", object.logical),
        )
    });
    usable.filter(|(cpus, _name)| !cpus.is_empty()).collect()
}

/// The strongest kind of core first, otherwise in the tree's order.
fn by_strength(machine: &Machine, mut things: Vec<(CpuSet, String)>) -> Vec<(CpuSet, String)> {
    let strength = |cpus: &CpuSet| machine.kinds.iter().position(|kind| kind.meets(cpus));
    things.sort_by_key(|(cpus, _name)| std::cmp::Reverse(strength(cpus)));
    things
}

/// hwloc_distrib(): each child of an object gets a share of the jobs in proportion to its processors, and
/// so on down to where one job is left, which gets the whole of it, or nothing is to be divided.
fn distribute(object: &Object, allowed: &CpuSet, jobs: usize) -> Vec<CpuSet> {
    let mut sets = Vec::with_capacity(jobs);
    distribute_among(std::slice::from_ref(object), allowed, jobs, &mut sets);
    sets
}

fn distribute_among(objects: &[Object], allowed: &CpuSet, jobs: usize, sets: &mut Vec<CpuSet>) {
    let weights: Vec<usize> = objects
        .iter()
        .map(|object| object.cpus.and(allowed).len())
        .collect();
    let total: usize = weights.iter().sum();
    if total == 0 {
        return;
    }
    let (mut weight_so_far, mut given) = (0, 0);
    for (object, weight) in objects.iter().zip(weights) {
        if weight == 0 {
            continue;
        }
        // Rounded up over all that came before, so that exactly all jobs are given in the end.
        weight_so_far += weight;
        let share = (weight_so_far * jobs).div_ceil(total) - given;
        given += share;
        let cpus = object.cpus.and(allowed);
        if share == 0 {
            // Too small for a job of its own: it is given to the one before, not left idle.
            if let Some(last) = sets.last_mut() {
                *last = last.or(&cpus);
            }
        } else if object.children.is_empty() || share <= 1 {
            sets.extend(std::iter::repeat_n(cpus, share));
        } else {
            distribute_among(&object.children, allowed, share, sets);
        }
    }
}

#[cfg(test)]
mod tests;
