//! Which step of a run needed what which other one had written.

use super::Error;
use super::run::Run;
use crate::store;
use crate::store::edges::{self, Among};
use crate::store::graph::Step;
use crate::store::history::Execution;
use crate::store::nodes::{self, Node};
use std::collections::{BTreeMap, HashMap, HashSet};

/// That a step read what another one had written. Places among the steps of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    pub reader: usize,
    pub writer: usize,
    pub name: Node,
}

/// When a step ended: microseconds since 1970.
pub(super) fn end(step: &Step) -> i64 {
    let wall = i64::try_from(step.wall_us).unwrap_or(i64::MAX);
    step.began_us.saturating_add(wall)
}

/// Places of the steps that started no other one.
pub(super) fn innermost(run: &Run<'_>) -> Vec<usize> {
    let parents: HashSet<u32> = run.steps.iter().filter_map(|step| step.parent).collect();
    let is_inner = |place: &usize| !parents.contains(&run.steps[*place].number);
    (0..run.steps.len()).filter(is_inner).collect()
}

/// By place: names that `of` gives for a step and for none that it started, by number.
pub(super) fn own(
    run: &Run<'_>,
    mut of: impl FnMut(&Step, Execution) -> Result<Vec<Node>, store::Error>,
) -> Result<Vec<Vec<Node>>, Error> {
    let mut all = Vec::with_capacity(run.steps.len());
    let mut started: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, step) in run.steps.iter().enumerate() {
        let names = step
            .execution
            .map(|execution| of(step, execution))
            .transpose()?;
        all.push(names.unwrap_or_default());
        if let Some(parent) = step.parent.and_then(|parent| run.place(parent)) {
            started.entry(parent).or_default().push(place);
        }
    }
    // By name: the last of those that started others one of which had to do with it.
    let mut inner = vec![usize::MAX; nodes::count(run.state)? as usize + 1];
    let mut own = all.clone();
    for (parent, children) in started {
        for child in children {
            for name in &all[child] {
                if let Some(place) = inner.get_mut(name.0 as usize) {
                    *place = parent;
                }
            }
        }
        own[parent].retain(|name| inner.get(name.0 as usize) != Some(&parent));
    }
    for names in &mut own {
        names.sort_unstable();
        names.dedup();
    }
    Ok(own)
}

/// What each of some steps needed of the others: for each name the last one that had written it and ended
/// before the reader began.
pub(super) fn needs(run: &Run<'_>, among: &[usize]) -> Result<Vec<Need>, Error> {
    let mut writers: HashMap<Node, Vec<usize>> = HashMap::new();
    for place in among {
        if let Some(execution) = run.steps[*place].execution {
            for name in edges::writes(run.state, execution)? {
                writers.entry(name).or_default().push(*place);
            }
        }
    }
    let mut read = Among::new(writers.keys().copied());
    let mut found = Vec::new();
    for reader in among {
        let step = &run.steps[*reader];
        let Some(execution) = step.execution else {
            continue;
        };
        for name in read.reads(run.state, execution)? {
            let before = |place: &&usize| {
                let writer = &run.steps[**place];
                *place != reader && end(writer) <= step.began_us
            };
            let writers = writers.get(&name).into_iter().flatten();
            let last = writers
                .filter(before)
                .max_by_key(|place| end(&run.steps[**place]));
            found.extend(last.map(|writer| Need {
                reader: *reader,
                writer: *writer,
                name,
            }));
        }
    }
    Ok(found)
}

/// The chain of steps, each of which needed the one before, that took longest together; the first first.
pub(super) fn critical(run: &Run<'_>) -> Result<Vec<usize>, Error> {
    let mut among = innermost(run);
    among.sort_by_key(|place| run.steps[*place].began_us);
    let mut needed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for need in needs(run, &among)? {
        needed.entry(need.reader).or_default().push(need.writer);
    }
    // Time from the first step of the longest chain to the end of this one, and the step before it.
    let mut longest: HashMap<usize, (u64, Option<usize>)> = HashMap::new();
    for place in &among {
        let before = needed.get(place).into_iter().flatten().copied();
        let time = |place: &usize| longest.get(place).map_or(0, |(time, _)| *time);
        let before = before.max_by_key(time);
        let time = before.map_or(0, |before| time(&before)) + run.steps[*place].wall_us;
        longest.insert(*place, (time, before));
    }
    let time = |place: &usize| longest.get(place).map_or(0, |(time, _)| *time);
    let mut chain = Vec::new();
    let mut next = among.iter().copied().max_by_key(time);
    while let Some(place) = next {
        chain.push(place);
        next = longest.get(&place).and_then(|(_, before)| *before);
    }
    chain.reverse();
    Ok(chain)
}
