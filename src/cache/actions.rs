//! Records by weak key, in the store `index`: a few for each key, the first to be tried first.
//!
//! Any number of processes may add and load. Commits are lazy: after a loss of power the newest records
//! may be gone, and whoever ends a build makes the rest durable. A damaged store is set aside.

mod decoded;

pub(super) use decoded::Decoded;

use super::sound::sound;
use super::{Cache, Error};
use crate::base::{Access, Digest, Record};
use crate::store::history::{self, Execution};
use crate::store::{self, Durability, Pages, Snapshot, Store, Txn, canonical, recover};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Records kept for one key.
pub const MAX_RECORDS: usize = 8;
/// Records under one key, as long as they have few deps together.
const MAX_SMALL_RECORDS: usize = 64;
/// Deps of the records beyond [`MAX_RECORDS`] and of those before them, together.
const MAX_DEPS: usize = 16_000;
/// Records of a key that are remembered in brief, the last of those that were too many.
const MAX_BRIEF: usize = 512;
/// Bytes of a record, about: larger ones are not stored.
const MAX_BYTES: usize = 128 << 20;
/// Minutes after which it is noted again that records are used.
const USE_NOTED: u32 = 24 * 60;

/// What is known of a key.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Records, newest first; all sound.
    pub records: Vec<Arc<Record>>,
    /// Why there are none although there may have been some.
    pub damaged: Option<String>,
    /// Why it is not known whether there are any.
    pub unreadable: Option<store::Error>,
}

/// The store, as far as it can be used.
#[derive(Debug, Default)]
pub(super) struct Index {
    store: Option<Arc<Store>>,
    /// What is to be told to who asks next.
    told: Option<String>,
}

impl Cache {
    /// The records of a weak key. Damage is told of once.
    #[must_use]
    pub fn load(&self, key: &Digest) -> Loaded {
        let (store, damaged) = self.index();
        let mut loaded = Loaded {
            damaged,
            ..Loaded::default()
        };
        let Some(store) = store else {
            return loaded;
        };
        match self.records(&store, key) {
            Ok(records) => loaded.records = records,
            Err(error) if error.is_loss() => loaded.damaged = Some(self.lose(&store, error)),
            Err(error) => loaded.unreadable = Some(error),
        }
        loaded
    }

    fn records(&self, store: &Store, key: &Digest) -> Result<Vec<Arc<Record>>, store::Error> {
        let snapshot = store.snapshot()?;
        let from = snapshot.origin();
        let executions = history::under(&*snapshot, key)?;
        let mut records = Vec::with_capacity(executions.len());
        let mut is_stale = false;
        for execution in executions {
            let facts = history::facts(&*snapshot, execution)?;
            is_stale |= facts.used.saturating_add(USE_NOTED) < minutes();
            let known = self.decoded().get(&from, facts.serial);
            let record = match known {
                Some(record) => record,
                None => decode(&snapshot, execution)?,
            };
            records.push((facts.serial, record));
        }
        drop(snapshot);
        self.decoded().keep(from, &records);
        if is_stale {
            // What is not noted is forgotten a little sooner.
            drop(note_use(store, key));
        }
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    fn decoded(&self) -> MutexGuard<'_, Decoded> {
        self.decoded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record to those of a weak key, as the first that is tried. It takes the place of one with
    /// the same inputs; nothing is written if only cost and provenance differ from the first.
    ///
    /// # Errors
    /// The record is not sound, or the store cannot take it; what was stored before is still there then.
    pub fn add(&self, key: &Digest, record: Record) -> Result<(), Error> {
        let record = admit(record)?;
        self.change(|store| self.put(store, &[(*key, &record)]))
    }

    /// Adds records, in their order, at little more than the cost of one. Gives what became of each.
    pub fn add_all(&self, records: Vec<(Digest, Record)>) -> Vec<Result<(), Error>> {
        let admitted = records.into_iter();
        let admitted: Vec<(Digest, Result<Record, Error>)> =
            admitted.map(|(key, record)| (key, admit(record))).collect();
        let sound = admitted.iter();
        let sound = sound.filter_map(|(key, record)| Some((*key, record.as_ref().ok()?)));
        let sound: Vec<(Digest, &Record)> = sound.collect();
        // Where they do not get in together, each may by itself, or has its own reason.
        let together = self.change(|store| self.put(store, &sound)).is_ok();
        let one = |(key, record): (Digest, Result<Record, Error>)| match record {
            Ok(_) if together => Ok(()),
            Ok(record) => self.change(|store| self.put(store, &[(key, &record)])),
            Err(error) => Err(error),
        };
        admitted.into_iter().map(one).collect()
    }

    fn put(&self, store: &Store, records: &[(Digest, &Record)]) -> Result<(), store::Error> {
        let snapshot = store.snapshot()?;
        let mut new = Vec::new();
        for (key, record) in records {
            let first = history::under(&*snapshot, key)?.first().copied();
            let is_known = match first {
                Some(first) => history::record(&*snapshot, first)?.does_as(record),
                None => false,
            };
            if !is_known {
                new.push((key, record));
            }
        }
        drop(snapshot);
        if new.is_empty() {
            return Ok(());
        }
        let mut txn = store.begin()?;
        for (key, record) in new {
            let mut pinned = false;
            for old in history::under(&txn, key)? {
                let facts = history::facts(&txn, old)?;
                let as_many = facts.n_deps as usize == record.deps.len();
                if as_many && history::record(&txn, old)?.deps == record.deps {
                    pinned |= facts.pinned;
                    history::remove(&mut txn, old)?;
                }
            }
            let new = history::add(&mut txn, key, record, minutes())?;
            history::pin(&mut txn, new, pinned)?;
            let is_of_many = history::under(&txn, key)?.len() > MAX_SMALL_RECORDS;
            for old in oldest(&txn, key)? {
                if !history::facts(&txn, old)?.pinned {
                    if is_of_many {
                        remember(&mut txn, key, old)?;
                    }
                    history::remove(&mut txn, old)?;
                }
            }
        }
        let stored = self.stored.swap(0, Ordering::Relaxed);
        let bytes = history::bytes(&txn)?.saturating_add(stored);
        history::put_bytes(&mut txn, bytes)?;
        txn.commit(Durability::Lazy)?;
        Ok(())
    }

    /// The store, and what is to be told of it.
    pub(super) fn index(&self) -> (Option<Arc<Store>>, Option<String>) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        (index.store.clone(), index.told.take())
    }

    /// Opens the store; none where there is none and none can be made.
    pub(super) fn open_index(&self) -> Index {
        let (store, told) = recover::open(&self.root.join("index"), &self.disk);
        // A cache that can only be read, and has no index, is an empty one.
        let told = told.filter(|error| !matches!(error, store::Error::Disk(_)));
        Index {
            store,
            told: told.map(|error| error.to_string()),
        }
    }

    /// Sets a store aside if it is damaged, and goes on with an empty one. Gives what is to be told.
    pub(super) fn lose(&self, store: &Store, error: store::Error) -> String {
        if !error.is_loss() {
            return error.to_string();
        }
        let told = recover::set_aside(store.path(), &*self.disk, error);
        let told = told.unwrap_or_else(|error| error).to_string();
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = self.open_index();
        told
    }

    /// Changes what is in the store.
    pub(super) fn change(
        &self,
        change: impl Fn(&Store) -> Result<(), store::Error>,
    ) -> Result<(), Error> {
        let (mut store, _) = self.index();
        if store.is_none() || !self.root.is_dir() {
            // It was removed, or could not be made when the cache was opened.
            self.make_dir_all(&self.root)?;
            let index = self.open_index();
            store.clone_from(&index.store);
            *self.index.lock().unwrap_or_else(PoisonError::into_inner) = index;
        }
        let Some(store) = store else {
            return Err(Error::NoIndex(self.root.join("index")));
        };
        change(&store).map_err(|error| match error.is_loss() {
            true => Error::Lost(self.lose(&store, error)),
            false => Error::Store(error),
        })
    }
}

/// A record that may be stored, as it is stored.
fn admit(mut record: Record) -> Result<Record, Error> {
    sound(&record).map_err(Error::Unsound)?;
    fits(MAX_BYTES, &record)?;
    for dep in &mut record.deps {
        *dep = canonical(dep);
    }
    Ok(record)
}

/// Whether a record has no more bytes.
pub(super) fn fits(max_bytes: usize, record: &Record) -> Result<(), Error> {
    let deps = record.deps.iter().map(|dep| dep.name.bytes().len() + 50);
    let outputs = record.outputs.iter().map(|one| one.name.bytes().len() + 50);
    let dirs = record.dirs.iter().map(|one| one.name.bytes().len() + 10);
    let chunks = record.chunks.iter().map(|chunk| chunk.bytes.len() + 8);
    let bytes = deps.chain(outputs).chain(dirs).chain(chunks).sum::<usize>() + record.title.len();
    if bytes > max_bytes {
        let why = format!("{bytes} bytes of inputs and output");
        return Err(Error::Unsound(why));
    }
    Ok(())
}

fn decode(snapshot: &Snapshot, execution: Execution) -> Result<Arc<Record>, store::Error> {
    let record = history::record(snapshot, execution)?;
    if sound(&record).is_err() {
        return Err(history::unsound(snapshot, "a record that cannot be"));
    }
    Ok(Arc::new(record))
}

fn note_use(store: &Store, key: &Digest) -> Result<(), store::Error> {
    let mut txn = store.begin()?;
    for execution in history::under(&txn, key)? {
        history::used(&mut txn, execution, minutes())?;
    }
    txn.commit(Durability::Lazy)?;
    Ok(())
}

/// Those that are too many: a few records of any size are kept, more of small ones. A configure script
/// compiles hundreds of contents by one command line, and a look-up that decodes its small records is
/// still cheap.
fn oldest(pages: &impl Pages, key: &Digest) -> Result<Vec<Execution>, store::Error> {
    let all = history::under(pages, key)?;
    let mut n_deps = 0;
    let mut n_kept = 0;
    for execution in &all {
        n_deps += history::facts(pages, *execution)?.n_deps as usize;
        if n_kept >= MAX_RECORDS && (n_kept >= MAX_SMALL_RECORDS || n_deps > MAX_DEPS) {
            break;
        }
        n_kept += 1;
    }
    Ok(all[n_kept..].to_vec())
}

/// Remembers in brief what is about to be forgotten: whoever asks why a configure script decided as it did wants
/// to know what a probe tried, printed and returned, and not what is to be served.
fn remember(txn: &mut Txn<'_>, key: &Digest, old: Execution) -> Result<(), store::Error> {
    let known = history::record(txn, old)?;
    let mut deps = known.deps;
    deps.retain(|dep| dep.name.inside() && dep.access.any(Access::REG));
    for dep in &mut deps {
        // A rank is one among all of them.
        dep.rank = 0;
    }
    if deps.is_empty() {
        return Ok(());
    }
    let record = Record {
        title: known.title,
        command: known.command,
        deps,
        chunks: known.chunks,
        status: known.status,
        // What is worth little goes first.
        cost: known.cost,
        provenance: known.provenance,
        ..Record::default()
    };
    let brief = history::brief(key);
    history::add(txn, &brief, &record, minutes())?;
    for older in history::under(txn, &brief)?.into_iter().skip(MAX_BRIEF) {
        history::remove(txn, older)?;
    }
    Ok(())
}

/// Minutes since 1970.
pub(super) fn minutes() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u32::try_from(since.as_secs() / 60).unwrap_or(u32::MAX)
    })
}

#[cfg(test)]
mod tests;
