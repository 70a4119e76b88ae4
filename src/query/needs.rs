//! Which step of a run needed what which other one had written.

use super::Error;
use super::run::Run;
use crate::store;
use crate::store::edges::{self, Look, Nodes, Reads};
use crate::store::graph::Step;
use crate::store::history::Execution;
use crate::store::nodes::{self, Node};
use crate::store::readers;
use std::collections::HashSet;
use std::ops::Range;

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
    all: Vec<(u32, u32)>,
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
            self.all
                .push((u32::try_from(place).unwrap_or(u32::MAX), *last));
            *last = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        }
    }

    /// The last one first.
    pub(super) fn of(&self, node: Node) -> impl Iterator<Item = usize> {
        let at = |index: u32| self.all.get((index as usize).checked_sub(1)?).copied();
        let first = self.last.get(node.0 as usize).and_then(|last| at(*last));
        std::iter::successors(first, move |(_, before)| at(*before))
            .map(|(place, _)| place as usize)
    }
}

/// Some nodes for each place, one list after the other.
#[derive(Debug)]
pub(super) struct Lists {
    /// By place: where its list ends.
    ends: Vec<usize>,
    nodes: Vec<Node>,
}

impl Lists {
    fn with_capacity(n_places: usize) -> Self {
        Self {
            ends: Vec::with_capacity(n_places),
            nodes: Vec::new(),
        }
    }

    /// Those of one after the other.
    fn concat(all: Vec<Self>) -> Self {
        let mut all = all.into_iter();
        let mut whole = all.next().unwrap_or_else(|| Self::with_capacity(0));
        for lists in all {
            let first = whole.nodes.len();
            whole.ends.extend(lists.ends.iter().map(|end| first + end));
            whole.nodes.extend(lists.nodes);
        }
        whole
    }

    /// The nodes of the next place are all that were added since the last one.
    fn end(&mut self) {
        self.ends.push(self.nodes.len());
    }

    fn span(&self, place: usize) -> Range<usize> {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[place]
    }

    /// The nodes of a place.
    pub(super) fn of(&self, place: usize) -> &[Node] {
        &self.nodes[self.span(place)]
    }

    /// The nodes of all places.
    pub(super) fn all(&self) -> &[Node] {
        &self.nodes
    }

    /// Each node with its place.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, Node)> + Clone {
        let places = 0..self.ends.len();
        places.flat_map(|place| self.of(place).iter().map(move |node| (place, *node)))
    }
}

/// Who was started by whom.
struct Children {
    /// By place: the last one that it started, and for each place the one before it of the same step; each one
    /// more, 0 for none.
    last: Vec<u32>,
    before: Vec<u32>,
}

impl Children {
    fn new(run: &Run<'_>) -> Self {
        let n_steps = run.steps.len();
        let (mut last, mut before) = (vec![0; n_steps], vec![0; n_steps]);
        for (place, before) in before.iter_mut().enumerate() {
            if let Some(parent) = parent(run, place) {
                *before = last[parent];
                last[parent] = u32::try_from(place + 1).unwrap_or(0);
            }
        }
        Self { last, before }
    }

    fn of(&self, place: usize) -> impl Iterator<Item = usize> {
        let place_of = |one_more: u32| (one_more as usize).checked_sub(1);
        let last = place_of(self.last[place]);
        std::iter::successors(last, move |place| place_of(self.before[*place]))
    }
}

/// What one thread does at least.
const MANY: usize = 20_000;

/// Of steps at these places what they read, of all names or of some, each looked at as `look` says.
fn reads(
    run: &Run<'_>,
    places: &[usize],
    among: Option<&Nodes>,
    look: impl Fn(&Step) -> Look + Sync,
) -> Result<Lists, Error> {
    let (state, steps) = (run.state, run.steps.as_slice());
    let some = &|places: &[usize]| -> Result<Lists, store::Error> {
        let mut reads = Reads::among(among);
        let mut lists = Lists::with_capacity(places.len());
        for step in places.iter().map(|place| &steps[*place]) {
            if let Some(execution) = step.execution {
                reads.add(state, execution, look(step), &mut lists.nodes)?;
            }
            lists.end();
        }
        Ok(lists)
    };
    Ok(Lists::concat(in_parts(places, some)?))
}

/// What is made of all in parts, one after the other; with a thread for each part where there are many.
pub(super) fn in_parts<T: Sync, R: Send>(
    all: &[T],
    make: impl Fn(&[T]) -> Result<R, store::Error> + Sync,
) -> Result<Vec<R>, store::Error> {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = all.len().div_ceil(n_threads).max(MANY);
    if all.len() <= part {
        return Ok(vec![make(all)?]);
    }
    let make = &make;
    std::thread::scope(|scope| {
        let parts = all.chunks(part);
        let parts: Vec<_> = parts.map(|part| scope.spawn(move || make(part))).collect();
        let done = parts.into_iter().map(|part| match part.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        done.collect()
    })
}

/// The place of the step that started one.
fn parent(run: &Run<'_>, place: usize) -> Option<usize> {
    // Who starts a step has a smaller number.
    let parent = run.place(run.steps[place].parent?)?;
    (parent < place).then_some(parent)
}

/// By place: what a step read, and none that it started, by number.
pub(super) fn own_reads(
    run: &Run<'_>,
    among: Option<&Nodes>,
    look: impl Fn(&Step) -> Look + Sync,
) -> Result<Lists, Error> {
    let places: Vec<usize> = (0..run.steps.len()).collect();
    own(run, reads(run, &places, among, look)?)
}

/// By place: what a step wrote, and none that it started, by number.
pub(super) fn own_writes(run: &Run<'_>) -> Result<Lists, Error> {
    let state = run.state;
    let lists = in_parts(&run.steps, |steps| {
        let mut lists = Lists::with_capacity(steps.len());
        for step in steps {
            if let Some(execution) = step.execution {
                edges::writes(state, execution, |node| lists.nodes.push(node))?;
            }
            lists.end();
        }
        Ok(lists)
    })?;
    own(run, Lists::concat(lists))
}

/// By place: those of a step's names that none has which it started, by number.
fn own(run: &Run<'_>, mut lists: Lists) -> Result<Lists, Error> {
    let children = Children::new(run);
    // By name: the last of those that started others one of which had to do with it, and one more.
    let mut inner = vec![0_u32; nodes::count(run.state)? as usize + 1];
    let (mut kept, mut start) = (0, 0);
    for place in 0..lists.ends.len() {
        let this = u32::try_from(place + 1).unwrap_or(0);
        if start < lists.ends[place] {
            // What they started in turn comes later, so that nothing was taken from these yet.
            for child in children.of(place) {
                for name in lists.of(child) {
                    if let Some(place) = inner.get_mut(name.0 as usize) {
                        *place = this;
                    }
                }
            }
        }
        let (first, end) = (kept, lists.ends[place]);
        for index in start..end {
            let name = lists.nodes[index];
            if inner.get(name.0 as usize) != Some(&this) {
                lists.nodes[kept] = name;
                kept += 1;
            }
        }
        kept = first + sorted_once(&mut lists.nodes[first..kept]);
        (start, lists.ends[place]) = (end, kept);
    }
    lists.nodes.truncate(kept);
    Ok(lists)
}

/// Sorts, moves what is there more than once to the end, and tells how many are left.
fn sorted_once(nodes: &mut [Node]) -> usize {
    nodes.sort_unstable();
    let mut kept = 0;
    for index in 0..nodes.len() {
        if index == 0 || nodes[index] != nodes[kept - 1] {
            nodes[kept] = nodes[index];
            kept += 1;
        }
    }
    kept
}

/// Tells of single steps what they read, and none that they started.
pub(super) struct OwnReads<'a> {
    run: &'a Run<'a>,
    reads: Reads<'a>,
    children: Children,
    /// By name: the last step of those asked about that started one which read it, and one more.
    inner: Vec<u32>,
}

impl<'a> OwnReads<'a> {
    /// Of these names only, or of all.
    pub(super) fn among(run: &'a Run<'_>, names: Option<&'a Nodes>) -> Result<Self, Error> {
        Ok(Self {
            run,
            reads: Reads::among(names),
            children: Children::new(run),
            inner: vec![0; nodes::count(run.state)? as usize + 1],
        })
    }

    /// What the step at a place read, by number.
    pub(super) fn of(&mut self, place: usize, look: Look) -> Result<Vec<Node>, Error> {
        let this = u32::try_from(place + 1).unwrap_or(0);
        let mut names = self.all(place, look)?;
        if !names.is_empty() {
            let children: Vec<usize> = self.children.of(place).collect();
            for child in children {
                for name in self.all(child, look)? {
                    if let Some(inner) = self.inner.get_mut(name.0 as usize) {
                        *inner = this;
                    }
                }
            }
            names.retain(|name| self.inner.get(name.0 as usize) != Some(&this));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The same of several, in their order.
    pub(super) fn of_all(&mut self, places: &[usize], look: Look) -> Result<Lists, Error> {
        let mut lists = Lists::with_capacity(places.len());
        for place in places {
            lists.nodes.extend(self.of(*place, look)?);
            lists.end();
        }
        Ok(lists)
    }

    fn all(&mut self, place: usize, look: Look) -> Result<Vec<Node>, Error> {
        match self.run.steps[place].execution {
            Some(execution) => Ok(self.reads.of(self.run.state, execution, look)?),
            None => Ok(Vec::new()),
        }
    }
}

/// Tells who read some names, and started nobody who did.
pub(super) struct Readers<'a> {
    run: &'a Run<'a>,
    /// By place: what the step did.
    executions: Vec<Option<Execution>>,
}

impl<'a> Readers<'a> {
    pub(super) fn of(run: &'a Run<'_>) -> Self {
        let executions = run.steps.iter().map(|step| step.execution);
        Self {
            run,
            executions: executions.collect(),
        }
    }

    /// The places of all that may have read one of some names.
    pub(super) fn candidates(&self, names: &[Node]) -> Result<Vec<usize>, Error> {
        let mut readers = readers::Groups::default();
        for name in names {
            readers.add(self.run.state, *name)?;
        }
        let all = self.executions.iter().enumerate();
        let places = all.filter_map(|(place, one)| readers.may_have((*one)?).then_some(place));
        Ok(places.collect())
    }

    /// The places of those of all candidates that read the content of a name.
    pub(super) fn among(&self, places: &[usize], names: &[Node]) -> Result<Vec<usize>, Error> {
        let run = self.run;
        let mut wanted = Nodes::none(run.state)?;
        for name in names {
            let _is_first = wanted.add(*name);
        }
        let read = reads(run, places, Some(&wanted), |_| Look::Content)?;
        let pairs = read.pairs().map(|(index, node)| (places[index], node));
        // Whoever reads a name is among these, also whoever was started by one of them.
        let inner = pairs.clone();
        let inner = inner.filter_map(|(place, node)| Some((parent(run, place)?, node)));
        let inner: HashSet<(usize, Node)> = inner.collect();
        let own = pairs.filter(|pair| !inner.contains(pair));
        Ok(own.map(|(place, _)| place).collect())
    }
}

/// What each of some steps needed of the others: for each name the last one that had written it and ended
/// before the reader began.
pub(super) fn needs(run: &Run<'_>, among: &[usize]) -> Result<Vec<Need>, Error> {
    let mut writers = Places::new(run)?;
    let mut written = Nodes::none(run.state)?;
    for place in among {
        if let Some(execution) = run.steps[*place].execution {
            edges::writes(run.state, execution, |name| {
                writers.add(name, *place);
                let _is_first = written.add(name);
            })?;
        }
    }
    let read = reads(run, among, Some(&written), |_| Look::Any)?;
    let mut found = Vec::new();
    for (index, reader) in among.iter().enumerate() {
        let step = &run.steps[*reader];
        for name in read.of(index) {
            let before = |place: &usize| {
                let writer = &run.steps[*place];
                place != reader && end(writer) <= step.began_us
            };
            let last = writers.of(*name).filter(before);
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
