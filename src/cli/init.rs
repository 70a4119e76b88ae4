//! `rfs init`: makes a directory a workspace.

use super::error::CommandError;
use super::{console, place, workspace};
use crate::disk::RealDisk;
use std::path::PathBuf;

/// Make a directory a workspace
///
/// Creates `.rfs/` in it, so that builds below it share one view and one set of records. `rfs build` does
/// so by itself at the nearest directory that has `.git`; this is for projects without one, or to choose
/// another directory. Doing it again changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory [default: the working directory]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let cwd = place::cwd()?;
    let root = args.dir.as_ref().map_or(cwd.clone(), |dir| cwd.join(dir));
    workspace::refuse_root(&root)?;
    let made = workspace::prepare(&root, &RealDisk).map_err(|error| {
        CommandError::new(format_args!("cannot make a workspace: {error}"))
            .hint("the directory must exist and be writable")
    })?;
    let what = if made {
        "made a workspace"
    } else {
        "is a workspace already"
    };
    console::answer(format_args!("rfs: {}: {what}", root.display()));
    Ok(0)
}
