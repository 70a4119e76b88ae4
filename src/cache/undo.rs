//! What a serving has changed in a tree, so that one that fails half-way can be taken back: a step that
//! then runs must find what it would have found, for it may append, move or count.
//!
//! Knows names and files, no outputs.

use super::serve::make_temp;
use crate::disk::{self, At, Disk};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What was done, in its order. Dropping it forgets what was there before.
#[derive(Debug)]
pub(super) struct Undo<'a> {
    disk: &'a dyn Disk,
    deeds: Vec<Deed>,
}

#[derive(Debug)]
enum Deed {
    /// Something was made where nothing was.
    Made(PathBuf),
    /// What was there is kept under another name.
    Kept { path: PathBuf, kept: PathBuf },
    /// The content that was there is in another file.
    Written { path: PathBuf, copy: PathBuf },
    /// An empty directory was removed.
    Removed(PathBuf, Metadata),
    /// Mode, owner or time stamp may be others.
    Attributes(PathBuf, Metadata),
}

impl<'a> Undo<'a> {
    pub(super) fn new(disk: &'a dyn Disk) -> Self {
        let deeds = Vec::new();
        Self { disk, deeds }
    }

    /// Something has been made where nothing was.
    pub(super) fn made(&mut self, path: &Path) {
        self.deeds.push(Deed::Made(path.to_owned()));
    }

    /// The attributes of what is there are about to be changed.
    pub(super) fn attributes(&mut self, path: &Path, there: &Metadata) {
        let deed = Deed::Attributes(path.to_owned(), there.clone());
        self.deeds.push(deed);
    }

    /// Removes an empty directory.
    pub(super) fn rmdir(&mut self, path: &Path, there: &Metadata) -> disk::Result<()> {
        self.disk.rmdir(path)?;
        let deed = Deed::Removed(path.to_owned(), there.clone());
        self.deeds.push(deed);
        Ok(())
    }

    /// Removes what is no directory; `near` is a directory from which rename(2) reaches it.
    pub(super) fn unlink(&mut self, path: &Path, near: &Path) -> disk::Result<()> {
        // The name is taken by a file first: a rename would replace what another process has there.
        let (_, kept) = make_temp(near, |temp| self.disk.create(temp, 0o600))?;
        if let Err(error) = self.disk.rename(path, &kept) {
            drop(self.disk.unlink(&kept));
            return Err(error);
        }
        self.keep(path, kept);
        Ok(())
    }

    /// Gives what is at `temp` the name `path`, where `there` is now: also over an empty directory.
    pub(super) fn rename_over(
        &mut self,
        temp: &Path,
        path: &Path,
        there: Option<&Metadata>,
    ) -> disk::Result<()> {
        match there {
            Some(meta) if meta.is_dir() => self.rmdir(path, meta)?,
            Some(_) => match self.disk.exchange(temp, path) {
                Ok(true) => {
                    self.keep(path, temp.to_owned());
                    return Ok(());
                }
                Ok(false) => return self.replace(temp, path),
                // It is gone.
                Err(error) if error.source.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            None => {}
        }
        self.disk.rename(temp, path)?;
        self.made(path);
        Ok(())
    }

    /// The same where the filesystem has no exchange.
    fn replace(&mut self, temp: &Path, path: &Path) -> disk::Result<()> {
        let near = temp.parent().unwrap_or(temp);
        let ((), kept) = make_temp(near, |name| self.disk.link(path, name))?;
        if let Err(error) = self.disk.rename(temp, path) {
            drop(self.disk.unlink(&kept));
            return Err(error);
        }
        self.keep(path, kept);
        Ok(())
    }

    fn keep(&mut self, path: &Path, kept: PathBuf) {
        let path = path.to_owned();
        self.deeds.push(Deed::Kept { path, kept });
    }

    /// Opens a file to be written anew, its content cut to nothing.
    pub(super) fn open_truncate(&mut self, path: &Path, near: &Path) -> disk::Result<File> {
        let from = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .at("open", path)?;
        let (file, copy) = make_temp(near, |temp| self.disk.create(temp, 0o600))?;
        if let Err(error) = self.disk.copy(&from, &file, &copy) {
            drop(self.disk.unlink(&copy));
            return Err(error);
        }
        let path = path.to_owned();
        self.deeds.push(Deed::Written {
            path: path.clone(),
            copy,
        });
        self.disk.open_truncate(&path)
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// The first system call that failed; what can be taken back is, all the same.
    pub(super) fn take_back(self) -> disk::Result<()> {
        let disk = self.disk;
        let mut result = Ok(());
        for deed in self.deeds.into_iter().rev() {
            let undone = undo(disk, deed);
            result = result.and(undone);
        }
        result
    }

    /// Forgets what was there before.
    pub(super) fn forget(self) {
        for deed in self.deeds {
            if let Deed::Kept { kept: temp, .. } | Deed::Written { copy: temp, .. } = deed {
                // What stays is swept up some day.
                drop(self.disk.unlink(&temp));
            }
        }
    }
}

fn undo(disk: &dyn Disk, deed: Deed) -> disk::Result<()> {
    match deed {
        Deed::Made(path) => {
            let meta = fs::symlink_metadata(&path).at("lstat", &path)?;
            if meta.is_dir() {
                disk.rmdir(&path)
            } else {
                disk.unlink(&path)
            }
        }
        Deed::Kept { path, kept } => disk.rename(&kept, &path),
        Deed::Written { path, copy } => {
            let from = File::open(&copy).at("open", &copy)?;
            let file = disk.open_truncate(&path)?;
            disk.copy(&from, &file, &path)?;
            disk.unlink(&copy)
        }
        Deed::Removed(path, was) => {
            disk.mkdir(&path, 0o700)?;
            attributes(disk, &path, &was)
        }
        Deed::Attributes(path, was) => match attributes(disk, &path, &was) {
            // Another user's directory: what was made in it has given it a time stamp that is not ours to set.
            Err(error) if was.is_dir() && error.source.kind() == ErrorKind::PermissionDenied => {
                Ok(())
            }
            done => done,
        },
    }
}

fn attributes(disk: &dyn Disk, path: &Path, was: &Metadata) -> disk::Result<()> {
    let now = fs::symlink_metadata(path).at("lstat", path)?;
    if (now.uid(), now.gid()) != (was.uid(), was.gid()) {
        disk.chown(path, was.uid(), was.gid())?;
    }
    if now.mode() != was.mode() && !was.is_symlink() {
        disk.chmod(path, was.mode() & 0o7777)?;
    }
    let stamp = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec());
    if stamp(&now) != stamp(was) {
        disk.set_mtime(path, was.mtime() * 1_000_000_000 + was.mtime_nsec())?;
    }
    Ok(())
}
