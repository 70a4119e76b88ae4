//! The time stamps of directories that were there before a served step and in which its outputs are put.
//!
//! Putting them there has touched those directories, but at another time than the step did in the order of
//! things: it may have moved a file into one long after it wrote it.

use super::serve::{End, ServeError, Way, look};
use super::undo::Undo;
use crate::base::{Name, Output, Record, Stamp, State};
use crate::disk::{self, Disk};
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories whose time stamps are to be set.
#[derive(Debug)]
pub(super) struct Dirs<'a> {
    record: &'a Record,
    root: &'a Path,
    all: Vec<Dir>,
}

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    rank: u32,
    /// Whether the step would have touched it here as well.
    due: bool,
    /// Its time stamp after all has been put in place.
    left: Option<(i64, i64)>,
}

impl<'a> Dirs<'a> {
    /// Those of a record, before anything is changed. What is no directory now, or lies behind a symbolic
    /// link, is left alone.
    pub(super) fn of(
        record: &'a Record,
        root: &'a Path,
        undo: &mut Undo<'_>,
    ) -> Result<Self, ServeError> {
        let mut all = Vec::with_capacity(record.dirs.len());
        for dir in &record.dirs {
            let path = dir.name.at(root);
            let there = matches!(Way::to(&path, root)?.end, End::There);
            if let Some(meta) = look(&path)?.filter(|meta| there && meta.is_dir()) {
                undo.attributes(&path, &meta);
                all.push(Dir {
                    path,
                    rank: dir.rank,
                    due: dir.always,
                    left: None,
                });
            }
        }
        Ok(Self { record, root, all })
    }

    /// A file that the step would write over was made, for there was none.
    pub(super) fn made(&mut self, output: &Output, path: &Path) {
        let (Some(parent), Stamp::Now(rank)) = (path.parent(), output.stamp) else {
            return;
        };
        let was_made = |name: &Name| {
            let mut deps = self.record.deps.iter();
            deps.any(|dep| dep.name == *name && dep.state == State::Absent)
        };
        if let Some(dir) = self.all.iter_mut().find(|dir| dir.path == parent) {
            dir.due = true;
            if !was_made(&output.name) {
                // A moment before it was written.
                dir.rank = dir.rank.max(rank);
            }
        } else if output.name.inside() && !self.is_dated(parent) {
            self.all.push(Dir {
                path: parent.to_owned(),
                rank,
                due: true,
                left: None,
            });
        }
    }

    /// Whether it is an output with a time stamp of its own.
    fn is_dated(&self, dir: &Path) -> bool {
        let mut outputs = self.record.outputs.iter();
        outputs.any(|output| output.stamp != Stamp::Keep && output.name.at(self.root) == dir)
    }

    /// All is in place: from now on others touch them. Leaves those that are due.
    pub(super) fn put(&mut self) {
        self.all.retain(|dir| dir.due);
        for dir in &mut self.all {
            dir.left = stamp(&dir.path);
        }
    }

    /// Their places in the order of time stamps.
    pub(super) fn ranks(&self) -> impl Iterator<Item = u32> + '_ {
        self.all.iter().map(|dir| dir.rank)
    }

    /// Sets the time stamp of those that nobody else has touched meanwhile. Gives all of them.
    ///
    /// # Errors
    /// It cannot be set, though the directory is this user's.
    pub(super) fn set(
        self,
        disk: &dyn Disk,
        time: impl Fn(u32) -> i64,
    ) -> Result<Vec<PathBuf>, disk::Error> {
        for dir in &self.all {
            if dir.left.is_none() || stamp(&dir.path) != dir.left {
                continue;
            }
            match disk.set_mtime(&dir.path, time(dir.rank)) {
                // Who may make names in a directory may not set its time stamp, if it is another user's.
                Err(error) if error.source.kind() == ErrorKind::PermissionDenied => {}
                result => result?,
            }
        }
        Ok(self.all.into_iter().map(|dir| dir.path).collect())
    }
}

fn stamp(dir: &Path) -> Option<(i64, i64)> {
    let meta: Option<Metadata> = look(dir).ok().flatten();
    meta.map(|meta| (meta.mtime(), meta.mtime_nsec()))
}
