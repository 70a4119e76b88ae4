//! Which step of a run needed what which other one had written.

use super::Error;
use super::run::Run;
use crate::store;
use crate::store::edges::{self, Look, Nodes, Reads};
use crate::store::graph::Step;
use crate::store::nodes::{self, Node};
use std::collections::BTreeMap;

/// That a step read what another one had written. Places among the steps of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    pub reader: usize,
    pub writer: usize,
}

/// When a step ended: microseconds since 1970.
pub(super) fn end(step: &Step) -> i64 {
    let wall = i64::try_from(step.wall_us).unwrap_or(i64::MAX);
    step.began_us.saturating_add(wall)
}

/// Places of the steps that started no other one.
pub(super) fn innermost(run: &Run<'_>) -> Vec<usize> {
    let mut is_inner = vec![true; run.steps.len()];
    for parent in run.steps.iter().filter_map(|step| step.parent) {
        if let Some(place) = run.place(parent) {
            is_inner[place] = false;
        }
    }
    (0..is_inner.len())
        .filter(|place| is_inner[*place])
        .collect()
}

/// By number of a node: places that have to do with it, in the order in which they were added.
pub(super) struct Places {
    /// By node: the last one's index below, and one more; 0 for none.
    last: Vec<u32>,
    /// Places, and as above the one before it of the same node.
    all: Vec<(usize, u32)>,
}

impl Places {
    pub(super) fn new(run: &Run<'_>) -> Result<Self, Error> {
        Ok(Self {
            last: vec![0; nodes::count(run.state)? as usize + 1],
            all: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, node: Node, place: usize) {
        if let Some(last) = self.last.get_mut(node.0 as usize) {
            self.all.push((place, *last));
            *last = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        }
    }

    /// The last one first.
    pub(super) fn of(&self, node: Node) -> impl Iterator<Item = usize> {
        let at = |index: u32| self.all.get((index as usize).checked_sub(1)?).copied();
        let first = self.last.get(node.0 as usize).and_then(|last| at(*last));
        std::iter::successors(first, move |(_, before)| at(*before)).map(|(place, _)| place)
    }
}

/// Steps that one thread reads for, at least.
const MANY: usize = 20_000;

/// Of steps at these places what they read, of all names or of some, each looked at as `look` says.
fn reads(
    run: &Run<'_>,
    places: &[usize],
    among: Option<&Nodes>,
    look: impl Fn(&Step) -> Look + Sync,
) -> Result<Vec<Vec<Node>>, Error> {
    let (state, steps) = (run.state, run.steps.as_slice());
    let some = &|places: &[usize]| -> Result<Vec<Vec<Node>>, store::Error> {
        let mut reads = Reads::among(among);
        let steps = places.iter().map(|place| &steps[*place]);
        let names = steps.map(|step| match step.execution {
            Some(execution) => reads.of(state, execution, look(step)),
            None => Ok(Vec::new()),
        });
        names.collect()
    };
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = places.len().div_ceil(n_threads).max(MANY);
    if places.len() <= part {
        return Ok(some(places)?);
    }
    std::thread::scope(|scope| {
        let parts = places.chunks(part);
        let parts: Vec<_> = parts.map(|part| scope.spawn(move || some(part))).collect();
        let mut all = Vec::with_capacity(places.len());
        for part in parts {
            match part.join() {
                Ok(names) => all.extend(names?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}

/// The place of the step that started one.
fn parent(run: &Run<'_>, place: usize) -> Option<usize> {
    // Who starts a step has a smaller number.
    let parent = run.place(run.steps[place].parent?)?;
    (parent < place).then_some(parent)
}

/// By place: what the steps that are wanted read, and none that they started, by number; nothing for others.
pub(super) fn own_reads(
    run: &Run<'_>,
    wanted: &[bool],
    among: Option<&Nodes>,
    look: impl Fn(&Step) -> Look + Sync,
) -> Result<Vec<Vec<Node>>, Error> {
    let is_needed =
        |place: &usize| wanted[*place] || parent(run, *place).is_some_and(|parent| wanted[parent]);
    let places: Vec<usize> = (0..run.steps.len()).filter(is_needed).collect();
    let mut all = vec![Vec::new(); run.steps.len()];
    for (place, names) in places.iter().zip(reads(run, &places, among, look)?) {
        all[*place] = names;
    }
    let mut own = own(run, all)?;
    for (names, _) in own.iter_mut().zip(wanted).filter(|(_, wanted)| !**wanted) {
        names.clear();
    }
    Ok(own)
}

/// By place: what a step wrote and none that it started, by number.
pub(super) fn own_writes(run: &Run<'_>) -> Result<Vec<Vec<Node>>, Error> {
    let writes = run.steps.iter().map(|step| match step.execution {
        Some(execution) => edges::writes(run.state, execution),
        None => Ok(Vec::new()),
    });
    own(run, writes.collect::<Result<_, store::Error>>()?)
}

/// By place: those of a step's names that none has which it started, by number.
fn own(run: &Run<'_>, mut names: Vec<Vec<Node>>) -> Result<Vec<Vec<Node>>, Error> {
    let mut started: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for place in 0..names.len() {
        if let Some(parent) = parent(run, place).filter(|parent| !names[*parent].is_empty()) {
            started.entry(parent).or_default().push(place);
        }
    }
    // By name: the last of those that started others one of which had to do with it.
    let mut inner = vec![usize::MAX; nodes::count(run.state)? as usize + 1];
    for (parent, children) in started {
        // What they started in turn comes later, so that nothing was taken from these yet.
        for name in children.iter().flat_map(|child| &names[*child]) {
            if let Some(place) = inner.get_mut(name.0 as usize) {
                *place = parent;
            }
        }
        names[parent].retain(|name| inner.get(name.0 as usize) != Some(&parent));
    }
    for names in &mut names {
        names.sort_unstable();
        names.dedup();
    }
    Ok(names)
}

/// What each of some steps needed of the others: for each name the last one that had written it and ended
/// before the reader began.
pub(super) fn needs(run: &Run<'_>, among: &[usize]) -> Result<Vec<Need>, Error> {
    let mut writers = Places::new(run)?;
    let mut written = Nodes::none(run.state)?;
    for place in among {
        if let Some(execution) = run.steps[*place].execution {
            for name in edges::writes(run.state, execution)? {
                writers.add(name, *place);
                let _is_first = written.add(name);
            }
        }
    }
    let read = reads(run, among, Some(&written), |_| Look::Any)?;
    let mut found = Vec::new();
    for (reader, names) in among.iter().zip(read) {
        let step = &run.steps[*reader];
        for name in names {
            let before = |place: &usize| {
                let writer = &run.steps[*place];
                place != reader && end(writer) <= step.began_us
            };
            let last = writers.of(name).filter(before);
            // Of several that ended at the same time the one that was added last.
            let last =
                last.reduce(
                    |last, other| match end(&run.steps[other]) > end(&run.steps[last]) {
                        true => other,
                        false => last,
                    },
                );
            found.extend(last.map(|writer| Need {
                reader: *reader,
                writer,
            }));
        }
    }
    Ok(found)
}

/// The chain of steps, each of which needed the one before, that took longest together; the first first.
pub(super) fn critical(run: &Run<'_>) -> Result<Vec<usize>, Error> {
    let mut among = innermost(run);
    among.sort_by_key(|place| run.steps[*place].began_us);
    let mut needs = needs(run, &among)?.into_iter().peekable();
    // By place: time from the first step of the longest chain to the end of this one, and the step before it.
    let mut longest: Vec<Option<(u64, Option<usize>)>> = vec![None; run.steps.len()];
    for place in &among {
        let mut before: (u64, Option<usize>) = (0, None);
        while let Some(need) = needs.next_if(|need| need.reader == *place) {
            // Of two that took no time the first is not behind the second.
            let Some((time, _)) = longest[need.writer] else {
                continue;
            };
            if time >= before.0 {
                before = (time, Some(need.writer));
            }
        }
        longest[*place] = Some((before.0 + run.steps[*place].wall_us, before.1));
    }
    let time = |place: &usize| longest[*place].map(|(time, _)| time);
    let mut chain = Vec::new();
    let mut next = among.iter().copied().max_by_key(time);
    while let Some(place) = next {
        chain.push(place);
        next = longest[place].and_then(|(_, before)| before);
    }
    chain.reverse();
    Ok(chain)
}
