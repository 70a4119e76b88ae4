//! Records by weak key: `actions/ab/cdef...`, one file a key with a few records, newest first.
//!
//! A file is a header (magic, BLAKE3 of the payload) and the postcard encoding of the records. It is
//! replaced as a whole by rename, under a lock that writers of the same shard share; readers take no
//! lock. Nothing is synced: a torn file is found by its digest.

use super::sound::sound;
use super::{Cache, Error};
use crate::base::{Digest, Record};
use crate::disk::{self, At};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Records kept for one key.
pub const MAX_RECORDS: usize = 8;
/// Records under one key, as long as they have few deps together.
const MAX_SMALL_RECORDS: usize = 64;
/// Deps of the records beyond [`MAX_RECORDS`] and of those before them, together.
const MAX_DEPS: usize = 16_000;

/// First bytes of a file: what it is, and the version of its format.
const MAGIC: &[u8; 8] = b"rfs-act\x01";
/// Magic and digest.
const HEADER: usize = MAGIC.len() + 32;
/// Larger files are neither written nor read: what a forged one could have us allocate is bounded.
const MAX_BYTES: u64 = 128 << 20;

/// What is known of a key.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Records, newest first; all sound.
    pub records: Vec<Record>,
    /// Why there are none although there was a file.
    pub damaged: Option<String>,
    /// Why it is not known whether there are any.
    pub unreadable: Option<disk::Error>,
}

impl Cache {
    /// The records of a weak key. A damaged file is removed and told of, once.
    #[must_use]
    pub fn load(&self, key: &Digest) -> Loaded {
        let path = self.action_path(key);
        let mut loaded = Loaded::default();
        match read(&path) {
            Ok(records) => loaded.records = records,
            Err(Unreadable::Io(error)) => loaded.unreadable = Some(error),
            Err(Unreadable::Damaged(why)) => {
                loaded.damaged = Some(self.drop_damaged(path, why).to_string());
            }
        }
        loaded
    }

    /// Adds a record to those of a weak key, as the first that is tried. It takes the place of one with
    /// the same inputs; nothing is written if only cost and provenance differ from the first.
    ///
    /// # Errors
    /// The record is not sound, or a system call fails; what was stored before is still there then.
    pub fn add(&self, key: &Digest, record: Record) -> Result<(), Error> {
        sound(&record).map_err(Error::Unsound)?;
        self.change(key, |records| {
            if records
                .first()
                .is_some_and(|first| same_effect(first, &record))
            {
                return false;
            }
            records.retain(|old| old.deps != record.deps);
            records.insert(0, record);
            forget_oldest(records);
            true
        })
    }

    /// Makes the record with the inputs of `record` the first that is tried.
    ///
    /// # Errors
    /// A system call fails; the order is as before then.
    pub fn promote(&self, key: &Digest, record: &Record) -> Result<(), Error> {
        self.change(key, |records| {
            match records.iter().position(|old| old.deps == record.deps) {
                None | Some(0) => false,
                Some(place) => {
                    records[..=place].rotate_right(1);
                    true
                }
            }
        })
    }

    /// Rewrites the records of a key if `change` says that it changed them.
    fn change(
        &self,
        key: &Digest,
        change: impl FnOnce(&mut Vec<Record>) -> bool,
    ) -> Result<(), Error> {
        let path = self.action_path(key);
        let _lock = self.lock_shard(&path)?;
        let mut records = match read(&path) {
            Ok(records) => records,
            // It is about to be replaced; whoever loads it first tells of the damage.
            Err(Unreadable::Damaged(_)) => vec![],
            Err(Unreadable::Io(error)) => return Err(error.into()),
        };
        if !change(&mut records) {
            return Ok(());
        }
        let bytes = encode_within(MAX_BYTES, &mut records)?;
        let tmp = self.tmp(0o600)?;
        self.disk.write_at(&tmp.file, &tmp.path, &bytes, 0)?;
        Ok(tmp.keep(&path)?)
    }

    /// Keeps other writers out of the directory of `path` until the file is closed.
    fn lock_shard(&self, path: &Path) -> Result<File, disk::Error> {
        let lock_path = path.with_file_name("lock");
        let lock = match self.disk.open_append(&lock_path) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                if let Some(shard) = path.parent() {
                    self.make_dir_all(shard)?;
                }
                self.disk.open_append(&lock_path)?
            }
            opened => opened?,
        };
        disk::lock(&*self.disk, &lock, &lock_path)?;
        Ok(lock)
    }

    /// Where the records of a key lie.
    pub(super) fn action_path(&self, key: &Digest) -> PathBuf {
        let hex = key.hex();
        self.root.join("actions").join(&hex[..2]).join(&hex[2..])
    }
}

/// Whether a record does what another does, whenever and wherever the two were made.
fn same_effect(one: &Record, two: &Record) -> bool {
    one.status == two.status
        && one.stdin == two.stdin
        && one.outputs == two.outputs
        && one.chunks == two.chunks
        && one.deps == two.deps
}

/// Why a file gave no records.
pub(super) enum Unreadable {
    /// It could not be read.
    Io(disk::Error),
    /// It could be read, but not believed.
    Damaged(String),
}

/// The records in a file; none if there is no file.
pub(super) fn read(path: &Path) -> Result<Vec<Record>, Unreadable> {
    let mut file = match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).at("open", path).map_err(Unreadable::Io),
    };
    let meta = file.metadata().at("fstat", path).map_err(Unreadable::Io)?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(Unreadable::Damaged("not a file of records".into()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
    file.read_to_end(&mut bytes)
        .at("read", path)
        .map_err(Unreadable::Io)?;
    decode(&bytes).map_err(Unreadable::Damaged)
}

/// A few records of any size, more of small ones: a configure script compiles hundreds of contents by one
/// command line, and a look-up that decodes its small records is still cheap.
fn forget_oldest(records: &mut Vec<Record>) {
    let mut n_deps = 0;
    let kept = records.iter().enumerate().take_while(|(place, record)| {
        n_deps += record.deps.len();
        *place < MAX_RECORDS || (*place < MAX_SMALL_RECORDS && n_deps <= MAX_DEPS)
    });
    let kept = kept.count();
    records.truncate(kept);
}

/// Encodes as many of the first records as fit.
pub(super) fn encode_within(max_bytes: u64, records: &mut Vec<Record>) -> Result<Vec<u8>, Error> {
    loop {
        let bytes = encode(records)?;
        if bytes.len() as u64 <= max_bytes {
            return Ok(bytes);
        }
        if records.len() < 2 {
            let why = format!("{} bytes of inputs and output", bytes.len());
            return Err(Error::Unsound(why));
        }
        records.pop();
    }
}

pub(super) fn encode(records: &[Record]) -> Result<Vec<u8>, Error> {
    let head = vec![0; HEADER];
    let mut bytes = postcard::to_extend(records, head)
        .map_err(|error| Error::Unsound(format!("not to be encoded: {error}")))?;
    let digest = Digest::of(&bytes[HEADER..]);
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[MAGIC.len()..HEADER].copy_from_slice(&digest.0);
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let Some((header, payload)) = bytes.split_at_checked(HEADER) else {
        return Err("shorter than its header".into());
    };
    let (magic, digest) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err("no file of records of this version".into());
    }
    if Digest::of(payload).0 != *digest {
        return Err("its digest is not that of its content".into());
    }
    let (records, rest): (Vec<Record>, _) =
        postcard::take_from_bytes(payload).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("more bytes than its records".into());
    }
    records.iter().try_for_each(sound)?;
    Ok(records)
}

#[cfg(test)]
mod tests;
