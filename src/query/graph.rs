//! `rfs graph`: the files of a run and the steps between them.

use super::needs::{self, Lists, OwnReads, Places, Readers};
use super::run::Run;
use super::{Error, svg};
use crate::base::Name;
use crate::report::explain::plain;
use crate::store::edges::{Look, Nodes};
use crate::store::nodes::{self, Node};
use crate::store::{Snapshot, history};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// The answer. Prints itself as a graph for dot(1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graph {
    schema: &'static str,
    /// The number of the run.
    pub run: u32,
    /// The steps that read or wrote something by themselves.
    pub steps: Vec<Vertex>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vertex {
    /// Its number.
    pub step: u32,
    /// Its command.
    pub command: String,
    /// Files of the workspace whose content it read, and none that it started.
    pub inputs: Vec<Arc<str>>,
    /// Files of the workspace that it wrote, and none that it started.
    pub outputs: Vec<Arc<str>>,
}

/// The graph of a run: all of it, or what lies between `from` and `to`.
///
/// # Errors
/// There is no such run, or the store is damaged.
pub fn graph(
    store: &Snapshot,
    run: Option<u32>,
    from: Option<&Name>,
    to: Option<&Name>,
) -> Result<Graph, Error> {
    let run = Run::open(store, run)?;
    let node = |name: &Name| {
        let node = nodes::find(store, name.bytes())?;
        node.ok_or_else(|| Error::Unknown(name.clone()))
    };
    let (from, to) = (from.map(node).transpose()?, to.map(node).transpose()?);
    let writes = needs::own_writes(&run)?;
    let mut places: Vec<usize> = (0..run.steps.len()).collect();
    if let Some(node) = to {
        let leads = leading_to(&run, node, &writes)?;
        places.retain(|place| leads[*place]);
    }
    if let Some(node) = from {
        let comes = coming_from(&run, node, &writes, run.steps.len())?;
        places.retain(|place| comes[*place]);
    }
    let reads = match places.len() == run.steps.len() {
        true => needs::own_reads(&run, None, |_| Look::Content)?,
        false => OwnReads::among(&run, None)?.of_all(&places, Look::Content)?,
    };
    let nodes = places.iter().flat_map(|place| writes.of(*place));
    let names = Names::of(store, nodes.chain(reads.all()))?;
    let mut found = Vec::with_capacity(places.len());
    for (index, place) in places.iter().enumerate() {
        let step = &run.steps[*place];
        let Some(execution) = step.execution else {
            continue;
        };
        let inputs = names.inside(reads.of(index));
        let outputs = names.inside(writes.of(*place));
        if inputs.is_empty() && outputs.is_empty() {
            continue;
        }
        found.push(Vertex {
            step: step.number,
            command: plain(&history::rest(store, execution)?.title),
            inputs,
            outputs,
        });
    }
    Ok(Graph::of(run.build.number, found))
}

/// Names of the workspace, of which many are in several answers.
struct Names {
    /// By node: the place below, and one more; 0 for what lies elsewhere.
    places: Vec<u32>,
    sorted: Vec<Arc<str>>,
}

impl Names {
    fn of<'n>(store: &Snapshot, nodes: impl Iterator<Item = &'n Node>) -> Result<Self, Error> {
        let mut known = Nodes::none(store)?;
        let new: Vec<Node> = nodes.copied().filter(|node| known.add(*node)).collect();
        let parts = needs::in_parts(&new, |part| {
            let mut names: Vec<(Arc<str>, Node)> = Vec::with_capacity(part.len());
            for node in part {
                let name = nodes::name(store, *node)?;
                if name.inside() {
                    names.push((name.to_string().into(), *node));
                }
            }
            Ok(names)
        })?;
        let mut names = parts.concat();
        names.sort_unstable();
        let mut places = vec![0; nodes::count(store)? as usize + 1];
        for (index, (_, node)) in names.iter().enumerate() {
            places[node.0 as usize] = u32::try_from(index + 1).unwrap_or(0);
        }
        Ok(Self {
            places,
            sorted: names.into_iter().map(|(name, _)| name).collect(),
        })
    }

    /// Those of the workspace, sorted.
    fn inside(&self, nodes: &[Node]) -> Vec<Arc<str>> {
        let places = nodes.iter().map(|node| self.places[node.0 as usize]);
        let mut places: Vec<usize> = places
            .filter_map(|place| (place as usize).checked_sub(1))
            .collect();
        places.sort_unstable();
        let names = places.into_iter().map(|place| self.sorted[place].clone());
        names.collect()
    }
}

/// What steps have written, and one more name: ways from one step to another are by these.
fn between(run: &Run<'_>, end: Node, writes: &Lists) -> Result<Nodes, Error> {
    let mut between = Nodes::none(run.state)?;
    for node in writes.all().iter().copied().chain([end]) {
        let _is_first = between.add(node);
    }
    Ok(between)
}

/// Which steps wrote a name, or what these read, and so on. Looks at no others.
fn leading_to(run: &Run<'_>, end: Node, writes: &Lists) -> Result<Vec<bool>, Error> {
    let mut writers = Places::new(run)?;
    writes
        .pairs()
        .for_each(|(place, node)| writers.add(node, place));
    let between = between(run, end, writes)?;
    let mut reads = OwnReads::among(run, Some(&between))?;
    reached(run, end, &writers, |place, next| {
        next.extend(reads.of(place, Look::Content)?);
        Ok(())
    })
}

/// Which steps read a name, or what these wrote, and so on. Looks at those that may have read what was just
/// found, as long as these are at most `most` together: then at all of them once.
fn coming_from(
    run: &Run<'_>,
    start: Node,
    writes: &Lists,
    most: usize,
) -> Result<Vec<bool>, Error> {
    let readers = Readers::of(run);
    let mut n_looks = 0;
    let mut reached = vec![false; run.steps.len()];
    let mut seen = Nodes::none(run.state)?;
    let mut new: Vec<Node> = vec![start];
    while !new.is_empty() {
        let places = readers.candidates(&new)?;
        n_looks += places.len();
        if n_looks > most {
            return coming_from_of_all(run, start, writes);
        }
        let places = readers.among(&places, &new)?;
        new.clear();
        for place in places {
            if !std::mem::replace(&mut reached[place], true) {
                let wrote = writes.of(place).iter().copied();
                new.extend(wrote.filter(|node| seen.add(*node)));
            }
        }
    }
    Ok(reached)
}

/// The same, with a look at all steps.
fn coming_from_of_all(run: &Run<'_>, start: Node, writes: &Lists) -> Result<Vec<bool>, Error> {
    let between = between(run, start, writes)?;
    let reads = needs::own_reads(run, Some(&between), |_| Look::Content)?;
    let mut readers = Places::new(run)?;
    reads
        .pairs()
        .for_each(|(place, node)| readers.add(node, place));
    reached(run, start, &readers, |place, next| {
        next.extend_from_slice(writes.of(place));
        Ok(())
    })
}

/// Which steps are reached from a name: those that are entered by it, those that are entered by what these
/// lead to, and so on.
fn reached(
    run: &Run<'_>,
    start: Node,
    entered: &Places,
    mut exits: impl FnMut(usize, &mut Vec<Node>) -> Result<(), Error>,
) -> Result<Vec<bool>, Error> {
    let mut reached = vec![false; run.steps.len()];
    let mut seen = Nodes::none(run.state)?;
    let mut next: Vec<Node> = vec![start];
    while let Some(node) = next.pop() {
        if !seen.add(node) {
            continue;
        }
        for place in entered.of(node) {
            if !std::mem::replace(&mut reached[place], true) {
                exits(place, &mut next)?;
            }
        }
    }
    Ok(reached)
}

impl Graph {
    /// The same as a picture, for who has no dot(1).
    #[must_use]
    pub fn svg(&self) -> String {
        svg::draw(self)
    }

    /// Of these steps of a run.
    pub(super) fn of(run: u32, steps: Vec<Vertex>) -> Self {
        Self {
            schema: "rfs.graph/1",
            run,
            steps,
        }
    }
}

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "digraph run{} {{\n  rankdir=LR;\n  node [shape=plaintext];",
            self.run
        )?;
        for step in &self.steps {
            let id = format!("step{}", step.step);
            write!(f, "\n  {id} [shape=box, label={}];", quoted(&step.command))?;
            for input in &step.inputs {
                write!(f, "\n  {} -> {id};", quoted(input))?;
            }
            for output in &step.outputs {
                write!(f, "\n  {id} -> {};", quoted(output))?;
            }
        }
        f.write_str("\n}")
    }
}

/// A name as dot(1) reads it.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
