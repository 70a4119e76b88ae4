//! `rfs graph`: the files of a run and the steps between them.

use super::needs::{self, Places};
use super::run::Run;
use super::{Error, svg};
use crate::base::Name;
use crate::report::explain::plain;
use crate::store::edges::{Look, Nodes};
use crate::store::nodes::{self, Node};
use crate::store::{Snapshot, history};
use serde::Serialize;
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
    let ends = [(from, true), (to, false)];
    let is_bounded = from.is_some() || to.is_some();
    let writes = needs::own_writes(&run)?;
    let mut wanted = vec![true; run.steps.len()];
    if is_bounded {
        // The way from one step to another is by what was written.
        let mut between = Nodes::none(store)?;
        let mut starts = Vec::new();
        for (name, is_forward) in ends {
            if let Some(name) = name {
                starts.push((nodes::find(store, name.bytes())?, is_forward));
            }
        }
        let known = starts.iter().filter_map(|(node, _)| *node);
        for node in writes.iter().flatten().copied().chain(known) {
            let _is_first = between.add(node);
        }
        let reads = needs::own_reads(&run, &wanted, Some(&between), |_| Look::Content)?;
        for (start, is_forward) in starts {
            let (entries, exits) = match is_forward {
                true => (&reads, &writes),
                false => (&writes, &reads),
            };
            let mut entered = Places::new(&run)?;
            for (place, nodes) in entries.iter().enumerate() {
                nodes.iter().for_each(|node| entered.add(*node, place));
            }
            let reached = reached(start, &entered, exits, Nodes::none(store)?);
            wanted
                .iter_mut()
                .zip(reached)
                .for_each(|(wanted, reached)| *wanted &= reached);
        }
    }
    let reads = needs::own_reads(&run, &wanted, None, |_| Look::Content)?;
    let mut found = Vec::new();
    for (place, step) in run
        .steps
        .iter()
        .enumerate()
        .filter(|(place, _)| wanted[*place])
    {
        let Some(execution) = step.execution else {
            continue;
        };
        let (inputs, outputs) = (
            inside(store, &reads[place])?,
            inside(store, &writes[place])?,
        );
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

/// Names of the workspace, sorted.
fn inside(store: &Snapshot, nodes: &[Node]) -> Result<Vec<String>, Error> {
    let names = nodes.iter().map(|node| nodes::name(store, *node));
    let mut names: Vec<Name> = names.collect::<Result<_, _>>()?;
    names.retain(Name::inside);
    names.sort_unstable();
    Ok(names.iter().map(Name::to_string).collect())
}

/// Which steps are reached from a name: those that are entered by it, those that are entered by what these
/// lead to, and so on.
fn reached(
    start: Option<Node>,
    entered: &Places,
    exits: &[Vec<Node>],
    mut seen: Nodes,
) -> Vec<bool> {
    let mut reached = vec![false; exits.len()];
    let mut next: Vec<Node> = start.into_iter().collect();
    while let Some(node) = next.pop() {
        if !seen.add(node) {
            continue;
        }
        for place in entered.of(node) {
            if !std::mem::replace(&mut reached[place], true) {
                next.extend(&exits[place]);
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
