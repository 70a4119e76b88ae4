//! `rfs graph`: the files of a run and the steps between them.

use super::run::Run;
use super::{Error, needs};
use crate::base::Name;
use crate::report::explain::plain;
use crate::store::edges::{self, Inputs};
use crate::store::nodes::{self, Node};
use crate::store::{Snapshot, history};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
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
    let mut inputs = Inputs::default();
    let mut names: BTreeMap<Node, Name> = BTreeMap::new();
    let mut steps = Vec::new();
    let reads = needs::own(&run, |_, execution| inputs.read_by(store, execution, false))?;
    let writes = needs::own(&run, |_, execution| edges::writes(store, execution))?;
    for ((step, reads), writes) in run.steps.iter().zip(reads).zip(writes) {
        let Some(execution) = step.execution else {
            continue;
        };
        let mut text = |nodes: BTreeSet<Node>| -> Result<BTreeSet<Name>, Error> {
            let mut found = BTreeSet::new();
            for node in nodes {
                let name = match names.get(&node) {
                    Some(name) => name.clone(),
                    None => nodes::name(store, node)?,
                };
                names.insert(node, name.clone());
                if name.inside() {
                    found.insert(name);
                }
            }
            Ok(found)
        };
        let (reads, writes) = (text(reads)?, text(writes)?);
        if reads.is_empty() && writes.is_empty() {
            continue;
        }
        steps.push((step.number, execution, reads, writes));
    }
    let mut wanted = vec![true; steps.len()];
    if let Some(from) = from {
        keep(
            &mut wanted,
            reached(from, &steps, |(_, _, reads, writes)| (reads, writes)),
        );
    }
    if let Some(to) = to {
        keep(
            &mut wanted,
            reached(to, &steps, |(_, _, reads, writes)| (writes, reads)),
        );
    }
    let mut found = Vec::new();
    let all = steps.into_iter().zip(wanted).filter(|(_, wanted)| *wanted);
    for ((step, execution, reads, writes), _) in all {
        let text = |names: BTreeSet<Name>| names.iter().map(Name::to_string).collect();
        found.push(Vertex {
            step,
            command: plain(&history::rest(store, execution)?.title),
            inputs: text(reads),
            outputs: text(writes),
        });
    }
    Ok(Graph {
        schema: "rfs.graph/1",
        run: run.build.number,
        steps: found,
    })
}

fn keep(wanted: &mut [bool], reached: Vec<bool>) {
    for (wanted, reached) in wanted.iter_mut().zip(reached) {
        *wanted &= reached;
    }
}

/// Which steps are reached from a name, by way of the two sets of names of each.
fn reached<S>(
    start: &Name,
    steps: &[S],
    ways: impl Fn(&S) -> (&BTreeSet<Name>, &BTreeSet<Name>),
) -> Vec<bool> {
    let mut entered: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
    for (place, step) in steps.iter().enumerate() {
        for name in ways(step).0 {
            entered.entry(name).or_default().push(place);
        }
    }
    let mut reached = vec![false; steps.len()];
    let mut next = vec![start];
    while let Some(name) = next.pop() {
        for place in entered.remove(name).unwrap_or_default() {
            if !std::mem::replace(&mut reached[place], true) {
                next.extend(ways(&steps[place]).1);
            }
        }
    }
    reached
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
