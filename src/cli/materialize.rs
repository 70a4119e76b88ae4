//! `rfs materialize`, and what other commands do about a restore that goes on by and by.

use super::error::CommandError;
use super::mount::{runtime, unreadable};
use super::{behind, console, place, snapshot, workspace};
use crate::mount::table::{self, Entry};
use crate::mount::talk::{Answer, Ask, Daemon, Finished};
use crate::snapshot::Pending;
use std::io;
use std::path::{Path, PathBuf};

/// Have the real directory hold what `rfs restore` in a mount has not put yet
///
/// In a mounted workspace `rfs restore` puts the contents of a directory when somebody looks into it. This does it
/// now, for some directories and files or for all. So does each command of rfs that works on files.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// These directories and files, with all that is in them [default: all of the workspace]
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let cwd = place::cwd()?;
    let root = workspace::of(&cwd)?;
    let inside = |path: &PathBuf| snapshot::inside(&cwd, &root, path);
    let paths = args.paths.iter().map(inside);
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    if !is_there(&root) {
        return Ok(0);
    }
    match daemon_of(&root)? {
        Some(entry) if paths.is_empty() => tell(ask_to_finish(&entry)?.as_ref()),
        Some(entry) => {
            for path in paths {
                let ask = Ask::Materialize(vec![entry.backing.join(path)]);
                let Answer::Done = ask_for(&entry, &ask)? else {
                    return Err(failed(&entry, &"it talks of something else"));
                };
            }
        }
        None => snapshot::settle_here(&root, &paths)?,
    }
    Ok(0)
}

/// Whether a restore goes on in the workspace. Asked through the mount or behind it.
pub(super) fn is_there(root: &Path) -> bool {
    Pending::is_there(root)
}

/// Finishes what goes on in the workspace of the working directory, for a command that works on its files.
pub(super) fn finish_here() -> Result<(), CommandError> {
    let Ok(cwd) = place::cwd() else {
        return Ok(());
    };
    let root = workspace::find(&cwd);
    if is_there(&root) {
        finish(&root)?;
    }
    Ok(())
}

/// Finishes what goes on in a workspace.
pub(super) fn finish(root: &Path) -> Result<(), CommandError> {
    match daemon_of(root)? {
        Some(entry) => {
            tell(ask_to_finish(&entry)?.as_ref());
            Ok(())
        }
        None => snapshot::settle_here(root, &[]),
    }
}

/// Who serves a workspace, be it elsewhere.
pub(super) fn daemon_of(root: &Path) -> Result<Option<Entry>, CommandError> {
    let all = table::all().map_err(unreadable)?;
    let is_its = |entry: &Entry| entry.at == root || entry.backing == root;
    Ok(all.into_iter().rev().find(is_its))
}

/// Has a daemon settle all, and end the restore.
pub(super) fn ask_to_finish(entry: &Entry) -> Result<Option<Finished>, CommandError> {
    let Answer::Finished(done) = ask_for(entry, &Ask::Materialize(Vec::new()))? else {
        return Err(failed(entry, &"it talks of something else"));
    };
    Ok(done)
}

/// Asks a daemon for what takes its time.
pub(super) fn ask_for(entry: &Entry, ask: &Ask) -> Result<Answer, CommandError> {
    let at = entry.at.display();
    let slow = || console::tell(format_args!("waiting for the daemon of {at}"));
    let asked =
        Daemon::of(entry, runtime().as_deref()).and_then(|daemon| daemon.ask_for(ask, slow));
    match asked.map_err(|error: io::Error| failed(entry, &error))? {
        (Answer::Failed(why), _) => Err(CommandError::new(format_args!("{at}: {why}")).hint(
            "make room, or see whether it is yours; `rfs restore --force NAME` gives up a restore that cannot go on",
        )),
        (answer, _) => Ok(answer),
    }
}

fn failed(entry: &Entry, why: &dyn std::fmt::Display) -> CommandError {
    behind::unanswered(&entry.at, why)
}

/// Says how a restore has ended.
pub(super) fn tell(done: Option<&Finished>) {
    if let Some(done) = done {
        if let Some(before) = &done.before {
            let name = &done.name;
            console::tell(format_args!(
                "what was there before the restore of {name} is snapshot {before}"
            ));
        }
        if let Some(aside) = &done.aside {
            let aside = aside.display();
            console::warn(
                format_args!("what stood in the way and no snapshot can keep is in {aside} now"),
                None,
            );
        }
    }
}
