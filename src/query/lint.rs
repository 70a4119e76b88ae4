//! `rfs lint`: what may go wrong in another run: steps that were not kept apart, and inputs that are not files
//! of the project or the system.

use super::run::{Run, StepRef};
use super::{Error, needs};
use crate::base::Name;
use crate::store::edges::{self, Inputs};
use crate::store::graph::Fate;
use crate::store::nodes::{self, Node};
use crate::store::{Snapshot, history};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Where a system keeps what packages have installed and what it tells of itself.
const SYSTEM: [&str; 9] = [
    "/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/proc", "/sys", "/dev",
];

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lint {
    schema: &'static str,
    /// The number of the run.
    pub run: u32,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// One thing that may go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `race`, `written-twice`, `chance`, `refused` or `outside`; `undeclared` or `unused`, where it is known
    /// what a Makefile or a ninja file says.
    pub kind: &'static str,
    /// The file that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What it is, where there is no file; the target that a Makefile or a ninja file tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The steps that it is about.
    pub steps: Vec<StepRef>,
}

/// Looks at the steps of a run, and in each at what no step inside it did.
///
/// # Errors
/// There is no such run, or the store is damaged.
pub fn lint(store: &Snapshot, run: Option<u32>) -> Result<Lint, Error> {
    let run = Run::open(store, run)?;
    let mut findings = Vec::new();
    let mut reads: BTreeMap<Node, Vec<usize>> = BTreeMap::new();
    let mut writes: BTreeMap<Node, Vec<usize>> = BTreeMap::new();
    let mut inputs = Inputs::default();
    let own_reads = needs::own(&run, |step, execution| {
        // Of a step that was not recorded it is not known how it looked.
        inputs.read_by(store, execution, step.fate == Fate::Refused)
    })?;
    let own_writes = needs::own(&run, |_, execution| edges::writes(store, execution))?;
    // By name: the first that read it and is none of those that wrote it.
    let mut first_reads: BTreeMap<Node, usize> = BTreeMap::new();
    let mut is_known = vec![false; nodes::count(store)? as usize + 1];
    for (place, names) in own_writes.iter().enumerate() {
        for name in names {
            writes.entry(*name).or_default().push(place);
        }
    }
    for (place, names) in own_reads.iter().enumerate() {
        for name in names {
            let known = is_known.get_mut(name.0 as usize);
            if writes.contains_key(name) {
                reads.entry(*name).or_default().push(place);
            } else if known.is_some_and(|known| !std::mem::replace(known, true)) {
                let _first = first_reads.insert(*name, place);
            }
        }
    }
    for place in needs::innermost(&run) {
        let step = &run.steps[place];
        let Some(execution) = step.execution else {
            continue;
        };
        let notes = history::rest(store, execution)?.notes.into_iter();
        let mut notes: Vec<(&str, String)> = notes.map(|note| ("chance", note)).collect();
        if step.fate == Fate::Refused {
            notes.push(("refused", step.why.clone()));
        }
        for (kind, note) in notes {
            findings.push(Finding {
                kind,
                path: None,
                note: Some(note),
                steps: vec![run.name(step)?],
            });
        }
    }
    for (name, writers) in &writes {
        let path = nodes::name(store, *name)?;
        if !path.inside() {
            continue;
        }
        let readers = reads.get(name).into_iter().flatten();
        let mut pairs: Vec<(&'static str, usize, usize)> = Vec::new();
        for writer in writers {
            let others = readers
                .clone()
                .chain(writers)
                .filter(|other| *other != writer);
            let beside = others.filter(|other| beside(&run, *writer, **other));
            pairs.extend(beside.map(|other| ("race", *writer.min(other), *writer.max(other))));
        }
        for pair in writers.windows(2) {
            pairs.push(("written-twice", pair[0], pair[1]));
        }
        pairs.sort_unstable();
        pairs.dedup();
        for (kind, one, other) in pairs {
            findings.push(Finding {
                kind,
                path: Some(path.to_string()),
                note: None,
                steps: vec![run.name(&run.steps[one])?, run.name(&run.steps[other])?],
            });
        }
    }
    for (name, reader) in first_reads {
        let path = nodes::name(store, name)?;
        let is_shared = matches!(path.bytes(), b"/" | b"/tmp" | b"/var/tmp");
        if is_of_system(&path) || is_shared {
            continue;
        }
        findings.push(Finding {
            kind: "outside",
            path: Some(path.to_string()),
            note: None,
            steps: vec![run.name(&run.steps[reader])?],
        });
    }
    Ok(Lint {
        schema: "rfs.lint/1",
        run: run.build.number,
        findings,
    })
}

/// Whether two steps ran at the same time, and neither for the other.
fn beside(run: &Run<'_>, one: usize, other: usize) -> bool {
    let (one, other) = (&run.steps[one], &run.steps[other]);
    let overlap = one.began_us < needs::end(other) && other.began_us < needs::end(one);
    overlap && !run.is_in(one, other) && !run.is_in(other, one)
}

fn is_of_system(name: &Name) -> bool {
    name.inside() || SYSTEM.iter().any(|dir| name.as_path().starts_with(dir))
}

impl Display for Lint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "run {}: {} findings", self.run, self.findings.len())?;
        for finding in &self.findings {
            let what = match finding.kind {
                "race" => "read or written by steps at the same time",
                "written-twice" => "written by two steps",
                "undeclared" => "read, and not said to be needed",
                "unused" => "said to be needed, and not looked at",
                "outside" => "read, and neither of the workspace nor of the system",
                "chance" => "depends on chance or time",
                _ => "cannot be served",
            };
            let about = finding.path.as_deref().or(finding.note.as_deref());
            write!(
                f,
                "\n{}: {}: {what}",
                finding.kind,
                about.unwrap_or_default()
            )?;
            if let (Some(_), Some(target)) = (&finding.path, &finding.note) {
                write!(f, " for {target}")?;
            }
            for step in &finding.steps {
                write!(f, "\n    {step}")?;
            }
        }
        Ok(())
    }
}
