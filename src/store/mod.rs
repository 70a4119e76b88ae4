//! What is remembered from one command to the next: one file of tables, mapped for reading, crash-safe.
//! doc/store.md is its contract.
//!
//! Bottom up: the file's pages (`layout`, `map`, `lock`), states of it (`file`, `snapshot`,
//! `txn`, `space`), tables on them (`table`, `heap`, `index`, `names`), and what is kept in
//! those: `nodes`, `history`, `graph`, `digests`. Decides nothing about staleness.

pub mod census;
mod codec;
mod contents;
mod deps;
mod digests;
pub mod edges;
mod file;
pub mod graph;
mod heap;
pub mod history;
mod holder;
mod index;
mod layout;
mod lock;
mod map;
pub mod memo;
mod names;
pub mod nodes;
mod pages;
pub mod pending;
pub mod readers;
pub mod rebuild;
pub mod recover;
mod schema;
mod snapshot;
mod space;
mod starts;
mod table;
mod txn;

pub use deps::canonical;
pub use file::Store;
pub use memo::Memo;
pub use pages::{Pages, PagesMut, Segment};
pub use snapshot::{Origin, Snapshot};
pub use txn::{Durability, Txn};

use crate::disk;
use std::path::PathBuf;

/// Something could not be remembered or recalled. Never a reason to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A newer rfs wrote the file; it is left alone.
    #[error(
        "{} was written by a newer rfs (format {found}, known is {known}): upgrade rfs, or remove it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// An older rfs wrote the file.
    #[error(
        "{} was written by an older rfs (format {found}, known is {known})",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that is known here.
        known: u32,
    },
    /// A file cannot be used, and does not have its name any more.
    #[error(
        "{why}; it is set aside as {}, and what it held is computed again",
        aside.display()
    )]
    SetAside {
        /// What is wrong with it.
        why: Box<Self>,
        /// Its new name.
        aside: PathBuf,
    },
    /// What a table of a store says cannot be.
    #[error("{} is damaged in segment {segment} at byte {at}: {what}", path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// Number of the segment.
        segment: u8,
        /// Where in it.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Somebody else writes, and does not come to an end.
    #[error("{} is being written by {holder}", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who it is.
        holder: String,
    },
    /// A commit failed earlier.
    #[error("{}: an earlier write failed; nothing more is written until it is opened anew", .0.display())]
    Latched(PathBuf),
    /// No more fits into it.
    #[error("{} is as large as a store can be", .0.display())]
    Full(PathBuf),
    /// A part of a file is not what was written.
    #[error("{} is damaged at byte {at}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl Error {
    /// Whether the file can only be set aside.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Unsound { .. } | Self::Older { .. } => true,
            Self::Disk(_)
            | Self::Newer { .. }
            | Self::SetAside { .. }
            | Self::Locked { .. }
            | Self::Latched(_)
            | Self::Full(_) => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
