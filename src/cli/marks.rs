//! `rfs forget`, `rfs freeze`, `rfs mark`: what people have to say of single files of a build by rules.

use super::error::CommandError;
use super::{console, place, rules, workspace};
use crate::disk::{Disk, RealDisk};
use crate::engine::{Mark, Marks, made};
use std::ffi::OsString;

/// Run the jobs of these targets again at the next build, though nothing has changed
#[derive(Debug, clap::Args)]
pub(super) struct ForgetArgs {
    /// Files that rules make
    #[arg(required = true)]
    targets: Vec<OsString>,
}

/// Take these targets as they are, until they are thawed: no job makes them
///
/// Without names, lists what is frozen.
#[derive(Debug, clap::Args)]
pub(super) struct FreezeArgs {
    /// Let jobs make them again
    #[arg(long)]
    off: bool,
    /// Files that are there
    files: Vec<OsString>,
}

/// Let changes of these files be no reason to run anything
///
/// Without names, lists what is marked.
#[derive(Debug, clap::Args)]
pub(super) struct MarkArgs {
    /// Let their changes count again
    #[arg(long)]
    off: bool,
    /// Files
    files: Vec<OsString>,
}

pub(super) fn forget(args: &ForgetArgs) -> Result<i32, CommandError> {
    set(Mark::Forgotten, &args.targets, true)
}

pub(super) fn freeze(args: &FreezeArgs) -> Result<i32, CommandError> {
    set(Mark::Frozen, &args.files, !args.off)
}

pub(super) fn mark(args: &MarkArgs) -> Result<i32, CommandError> {
    set(Mark::Quiet, &args.files, !args.off)
}

fn set(mark: Mark, files: &[OsString], on: bool) -> Result<i32, CommandError> {
    let cwd = place::cwd()?;
    let root = workspace::find(&cwd);
    let path = root.join(rules::MARKS);
    let mut marks = Marks::read(&path).map_err(CommandError::new)?;
    if files.is_empty() {
        for name in marks.of(mark) {
            console::answer(name);
        }
        return Ok(0);
    }
    for file in files {
        let name = rules::name(file, &cwd, &root)?;
        if name.contains('\n') {
            return Err(
                CommandError::new(format_args!("{name:?} has a line feed in it"))
                    .hint("the list of marks has a name a line: rename the file"),
            );
        }
        if mark == Mark::Frozen && on && root.join(&name).symlink_metadata().is_err() {
            let error = CommandError::new(format_args!("{name} is not there"));
            return Err(error.hint("build it first: a file is frozen as it lies there"));
        }
        if mark == Mark::Forgotten && !made(&root.join(workspace::STATE)).contains(&name) {
            console::warn(
                format_args!("no job is known to have made {name}"),
                Some("`rfs rules targets` lists what rules make"),
            );
        }
        marks.set(mark, &name, on);
    }
    let disk: &dyn Disk = &RealDisk;
    workspace::prepare(&root, disk).map_err(CommandError::new)?;
    marks.write(&path, disk).map_err(CommandError::new)?;
    Ok(0)
}
