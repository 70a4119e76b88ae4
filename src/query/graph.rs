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
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Display, Formatter};

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
    pub inputs: Vec<String>,
    /// Files of the workspace that it wrote, and none that it started.
    pub outputs: Vec<String>,
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
    let writes = needs::own_writes(&run)?;
    let mut places: Vec<usize> = (0..run.steps.len()).collect();
    if let Some(name) = to {
        let leads = leading_to(&run, nodes::find(store, name.bytes())?, &writes)?;
        places.retain(|place| leads[*place]);
    }
    if let Some(name) = from {
        let comes = coming_from(
            &run,
            nodes::find(store, name.bytes())?,
            &writes,
            run.steps.len(),
        )?;
        places.retain(|place| comes[*place]);
    }
    let mut reads = OwnReads::among(&run, None)?;
    let all = match places.len() == run.steps.len() {
        true => Some(needs::own_reads(&run, None, |_| Look::Content)?),
        false => None,
    };
    let mut names = Names {
        store,
        known: HashMap::new(),
    };
    let mut found = Vec::new();
    for place in places {
        let step = &run.steps[place];
        let Some(execution) = step.execution else {
            continue;
        };
        let inputs = match &all {
            Some(all) => names.inside(all.of(place))?,
            None => names.inside(&reads.of(place, Look::Content)?)?,
        };
        let outputs = names.inside(writes.of(place))?;
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
    Ok(Graph {
        schema: "rfs.graph/1",
        run: run.build.number,
        steps: found,
    })
}

/// Names of the workspace, of which many are in several answers.
struct Names<'a> {
    store: &'a Snapshot,
    /// None for what lies elsewhere.
    known: HashMap<Node, Option<String>>,
}

impl Names<'_> {
    /// Those of the workspace, sorted.
    fn inside(&mut self, nodes: &[Node]) -> Result<Vec<String>, Error> {
        let mut names = Vec::with_capacity(nodes.len());
        for node in nodes {
            let name = match self.known.entry(*node) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let name = nodes::name(self.store, *node)?;
                    place.insert(name.inside().then(|| name.to_string()))
                }
            };
            names.extend(name.clone());
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// What steps have written, and one more name: ways from one step to another are by these.
fn between(run: &Run<'_>, end: Option<Node>, writes: &Lists) -> Result<Nodes, Error> {
    let mut between = Nodes::none(run.state)?;
    for node in writes.all().iter().copied().chain(end) {
        let _is_first = between.add(node);
    }
    Ok(between)
}

/// Which steps wrote a name, or what these read, and so on. Looks at no others.
fn leading_to(run: &Run<'_>, end: Option<Node>, writes: &Lists) -> Result<Vec<bool>, Error> {
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
    start: Option<Node>,
    writes: &Lists,
    most: usize,
) -> Result<Vec<bool>, Error> {
    let readers = Readers::of(run);
    let mut n_looks = 0;
    let mut reached = vec![false; run.steps.len()];
    let mut seen = Nodes::none(run.state)?;
    let mut new: Vec<Node> = start.into_iter().collect();
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
fn coming_from_of_all(
    run: &Run<'_>,
    start: Option<Node>,
    writes: &Lists,
) -> Result<Vec<bool>, Error> {
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
    start: Option<Node>,
    entered: &Places,
    mut exits: impl FnMut(usize, &mut Vec<Node>) -> Result<(), Error>,
) -> Result<Vec<bool>, Error> {
    let mut reached = vec![false; run.steps.len()];
    let mut seen = Nodes::none(run.state)?;
    let mut next: Vec<Node> = start.into_iter().collect();
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

    #[cfg(test)]
    pub(super) fn of(steps: Vec<Vertex>) -> Self {
        Self {
            schema: "rfs.graph/1",
            run: 1,
            steps,
        }
    }
}

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let quoted =
            |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
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
