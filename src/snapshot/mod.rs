//! Snapshots: trees under a name, kept in `.rfs/snapshots` of the workspace.
//!
//! A snapshot is a list of names with what is there; contents lie beside it by digest, once however many snapshots
//! have them, as hard links to the cache's blobs where that can be. So neither a collection of the cache nor its
//! removal takes anything away from a snapshot. Knows nothing of builds.

mod compare;
mod restore;
mod shelf;
#[cfg(test)]
mod tests;
mod tree;

pub use compare::{Change, Difference, compare};
pub use restore::{Restored, restore};
pub use shelf::{Shelf, Summary};
pub use tree::{Tree, look};

use crate::base::Digest;
use crate::disk;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is at a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A directory.
    Dir,
    /// A symbolic link with this text.
    Link(Vec<u8>),
    /// A regular file.
    File {
        /// Of its content.
        digest: Digest,
        /// Bytes.
        size: u64,
    },
}

/// A name of a tree, and all that a snapshot keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What is there.
    pub what: What,
    /// Permission bits (07777); 0 for a link.
    pub mode: u32,
    /// Owner and group, which only root can give back.
    pub owner: [u32; 2],
    /// Time of last modification, ns since 1970.
    pub mtime: i64,
}

/// A tree as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// When it was taken, seconds since 1970.
    pub taken: i64,
    /// Its names, relative to the workspace's root, a directory before what is in it.
    pub entries: BTreeMap<PathBuf, Entry>,
}

/// It could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// What lies on disk is not what was written.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is none of this name.
    #[error("there is no snapshot {0}")]
    Unknown(String),
    /// There is one of this name.
    #[error("there is a snapshot {0} already")]
    Exists(String),
    /// It cannot be the name of a snapshot.
    #[error("{0:?} cannot be the name of a snapshot: {1}")]
    Name(String, &'static str),
    /// A file changes while it is read, time and again.
    #[error("{} changes while it is read", .0.display())]
    Restless(PathBuf),
    /// Something stands in the way that no snapshot can keep.
    #[error("{} stands in the way: {why}", path.display())]
    Obstacle {
        /// What.
        path: PathBuf,
        /// Why it is left alone.
        why: String,
    },
    /// Neither the snapshot nor the tree has this name.
    #[error("{} is neither in the snapshot nor in the tree", .0.display())]
    Nowhere(PathBuf),
}
