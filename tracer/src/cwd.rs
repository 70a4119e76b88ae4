//! The working directory that the relative paths in a process's notes start from.
//!
//! Every change of it stops at the filter, and what was noted before is taken up first, so one that is asked
//! for when notes are taken up is the one they were made in. Where it is not one directory at a time (several
//! threads, a directory shared with another process) nobody can say. This file reads no notes.

use std::path::Path;
use std::sync::Arc;

use crate::event::Pid;
use crate::links;
use crate::supervisor::Shared;

/// The working directory of one process.
#[derive(Debug, Default)]
pub(crate) enum Cwd {
    /// Not asked for since it changed.
    #[default]
    Unread,
    /// Good for so many moves of directories.
    At(Arc<Path>, u64),
    /// Nobody can say any more.
    Unsure,
}

impl Cwd {
    /// The directory; otherwise why it is not known.
    pub(crate) fn get(&mut self, shared: &Shared, pid: Pid) -> Result<Arc<Path>, &'static str> {
        let moves = shared.prefixes.moves();
        match self {
            Self::At(path, at) if moves == Some(*at) => return Ok(Arc::clone(path)),
            Self::Unsure => return Err("changes its working directory while another thread looks"),
            Self::At(..) | Self::Unread => {}
        }
        let path: Arc<Path> = match shared.links.read(pid, "cwd") {
            Ok(path) => path.into(),
            Err(_) => return Err("ended where nobody can say"),
        };
        if !links::is_named(&path, &format!("/proc/{pid}/cwd")) {
            return Err("works in a removed directory");
        }
        *self = moves.map_or(Self::Unread, |moves| Self::At(Arc::clone(&path), moves));
        Ok(path)
    }

    /// It may be another one from now on.
    pub(crate) fn changes(&mut self) {
        if !matches!(self, Self::Unsure) {
            *self = Self::Unread;
        }
    }
}
