//! What was hashed before: stat identity -> digest, for files outside any mount and between commands.
//!
//! Who puts an entry in promises that the file was not changed within a clock tick of its hashing: a
//! later change could otherwise leave the identity as it was.

use super::Error;
use super::log::{Format, Log};
use crate::base::{Digest, Identity};
use crate::disk::Disk;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const FORMAT: Format = Format {
    magic: *b"rfs-memo",
    version: 1,
};
/// Bytes of an entry: five numbers and a digest.
const ENTRY: usize = 5 * 8 + 32;
/// Entries of one frame: what is lost when one byte is damaged.
const PER_FRAME: usize = 1024;
/// Fewer entries than this are not worth a rewrite.
const FEW: usize = 4096;
/// Entries kept by a rewrite, the youngest: files that are gone would else be remembered for ever.
const MANY: usize = 1 << 20;

/// A memory of digests, shared by threads, and by processes through its file.
pub struct Memo {
    inner: Mutex<Inner>,
}

struct Inner {
    known: HashMap<(u64, u64), (Identity, Digest)>,
    /// Entries not yet in the file.
    fresh: Vec<u8>,
    /// Entries in the file, as far as we know.
    n_stored: usize,
    /// None if the file must be left alone.
    log: Option<Log>,
}

impl Memo {
    /// Recalls what is in the file `memo` in `dir`. What is wrong with it is told; the memo then knows
    /// less, and what cannot be opened at all is not written to.
    #[must_use]
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> (Self, Vec<Error>) {
        let mut known = HashMap::new();
        let mut warnings = Vec::new();
        let mut n_stored = 0;
        let log = Log::open(&dir.join("memo"), FORMAT, disk, &mut warnings, |payload| {
            let entries = payload.chunks_exact(ENTRY);
            n_stored += entries.len();
            known.reserve(entries.len());
            known.extend(entries.map(|entry| {
                let (identity, digest) = decode(entry);
                ((identity.dev, identity.ino), (identity, digest))
            }));
        });
        let log = log.map_err(|error| warnings.push(error)).ok();
        let inner = Inner {
            known,
            fresh: Vec::new(),
            n_stored,
            log,
        };
        let inner = Mutex::new(inner);
        (Self { inner }, warnings)
    }

    /// One without a file, which is forgotten at the end.
    #[must_use]
    pub fn volatile() -> Self {
        let inner = Inner {
            known: HashMap::new(),
            fresh: Vec::new(),
            n_stored: 0,
            log: None,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// The digest of the content that a file of this identity had.
    #[must_use]
    pub fn get(&self, identity: &Identity) -> Option<Digest> {
        let inner = self.lock();
        let (then, digest) = inner.known.get(&(identity.dev, identity.ino))?;
        (then == identity).then_some(*digest)
    }

    /// Remembers a digest; it reaches the file at the next [`Self::flush`].
    pub fn put(&self, identity: Identity, digest: Digest) {
        let mut inner = self.lock();
        let place = (identity.dev, identity.ino);
        let old = inner.known.insert(place, (identity, digest));
        if old != Some((identity, digest)) {
            encode(&mut inner.fresh, &identity, &digest);
        }
    }

    /// Appends what is new to the file, by one write; rewrites the file when more than half of it was
    /// superseded.
    ///
    /// # Errors
    /// The file cannot be written; what was new is then forgotten by the next command.
    pub fn flush(&self) -> Result<(), Error> {
        let mut inner = self.lock();
        let fresh = std::mem::take(&mut inner.fresh);
        let inner = &mut *inner;
        let Some(log) = &mut inner.log else {
            return Ok(());
        };
        if !fresh.is_empty() {
            log.append(&fresh)?;
            inner.n_stored += fresh.len() / ENTRY;
        }
        if inner.n_stored > FEW.max(2 * inner.known.len()) {
            let mut n_kept = 0;
            log.rewrite(|payloads| {
                let frames = youngest(payloads);
                n_kept = frames.iter().map(|frame| frame.len() / ENTRY).sum();
                frames
            })?;
            inner.n_stored = n_kept;
        }
        Ok(())
    }

    /// How many files are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().known.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").field("len", &self.len()).finish()
    }
}

/// The last entry of each file, oldest first, in frames.
fn youngest(payloads: &mut dyn DoubleEndedIterator<Item = &[u8]>) -> Vec<Vec<u8>> {
    let mut seen = HashSet::new();
    let mut kept: Vec<&[u8]> = payloads
        .rev()
        .flat_map(|payload| payload.chunks_exact(ENTRY).rev())
        .filter(|entry| {
            let (identity, _) = decode(entry);
            seen.insert((identity.dev, identity.ino))
        })
        .take(MANY)
        .collect();
    kept.reverse();
    kept.chunks(PER_FRAME).map(<[_]>::concat).collect()
}

fn encode(bytes: &mut Vec<u8>, identity: &Identity, digest: &Digest) {
    bytes.extend_from_slice(&identity.dev.to_le_bytes());
    bytes.extend_from_slice(&identity.ino.to_le_bytes());
    bytes.extend_from_slice(&identity.size.to_le_bytes());
    bytes.extend_from_slice(&identity.mtime.to_le_bytes());
    bytes.extend_from_slice(&identity.ctime.to_le_bytes());
    bytes.extend_from_slice(&digest.0);
}

/// Reads the [`ENTRY`] bytes that [`encode`] wrote.
fn decode(entry: &[u8]) -> (Identity, Digest) {
    let number = |n: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&entry[n * 8..][..8]);
        bytes
    };
    let mut digest = [0; 32];
    digest.copy_from_slice(&entry[40..ENTRY]);
    let identity = Identity {
        dev: u64::from_le_bytes(number(0)),
        ino: u64::from_le_bytes(number(1)),
        size: u64::from_le_bytes(number(2)),
        mtime: i64::from_le_bytes(number(3)),
        ctime: i64::from_le_bytes(number(4)),
    };
    (identity, Digest(digest))
}

#[cfg(test)]
mod tests;
