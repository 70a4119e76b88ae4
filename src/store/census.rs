//! How much is in a store.

use super::layout::PAGE;
use super::schema::{CONTENTS, MEMO_BY_FILE, NAMES, PIECES};
use super::{Error, Pages, Segment, Snapshot};
use super::{graph, history};
use crate::base::Digest;
use serde::Serialize;

/// What the segments hold, by their number.
const SEGMENTS: [&str; 15] = [
    "tree of names",
    "names",
    "writers",
    "contents",
    "contents by digest",
    "files",
    "files by inode",
    "executions",
    "executions by key",
    "heap",
    "pieces of dep vectors",
    "shapes of deps",
    "shapes by bytes",
    "builds",
    "readers",
];

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Census {
    /// Number of the state.
    pub generation: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of it that the state needs.
    pub used_bytes: u64,
    /// Names.
    pub names: u64,
    /// Contents that are named.
    pub contents: u64,
    /// Files whose digest is known.
    pub files: u64,
    /// Executions.
    pub executions: u64,
    /// Keys.
    pub keys: u64,
    /// Deps of all executions.
    pub deps: u64,
    /// Pieces that their vectors share.
    pub pieces: u64,
    /// Builds, in a workspace.
    pub builds: u64,
    /// Bytes of each table.
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// What it holds.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: u64,
}

/// Counts what is there, and checks every page.
///
/// # Errors
/// Damage.
pub fn census(snapshot: &Snapshot) -> Result<Census, Error> {
    let used = snapshot.check()?;
    let (mut deps, mut executions) = (0, 0);
    for execution in history::all(snapshot)? {
        deps += u64::from(history::facts(snapshot, execution)?.n_deps);
        executions += 1;
    }
    let tables = (0..).zip(SEGMENTS);
    let tables = tables.map(|(n, name)| {
        let n_pages = snapshot.n_pages(Segment(n));
        let bytes = u64::from(n_pages) * PAGE as u64;
        Table { name, bytes }
    });
    Ok(Census {
        generation: snapshot.generation(),
        file_bytes: snapshot.file_bytes(),
        used_bytes: used * PAGE as u64,
        names: NAMES.nodes.count(snapshot)?.into(),
        contents: CONTENTS.count(snapshot)?.into(),
        files: MEMO_BY_FILE.count(snapshot)?.into(),
        executions,
        keys: history::n_keys(snapshot)?.into(),
        deps,
        pieces: PIECES.count(snapshot)?.into(),
        builds: graph::builds(snapshot)?.len() as u64,
        tables: tables.collect(),
    })
}

/// Gives every name, content and file to the one who asks, as lines of text.
///
/// # Errors
/// Damage; what was given before is right.
pub fn dump(snapshot: &Snapshot, mut line: impl FnMut(String)) -> Result<(), Error> {
    for id in 1..=NAMES.nodes.count(snapshot)? {
        let name = NAMES.name(snapshot, id)?;
        line(format!("name {id} {}", name.escape_ascii()));
    }
    for id in 1..=CONTENTS.count(snapshot)? {
        let (digest, size) = super::contents::get(snapshot, id)?;
        line(format!("content {id} {digest} {size}"));
    }
    for file in super::digests::all(snapshot) {
        let (file, digest) = file?;
        line(format!(
            "file {}:{} {} {} {} {digest}",
            file.dev, file.ino, file.size, file.mtime, file.ctime
        ));
    }
    for execution in history::all(snapshot)? {
        let facts = history::facts(snapshot, execution)?;
        let record = history::record(snapshot, execution)?;
        let before = graph::before(snapshot, execution)?;
        let before: Option<Digest> = match before {
            Some(before) => Some(history::facts(snapshot, before)?.key),
            None => None,
        };
        line(format!(
            "execution {} key {} before {} {} deps {} outputs {}",
            facts.serial,
            facts.key,
            before.map_or_else(|| "-".to_owned(), |key| key.to_string()),
            record.deps.len(),
            record.outputs.len(),
            record.title.escape_default()
        ));
    }
    Ok(())
}
