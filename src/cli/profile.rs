//! `rfs profile`: where the time of the last build went.

use super::error::CommandError;
use super::{console, place, summary_file, workspace};
use crate::disk::{self, Disk};
use crate::report::profile::Profile;
use crate::report::{Calls, Step};
use std::path::{Path, PathBuf};

/// Tell where the time of the last build in this workspace went
///
/// The steps that took longest, with processor time, largest process in memory, page faults that needed the
/// disk, context switches, and the processor on which each ended. With --trace: a Chrome trace of all steps
/// (about:tracing, ui.perfetto.dev) with a lane for each processor. With --calls: how many looks at names the preload
/// library noted, and which calls stopped and why: what a first build costs is mostly theirs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Steps, or kinds of calls, to tell of
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    steps: usize,
    /// A Chrome trace
    #[arg(long, conflicts_with = "json")]
    trace: bool,
    /// Calls that stopped, by program and reason, instead of steps
    #[arg(long, conflicts_with_all = ["json", "trace"])]
    calls: bool,
    /// JSON, schema `rfs.profile/1`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let path = file(&workspace::find(&place::cwd()?));
    let no = |why: &dyn std::fmt::Display| {
        CommandError::new(format_args!(
            "no build to tell of: {}: {why}",
            path.display()
        ))
        .hint("`rfs build` leaves it in the workspace")
    };
    let text = std::fs::read_to_string(&path).map_err(|error| no(&error))?;
    let profile = Profile::parse(&text).map_err(|error| no(&error))?;
    console::answer(match args {
        Args { trace: true, .. } => profile.trace(),
        Args { json: true, .. } => profile.json(),
        Args { calls: true, .. } => profile.calls.text(args.steps),
        Args { steps, .. } => profile.text(*steps),
    });
    Ok(0)
}

/// Where the last build of a workspace is told of.
pub(super) fn file(workspace: &Path) -> PathBuf {
    workspace.join(workspace::STATE).join("profile.json")
}

/// Keeps the steps of a build.
///
/// # Errors
/// A system call fails; what was there before is still there.
pub(super) fn keep(path: &Path, steps: &[Step], calls: Calls, disk: &dyn Disk) -> disk::Result<()> {
    summary_file::replace(path, &Profile::of(steps, calls).json(), disk)
}
