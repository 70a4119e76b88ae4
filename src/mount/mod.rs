//! A workspace that stays mounted: its daemon, and how other processes find and reach it.
//!
//! The daemon sees the real files, since it has withdrawn into a mount namespace of its own before the view was
//! mounted over them. A *keeper*, a small process beside it, has stayed in the namespace of whoever mounts: it
//! mounts, unmounts, and takes away what a killed daemon has left. This room decides nothing about steps.

mod daemon;
mod keeper;
mod ledger;
mod line;
mod notify;
mod process;
pub mod table;
pub mod talk;
mod trail;
mod users;

pub use daemon::{Plan, Ready, run};
pub use notify::Notify;
pub use rfs_fs::{Removal, step_behind, take_away};

use std::io;
use std::path::PathBuf;

/// The daemon cannot be had, or came to an end that it should not have come to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// The workspace has a daemon, which nobody here can see.
    #[error("{} is mounted already, in another mount namespace, by process {holder}", workspace.display())]
    Held {
        /// The workspace.
        workspace: PathBuf,
        /// The daemon's process id.
        holder: String,
    },
    /// It could not be mounted.
    #[error("cannot mount {}: {why}", at.display())]
    Mount {
        /// Where.
        at: PathBuf,
        /// What was said.
        why: String,
    },
    /// What was written in `.rfs` failed.
    #[error(transparent)]
    Disk(#[from] crate::disk::Error),
}

impl Error {
    fn system(call: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::System(call, error)
    }
}
