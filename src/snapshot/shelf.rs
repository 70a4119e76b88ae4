//! Where snapshots lie: `names/NAME` each, `blobs/ab/cdef...` for what is in them, `lock`.
//!
//! A snapshot is there when its name is: contents are on the disk before. Who is killed in between leaves contents
//! that nobody names, which the next removal sweeps.

use super::{Entry, Error, Snapshot, Tree, What};
use crate::base::Digest;
use crate::cache::Cache;
use crate::disk::{self, At, Disk, copy_hashed};
use crate::world::{OURS, open};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The first bytes of a snapshot.
const MAGIC: &[u8] = b"rfs snapshot 1\n";

/// A snapshot's name may have so many bytes.
const LONGEST: usize = 100;

/// The snapshots of a workspace.
#[derive(Debug)]
pub struct Shelf {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    _lock: Option<File>,
}

/// What a list tells of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// When it was taken, seconds since 1970.
    pub taken: i64,
    /// Files and links in it.
    pub files: usize,
    /// Bytes of its files.
    pub bytes: u64,
}

/// On disk; paths are bytes.
#[derive(Serialize, Deserialize)]
struct Stored {
    taken: i64,
    entries: Vec<(Vec<u8>, Entry)>,
}

impl Shelf {
    /// The snapshots of the workspace at `root`, to be read.
    #[must_use]
    pub fn of(root: &Path, disk: Arc<dyn Disk>) -> Self {
        Self {
            dir: root.join(OURS).join("snapshots"),
            disk,
            _lock: None,
        }
    }

    /// The same, to be changed: nobody else changes them meanwhile. What one that was killed has left half done is
    /// set aside; the second value says where.
    ///
    /// # Errors
    /// Somebody else has been changing them for two seconds, or a system call fails.
    pub fn lock(root: &Path, disk: Arc<dyn Disk>) -> Result<(Self, Option<PathBuf>), Error> {
        let mut shelf = Self::of(root, disk);
        for dir in ["", "names", "blobs"] {
            shelf.mkdir(&shelf.dir.join(dir))?;
        }
        let path = shelf.dir.join("lock");
        let file = shelf.disk.open_shared(&path)?;
        disk::lock(&*shelf.disk, &file, &path)?;
        shelf._lock = Some(file);
        let stage = shelf.stage();
        if !stage.is_dir() {
            return Ok((shelf, None));
        }
        let aside = shelf.aside()?;
        shelf.disk.rename(&stage, &aside)?;
        Ok((shelf, Some(aside)))
    }

    /// A name for something that is set aside, which nothing has.
    pub(super) fn aside(&self) -> Result<PathBuf, Error> {
        let dir = self.dir.join("aside");
        self.mkdir(&dir)?;
        let free = (1_u32..).map(|n| dir.join(n.to_string()));
        let mut free = free.filter(|path| path.symlink_metadata().is_err());
        Ok(free.next().unwrap_or(dir))
    }

    /// Where a tree is prepared.
    pub(super) fn stage(&self) -> PathBuf {
        self.dir.join("stage")
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    fn mkdir(&self, dir: &Path) -> Result<(), Error> {
        match self.disk.mkdir(dir, 0o755) {
            Err(error) if error.source.kind() != ErrorKind::AlreadyExists => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        // Names of branches have slashes in them.
        self.dir.join("names").join(name.replace('/', "%"))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.join("blobs").join(&hex[..2]).join(&hex[2..])
    }

    /// The names of all snapshots, in order.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let dir = self.dir.join("names");
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at("getdents", &dir)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.at("getdents", &dir)?.file_name();
            let name = name.to_string_lossy().replace('%', "/");
            if check(&name).is_ok() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whether there is one of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        check(name).is_ok() && self.path(name).is_file()
    }

    /// A snapshot.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn load(&self, name: &str) -> Result<Snapshot, Error> {
        if !self.has(name) {
            return Err(Error::Unknown(name.to_owned()));
        }
        let path = self.path(name);
        let bytes = fs::read(&path).at("read", &path)?;
        let damaged = |why: &str| Error::Damaged {
            path: path.clone(),
            why: why.to_owned(),
        };
        let body = bytes.strip_prefix(MAGIC);
        let body = body.ok_or_else(|| damaged("it is none of this version"))?;
        let (body, sum) = body
            .split_last_chunk::<32>()
            .ok_or_else(|| damaged("it is cut off"))?;
        if Digest::of(body) != Digest(*sum) {
            return Err(damaged("its content has another digest"));
        }
        let stored: Stored =
            postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))?;
        let owned = |(path, entry): (Vec<u8>, Entry)| (OsString::from_vec(path).into(), entry);
        Ok(Snapshot {
            taken: stored.taken,
            entries: stored.entries.into_iter().map(owned).collect(),
        })
    }

    /// All of them, for people.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn list(&self) -> Result<Vec<Summary>, Error> {
        let summary = |name: String| {
            let snapshot = self.load(&name)?;
            let sizes = snapshot.entries.values().map(|entry| match entry.what {
                What::File { size, .. } => size,
                What::Dir | What::Link(_) => 0,
            });
            Ok(Summary {
                taken: snapshot.taken,
                files: snapshot
                    .entries
                    .values()
                    .filter(|one| one.what != What::Dir)
                    .count(),
                bytes: sizes.sum(),
                name,
            })
        };
        self.names()?.into_iter().map(summary).collect()
    }

    /// Keeps a tree under a name. Contents are taken from `cache` where it has them.
    ///
    /// # Errors
    /// The name is taken or none; a file has changed since; a system call fails. There is no such snapshot then.
    pub fn keep(
        &self,
        name: &str,
        tree: &Tree,
        root: &Path,
        cache: Option<&Cache>,
    ) -> Result<Snapshot, Error> {
        check(name).map_err(|why| Error::Name(name.to_owned(), why))?;
        if self.has(name) {
            return Err(Error::Exists(name.to_owned()));
        }
        for (path, (entry, _)) in &tree.entries {
            if let What::File { digest, size } = &entry.what {
                self.keep_file(&root.join(path), digest, *size, cache)?;
            }
        }
        let taken = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let snapshot = Snapshot {
            taken: i64::try_from(taken.as_secs()).unwrap_or(i64::MAX),
            entries: tree
                .entries
                .iter()
                .map(|(path, (entry, _))| (path.clone(), entry.clone()))
                .collect(),
        };
        self.write(name, &snapshot)?;
        Ok(snapshot)
    }

    fn write(&self, name: &str, snapshot: &Snapshot) -> Result<(), Error> {
        let path = self.path(name);
        let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        let stored = Stored {
            taken: snapshot.taken,
            entries: snapshot
                .entries
                .iter()
                .map(|(path, entry)| (bytes(path), entry.clone()))
                .collect(),
        };
        let body = postcard::to_stdvec(&stored).map_err(|error| Error::Damaged {
            path: path.clone(),
            why: error.to_string(),
        })?;
        let whole = [MAGIC, &body, &Digest::of(&body).0].concat();
        let (file, new) = self.temporary()?;
        let written = self
            .disk
            .write_at(&file, &new, &whole, 0)
            // The contents too.
            .and_then(|()| self.disk.sync_all(&file, &new))
            .and_then(|()| self.disk.rename(&new, &path));
        if written.is_err() {
            drop(self.disk.unlink(&new));
        }
        Ok(written?)
    }

    /// A file that nothing is in yet.
    fn temporary(&self) -> Result<(File, PathBuf), Error> {
        // There is one who changes anything.
        let path = self.dir.join("new");
        match self.disk.unlink(&path) {
            Err(error) if error.source.kind() != ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        Ok((self.disk.create(&path, 0o444)?, path))
    }

    fn keep_file(
        &self,
        path: &Path,
        digest: &Digest,
        size: u64,
        cache: Option<&Cache>,
    ) -> Result<(), Error> {
        let blob = self.blob(digest);
        let is_there = |blob: &Path| {
            let meta = fs::symlink_metadata(blob);
            meta.is_ok_and(|meta| meta.is_file() && meta.len() == size)
        };
        if is_there(&blob) {
            return Ok(());
        }
        if let Some(dir) = blob.parent() {
            self.mkdir(dir)?;
        }
        let linked = cache.is_some_and(|cache| {
            cache.contains(digest, size)
                && cache.check(digest).is_ok()
                && self.disk.link(&cache.blob_path(digest), &blob).is_ok()
        });
        if linked {
            return Ok(());
        }
        let (file, new) = self.temporary()?;
        let copied = open(path).at("open", path).and_then(|from| {
            let (found, _) = match self.disk.reflink(&from, &file, &new)? {
                true => disk::hash(&file)?,
                false => copy_hashed(&*self.disk, &from, &file, &new)?,
            };
            Ok(found)
        });
        let kept = match copied {
            Ok(found) if found == *digest => self.disk.rename(&new, &blob).map_err(Error::from),
            Ok(_) => Err(Error::Restless(path.to_owned())),
            Err(error) => Err(error.into()),
        };
        if kept.is_err() {
            drop(self.disk.unlink(&new));
        }
        kept
    }

    /// Copies a content into the empty file `to`.
    ///
    /// # Errors
    /// It is missing or damaged, or a system call fails.
    pub(super) fn fetch(&self, digest: &Digest, to: &File, path: &Path) -> Result<(), Error> {
        let blob = self.blob(digest);
        let from = open(&blob).at("open", &blob)?;
        let (found, _) = match self.disk.reflink(&from, to, path)? {
            true => disk::hash(&from)?,
            false => copy_hashed(&*self.disk, &from, to, path)?,
        };
        if found != *digest {
            return Err(Error::Damaged {
                path: blob,
                why: "its content has another digest".to_owned(),
            });
        }
        Ok(())
    }

    /// Removes a snapshot, and the contents that no other one has.
    ///
    /// # Errors
    /// There is none; another one cannot be read, so that nobody knows what it needs; a system call fails.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        if !self.has(name) {
            return Err(Error::Unknown(name.to_owned()));
        }
        self.disk.unlink(&self.path(name))?;
        self.sweep()
    }

    fn sweep(&self) -> Result<(), Error> {
        let mut needed = HashSet::new();
        for name in self.names()? {
            for entry in self.load(&name)?.entries.into_values() {
                if let What::File { digest, .. } = entry.what {
                    needed.insert(self.blob(&digest));
                }
            }
        }
        let blobs = self.dir.join("blobs");
        for dir in fs::read_dir(&blobs).at("getdents", &blobs)? {
            let dir = dir.at("getdents", &blobs)?.path();
            for blob in fs::read_dir(&dir).at("getdents", &dir)? {
                let blob = blob.at("getdents", &dir)?.path();
                if !needed.contains(&blob) {
                    self.disk.unlink(&blob)?;
                }
            }
        }
        Ok(())
    }
}

/// Why this is no name.
fn check(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("it is empty"),
        _ if name.len() > LONGEST => Err("it is too long"),
        _ if name.starts_with(['-', '.', '/']) => Err("it begins with `-`, `.` or `/`"),
        _ if name.contains('%') => Err("it has a `%` in it"),
        _ if name.chars().any(char::is_control) => Err("it has a control character in it"),
        _ if name.bytes().all(|byte| byte.is_ascii_digit()) => Err("numbers are those of runs"),
        _ => Ok(()),
    }
}
