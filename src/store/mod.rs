//! What is remembered from one command to the next, beside the cache. Forgetting any of it costs time
//! only: nothing is synced, and whatever is damaged is left out.

pub mod log;
pub mod memo;

pub use memo::Memo;

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
    /// A part of a file was damaged and is left out.
    #[error("{} is damaged at byte {at}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong, and what becomes of it.
        what: &'static str,
    },
}
