//! Places on a machine as users write them: `core:0-3`, `pack:1.core:all`, `numa:0`, `gpu:0`, `os=eth0`,
//! `0x00ff`. The notation is hwloc-calc's, hwloc(7) "Locations"; numbers are logical ones.

use crate::base::cpuset::CpuSet;
use crate::base::topology::{Kind, Machine, Object};

/// A place that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Neither a kind of object nor a mask.
    #[error(
        "{0:?} is no place on a machine; a place looks like core:0-3, pack:1.core:all, os=eth0 or 0xff"
    )]
    Form(String),
    /// Unknown kind.
    #[error("{0:?} is no kind of object; there are {known}", known = Kind::names().collect::<Vec<_>>().join(", "))]
    Kind(String),
    /// Not one of the ways to number objects.
    #[error("{0:?} numbers no objects; one of 3, 0-3, 2-, 0,2, 1:4, all, even, odd does")]
    Numbers(String),
    /// There are fewer.
    #[error("there is no {kind} {wanted} in {within}: there are {there}")]
    Beyond {
        /// The kind.
        kind: Kind,
        /// The number that was asked for.
        wanted: usize,
        /// The place in which it was looked for.
        within: String,
        /// How many there are.
        there: usize,
    },
    /// No such device.
    #[error("this machine has no device {0:?}")]
    Device(String),
}

/// The processors of a place; several places, separated by spaces, are put together.
///
/// # Errors
/// When a part says nothing, or something that the machine lacks.
pub fn parse(machine: &Machine, text: &str) -> Result<CpuSet, NoPlace> {
    let mut all = CpuSet::default();
    for part in text.split_whitespace() {
        all = all.or(&one(machine, part)?);
    }
    if all.is_empty() {
        return Err(NoPlace::Form(text.to_owned()));
    }
    Ok(all)
}

fn one(machine: &Machine, part: &str) -> Result<CpuSet, NoPlace> {
    if let Some(name) = part.strip_prefix("os=") {
        let named = |object: &&Object| object.name.as_deref() == Some(name);
        let device = machine.root.all().find(named);
        let device = device.ok_or_else(|| NoPlace::Device(name.to_owned()))?;
        return Ok(device.cpus.clone());
    }
    if part.starts_with("0x") {
        return CpuSet::from_mask(part).map_err(|_no_mask| NoPlace::Form(part.to_owned()));
    }
    let mut within = vec![&machine.root];
    let mut place = "this machine".to_owned();
    for step in part.split('.') {
        let (kind, numbers) = step
            .split_once(':')
            .ok_or_else(|| match Kind::parse(step) {
                Some(_known) => NoPlace::Form(part.to_owned()),
                None => NoPlace::Kind(step.to_owned()),
            })?;
        let kind = kind_of(kind)?;
        let mut chosen = Vec::new();
        for outer in within {
            let objects = inside(machine, outer, kind);
            for at in choose(numbers, objects.len())? {
                let object = objects.get(at).ok_or_else(|| NoPlace::Beyond {
                    kind,
                    wanted: at,
                    within: place.clone(),
                    there: objects.len(),
                })?;
                chosen.push(*object);
            }
        }
        within = chosen;
        step.clone_into(&mut place);
    }
    Ok(within
        .iter()
        .fold(CpuSet::default(), |all, object| all.or(&object.cpus)))
}

fn kind_of(text: &str) -> Result<Kind, NoPlace> {
    match text {
        "gpu" => Ok(Kind::Gpu),
        "net" | "nic" => Ok(Kind::Network),
        _ => Kind::parse(text).ok_or_else(|| NoPlace::Kind(text.to_owned())),
    }
}

/// The objects of a kind inside another, in the tree's order. Memory and devices hang beside the processors
/// that they are near, wherever in the tree: what counts is that they have those in common.
fn inside<'a>(machine: &'a Machine, outer: &'a Object, kind: Kind) -> Vec<&'a Object> {
    let all = machine.of_kind(kind).into_iter();
    if outer.kind == Kind::Machine {
        return all.collect();
    }
    all.filter(|object| outer.cpus.covers(&object.cpus) && !object.cpus.is_empty())
        .collect()
}

/// Positions among `there` objects.
fn choose(numbers: &str, there: usize) -> Result<Vec<usize>, NoPlace> {
    let no = || NoPlace::Numbers(numbers.to_owned());
    let number = |text: &str| text.parse::<usize>().map_err(|_no_number| no());
    Ok(match numbers {
        "all" => (0..there).collect(),
        "even" => (0..there).step_by(2).collect(),
        "odd" => (1..there).step_by(2).collect(),
        _ => {
            let mut chosen = Vec::new();
            for part in numbers.split(',') {
                if let Some((first, count)) = part.split_once(':') {
                    // From here on, and around again at the end.
                    let (first, count) = (number(first)?, number(count)?);
                    if there == 0 || first >= there || count > there {
                        chosen.push(first.max(there));
                    } else {
                        chosen.extend((first..first + count).map(|at| at % there));
                    }
                } else if let Some((first, last)) = part.split_once('-') {
                    let first = number(first)?;
                    let last = match last {
                        "" => there.saturating_sub(1).max(first),
                        _ => number(last)?,
                    };
                    if first > last {
                        return Err(no());
                    }
                    // One too far is enough to be told of it.
                    chosen.extend(first..=last.min(there.max(first)));
                } else {
                    chosen.push(number(part)?);
                }
            }
            chosen
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::topology::{Source, read};

    fn machine() -> Machine {
        read(&Source::Synthetic("pack:2 numa:2 core:4 pu:2".to_owned())).unwrap()
    }

    #[test]
    fn places() {
        let machine = machine();
        for (text, cpus) in [
            ("core:0", "0-1"),
            ("core:0-1", "0-3"),
            ("core:14-", "28-31"),
            ("core:15:2", "0-1,30-31"),
            ("core:0,2", "0-1,4-5"),
            ("pack:1", "16-31"),
            ("pack:1.core:0", "16-17"),
            ("pack:all.core:0", "0-1,16-17"),
            ("pack:1.numa:1", "24-31"),
            ("numa:2", "16-23"),
            ("numa:1.core:1.pu:1", "11"),
            ("pu:odd", "1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31"),
            ("0x3", "0-1"),
            ("core:0 core:2", "0-1,4-5"),
            ("machine:0", "0-31"),
        ] {
            assert_eq!(parse(&machine, text).unwrap().to_string(), cpus, "{text}");
        }
    }

    #[test]
    fn what_is_no_place() {
        let machine = machine();
        for text in [
            "",
            "core",
            "cores:1",
            "core:",
            "core:x",
            "core:16",
            "core:9-8",
            "pack:0.core:8",
            "pu:0:99",
            "core:99:1",
            "os=eth0",
            "0x",
            "0xg",
            "core:0.",
            ".core:0",
            "l3:0",
            "0x0",
        ] {
            parse(&machine, text).unwrap_err();
        }
    }

    #[test]
    fn a_huge_range_ends_at_once() {
        parse(&machine(), "pu:0-18446744073709551615").unwrap_err();
        parse(&machine(), "pu:5:18446744073709551615").unwrap_err();
    }
}
