//! What a Makefile or a ninja file says of its targets, against what the commands that made them have read.

use super::Error;
use super::lint::Finding;
use super::needs::{self, Places};
use super::run::Run;
use crate::base::{Digest, Name, What};
use crate::store::edges::{Look, Reads};
use crate::store::graph::{self, Step};
use crate::store::nodes::{self, Node};
use crate::store::{Snapshot, edges, history};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What is said of some targets that one command makes. Paths are relative to the workspace.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// What it makes.
    pub targets: Vec<String>,
    /// What it needs.
    pub deps: Vec<String>,
    /// Those of them that must only be there first.
    pub order: Vec<String>,
    /// Whether the build tool learns from the command itself what else it has read, so that only what
    /// others make has to be said before.
    pub tells: bool,
    /// Whether there is a command: else the targets stand for what they need.
    pub has_command: bool,
}

/// Programs that start the commands of others.
const TOOLS: [&str; 4] = ["make", "gmake", "ninja", "samu"];

/// Files that commands read and their targets do not depend on (`undeclared`), and files that targets depend on
/// and no command has looked at (`unused`). Of what a known run has made.
///
/// # Errors
/// The store is damaged.
pub fn findings(store: &Snapshot, all: &[Declared]) -> Result<Vec<Finding>, Error> {
    let all = merged(all);
    let says: HashMap<&str, &Declared> = all
        .iter()
        .flat_map(|one| one.targets.iter().map(move |target| (target.as_str(), one)))
        .collect();
    let mut runs: BTreeMap<u32, Run<'_>> = BTreeMap::new();
    let mut writers: BTreeMap<u32, Places> = BTreeMap::new();
    let mut inputs = Reads::default();
    let mut found = Vec::new();
    for one in all.iter().filter(|one| one.has_command) {
        let Some((number, place)) = maker(store, one, &mut runs)? else {
            continue;
        };
        let run = &runs[&number];
        let step = &run.steps[place];
        let writers = match writers.entry(number) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(all_writers(run)?),
        };
        let recipe = recipe(run, writers, place, one, &says, &mut inputs)?;
        let mut written: HashSet<Node> = HashSet::new();
        let mut read: BTreeMap<Node, &Step> = BTreeMap::new();
        for step in recipe.iter().map(|place| &run.steps[*place]) {
            if let Some(execution) = step.execution {
                edges::writes(store, execution, |node| {
                    let _is_first = written.insert(node);
                })?;
                for node in inputs.of(store, execution, Look::Content)? {
                    let _first = read.entry(node).or_insert(step);
                }
            }
        }
        let declared = closure(one, &says);
        for (node, step) in read {
            let name = nodes::name(store, node)?;
            if !name.inside() || written.contains(&node) {
                continue;
            }
            let path = name.to_string();
            let is_made = says.get(path.as_str()).is_some_and(|made| made.has_command);
            if declared.contains(path.as_str()) || (one.tells && !is_made) {
                continue;
            }
            found.push(finding("undeclared", path, one, run, step)?);
        }
        let looked_at = looked_at(store, run, step, &says, &mut inputs)?;
        for dep in &one.deps {
            let name = Name::from_bytes(dep.as_bytes());
            let node = nodes::find(store, name.bytes())?;
            let is_file =
                node.is_some() && says.get(dep.as_str()).is_none_or(|made| made.has_command);
            let is_used = node.is_some_and(|node| looked_at.contains(&node));
            if is_file && !is_used && !one.order.contains(dep) {
                found.push(finding("unused", dep.clone(), one, run, step)?);
            }
        }
    }
    Ok(found)
}

fn finding(
    kind: &'static str,
    path: String,
    one: &Declared,
    run: &Run<'_>,
    step: &Step,
) -> Result<Finding, Error> {
    Ok(Finding {
        kind,
        path: Some(path),
        note: one.targets.first().cloned(),
        steps: vec![run.name(step)?],
    })
}

/// What several makes say of one target, each in its directory, belongs together.
fn merged(all: &[Declared]) -> Vec<Declared> {
    let mut merged: Vec<Declared> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for one in all {
        let Some(first) = one.targets.first() else {
            continue;
        };
        let place = *places.entry(first).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(known) => {
                known.deps.extend_from_slice(&one.deps);
                known.order.extend_from_slice(&one.order);
                known.tells |= one.tells;
                known.has_command |= one.has_command;
            }
            None => merged.push(one.clone()),
        }
    }
    merged
}

/// The run and the place in it of the outermost step that made a target and is no build tool.
fn maker<'a>(
    store: &'a Snapshot,
    one: &Declared,
    runs: &mut BTreeMap<u32, Run<'a>>,
) -> Result<Option<(u32, usize)>, Error> {
    for target in &one.targets {
        let name = Name::from_bytes(target.as_bytes());
        let Some(made) = graph::writer(store, &name)? else {
            continue;
        };
        let number = history::facts(store, made)?.used;
        let run = match runs.entry(number) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match Run::open(store, Some(number)) {
                Ok(run) => place.insert(run),
                Err(Error::NoRun(..)) => continue,
                Err(error) => return Err(error),
            },
        };
        let run: &Run<'_> = run;
        let Some(step) = run.of(made) else { continue };
        // A small tool that a build tool has run as a part of itself.
        let step = match is_tool(run, step)? {
            true => source(run, step, &name)?,
            false => Some(step),
        };
        let Some(step) = step else { continue };
        let mut outermost = step;
        for outer in run.around(step).into_iter().rev() {
            if is_tool(run, outer)? {
                return Ok(run.place(outermost.number).map(|place| (number, place)));
            }
            outermost = outer;
        }
    }
    Ok(None)
}

/// Of the steps that a build tool has started the one that left the content which the tool itself has put in place
/// under a name, as `mv half whole` does; none where several have left the same.
fn source<'a>(run: &'a Run<'_>, tool: &Step, name: &Name) -> Result<Option<&'a Step>, Error> {
    let contents = |step: &Step| -> Result<Vec<(Name, Digest)>, Error> {
        let Some(execution) = step.execution else {
            return Ok(Vec::new());
        };
        let outputs = history::rest(run.state, execution)?.outputs.into_iter();
        let contents = outputs.filter_map(|output| {
            let What::File { digest, .. } = output.what else {
                return None;
            };
            Some((output.name, digest))
        });
        Ok(contents.collect())
    };
    let own = contents(tool)?.into_iter().find(|(known, _)| known == name);
    let Some((_, wanted)) = own else {
        return Ok(None);
    };
    let mut found = None;
    let started = |step: &&Step| step.parent == Some(tool.number);
    for step in run.steps.iter().filter(started) {
        if contents(step)?.iter().any(|(_, left)| *left == wanted) && found.replace(step).is_some()
        {
            return Ok(None);
        }
    }
    Ok(found)
}

fn is_tool(run: &Run<'_>, step: &Step) -> Result<bool, Error> {
    let Some(execution) = step.execution else {
        return Ok(false);
    };
    let program = history::rest(run.state, execution)?.command.program;
    let last = program.as_path().file_name();
    Ok(last.is_some_and(|last| TOOLS.iter().any(|tool| last == *tool)))
}

fn all_writers(run: &Run<'_>) -> Result<Places, Error> {
    let mut writers = Places::new(run)?;
    for (place, step) in run.steps.iter().enumerate() {
        if let Some(execution) = step.execution {
            edges::writes(run.state, execution, |node| writers.add(node, place))?;
        }
    }
    Ok(writers)
}

/// Places of the steps of the recipe that made something, as far as is seen: the one that wrote it last, those
/// beside it that had written it before, and those that had written what these look at and nobody else is said
/// to make.
fn recipe(
    run: &Run<'_>,
    writers: &Places,
    maker: usize,
    one: &Declared,
    says: &HashMap<&str, &Declared>,
    inputs: &mut Reads<'_>,
) -> Result<BTreeSet<usize>, Error> {
    let parent = run.steps[maker].parent;
    let mut targets = Vec::new();
    for target in &one.targets {
        targets.extend(nodes::find(run.state, target.as_bytes())?);
    }
    let mut found = BTreeSet::from([maker]);
    let mut next = vec![maker];
    while let Some(place) = next.pop() {
        let step = &run.steps[place];
        let Some(execution) = step.execution else {
            continue;
        };
        let looked_at = inputs.of(run.state, execution, Look::There)?;
        for node in looked_at.into_iter().chain(targets.iter().copied()) {
            let is_before = |place: &usize| {
                let other = &run.steps[*place];
                other.parent == parent && needs::end(other) <= step.began_us
            };
            let before = writers.of(node).filter(is_before);
            let before: Vec<usize> = before.filter(|place| !found.contains(place)).collect();
            if before.is_empty() {
                continue;
            }
            let name = nodes::name(run.state, node)?.to_string();
            let is_another_s = says.get(name.as_str()).is_some_and(|made| made.has_command);
            if !is_another_s || targets.contains(&node) {
                found.extend(&before);
                next.extend(before);
            }
        }
    }
    Ok(found)
}

/// What the commands of a recipe may have looked at: its step, and those beside it that made no target.
fn looked_at(
    store: &Snapshot,
    run: &Run<'_>,
    step: &Step,
    says: &HashMap<&str, &Declared>,
    inputs: &mut Reads,
) -> Result<HashSet<Node>, Error> {
    let mut found = HashSet::new();
    for other in run.steps.iter().filter(|other| other.parent == step.parent) {
        let Some(execution) = other.execution else {
            continue;
        };
        let mut is_another_s = false;
        let mut written = Vec::new();
        edges::writes(store, execution, |node| written.push(node))?;
        for node in written {
            let name = nodes::name(store, node)?.to_string();
            is_another_s |= other.number != step.number && says.contains_key(name.as_str());
        }
        if !is_another_s {
            found.extend(inputs.of(store, execution, Look::There)?);
        }
    }
    Ok(found)
}

/// All that a target needs, also by way of others.
fn closure<'a>(one: &'a Declared, says: &HashMap<&'a str, &'a Declared>) -> HashSet<&'a str> {
    let mut found: HashSet<&str> = one.targets.iter().map(String::as_str).collect();
    let mut next: Vec<&str> = one.deps.iter().map(String::as_str).collect();
    while let Some(name) = next.pop() {
        if found.insert(name) {
            if let Some(made) = says.get(name) {
                next.extend(made.deps.iter().map(String::as_str));
                // What one command makes together is there together.
                found.extend(made.targets.iter().map(String::as_str));
            }
        }
    }
    found
}
