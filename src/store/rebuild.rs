//! Copies what a store holds into another one: all of it, to leave behind what is no longer needed, or
//! what of it can still be read.

use super::history::{self, Execution};
use super::schema::SCHEMA;
use super::{Durability, Error, Pages, Snapshot, Store, Txn, digests, graph};
use crate::base::Digest;
use crate::disk::Disk;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Executions in one transaction: its pages are in memory.
const AT_ONCE: usize = 4096;

/// What became of what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Executions that were copied.
    pub executions: u64,
    /// Files whose digests were copied.
    pub files: u64,
    /// Executions and files that could not be read.
    pub lost: u64,
}

/// Writes a store anew, without the names, contents and pages that nothing needs any more, and puts it
/// into the place of the old one. Who reads the old one goes on reading it; who writes waits.
///
/// # Errors
/// Damage, or a system call fails; the store is as it was then.
pub fn compact(store: &Store, disk: &Arc<dyn Disk>) -> Result<Copied, Error> {
    // Held to the end: nobody writes to what is being left.
    let lock = store.begin()?;
    let snapshot = store.snapshot()?;
    let new_path = beside(store.path());
    // Only who was killed can have left one: we have the lock.
    if new_path.exists() {
        disk.unlink(&new_path)?;
    }
    let copied = copy_into(&snapshot, &new_path, true, disk)
        .and_then(|copied| Ok(disk.rename(&new_path, store.path()).map(|()| copied)?));
    if copied.is_err() {
        drop(disk.unlink(&new_path));
    }
    drop(lock);
    copied
}

/// Writes what a state knows to a new file, for another machine: without what is not needed any more, and
/// without the environment of the steps where that is not wanted.
///
/// # Errors
/// Damage, or a system call fails; what was written is removed.
pub fn export(
    snapshot: &Snapshot,
    to: &Path,
    keeps_environment: bool,
    disk: &Arc<dyn Disk>,
) -> Result<Copied, Error> {
    let copied = copy_into(snapshot, to, keeps_environment, disk);
    if copied.is_err() {
        drop(disk.unlink(to));
    }
    copied
}

fn copy_into(
    snapshot: &Snapshot,
    path: &Path,
    keeps_environment: bool,
    disk: &Arc<dyn Disk>,
) -> Result<Copied, Error> {
    let store = Store::open(path, SCHEMA, disk.clone())?;
    let mut copied = Copied::default();
    let all = in_order(snapshot, history::all(snapshot)?)?;
    let mut new = HashMap::new();
    for some in all.chunks(AT_ONCE) {
        let mut txn = store.begin()?;
        for (key, execution) in some {
            new.insert(*execution, add(snapshot, &mut txn, key, *execution)?);
            copied.executions += 1;
        }
        txn.commit(Durability::Lazy)?;
    }
    let mut txn = store.begin()?;
    graph::copy(snapshot, &mut txn, &new, keeps_environment)?;
    for file in digests::all(snapshot) {
        let (identity, digest) = file?;
        digests::put(&mut txn, &identity, &digest)?;
        copied.files += 1;
    }
    txn.commit(Durability::Durable)?;
    Ok(copied)
}

/// Adds what can be read of a store that was set aside to one in use. What that one has under the same
/// key is left as it is.
///
/// # Errors
/// Nothing of `from` can be read, or `to` cannot be written.
pub fn salvage(from: &Path, to: &Store, disk: &Arc<dyn Disk>) -> Result<Copied, Error> {
    let old = Store::open(from, SCHEMA, disk.clone())?.snapshot()?;
    let mut copied = Copied::default();
    let (executions, n_lost) = history::readable(&*old)?;
    copied.lost += n_lost;
    let mut known: Vec<(u32, Digest, Execution)> = Vec::new();
    for execution in executions {
        let facts = history::facts(&*old, execution)?;
        known.push((facts.serial, facts.key, execution));
    }
    known.sort_unstable_by_key(|(serial, ..)| *serial);
    let mut txn = to.begin()?;
    let mut kept = Vec::new();
    for (_, key, execution) in known {
        if history::under(&txn, &key)?.is_empty() {
            kept.push((key, execution));
        }
    }
    for (key, execution) in kept {
        match history::record(&*old, execution) {
            Ok(record) => {
                let used = history::facts(&*old, execution)?.used;
                let new = history::add(&mut txn, &key, &record, used)?;
                graph::note_readers(&mut txn, new)?;
                copied.executions += 1;
            }
            Err(_unreadable) => copied.lost += 1,
        }
    }
    for file in digests::all(&*old) {
        match file {
            Ok((identity, digest)) if digests::get(&txn, &identity)?.is_none() => {
                digests::put(&mut txn, &identity, &digest)?;
                copied.files += 1;
            }
            Ok(_) => {}
            Err(_unreadable) => copied.lost += 1,
        }
    }
    txn.commit(Durability::Durable)?;
    Ok(copied)
}

fn add(
    from: &Snapshot,
    to: &mut Txn<'_>,
    key: &Digest,
    execution: Execution,
) -> Result<Execution, Error> {
    let facts = history::facts(from, execution)?;
    let new = history::add(to, key, &history::record(from, execution)?, facts.used)?;
    history::pin(to, new, facts.pinned)?;
    Ok(new)
}

/// Executions in an order in which adding them gives the same order under each key.
fn in_order(
    pages: &impl Pages,
    executions: Vec<Execution>,
) -> Result<Vec<(Digest, Execution)>, Error> {
    let mut chains: BTreeMap<Digest, Vec<Execution>> = BTreeMap::new();
    let mut keys = Vec::new();
    for execution in executions {
        let facts = history::facts(pages, execution)?;
        keys.push((facts.serial, facts.key));
    }
    keys.sort_unstable();
    let mut ordered = Vec::new();
    for (_, key) in keys {
        if let Some(chain) = chains.get_mut(&key) {
            ordered.extend(chain.pop().map(|one| (key, one)));
            continue;
        }
        let mut chain = history::under(pages, &key)?;
        ordered.extend(chain.pop().map(|one| (key, one)));
        chains.insert(key, chain);
    }
    Ok(ordered)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".compact");
    PathBuf::from(name)
}
