//! What was computed before: contents by digest ([`blobs`]), records by weak key ([`actions`]), and the
//! way of a record's outputs back into a tree ([`serve`]).
//!
//! Nothing here decides whether a record may be served. Any number of processes may use one cache at a
//! time. A failure of the cache costs time, never a build: every error is a value for the caller to
//! report before it goes on.
//!
//! Layout below the cache's directory: `VERSION`, `CACHEDIR.TAG`, `blobs/ab/cdef...`, `index` (a store),
//! `tmp/`.

pub mod actions;
pub mod blobs;
mod dirs;
pub mod gc;
pub mod lookup;

pub mod serve;
mod sound;
mod stamps;
pub mod stats;
mod undo;
pub mod verify;

pub use actions::Loaded;
pub use gc::Freed;
pub use serve::{ServeError, Staged};
pub use stats::Stats;
pub use verify::Report;

use crate::base::Digest;
use crate::disk::{self, At, Disk};
use crate::store;
use actions::{Decoded, Index};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The format of everything below the cache's directory.
const VERSION: u32 = 2;

/// What a temporary file is older than when its writer must be dead.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// All names in the cache's directory.
const OURS: [&str; 6] = [
    "VERSION",
    "CACHEDIR.TAG",
    "blobs",
    "tmp",
    "index",
    "index.damaged",
];

/// The cache cannot be used. Each message names the path and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something else has the name of the cache's directory.
    #[error(
        "{} is not a directory: remove it, or choose another cache with RFS_CACHE_DIR",
        .0.display()
    )]
    NotADirectory(PathBuf),
    /// The directory holds other things.
    #[error(
        "{} holds other files and no rfs cache: choose another cache with RFS_CACHE_DIR",
        .0.display()
    )]
    Foreign(PathBuf),
    /// A newer rfs wrote it.
    #[error(
        "{} was written by a newer rfs (format {found}, known is {VERSION}): upgrade rfs, or choose \
         another cache with RFS_CACHE_DIR",
        path.display()
    )]
    Newer {
        /// The cache's directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Its owner could have us serve anything.
    #[error(
        "{} belongs to user {owner}, who is neither you nor root: choose another cache with \
         RFS_CACHE_DIR",
        path.display()
    )]
    NotYours {
        /// The cache's directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// Everybody, or everybody in its group, could have us serve anything.
    #[error("{} can be written by {by}: `chmod go-w` it", path.display())]
    Others {
        /// The cache's directory, or what is in it.
        path: PathBuf,
        /// Who they are.
        by: String,
    },
    /// A system call failed.
    #[error("{0}: make the cache writable, or choose another with RFS_CACHE_DIR")]
    Disk(#[from] disk::Error),
}

/// One operation on the cache failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// No such blob.
    #[error("blob {0} is not in the cache")]
    Missing(Digest),
    /// A file of the cache did not hold what it should, and was removed.
    #[error("{} was damaged and is dropped: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        why: String,
    },
    /// A record that may not be stored.
    #[error("unsound record: {0}")]
    Unsound(String),
    /// The store of records cannot be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store of records was damaged; what is told of it.
    #[error("{0}")]
    Lost(String),
    /// There is no store of records.
    #[error("{} cannot be made", .0.display())]
    NoIndex(PathBuf),
}

/// An open cache. Cheap to share between threads.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    next_tmp: AtomicU64,
    /// Bytes of contents that were stored and are not counted in the index yet.
    stored: AtomicU64,
    index: Mutex<Index>,
    decoded: Mutex<Decoded>,
}

impl Cache {
    /// Opens the cache in `dir`, making it if there is none. A cache that can only be read is opened
    /// as well: what is stored in it later fails.
    ///
    /// # Errors
    /// Something else is there, a newer rfs wrote it, or a system call fails.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let cache = Self {
            root: dir.to_owned(),
            disk,
            next_tmp: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            index: Mutex::default(),
            decoded: Mutex::default(),
        };
        match fs::metadata(dir) {
            Ok(meta) if !meta.is_dir() => return Err(OpenError::NotADirectory(dir.to_owned())),
            Ok(_) => believe(dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => cache.make_dir_all(dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(OpenError::NotADirectory(dir.to_owned()));
            }
            Err(error) => return Err(error).at("stat", dir)?,
        }
        match cache.version()? {
            Some(VERSION) => sweep(&*cache.disk, &cache.root.join("tmp")),
            Some(found) if found > VERSION => {
                return Err(OpenError::Newer {
                    path: dir.to_owned(),
                    found,
                });
            }
            Some(_) | None => cache.found()?,
        }
        believe(dir)?;
        let index = cache.open_index();
        *cache.index.lock().unwrap_or_else(PoisonError::into_inner) = index;
        Ok(cache)
    }

    /// The cache's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The format in the `VERSION` file; none if it is missing or not readable as one.
    fn version(&self) -> Result<Option<u32>, disk::Error> {
        let path = self.root.join("VERSION");
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let mut text = String::new();
        match file.and_then(|file| file.take(64).read_to_string(&mut text)) {
            Ok(_) => Ok(text
                .strip_prefix("rfs-cache ")
                .and_then(|version| version.trim_end().parse().ok())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("read", &path),
        }
    }

    /// Makes an empty directory, or what is left of a cache, a cache.
    fn found(&self) -> Result<(), OpenError> {
        /// What version 1 had in the place of the index.
        const OLDER: [&str; 3] = ["actions", "memo", "memo.new"];
        for entry in fs::read_dir(&self.root).at("opendir", &self.root)? {
            let name = entry.at("readdir", &self.root)?.file_name();
            if !OURS.iter().chain(&OLDER).any(|ours| name == *ours) {
                return Err(OpenError::Foreign(self.root.clone()));
            }
        }
        for dir in ["blobs", "tmp"] {
            self.make_dir(&self.root.join(dir))?;
        }
        for older in OLDER {
            // What cannot be removed is in nobody's way.
            drop(self.remove_older(&self.root.join(older)));
        }
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n\
                   # This directory is a cache of rfs; it can be removed at any time.\n";
        for (name, content) in [
            ("CACHEDIR.TAG", tag),
            ("VERSION", &*format!("rfs-cache {VERSION}\n")),
        ] {
            let tmp = self.tmp(0o600)?;
            self.disk
                .write_at(&tmp.file, &tmp.path, content.as_bytes(), 0)?;
            self.disk.sync(&tmp.file, &tmp.path)?;
            tmp.keep(&self.root.join(name))?;
        }
        Ok(())
    }

    /// Removes a file, or a directory of files and directories of files.
    fn remove_older(&self, path: &Path) -> Result<(), disk::Error> {
        if !fs::symlink_metadata(path).at("lstat", path)?.is_dir() {
            return self.disk.unlink(path);
        }
        for entry in fs::read_dir(path).at("opendir", path)? {
            self.remove_older(&entry.at("readdir", path)?.path())?;
        }
        self.disk.rmdir(path)
    }

    /// A new file in `tmp/`, which is removed unless it is kept.
    fn tmp(&self, mode: u32) -> Result<Tmp<'_>, disk::Error> {
        loop {
            // Processes in other pid namespaces may have our pid: O_EXCL settles it.
            let n = self.next_tmp.fetch_add(1, Ordering::Relaxed);
            let path = self.root.join(format!("tmp/{}-{n}", std::process::id()));
            match self.disk.create(&path, mode) {
                Ok(file) => {
                    return Ok(Tmp {
                        cache: self,
                        file,
                        path,
                        kept: false,
                    });
                }
                Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                    self.make_dir(&self.root.join("tmp"))?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a directory unless it is there.
    fn make_dir(&self, path: &Path) -> Result<(), disk::Error> {
        match self.disk.mkdir(path, 0o700) {
            Err(error) if error.source.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes a directory and those above it unless they are there.
    fn make_dir_all(&self, path: &Path) -> Result<(), disk::Error> {
        match self.make_dir(path) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => match path.parent() {
                Some(above) => {
                    self.make_dir_all(above)?;
                    self.make_dir(path)
                }
                None => Err(error),
            },
            made => made,
        }
    }
}

/// Whether what is in the directory of a cache can be believed: whoever can change it decides what is served.
///
/// # Errors
/// Somebody else can, or it cannot be told.
pub fn believe(dir: &Path) -> Result<(), OpenError> {
    trusted(dir, &fs::metadata(dir).at("stat", dir)?)?;
    // Whose link it is may have it lead elsewhere a moment later.
    trusted(dir, &fs::symlink_metadata(dir).at("lstat", dir)?)?;
    for name in OURS {
        match fs::symlink_metadata(dir.join(name)) {
            Ok(meta) => trusted(&dir.join(name), &meta)?,
            Err(_gone) => {}
        }
    }
    Ok(())
}

/// Whether nobody but its owner, who is the user or root, can change what the cache has here.
fn trusted(path: &Path, meta: &Metadata) -> Result<(), OpenError> {
    let (owner, group) = (meta.uid(), meta.gid());
    let me = nix::unistd::geteuid().as_raw();
    if owner != 0 && owner != me {
        let path = path.to_owned();
        return Err(OpenError::NotYours { path, owner });
    }
    // With the sticky bit, as at the root of a tmpfs, everybody's own is his own.
    if meta.is_symlink() || meta.mode() & 0o1000 != 0 {
        return Ok(());
    }
    // A user's own group has his number, and nobody else in it.
    let by = match meta.mode() & 0o022 {
        0 => return Ok(()),
        0o020 if group == 0 || group == me => return Ok(()),
        0o020 => format!("group {group}"),
        _ => "everybody".to_owned(),
    };
    let path = path.to_owned();
    Err(OpenError::Others { path, by })
}

/// Removes the temporary files that killed processes left in a directory: those older than a day.
/// Failures do not matter, it is tried again.
pub fn sweep(disk: &dyn Disk, dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let now = SystemTime::now();
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .map(|then| now.duration_since(then).unwrap_or_default());
        if age.is_ok_and(|age| age > STALE) {
            let path = entry.path();
            drop(disk.unlink(&path).or_else(|_| disk.rmdir(&path)));
        }
    }
}

/// A temporary file of the cache.
#[derive(Debug)]
struct Tmp<'a> {
    cache: &'a Cache,
    file: File,
    path: PathBuf,
    kept: bool,
}

impl Tmp<'_> {
    /// Gives it its final name, in a directory that is made if it is missing.
    fn keep(mut self, to: &Path) -> Result<(), disk::Error> {
        let disk = &*self.cache.disk;
        match (disk.rename(&self.path, to), to.parent()) {
            (Err(error), Some(dir)) if error.source.kind() == io::ErrorKind::NotFound => {
                self.cache.make_dir_all(dir)?;
                disk.rename(&self.path, to)?;
            }
            (renamed, _) => renamed?,
        }
        self.kept = true;
        Ok(())
    }
}

impl Drop for Tmp<'_> {
    fn drop(&mut self) {
        if !self.kept {
            drop(self.cache.disk.unlink(&self.path));
        }
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
