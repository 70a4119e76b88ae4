//! `rfs graph --folded`: which directories are made from which. For graphs of more steps than anybody looks at:
//! no name of a file is looked up but one for each directory.

use super::Error;
use super::graph::{Graph, Vertex, quoted};
use super::needs::{self, OwnReads};
use super::run::Run;
use crate::base::Name;
use crate::store::edges::{Look, Piece, Pieces};
use crate::store::nodes::{self, Directory, Node};
use crate::store::{self, Snapshot};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::path::Path;

/// The answer. Prints itself as a graph for dot(1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Folded {
    schema: &'static str,
    /// The number of the run.
    pub run: u32,
    /// Steps that wrote something by themselves.
    pub steps: usize,
    /// Directories of the workspace in which something was written, by name.
    pub directories: Vec<Made>,
}

/// A directory with what steps have made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    /// Its name; `.` for the top.
    pub directory: String,
    /// Steps that wrote something in it by themselves.
    pub steps: usize,
    /// The directories in which lies what they read by themselves, by name.
    pub from: Vec<String>,
}

/// The graph of a run by directories.
///
/// # Errors
/// There is no such run, or the store is damaged.
pub fn folded(store: &Snapshot, run: Option<u32>) -> Result<Folded, Error> {
    let run = Run::open(store, run)?;
    let writes = needs::own_writes(&run)?;
    let wrote = |place: &usize| !writes.of(*place).is_empty();
    let inner: Vec<usize> = needs::innermost(&run).into_iter().filter(wrote).collect();
    let parts = needs::in_parts(&inner, |places| {
        let mut fold = Fold::new(store)?;
        for place in places {
            if let Some(execution) = run.steps[*place].execution {
                fold.from.clear();
                for piece in Pieces::of(store, execution)? {
                    fold.read(piece)?;
                }
                fold.wrote(writes.of(*place))?;
            }
        }
        Ok(fold)
    })?;
    let is_inner: HashSet<usize> = inner.into_iter().collect();
    let mut around = Fold::new(store)?;
    // Of the few that started others and wrote something it is asked what they read themselves.
    let mut reads = None;
    for place in (0..run.steps.len()).filter(|place| wrote(place) && !is_inner.contains(place)) {
        let reads = match &mut reads {
            Some(reads) => reads,
            None => reads.insert(OwnReads::among(&run, None)?),
        };
        around.from.clear();
        for node in reads.of(place, Look::Content)? {
            let directory = around.directories.of(store, node)?;
            around.from.push(directory);
        }
        around.wrote(writes.of(place))?;
    }
    let mut directories: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
    let mut n_steps = 0;
    for fold in parts.iter().chain([&around]) {
        n_steps += fold.n_steps;
        let names = fold.directories.names(store)?;
        for (to, steps) in &fold.steps {
            if let Some(to) = &names[*to as usize] {
                directories.entry(to.clone()).or_default().0 += steps;
            }
        }
        for (from, to) in &fold.edges {
            if let (Some(from), Some(to)) = (&names[*from as usize], &names[*to as usize]) {
                let (_, all) = directories.entry(to.clone()).or_default();
                all.insert(from.clone());
            }
        }
    }
    let made = directories
        .into_iter()
        .map(|(directory, (steps, from))| Made {
            directory,
            steps,
            from: from.into_iter().collect(),
        });
    Ok(Folded {
        schema: "rfs.graph-folded/1",
        run: run.build.number,
        steps: n_steps,
        directories: made.collect(),
    })
}

/// Number of a directory among those that one part has met.
type Place = u32;

/// What is known of some steps.
struct Fold<'a> {
    store: &'a Snapshot,
    directories: Directories,
    pieces: Pieces,
    /// Directories of pieces that several steps have.
    known: HashMap<Piece, Vec<Place>>,
    /// Those that the step which is looked at has read in; some several times.
    from: Vec<Place>,
    n_steps: usize,
    /// By directory: steps that wrote in it.
    steps: BTreeMap<Place, usize>,
    /// From the one in which a step read to the one in which it wrote.
    edges: BTreeSet<(Place, Place)>,
    /// By directory: the last one to which it is noted that it leads.
    noted: Vec<Option<Place>>,
}

impl<'a> Fold<'a> {
    fn new(store: &'a Snapshot) -> Result<Self, store::Error> {
        Ok(Self {
            store,
            directories: Directories::new(store)?,
            pieces: Pieces::default(),
            known: HashMap::new(),
            from: Vec::new(),
            noted: Vec::new(),
            n_steps: 0,
            steps: BTreeMap::new(),
            edges: BTreeSet::new(),
        })
    }

    /// What the step has read is in a piece.
    fn read(&mut self, piece: Piece) -> Result<(), store::Error> {
        if let Some(known) = self.known.get(&piece) {
            self.from.extend(known);
            return Ok(());
        }
        let mut found: Vec<Place> = Vec::new();
        let mut failed = Ok(());
        let (store, directories) = (self.store, &mut self.directories);
        let is_shared =
            self.pieces.each(store, piece, Look::Content, |node| {
                match directories.of(store, node) {
                    Ok(directory) if found.last() == Some(&directory) => (),
                    Ok(directory) => found.push(directory),
                    Err(error) => failed = Err(error),
                }
            })?;
        failed?;
        self.from.extend(&found);
        if is_shared {
            self.known.insert(piece, found);
        }
        Ok(())
    }

    /// The step is at its end, and these it has written.
    fn wrote(&mut self, nodes: &[Node]) -> Result<(), store::Error> {
        let mut to: Vec<Place> = Vec::new();
        for node in nodes {
            let directory = self.directories.of(self.store, *node)?;
            if !to.contains(&directory) {
                to.push(directory);
            }
        }
        self.n_steps += 1;
        for to in to {
            *self.steps.entry(to).or_default() += 1;
            self.noted.resize(self.directories.members.len(), None);
            for from in &self.from {
                let noted = &mut self.noted[*from as usize];
                if noted.replace(to) != Some(to) {
                    self.edges.insert((*from, to));
                }
            }
        }
        Ok(())
    }
}

/// The directories of names.
struct Directories {
    /// By node: its directory, and one more; 0 where nobody has asked.
    known: Vec<u32>,
    places: HashMap<Directory, Place>,
    /// By place: a name in it.
    members: Vec<Node>,
}

impl Directories {
    fn new(store: &Snapshot) -> Result<Self, store::Error> {
        Ok(Self {
            known: vec![0; nodes::count(store)? as usize + 1],
            places: HashMap::new(),
            members: Vec::new(),
        })
    }

    fn of(&mut self, store: &Snapshot, node: Node) -> Result<Place, store::Error> {
        let known = self.known.get(node.0 as usize).copied();
        if let Some(place) = known.and_then(|known| known.checked_sub(1)) {
            return Ok(place);
        }
        let members = &mut self.members;
        let directory = nodes::directory(store, node)?;
        let place = *self.places.entry(directory).or_insert_with(|| {
            members.push(node);
            u32::try_from(members.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(known) = self.known.get_mut(node.0 as usize) {
            *known = place + 1;
        }
        Ok(place)
    }

    /// By place: its name, if it is one of the workspace.
    fn names(&self, store: &Snapshot) -> Result<Vec<Option<String>>, Error> {
        let name = |node: &Node| {
            let name = nodes::name(store, *node)?;
            Ok(name.inside().then(|| directory(&name)))
        };
        self.members.iter().map(name).collect()
    }
}

fn directory(name: &Name) -> String {
    match name.as_path().parent() {
        None => ".".to_owned(),
        Some(parent) if parent == Path::new("") => ".".to_owned(),
        Some(parent) => parent.to_string_lossy().into_owned(),
    }
}

impl Folded {
    /// The same as a picture, for who has no dot(1).
    #[must_use]
    pub fn svg(&self) -> String {
        let vertex = |(index, made): (usize, &Made)| {
            let others = made.from.iter().filter(|from| **from != made.directory);
            Vertex {
                step: u32::try_from(index).unwrap_or(u32::MAX),
                command: steps(made.steps),
                inputs: others.map(|from| from.as_str().into()).collect(),
                outputs: vec![made.directory.as_str().into()],
            }
        };
        let vertices = self.directories.iter().enumerate().map(vertex);
        Graph::of(self.run, vertices.collect()).svg()
    }
}

fn steps(n: usize) -> String {
    match n {
        1 => "1 step".to_owned(),
        n => format!("{n} steps"),
    }
}

impl Display for Folded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "digraph run{} {{\n  rankdir=LR;\n  node [shape=folder];",
            self.run
        )?;
        for made in &self.directories {
            let to = quoted(&made.directory);
            let label = quoted(&format!("{}\n{}", made.directory, steps(made.steps)));
            write!(f, "\n  {to} [label={}];", label.replace('\n', "\\n"))?;
            for from in &made.from {
                write!(f, "\n  {} -> {to};", quoted(from))?;
            }
        }
        f.write_str("\n}")
    }
}
