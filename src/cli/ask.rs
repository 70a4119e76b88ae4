//! What all questions about what was built have in common: the state of the workspace that is asked, and how
//! the answer is given.

use super::error::CommandError;
use super::{console, place, workspace};
use crate::disk::RealDisk;
use crate::query::{self, Subject};
use crate::runner::STATE;
use crate::store::{Snapshot, Store, pending};
use serde::Serialize;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the host of the last build may take to write down what it did.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of all questions about one run.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The run that is asked about [default: the last one; `rfs log` lists them]
    #[arg(long, value_name = "N")]
    pub(super) run: Option<u32>,
    /// JSON, with the name of its schema
    #[arg(long)]
    pub(super) json: bool,
}

/// The workspace here and what is known of its builds.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) root: PathBuf,
    pub(super) cwd: PathBuf,
    pub(super) state: Arc<Snapshot>,
}

impl Asked {
    /// Of the workspace of the working directory.
    pub(super) fn here() -> Result<Self, CommandError> {
        let cwd = place::cwd()?;
        let root = workspace::find(&cwd);
        let state = state(&root.join(STATE))?;
        Ok(Self { root, cwd, state })
    }

    /// The index of the cache: what was served as a part of something else is looked up there. Without a
    /// cache it is looked up in the workspace alone.
    pub(super) fn index(
        &self,
        option: Option<&Path>,
    ) -> Result<Option<Arc<Snapshot>>, CommandError> {
        let config = place::config(&self.root)?;
        let dir = place::cache(option, config.cache_dir.as_deref(), &self.cwd)?;
        let index = Store::open_existing(&dir.join("index"), Arc::new(RealDisk));
        Ok(index.and_then(|store| store.snapshot()).ok())
    }

    /// What a user names.
    pub(super) fn subject(&self, text: &str) -> Subject {
        Subject::parse(text, &self.cwd, &self.root)
    }
}

/// The newest state of a workspace's store; what the last build did is in it.
pub(super) fn state(path: &Path) -> Result<Arc<Snapshot>, CommandError> {
    if !path.exists() {
        let error = CommandError::new("no build is known here");
        return Err(error.hint(NOT_BUILT));
    }
    if !pending::settle(path, PATIENCE) {
        console::warn("the last build is still being written down", None);
    }
    let store = Store::open_existing(path, Arc::new(RealDisk));
    let state = store.and_then(|store| store.snapshot());
    state.map_err(|error| explained(error.into()))
}

/// The newest state of a workspace's store, if there is one that can be read; nothing is waited for.
pub(super) fn last_state(path: &Path) -> Option<Arc<Snapshot>> {
    let is_there = path.exists();
    let store = is_there.then(|| Store::open_existing(path, Arc::new(RealDisk)).ok());
    store??.snapshot().ok()
}

/// What is to be done where no build is known.
const NOT_BUILT: &str = "`rfs build -- COMMAND` makes one";

/// Why there is no answer, and how there will be one.
pub(super) fn explained(error: query::Error) -> CommandError {
    let hint = match &error {
        query::Error::Store(_) => {
            "`rfs store repair --workspace` sets it aside and takes over what can be read"
        }
        query::Error::NoRuns => NOT_BUILT,
        query::Error::NoRunBefore(_) => "build once more, or name what to compare with",
        query::Error::NoRun(..) => "`rfs log` lists the runs that are known",
        query::Error::NoStep(..) => "`rfs log what-ran` lists steps with their numbers",
        query::Error::Unknown(_) => {
            "`rfs log` tells what was built here; a path is relative to this directory"
        }
        query::Error::Source(_) => "name a file that the build has made",
        query::Error::NoProbe(_) => {
            "name a define of config.h, or a variable of config.status or a Makefile; a build under rfs must \
             have run the script"
        }
        query::Error::NoCounterpart(..) => "`rfs diff` tells which steps two runs have in common",
        query::Error::Forgotten(..) => "build again: the oldest of many runs are forgotten",
    };
    CommandError::new(error).hint(hint)
}

/// Gives an answer.
pub(super) fn answer<A: Serialize + Display>(
    answer: Result<A, query::Error>,
    json: bool,
) -> Result<i32, CommandError> {
    let answer = answer.map_err(explained)?;
    if json {
        console::json(&answer);
    } else {
        console::answer(answer);
    }
    Ok(0)
}
