//! `rfs lint`: what may go wrong in another run: steps that were not kept apart, and inputs that are not files
//! of the project or the system.

use super::Error;
use super::needs::{self, Places};
use super::run::{Run, StepRef};
use crate::base::Name;
use crate::store::edges::{Look, Nodes};
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
    // Of all names those matter that somebody wrote, and those of neither the workspace nor the system.
    let mut matter = Nodes::none(store)?;
    let foreign = nodes::beginning(store, b"/")?.into_iter();
    let foreign: BTreeMap<Node, Name> = foreign.filter(|(_, name)| is_foreign(name)).collect();
    for node in foreign.keys() {
        let _is_first = matter.add(*node);
    }
    let own_writes = needs::own_writes(&run)?;
    let mut writers = Places::new(&run)?;
    let mut written = Vec::new();
    for (place, name) in own_writes.pairs() {
        if writers.of(name).next().is_none() {
            written.push(name);
        }
        let _is_first = matter.add(name);
        writers.add(name, place);
    }
    written.sort_unstable();
    // Of a step that was not recorded it is not known how it looked.
    let own_reads = needs::own_reads(&run, Some(&matter), |step| match step.fate {
        Fate::Refused => Look::There,
        Fate::Ran | Fate::Served => Look::Content,
    })?;
    let mut readers = Places::new(&run)?;
    // By name: the first that read it and is none of those that wrote it.
    let mut first_reads: BTreeMap<Node, usize> = BTreeMap::new();
    for (place, name) in own_reads.pairs() {
        if writers.of(name).next().is_some() {
            readers.add(name, place);
        } else {
            let _first = first_reads.entry(name).or_insert(place);
        }
    }
    for place in needs::innermost(&run) {
        let step = &run.steps[place];
        let Some(execution) = step.execution else {
            continue;
        };
        let notes = history::notes(store, execution)?.into_iter();
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
    for name in written {
        let wrote = places(&writers, name);
        let mut pairs: Vec<(&'static str, usize, usize)> = Vec::new();
        let mut others = places(&readers, name);
        others.extend(&wrote);
        for writer in &wrote {
            let others = others.iter().filter(|other| *other != writer);
            let beside = others.filter(|other| beside(&run, *writer, **other));
            pairs.extend(beside.map(|other| ("race", *writer.min(other), *writer.max(other))));
        }
        // Who has read it first goes on with what is there, as ranlib does after ar.
        let read = places(&readers, name);
        for pair in wrote.windows(2).filter(|pair| !read.contains(&pair[1])) {
            pairs.push(("written-twice", pair[0], pair[1]));
        }
        pairs.sort_unstable();
        pairs.dedup();
        if pairs.is_empty() {
            continue;
        }
        let path = nodes::name(store, name)?;
        for (kind, one, other) in pairs.into_iter().filter(|_| path.inside()) {
            findings.push(Finding {
                kind,
                path: Some(path.to_string()),
                note: None,
                steps: vec![run.name(&run.steps[one])?, run.name(&run.steps[other])?],
            });
        }
    }
    for (name, reader) in first_reads {
        let path = foreign.get(&name);
        findings.push(Finding {
            kind: "outside",
            path: path.map(Name::to_string),
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

/// The places that have to do with a name, in order.
fn places(of: &Places, name: Node) -> Vec<usize> {
    let mut places: Vec<usize> = of.of(name).collect();
    places.reverse();
    places
}

/// Whether a name lies neither in the workspace nor where a system keeps its files, and is no directory that all share.
fn is_foreign(name: &Name) -> bool {
    let is_of_system = SYSTEM.iter().any(|dir| name.as_path().starts_with(dir));
    let is_shared = matches!(name.bytes(), b"/" | b"/tmp" | b"/var/tmp");
    !name.inside() && !is_of_system && !is_shared
}

impl Display for Lint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ending = if self.findings.len() == 1 { "" } else { "s" };
        write!(
            f,
            "run {}: {} finding{ending}",
            self.run,
            self.findings.len()
        )?;
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
