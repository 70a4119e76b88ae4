//! `rfs deps` and `rfs rdeps`: what a file was made from, and what was made from it.

use super::packages::{Package, Packages};
use super::run::Run;
use super::{Error, Subject, state};
use crate::base::{Access, Dep, Digest, Name, State};
use crate::store::graph;
use crate::store::history::{self, Execution};
use crate::store::{Snapshot, edges, nodes};
use serde::Serialize;
use serde_json::Value;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Display, Formatter};
use std::io;

/// Which inputs are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Those of what made the inputs, too, and so on.
    pub transitive: bool,
    /// Names that were looked for and were not there.
    pub absent: bool,
    /// What lies outside the workspace.
    pub outside: bool,
}

/// What something was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deps {
    schema: &'static str,
    /// What was asked about.
    pub asked: String,
    /// The command that made it.
    pub command: Option<String>,
    /// Its inputs, by name.
    pub inputs: Vec<Input>,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Input {
    /// Its path.
    pub path: String,
    /// How it was looked at, such as `kind+reg`.
    pub access: String,
    /// What was true of it.
    pub state: Value,
    /// The command that wrote it; none for a source.
    pub writer: Option<String>,
    /// 1 for an input, 2 for an input of what made an input, and so on.
    pub distance: u32,
    /// The Debian package that owns it, with its version; of what lies outside the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    #[serde(skip)]
    name: Name,
    /// What it is.
    #[serde(skip)]
    is: &'static str,
    /// As what it was looked at.
    #[serde(skip)]
    kind: &'static str,
}

/// What was made from something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readers {
    schema: &'static str,
    /// What was asked about.
    pub asked: String,
    /// Who looks at it.
    pub readers: Vec<Reader>,
}

/// The packages that something was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Used {
    schema: &'static str,
    /// What was asked about.
    pub asked: String,
    /// The command that made it.
    pub command: Option<String>,
    /// The packages, by name.
    pub packages: Vec<UsedPackage>,
    /// Files outside the workspace that no package owns.
    pub unowned: Vec<String>,
}

/// One package of which something was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsedPackage {
    /// Which one.
    #[serde(flatten)]
    pub package: Package,
    /// Files and links of it that were looked at.
    pub files: Vec<String>,
}

/// Who looks at something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reader {
    /// The command.
    pub command: String,
    /// What it writes.
    pub outputs: Vec<String>,
    /// 1 for who reads it, 2 for who reads what that wrote, and so on.
    pub distance: u32,
}

/// What something was made from.
///
/// # Errors
/// Nothing is known of it, or the store is damaged.
pub fn deps(store: &Snapshot, subject: &Subject, wanted: Wanted) -> Result<Deps, Error> {
    let (asked, maker) = maker(store, subject)?;
    let mut answer = Deps {
        schema: "rfs.deps/1",
        asked,
        command: None,
        inputs: Vec::new(),
    };
    let Some(maker) = maker else {
        return Ok(answer);
    };
    answer.command = Some(history::rest(store, maker)?.title);
    let mut found: BTreeMap<Name, Input> = BTreeMap::new();
    let mut seen = BTreeSet::from([maker]);
    let mut next = VecDeque::from([(maker, 1)]);
    while let Some((execution, distance)) = next.pop_front() {
        let record = history::record(store, execution)?;
        for dep in record.deps {
            let is_absent = dep.state == State::Absent;
            if (is_absent && !wanted.absent) || (!dep.name.inside() && !wanted.outside) {
                continue;
            }
            let writer = writer(store, &dep, execution)?;
            if let Some(writer) = writer.filter(|_| wanted.transitive) {
                if seen.insert(writer) {
                    next.push_back((writer, distance + 1));
                }
            }
            if let Entry::Vacant(place) = found.entry(dep.name.clone()) {
                let title = writer.map(|one| history::rest(store, one)).transpose()?;
                place.insert(input(&dep, title.map(|record| record.title), distance));
            }
        }
    }
    answer.inputs = found.into_values().collect();
    Ok(answer)
}

impl Deps {
    /// Tells for each input outside of the workspace which package owns it.
    ///
    /// # Errors
    /// What the system tells of its packages cannot be read.
    pub fn name_packages(&mut self, system: &Packages) -> io::Result<()> {
        let owners = system.owners(self.outside().map(|input| input.name.bytes()))?;
        for input in &mut self.inputs {
            input.package = owners.get(input.name.bytes()).map(Package::to_string);
        }
        Ok(())
    }

    /// The packages of the inputs outside of the workspace.
    ///
    /// # Errors
    /// As [`Self::name_packages`].
    pub fn packages(&self, system: &Packages) -> io::Result<Used> {
        let owners = system.owners(self.outside().map(|input| input.name.bytes()))?;
        let mut used: BTreeMap<&Package, Vec<String>> = BTreeMap::new();
        let mut unowned = Vec::new();
        for input in self.outside() {
            match owners.get(input.name.bytes()) {
                Some(package) => used.entry(package).or_default().push(input.path.clone()),
                None => unowned.push(input.path.clone()),
            }
        }
        let package = |(package, files): (&Package, _)| UsedPackage {
            package: package.clone(),
            files,
        };
        Ok(Used {
            schema: "rfs.packages/1",
            asked: self.asked.clone(),
            command: self.command.clone(),
            packages: used.into_iter().map(package).collect(),
            unowned,
        })
    }

    /// Files and links that packages may own.
    fn outside(&self) -> impl Iterator<Item = &Input> {
        let is_owned = |input: &&Input| !input.name.inside() && matches!(input.is, "file" | "link");
        self.inputs.iter().filter(is_owned)
    }
}

/// The execution that wrote what a dep looked at, unless it is the one that looked.
fn writer(store: &Snapshot, dep: &Dep, reader: Execution) -> Result<Option<Execution>, Error> {
    if matches!(dep.state, State::Absent | State::Dir { .. }) {
        return Ok(None);
    }
    let writer = graph::writer(store, &dep.name)?;
    Ok(writer.filter(|writer| *writer != reader))
}

fn input(dep: &Dep, writer: Option<String>, distance: u32) -> Input {
    Input {
        path: dep.name.to_string(),
        access: format!("{:?}", dep.access),
        state: state::json(&dep.state),
        writer,
        distance,
        package: None,
        name: dep.name.clone(),
        is: state::kind(&dep.state),
        kind: if dep.access.any(Access::REG | Access::LIST) || dep.state == State::Absent {
            state::kind(&dep.state)
        } else {
            "stat"
        },
    }
}

/// The execution that a subject is or was last written by; none for a source.
fn maker(store: &Snapshot, subject: &Subject) -> Result<(String, Option<Execution>), Error> {
    match subject {
        Subject::Step(_, number) => {
            let run = Run::for_subject(store, None, subject)?;
            let step = run.step(*number)?;
            let forgotten = Error::Forgotten(run.build.number, *number);
            let execution = step.execution.ok_or(forgotten)?;
            Ok((run.name(step)?.to_string(), Some(execution)))
        }
        Subject::Path(name) => {
            if nodes::find(store, name.bytes())?.is_none() {
                return Err(Error::Unknown(name.clone()));
            }
            Ok((name.to_string(), graph::writer(store, name)?))
        }
    }
}

/// What was made from something.
///
/// # Errors
/// Nothing is known of it, or the store is damaged.
pub fn rdeps(store: &Snapshot, subject: &Subject, transitive: bool) -> Result<Readers, Error> {
    let mut names = Vec::new();
    let asked = match subject {
        Subject::Path(name) => {
            if nodes::find(store, name.bytes())?.is_none() {
                return Err(Error::Unknown(name.clone()));
            }
            names.push(name.clone());
            name.to_string()
        }
        Subject::Step(..) => {
            let (asked, maker) = maker(store, subject)?;
            if let Some(maker) = maker {
                names.extend(written(store, maker)?);
            }
            asked
        }
    };
    let mut readers = Vec::new();
    let mut seen_names: BTreeSet<Name> = names.iter().cloned().collect();
    let mut seen = BTreeSet::new();
    let mut distance = 0;
    while !names.is_empty() {
        distance += 1;
        let mut found = BTreeSet::new();
        for name in &names {
            found.extend(graph::readers(store, name, false)?);
        }
        names.clear();
        for (execution, command) in innermost(store, found)? {
            if !seen.insert(execution) {
                continue;
            }
            let outputs = written(store, execution)?;
            if transitive {
                let new = outputs
                    .iter()
                    .filter(|name| seen_names.insert((*name).clone()));
                names.extend(new.cloned());
            }
            readers.push(Reader {
                command,
                outputs: outputs.iter().map(Name::to_string).collect(),
                distance,
            });
        }
    }
    Ok(Readers {
        schema: "rfs.rdeps/1",
        asked,
        readers,
    })
}

/// Those that did not only start another one of them, with their commands: what a step looks at, those
/// around it have looked at.
fn innermost(
    store: &Snapshot,
    found: BTreeSet<Execution>,
) -> Result<Vec<(Execution, String)>, Error> {
    let keys = found.iter().map(|one| Ok(history::facts(store, *one)?.key));
    let keys: BTreeSet<Digest> = keys.collect::<Result<_, Error>>()?;
    let mut inner = Vec::new();
    for execution in found {
        let record = history::rest(store, execution)?;
        if !record.inner.iter().any(|key| keys.contains(key)) {
            inner.push((execution, record.title));
        }
    }
    Ok(inner)
}

fn written(store: &Snapshot, execution: Execution) -> Result<Vec<Name>, Error> {
    let mut written = Vec::new();
    edges::writes(store, execution, |node| written.push(node))?;
    let names = written.into_iter().map(|node| nodes::name(store, node));
    Ok(names.collect::<Result<_, _>>()?)
}

impl Display for Deps {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.command {
            Some(command) => write!(f, "{}: made by {command}", self.asked)?,
            None => write!(
                f,
                "{}: a source: no step is known to have written it",
                self.asked
            )?,
        }
        for input in &self.inputs {
            let indent = usize::try_from(input.distance).unwrap_or(1) * 2;
            write!(f, "\n{:indent$}{}", "", input.path)?;
            if matches!(input.kind, "absent" | "stat") {
                write!(f, " ({})", input.kind)?;
            }
            if let Some(package) = &input.package {
                write!(f, "  [{package}]")?;
            }
            if let Some(writer) = &input.writer {
                write!(f, "  <- {writer}")?;
            }
        }
        Ok(())
    }
}

impl Display for Used {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let n_packages = self.packages.len();
        write!(f, "{}: {n_packages} packages", self.asked)?;
        for one in &self.packages {
            write!(f, "\n  {}: {} files", one.package, one.files.len())?;
        }
        for path in &self.unowned {
            write!(f, "\n  {path}: of no package")?;
        }
        Ok(())
    }
}

impl Display for Readers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: looked at by {} steps",
            self.asked,
            self.readers.len()
        )?;
        for reader in &self.readers {
            let indent = usize::try_from(reader.distance).unwrap_or(1) * 2;
            write!(f, "\n{:indent$}{}", "", reader.command)?;
            if !reader.outputs.is_empty() {
                write!(f, "  -> {}", reader.outputs.join(" "))?;
            }
        }
        Ok(())
    }
}
