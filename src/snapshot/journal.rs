//! What a restore that goes on by and by has done: notes in a file that only grows.
//!
//! A note is whole or not there: whoever is killed in the middle of one leaves a rest that the next note covers.

use super::trees::bytes;
use super::{Entry, Error};
use crate::base::Digest;
use crate::disk::{At, Disk};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The first bytes.
const MAGIC: &[u8] = b"rfs pending 1\n";

/// Length and the beginning of the digest, before each note.
const HEAD: usize = 4 + 8;

/// What the tree is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Goal {
    /// The tree.
    pub(super) root: Digest,
    /// What its user called it.
    pub(super) name: String,
    /// Under which name is to be kept what was there before; none if it may be lost.
    pub(super) before: Option<String>,
}

/// What was at a name before it was made what it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Was {
    /// Nothing.
    Nothing,
    /// What stays there, perhaps with other attributes.
    Stays(Entry),
    /// What was moved out of the tree, under this number.
    Out(u64),
}

/// A directory that is about to be made what it is to be. What is not named in it is as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    dir: Vec<u8>,
    /// Permission bits and time of the directory, which are not to change by what is done in it.
    pub(super) mode: u32,
    pub(super) mtime: i64,
    was: Vec<(Vec<u8>, Was)>,
}

impl Begun {
    pub(super) fn new(dir: &Path, mode: u32, mtime: i64, was: &[(PathBuf, Was)]) -> Self {
        let plain = |(name, was): &(PathBuf, Was)| (bytes(name), was.clone());
        Self {
            dir: bytes(dir),
            mode,
            mtime,
            was: was.iter().map(plain).collect(),
        }
    }

    pub(super) fn dir(&self) -> PathBuf {
        path(&self.dir)
    }

    /// Names with what was there, relative to the workspace's root.
    pub(super) fn was(self) -> impl Iterator<Item = (PathBuf, Was)> {
        let dir = path(&self.dir);
        self.was
            .into_iter()
            .map(move |(name, was)| (dir.join(path(&name)), was))
    }
}

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Note {
    /// The first one.
    Goal(Goal),
    /// A directory is about to be changed.
    Begun(Begun),
    /// This directory is what it is to be, and whatever happens in it from now on is its users' work.
    Settled(Vec<u8>),
}

impl Note {
    pub(super) fn settled(dir: &Path) -> Self {
        Self::Settled(bytes(dir))
    }
}

pub(super) fn path(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    /// Where the next note goes.
    len: u64,
}

impl Journal {
    /// Makes it, with its first note, to survive a loss of power.
    pub(super) fn create(disk: &dyn Disk, path: &Path, goal: Goal) -> Result<(), Error> {
        let file = disk.create(path, 0o600)?;
        let whole = [MAGIC, &frame(&Note::Goal(goal), path)?].concat();
        disk.write_at(&file, path, &whole, 0)?;
        Ok(disk.sync(&file, path)?)
    }

    /// Opens it, to go on; with all notes that are in it.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<(Self, Goal, Vec<Note>), Error> {
        let damaged = || Error::Damaged {
            path: path.to_owned(),
            why: "it does not begin as it should".to_owned(),
        };
        let file = disk.open_write(path)?;
        let bytes = fs::read(path).at("read", path)?;
        let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let mut notes = Vec::new();
        while let Some((note, after)) = next(rest) {
            notes.push(note);
            rest = after;
        }
        let len = (bytes.len() - rest.len()) as u64;
        let path = path.to_owned();
        let mut notes = notes.into_iter();
        let Some(Note::Goal(goal)) = notes.next() else {
            return Err(damaged());
        };
        Ok((Self { file, path, len }, goal, notes.collect()))
    }

    /// Adds a note.
    pub(super) fn note(&mut self, disk: &dyn Disk, note: &Note) -> Result<(), Error> {
        let frame = frame(note, &self.path)?;
        disk.write_at(&self.file, &self.path, &frame, self.len)?;
        self.len += frame.len() as u64;
        Ok(())
    }
}

fn frame(note: &Note, path: &Path) -> Result<Vec<u8>, Error> {
    let damaged = |why: String| Error::Damaged {
        path: path.to_owned(),
        why,
    };
    let body = postcard::to_stdvec(note).map_err(|error| damaged(error.to_string()))?;
    let len = u32::try_from(body.len()).map_err(|error| damaged(error.to_string()))?;
    let sum = Digest::of(&body);
    Ok([&len.to_le_bytes(), &sum.0[..8], &body].concat())
}

fn next(bytes: &[u8]) -> Option<(Note, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (len, sum) = head.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (body, rest) = rest.split_at_checked(len)?;
    if Digest::of(body).0[..8] != *sum {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, rest))
}
