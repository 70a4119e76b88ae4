//! Contents by digest: `blobs/ab/cdef...`, mode 0444, never changed once they have their name.
//!
//! Nothing is synced: after a loss of power a blob may be torn or empty. That is found when it is
//! fetched, because every fetch hashes what it gives out; it costs a rerun, and no build ever waits for
//! a disk.

use super::{Cache, Error};
use crate::base::Digest;
use crate::disk::{At, copy_hashed, hash, path_of};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Files up to this size are hashed in memory first, so that nothing is written if they are known.
const SMALL: usize = 64 * 1024;

impl Cache {
    /// Stores the content of an open file, whatever its offset, which may move. Gives its digest and size.
    /// If the file is written to meanwhile, what is stored is what was read.
    ///
    /// # Errors
    /// Reading the file or writing the cache fails; nothing is stored then.
    pub fn insert(&self, from: &File) -> Result<(Digest, u64), Error> {
        if let Some(bytes) = read_small(from).at("read", &path_of(from))? {
            return Ok((self.insert_bytes(&bytes)?, bytes.len() as u64));
        }
        let tmp = self.tmp(0o444)?;
        let (digest, size) = if self.disk.reflink(from, &tmp.file, &tmp.path)? {
            hash(&tmp.file)?
        } else {
            copy_hashed(&*self.disk, from, &tmp.file, &tmp.path)?
        };
        if !self.contains(&digest, size) {
            tmp.keep(&self.blob_path(&digest))?;
            self.stored.fetch_add(size, Ordering::Relaxed);
        }
        Ok((digest, size))
    }

    /// Stores some bytes and gives their digest.
    ///
    /// # Errors
    /// Writing the cache fails; nothing is stored then.
    pub fn insert_bytes(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if !self.contains(&digest, bytes.len() as u64) {
            let tmp = self.tmp(0o444)?;
            self.disk.write_at(&tmp.file, &tmp.path, bytes, 0)?;
            tmp.keep(&self.blob_path(&digest))?;
            self.stored.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(digest)
    }

    /// Whether there is a blob of this name and size. Its content is not looked at.
    #[must_use]
    pub fn contains(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.blob_path(digest))
            .is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Copies a blob into the empty file `to`, hashing what is copied.
    ///
    /// # Errors
    /// The blob is missing; it is damaged (then it is removed, so that the next run stores it again); or
    /// a system call fails. `to` then holds anything.
    pub fn fetch(&self, digest: &Digest, size: u64, to: &File) -> Result<(), Error> {
        let blob = self.open_blob(digest, size)?;
        let path = path_of(to);
        let (found, _) = if self.disk.reflink(&blob, to, &path)? {
            hash(&blob)?
        } else {
            copy_hashed(&*self.disk, &blob, to, &path)?
        };
        self.expect(digest, found)
    }

    /// Opens a blob after hashing it, for a copy that cannot be taken back.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn open_checked(&self, digest: &Digest, size: u64) -> Result<File, Error> {
        let mut blob = self.open_blob(digest, size)?;
        let (found, _) = hash(&blob)?;
        self.expect(digest, found)?;
        blob.rewind().at("lseek", &path_of(&blob))?;
        Ok(blob)
    }

    /// Hashes a blob and gives its size.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn check(&self, digest: &Digest) -> Result<u64, Error> {
        let path = self.blob_path(digest);
        let (found, size) = hash(&self.open_path(digest, &path)?)?;
        self.expect(digest, found)?;
        Ok(size)
    }

    /// Where a blob lies.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("blobs").join(&hex[..2]).join(&hex[2..])
    }

    fn open_blob(&self, digest: &Digest, size: u64) -> Result<File, Error> {
        let path = self.blob_path(digest);
        let blob = self.open_path(digest, &path)?;
        let meta = blob.metadata().at("fstat", &path)?;
        if !meta.is_file() {
            return Err(self.drop_damaged(path, "not a regular file".into()));
        }
        if meta.len() != size {
            let why = format!("{} bytes in place of {size}", meta.len());
            return Err(self.drop_damaged(path, why));
        }
        Ok(blob)
    }

    fn open_path(&self, digest: &Digest, path: &Path) -> Result<File, Error> {
        match OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
        {
            Ok(blob) => Ok(blob),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Missing(*digest)),
            Err(error) => Err(error).at("open", path).map_err(Error::Disk),
        }
    }

    fn expect(&self, digest: &Digest, found: Digest) -> Result<(), Error> {
        if found == *digest {
            return Ok(());
        }
        let why = format!("its content has the digest {found}");
        Err(self.drop_damaged(self.blob_path(digest), why))
    }

    /// Removes a damaged file of the cache. Where that fails it is found damaged again next time.
    pub(super) fn drop_damaged(&self, path: PathBuf, why: String) -> Error {
        drop(self.disk.unlink(&path));
        Error::Damaged { path, why }
    }
}

/// The whole content of a small file; none if it is not small.
fn read_small(file: &File) -> io::Result<Option<Vec<u8>>> {
    if file.metadata()?.len() > SMALL as u64 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    At0(file, 0)
        .take(SMALL as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok((bytes.len() <= SMALL).then_some(bytes))
}

/// Reads a file from its start without moving its offset.
struct At0<'a>(&'a File, u64);

impl Read for At0<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read_at(buffer, self.1)?;
        self.1 += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
