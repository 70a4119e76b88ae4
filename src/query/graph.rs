//! `rfs graph`: the files of a run and the steps between them.

use super::run::Run;
use super::{Error, needs, svg};
use crate::base::Name;
use crate::report::explain::plain;
use crate::store::edges::{self, Inputs};
use crate::store::nodes::{self, Node};
use crate::store::{Snapshot, history};
use serde::Serialize;
use std::collections::HashMap;
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
    let reads = needs::own(&run, |_, execution| inputs.read_by(store, execution, false))?;
    let writes = needs::own(&run, |_, execution| edges::writes(store, execution))?;
    let steps: Vec<Edges> = reads.into_iter().zip(writes).collect();
    let mut wanted = vec![true; steps.len()];
    let ends = [(from, true), (to, false)];
    for (name, is_forward) in ends {
        if let Some(name) = name {
            let node = nodes::find(store, name.bytes())?;
            keep(&mut wanted, reached(node, &steps, is_forward));
        }
    }
    let mut found = Vec::new();
    for ((step, (reads, writes)), _) in run
        .steps
        .iter()
        .zip(steps)
        .zip(wanted)
        .filter(|(_, wanted)| *wanted)
    {
        let Some(execution) = step.execution else {
            continue;
        };
        let (inputs, outputs) = (inside(store, &reads)?, inside(store, &writes)?);
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

fn keep(wanted: &mut [bool], reached: Vec<bool>) {
    for (wanted, reached) in wanted.iter_mut().zip(reached) {
        *wanted &= reached;
    }
}

/// What a step and none that it started read and wrote.
type Edges = (Vec<Node>, Vec<Node>);

/// Names of the workspace, sorted.
fn inside(store: &Snapshot, nodes: &[Node]) -> Result<Vec<String>, Error> {
    let names = nodes.iter().map(|node| nodes::name(store, *node));
    let mut names: Vec<Name> = names.collect::<Result<_, _>>()?;
    names.retain(Name::inside);
    names.sort_unstable();
    Ok(names.iter().map(Name::to_string).collect())
}

/// Which steps are reached from a name: by who reads what was written, or the other way round.
fn reached(start: Option<Node>, steps: &[Edges], is_forward: bool) -> Vec<bool> {
    let mut entered: HashMap<Node, Vec<usize>> = HashMap::new();
    for (place, step) in steps.iter().enumerate() {
        let entries = if is_forward { &step.0 } else { &step.1 };
        for node in entries {
            entered.entry(*node).or_default().push(place);
        }
    }
    let mut reached = vec![false; steps.len()];
    let mut next: Vec<Node> = start.into_iter().collect();
    while let Some(node) = next.pop() {
        for place in entered.remove(&node).unwrap_or_default() {
            if !std::mem::replace(&mut reached[place], true) {
                let (reads, writes) = &steps[place];
                next.extend(if is_forward { writes } else { reads });
            }
        }
    }
    reached
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
