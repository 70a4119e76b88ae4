//! How much is in the cache, and the walk over all of it.

use super::{Cache, Error};
use crate::base::Digest;
use crate::disk::{self, At};
use crate::store::history;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Contents.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Weak keys with records.
    pub keys: u64,
    /// Bytes of their records.
    pub record_bytes: u64,
    /// Records that are pinned.
    pub pinned: u64,
}

/// A file below `blobs/`.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) meta: Metadata,
    /// What its name says; none if it is not one that the cache gives.
    pub(super) digest: Option<Digest>,
}

impl Cache {
    /// Counts what is there; no content is looked at.
    ///
    /// # Errors
    /// A directory or the index cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats::default();
        for found in self.walk()?.iter().filter(|f| f.digest.is_some()) {
            stats.blobs += 1;
            stats.blob_bytes += found.meta.len();
        }
        if let (Some(store), _) = self.index() {
            let snapshot = store.snapshot()?;
            stats.keys = history::n_keys(&*snapshot)?.into();
            stats.record_bytes = snapshot.file_bytes();
            for execution in history::all(&*snapshot)? {
                stats.pinned += u64::from(history::facts(&*snapshot, execution)?.pinned);
            }
        }
        Ok(stats)
    }

    /// All weak keys under which there are records.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn keys(&self) -> Result<Vec<Digest>, Error> {
        let (Some(store), _) = self.index() else {
            return Ok(vec![]);
        };
        let snapshot = store.snapshot()?;
        let mut keys = Vec::new();
        for execution in history::all(&*snapshot)? {
            keys.push(history::facts(&*snapshot, execution)?.key);
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Everything in the shards of `blobs`, by name.
    pub(super) fn walk(&self) -> Result<Vec<Found>, disk::Error> {
        let mut all = Vec::new();
        for (shard, shard_path) in names(&self.root.join("blobs"))? {
            for (rest, path) in names(&shard_path)? {
                let meta = match fs::symlink_metadata(&path) {
                    Ok(meta) => meta,
                    // Dropped or replaced while we walk.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).at("lstat", &path),
                };
                let is_ours = meta.is_file() && shard.len() == 2;
                let digest = Digest::from_hex(&format!("{shard}{rest}")).filter(|_| is_ours);
                all.push(Found { path, meta, digest });
            }
        }
        Ok(all)
    }
}

/// The sorted names in a directory, lossy, with their paths; none if it is not there.
fn names(dir: &Path) -> Result<Vec<(String, PathBuf)>, disk::Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        Err(error) => return Err(error).at("opendir", dir),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.at("readdir", dir)?;
        names.push((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ));
    }
    names.sort();
    Ok(names)
}
