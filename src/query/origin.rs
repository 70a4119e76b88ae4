//! What a file was made from, all the way down, for those who want it attested: the steps that led to it, with
//! what they read and none of them wrote, and the programs around them with what those read by themselves.

use super::Error;
use super::needs::OwnReads;
use super::run::Run;
use crate::attest::{Digests, Input, Made, Step};
use crate::base::{Access, Digest, Name, Record, State, What};
use crate::store::edges::Look;
use crate::store::history::{self, Execution};
use crate::store::nodes::{self, Node};
use crate::store::{Snapshot, graph};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is known of the making of a file. Its own digests are those of its record; no input has a SHA-256 or a
/// package yet.
///
/// # Errors
/// No step is known to have written it, or the store is damaged.
pub fn of(store: &Snapshot, name: &Name) -> Result<Made, Error> {
    if nodes::find(store, name.bytes())?.is_none() {
        return Err(Error::Unknown(name.clone()));
    }
    let maker = graph::writer(store, name)?;
    let maker = maker.ok_or_else(|| Error::Source(name.clone()))?;
    let record = history::record(store, maker)?;
    let written = record.outputs.iter().find(|output| output.name == *name);
    let digest = match written.map(|output| &output.what) {
        Some(What::File { digest, .. }) => Some(*digest),
        Some(_) | None => None,
    };
    let (run, around) = run_of(store, maker)?;
    let mut found = Found::default();
    let mut seen = BTreeSet::from([maker]);
    let mut next = VecDeque::from([maker]);
    while let Some(execution) = next.pop_front() {
        let record = history::record(store, execution)?;
        for (name, digests) in contents(&record, None) {
            let writer = graph::writer(store, &name)?;
            let writer = writer.filter(|writer| *writer != execution);
            if let Some(writer) = writer.filter(|writer| seen.insert(*writer)) {
                next.push_back(writer);
            }
            found.read(name, digests, writer.is_some());
        }
        found.step(execution, &record);
    }
    for (execution, own) in around {
        let record = history::record(store, execution)?;
        for (name, digests) in contents(&record, Some((store, &own))) {
            let between = graph::writer(store, &name)?.is_some_and(|one| seen.contains(&one));
            found.read(name, digests, between);
        }
        found.step(execution, &record);
    }
    let (inputs, between) = found.files();
    Ok(Made {
        name: name.to_string(),
        digests: Digests {
            blake3: digest,
            sha256: None,
        },
        command: run.0,
        run: run.1,
        began: run.2,
        ended: record.provenance.time,
        steps: found.steps.into_values().collect(),
        inputs,
        between,
        packages: Vec::new(),
        host: record.provenance.host,
        tracer: (record.provenance.rfs, record.provenance.tracer),
    })
}

/// Command, number and start of a run.
type Ran = (String, u32, i64);
/// An execution, and what it read and none that it started.
type Own = (Execution, BTreeSet<Node>);

/// The run that an execution was first a step of, and the steps around it there.
fn run_of(store: &Snapshot, execution: Execution) -> Result<(Ran, Vec<Own>), Error> {
    for build in graph::builds(store)? {
        let run = Run::open(store, Some(build.number))?;
        let Some(step) = run.of(execution) else {
            continue;
        };
        let around = run.around(step);
        let mut reads = OwnReads::among(&run, None)?;
        let mut own = Vec::new();
        for step in around {
            if let (Some(place), Some(execution)) = (run.place(step.number), step.execution) {
                let names = reads.of(place, Look::Content)?;
                own.push((execution, names.into_iter().collect()));
            }
        }
        return Ok(((build.title, build.number, build.began), own));
    }
    Ok((("not known any more".to_owned(), 0, 0), Vec::new()))
}

/// What was read of a record, or of some names of it only.
fn contents(
    record: &Record,
    among: Option<(&Snapshot, &BTreeSet<Node>)>,
) -> Vec<(Name, Option<Digest>)> {
    let wanted = |name: &Name| match among {
        Some((store, names)) => nodes::find(store, name.bytes())
            .is_ok_and(|node| node.is_some_and(|node| names.contains(&node))),
        None => true,
    };
    let deps = record
        .deps
        .iter()
        .filter(|dep| dep.access.any(Access::REG | Access::LNK));
    let contents = deps.filter_map(|dep| match &dep.state {
        State::File { digest, .. } => Some((dep.name.clone(), *digest)),
        State::Link(text, _) => Some((dep.name.clone(), Some(Digest::of(text)))),
        State::Absent | State::Dir { .. } | State::Other(..) | State::Hidden(_) => None,
    });
    contents
        .filter(|(name, digest)| digest.is_some() && wanted(name))
        .collect()
}

#[derive(Default)]
struct Found {
    steps: BTreeMap<Execution, Step>,
    /// By name: content, and whether one of the steps wrote it.
    files: BTreeMap<Name, (Option<Digest>, bool)>,
}

impl Found {
    fn read(&mut self, name: Name, digest: Option<Digest>, between: bool) {
        self.files.entry(name).or_insert((digest, between));
    }

    fn step(&mut self, execution: Execution, record: &Record) {
        let argv = record.command.argv.iter();
        let argv = argv.map(|word| String::from_utf8_lossy(word).into_owned());
        let step = Step {
            argv: argv.collect(),
            cwd: record.command.cwd.to_string(),
        };
        self.steps.insert(execution, step);
    }

    /// What no step wrote, and what one did.
    fn files(&self) -> (Vec<Input>, Vec<Input>) {
        let some = |wanted: bool| {
            let files = self
                .files
                .iter()
                .filter(|(_, (_, between))| *between == wanted);
            let files = files.map(|(name, (digest, _))| Input {
                path: String::from_utf8_lossy(name.bytes()).into_owned(),
                digests: Digests {
                    blake3: *digest,
                    sha256: None,
                },
                package: None,
            });
            files.collect()
        };
        (some(false), some(true))
    }
}
