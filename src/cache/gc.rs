//! Making room: forgets the records that are worth least, and removes the contents that no record names.
//!
//! What a record is worth is the time that it saves against the bytes that it costs, halved for each week
//! in which it was not used. Safe while builds run: a record that is forgotten, or a content that is
//! gone, is a miss, and contents are younger than their records.

use super::actions::minutes;
use super::verify::contents;
use super::{Cache, Error};
use crate::base::Digest;
use crate::disk::{self, At};
use crate::store::history::{self, Execution, Facts};
use crate::store::{Durability, Store};
use rustix::fs::FlockOperation;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// A content that no record names and that is younger may be about to be named.
const YOUNG: Duration = Duration::from_secs(3600);
/// Records that are forgotten in one transaction: a build that waits for it waits a moment only.
const AT_ONCE: usize = 64;
/// Bytes that the contents may take up unless told otherwise.
pub const SIZE: u64 = 20 << 30;
/// Minutes between two looks at everything that nobody has asked for.
const BETWEEN: u64 = 10;
/// Minutes in which half of a record's worth is lost.
const HALF_LIFE: f64 = 7.0 * 24.0 * 60.0;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freed {
    /// Records forgotten.
    pub records: u64,
    /// Contents removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of contents that are left.
    pub left: u64,
}

/// A record and the contents that it names.
struct Held {
    execution: Execution,
    worth: f64,
    pinned: bool,
    contents: Vec<(Digest, u64)>,
}

impl Cache {
    /// Makes the contents take up no more than `limit` bytes, as far as they are not of the last hour.
    /// `progress` is told of the bytes freed so far.
    ///
    /// # Errors
    /// A directory or the index cannot be read, or the index cannot be written.
    pub fn gc(&self, limit: u64, progress: &mut dyn FnMut(u64)) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        let mut users: BTreeMap<Digest, u64> = BTreeMap::new();
        let (store, _) = self.index();
        if let Some(store) = &store {
            let (mut held, mut bytes) = (held(store)?, 0);
            for (digest, size) in held.iter().flat_map(|one| &one.contents) {
                let n_users = users.entry(*digest).or_default();
                *n_users += 1;
                bytes += if *n_users == 1 { *size } else { 0 };
            }
            held.sort_by(|a, b| a.worth.total_cmp(&b.worth));
            let mut forgotten = Vec::new();
            for one in held {
                if bytes <= limit {
                    break;
                }
                if one.pinned {
                    continue;
                }
                for (digest, size) in &one.contents {
                    let n_users = users.entry(*digest).or_default();
                    *n_users = n_users.saturating_sub(1);
                    bytes -= if *n_users == 0 { *size } else { 0 };
                }
                forgotten.push(one.execution);
            }
            users.retain(|_, n_users| *n_users > 0);
            freed.records = forget(store, &forgotten)?;
        }
        self.remove_blobs(&mut freed, &users, YOUNG, progress)?;
        self.counted(freed.left)?;
        Ok(freed)
    }

    /// As [`Self::gc`], down to nine tenths of `limit`, if by what is counted there is more than that, and
    /// nobody has done so a moment ago or does so now. For the end of a build.
    ///
    /// # Errors
    /// As [`Self::gc`].
    pub fn keep_within(&self, limit: u64) -> Result<Option<Freed>, Error> {
        let (Some(store), _) = self.index() else {
            return Ok(None);
        };
        let state = store.snapshot()?;
        let bytes = history::bytes(&*state)?.saturating_add(self.stored.load(Ordering::Relaxed));
        let last = history::last_look(&*state)?;
        drop(state);
        if bytes <= limit || last.saturating_add(BETWEEN) > minutes().into() {
            return Ok(None);
        }
        let path = self.root.join("VERSION");
        let version = File::open(&path).at("open", &path)?;
        match rustix::fs::flock(&version, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.gc(limit / 10 * 9, &mut |_| ()).map(Some),
            Err(_locked) => Ok(None),
        }
    }

    /// Makes the records whose command contains a text never go to make room, or takes that back. Gives
    /// their number.
    ///
    /// # Errors
    /// The index cannot be read or written.
    pub fn pin(&self, text: &str, pinned: bool) -> Result<u64, Error> {
        let (Some(store), _) = self.index() else {
            return Ok(0);
        };
        let mut txn = store.begin()?;
        let mut n_records = 0;
        for execution in history::all(&txn)? {
            if history::rest(&txn, execution)?.title.contains(text) {
                history::pin(&mut txn, execution, pinned)?;
                n_records += 1;
            }
        }
        txn.commit(Durability::Durable)?;
        Ok(n_records)
    }

    /// Forgets everything, pinned records and contents of the last hour included.
    ///
    /// # Errors
    /// As [`Self::gc`].
    pub fn clear(&self, progress: &mut dyn FnMut(u64)) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        if let (Some(store), _) = self.index() {
            let all = history::all(&*store.snapshot()?)?;
            freed.records = forget(&store, &all)?;
        }
        self.remove_blobs(&mut freed, &BTreeMap::new(), Duration::ZERO, progress)?;
        self.counted(freed.left)?;
        Ok(freed)
    }

    /// Notes what all contents take up now.
    fn counted(&self, bytes: u64) -> Result<(), Error> {
        let (Some(store), _) = self.index() else {
            return Ok(());
        };
        self.stored.store(0, Ordering::Relaxed);
        let mut txn = store.begin()?;
        history::put_bytes(&mut txn, bytes)?;
        history::put_last_look(&mut txn, minutes().into())?;
        txn.commit(Durability::Lazy)?;
        Ok(())
    }

    fn remove_blobs(
        &self,
        freed: &mut Freed,
        users: &BTreeMap<Digest, u64>,
        young: Duration,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), disk::Error> {
        let now = SystemTime::now();
        for found in self.walk()? {
            // What is not ours is left alone.
            let Some(digest) = found.digest else { continue };
            let born = found.meta.modified().unwrap_or(now);
            let age = now.duration_since(born).unwrap_or_default();
            if users.contains_key(&digest) || age < young {
                freed.left += found.meta.len();
                continue;
            }
            self.disk.unlink(&found.path)?;
            freed.blobs += 1;
            freed.bytes += found.meta.len();
            progress(freed.bytes);
        }
        Ok(())
    }
}

/// All records, with what they are worth.
fn held(store: &Store) -> Result<Vec<Held>, Error> {
    let snapshot = store.snapshot()?;
    let mut held = Vec::new();
    for execution in history::all(&*snapshot)? {
        let record = history::rest(&*snapshot, execution)?;
        let facts = history::facts(&*snapshot, execution)?;
        held.push(Held {
            execution,
            worth: worth(&facts, minutes()),
            pinned: facts.pinned,
            contents: contents(&record).collect(),
        });
    }
    Ok(held)
}

/// Seconds saved a byte, at the next use.
#[allow(clippy::cast_precision_loss, reason = "an order is wanted, no sum")]
fn worth(facts: &Facts, now: u32) -> f64 {
    // Something for the directory entry and the record.
    let bytes = facts.bytes as f64 + 4096.0 + 8.0 * f64::from(facts.n_deps);
    let age = f64::from(now.saturating_sub(facts.used));
    (facts.saves_us as f64 + 1.0) / bytes * (-age / HALF_LIFE).exp2()
}

/// Forgets records, those that others have forgotten meanwhile left out.
fn forget(store: &Store, forgotten: &[Execution]) -> Result<u64, Error> {
    let mut n_records = 0;
    let snapshot = store.snapshot()?;
    let mut serials = Vec::new();
    for execution in forgotten {
        let serial = history::facts(&*snapshot, *execution)?.serial;
        serials.push((*execution, serial));
    }
    drop(snapshot);
    for some in serials.chunks(AT_ONCE) {
        let mut txn = store.begin()?;
        for (execution, serial) in some {
            let facts = history::facts(&txn, *execution);
            if facts.is_ok_and(|facts| facts.serial == *serial) {
                history::remove(&mut txn, *execution)?;
                n_records += 1;
            }
        }
        txn.commit(Durability::Lazy)?;
    }
    Ok(n_records)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // makes files old

    use super::*;
    use crate::base::{Cost, Record};
    use crate::cache::sound::tests::{dep, file, record};
    use crate::disk::{Disk, RealDisk};
    use std::path::Path;
    use std::sync::Arc;

    fn open(dir: &Path) -> Cache {
        Cache::open(dir, Arc::new(RealDisk)).unwrap()
    }

    /// A record that took so long for so many bytes, which are in the cache.
    fn put(cache: &Cache, n: u8, wall_us: u64, len: usize) {
        let content = vec![n; len];
        cache.insert_bytes(&content).unwrap();
        let record = Record {
            deps: vec![dep("a.c", &[n])],
            outputs: vec![file("a.o", &content)],
            cost: Cost {
                wall_us,
                ..Cost::default()
            },
            ..record()
        };
        cache.add(&Digest::of(&[n]), record).unwrap();
    }

    fn age(cache: &Cache) {
        for found in cache.walk().unwrap() {
            RealDisk.set_mtime(&found.path, 0).unwrap();
        }
    }

    #[test]
    fn what_saves_least_for_its_bytes_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path());
        // Cheap and large, dear and large, cheap and small; and two that share a content.
        put(&cache, 1, 1_000, 100_000);
        put(&cache, 2, 90_000_000, 100_000);
        put(&cache, 3, 1_000_000, 10);
        cache.insert_bytes(b"nobody's").unwrap();
        assert_eq!(
            cache.gc(u64::MAX, &mut |_| ()).unwrap().blobs,
            0,
            "all is young"
        );
        age(&cache);
        let freed = cache.gc(u64::MAX, &mut |_| ()).unwrap();
        assert_eq!((freed.records, freed.blobs, freed.bytes), (0, 1, 8));
        let mut told = 0;
        let freed = cache.gc(150_000, &mut |bytes| told = bytes).unwrap();
        assert_eq!((freed.records, freed.blobs, told), (1, 1, 100_000));
        assert_eq!(freed.left, 100_010);
        let n_left = |n: u8| cache.load(&Digest::of(&[n])).records.len();
        assert_eq!([1, 2, 3].map(n_left), [0, 1, 1]);
        let report = cache.verify(&mut |_| ()).unwrap();
        assert_eq!((report.records, report.lost, report.orphans), (2, 0, 0));
        let freed = cache.gc(0, &mut |_| ()).unwrap();
        assert_eq!((freed.records, freed.blobs, freed.left), (2, 2, 0));
    }

    #[test]
    fn a_shared_content_stays_as_long_as_one_record_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path());
        put(&cache, 1, 1, 1000);
        let content = vec![1; 1000];
        let dear = Record {
            outputs: vec![file("b.o", &content)],
            cost: Cost {
                wall_us: 1 << 30,
                ..Cost::default()
            },
            ..record()
        };
        cache.add(&Digest::of(b"dear"), dear).unwrap();
        age(&cache);
        put(&cache, 2, 1, 500);
        age(&cache);
        let freed = cache.gc(1000, &mut |_| ()).unwrap();
        assert_eq!((freed.blobs, freed.bytes, freed.left), (1, 500, 1000));
        assert_eq!(cache.load(&Digest::of(b"dear")).records.len(), 1);
    }

    #[test]
    fn what_was_not_used_for_long_is_worth_less() {
        let facts = |used: u32| Facts {
            key: Digest::of(b""),
            n_deps: 1,
            used,
            saves_us: 1000,
            bytes: 1000,
            serial: 1,
            pinned: false,
        };
        let week = 7 * 24 * 60;
        let (old, new) = (worth(&facts(0), week), worth(&facts(week), week));
        assert!((new / old - 2.0).abs() < 1e-9, "{old} {new}");
    }

    #[test]
    fn clearing_leaves_a_cache() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path());
        put(&cache, 1, 1, 10);
        put(&cache, 2, 1, 20);
        let freed = cache.clear(&mut |_| ()).unwrap();
        assert_eq!((freed.records, freed.blobs, freed.bytes), (2, 2, 30));
        assert!(cache.load(&Digest::of(&[1])).records.is_empty());
        put(&cache, 1, 1, 10);
        assert_eq!(open(dir.path()).load(&Digest::of(&[1])).records.len(), 1);
    }
}
