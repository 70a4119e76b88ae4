//! What was hashed before: stat identity -> digest, for files outside any mount and between commands.
//!
//! Who puts an entry in promises that the file was not changed within a clock tick of its hashing: a
//! later change could otherwise leave the identity as it was.

use super::{Durability, Error, Snapshot, Store, digests, recover};
use crate::base::{Digest, Identity};
use crate::disk::Disk;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long one state of the store is asked: what others remember meanwhile is worth a look, and a state
/// that is being read keeps its pages from being used again.
const FRESH: Duration = Duration::from_millis(100);

/// A memory of digests, shared by threads, and by processes through a store.
pub struct Memo {
    inner: Mutex<Inner>,
    disk: Option<Arc<dyn Disk>>,
}

#[derive(Default)]
struct Inner {
    /// None if nothing is to be kept.
    store: Option<Arc<Store>>,
    /// Entries not yet in the store.
    new: HashMap<(u64, u64), (Identity, Digest)>,
    view: Option<(Arc<Snapshot>, Instant)>,
    /// What was wrong with the store when it was asked.
    wrong: Option<Error>,
}

impl Memo {
    /// Recalls what is in the store `index` in `dir`. What is wrong with it is told; the memo then knows
    /// less, and what cannot be opened at all is not written to.
    #[must_use]
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> (Self, Vec<Error>) {
        let (store, told) = recover::open(&dir.join("index"), &disk);
        (Self::on(store, disk), told.into_iter().collect())
    }

    /// One in a store that is open; without a store it is forgotten at the end.
    #[must_use]
    pub fn on(store: Option<Arc<Store>>, disk: Arc<dyn Disk>) -> Self {
        let inner = Inner {
            store,
            ..Inner::default()
        };
        Self {
            inner: Mutex::new(inner),
            disk: Some(disk),
        }
    }

    /// One without a file, which is forgotten at the end.
    #[must_use]
    pub fn volatile() -> Self {
        Self {
            inner: Mutex::default(),
            disk: None,
        }
    }

    /// The digest of the content that a file of this identity had.
    #[must_use]
    pub fn get(&self, identity: &Identity) -> Option<Digest> {
        let mut inner = self.lock();
        if let Some((then, digest)) = inner.new.get(&(identity.dev, identity.ino)) {
            return (then == identity).then_some(*digest);
        }
        let found = inner.look(identity);
        found.unwrap_or_else(|error| {
            inner.wrong = Some(error);
            inner.view = None;
            None
        })
    }

    /// Remembers a digest; it reaches the store at the next [`Self::flush`].
    pub fn put(&self, identity: Identity, digest: Digest) {
        let place = (identity.dev, identity.ino);
        self.lock().new.insert(place, (identity, digest));
    }

    /// Puts what is new into the store. A store in which damage was seen is set aside.
    ///
    /// # Errors
    /// The store was damaged or cannot be written; what was new is then forgotten by the next command.
    pub fn flush(&self) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.view = None;
        let new = std::mem::take(&mut inner.new);
        let (Some(store), Some(disk)) = (inner.store.clone(), &self.disk) else {
            return Ok(());
        };
        let kept = match inner.wrong.take() {
            Some(error) => Err(error),
            None => keep(&store, &new),
        };
        kept.map_err(|error| {
            if !error.is_loss() {
                return error;
            }
            inner.store = None;
            recover::set_aside(store.path(), &**disk, error).unwrap_or_else(|error| error)
        })
    }

    /// Makes what was flushed survive a loss of power.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn sync(&self) -> Result<(), Error> {
        let store = self.lock().store.clone();
        store.map_or(Ok(()), |store| store.make_durable())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn look(&mut self, identity: &Identity) -> Result<Option<Digest>, Error> {
        let (Some(store), None) = (&self.store, &self.wrong) else {
            return Ok(None);
        };
        let view = match self.view.take() {
            Some((view, taken)) if taken.elapsed() < FRESH => (view, taken),
            Some(_) | None => (store.snapshot()?, Instant::now()),
        };
        let (view, _) = self.view.insert(view);
        digests::get(&**view, identity)
    }
}

/// Writes what the store does not know yet.
fn keep(store: &Store, new: &HashMap<(u64, u64), (Identity, Digest)>) -> Result<(), Error> {
    let snapshot = store.snapshot()?;
    let mut entries: Vec<_> = new.values().copied().collect();
    entries.sort_unstable_by_key(|(identity, _)| (identity.dev, identity.ino));
    let mut unknown = Vec::new();
    for (identity, digest) in entries {
        if digests::get(&*snapshot, &identity)? != Some(digest) {
            unknown.push((identity, digest));
        }
    }
    drop(snapshot);
    if unknown.is_empty() {
        return Ok(());
    }
    let mut txn = store.begin()?;
    for (identity, digest) in &unknown {
        digests::put(&mut txn, identity, digest)?;
    }
    txn.commit(Durability::Lazy)?;
    Ok(())
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
