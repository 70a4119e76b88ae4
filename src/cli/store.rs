//! `rfs store`: the file in which is kept what is known of executions and files.

use super::ask::Asked;
use super::error::CommandError;
use super::{console, place, workspace};
use crate::disk::{Disk, RealDisk};
use crate::report::size;
use crate::runner::STATE;
use crate::store::census::{Census, census, dump};
use crate::store::rebuild::{compact, export, salvage};
use crate::store::{self, Snapshot, Store, recover};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Look at the file that keeps records and digests, and mend it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Check every page and every record; exit status 1 if something is damaged
    Check(Options),
    /// Print all names, contents, files and executions
    Dump(Options),
    /// Tell how much of what there is
    Stats(Stats),
    /// Write it anew without what nothing needs any more
    ///
    /// Safe while builds run: they go on reading the old file, and wait for a moment to write.
    Compact(Options),
    /// Write what is known of the builds of this workspace to a file, to compare with elsewhere
    ///
    /// For `rfs why-miss --against FILE`. Names, commands, digests and the environment of steps are in it, and no
    /// content but what commands printed and small files that were made and removed.
    Export(Export),
    /// Take over what can be read of a file that was set aside
    ///
    /// What is damaged is set aside as `index.damaged` by whoever finds it, and everything starts anew. This
    /// adds what is whole in it to the new file.
    Repair(Options),
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Directory of the cache [default: as for `rfs build`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// The store of the workspace, which keeps its builds, in place of the cache's
    #[arg(long, conflicts_with = "cache_dir")]
    workspace: bool,
}

#[derive(Debug, clap::Args)]
struct Export {
    /// A file that is not there yet
    #[arg(value_name = "FILE")]
    to: PathBuf,
    /// Leave out the environment of the steps
    #[arg(long)]
    no_environment: bool,
}

#[derive(Debug, clap::Args)]
struct Stats {
    #[command(flatten)]
    options: Options,
    /// JSON, schema `rfs.store/1`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<i32, CommandError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    match args.what {
        What::Check(options) => check(&path(&options)?, disk),
        What::Dump(options) => {
            let snapshot = snapshot(&path(&options)?, disk)?;
            dump(&snapshot, console::answer).map_err(damaged)?;
            Ok(0)
        }
        What::Stats(stats) => tell(&stats, disk),
        What::Compact(options) => {
            let path = path(&options)?;
            let store = open(&path, disk.clone())?;
            let copied = compact(&store, &disk).map_err(damaged)?;
            console::answer(format_args!(
                "{}: {} executions, digests of {} files; {}",
                path.display(),
                copied.executions,
                copied.files,
                size::text(store.snapshot().map_err(damaged)?.file_bytes())
            ));
            Ok(0)
        }
        What::Export(args) => export_to(&args, &disk),
        What::Repair(options) => repair(&path(&options)?, &disk),
    }
}

fn export_to(args: &Export, disk: &Arc<dyn Disk>) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let to = asked.cwd.join(&args.to);
    if to.symlink_metadata().is_ok() {
        let error = CommandError::new(format_args!("{} is there already", to.display()));
        return Err(error.hint("another name, or remove it first"));
    }
    let copied = export(&asked.state, &to, !args.no_environment, disk).map_err(damaged)?;
    let n_executions = copied.executions;
    console::answer(format_args!("{}: {n_executions} executions", to.display()));
    Ok(0)
}

fn check(path: &Path, disk: Arc<dyn Disk>) -> Result<i32, CommandError> {
    match look(path, disk) {
        Ok(census) => {
            console::answer(format_args!(
                "{}: whole: {} executions, digests of {} files, {}",
                path.display(),
                census.executions,
                census.files,
                size::text(census.used_bytes)
            ));
            Ok(0)
        }
        Err(error) if error.is_loss() => {
            console::warn(error, None);
            Ok(1)
        }
        Err(error) => Err(CommandError::new(error)
            .hint("`rfs store repair` takes over what can be read and sets the rest aside")),
    }
}

/// Reads everything.
fn look(path: &Path, disk: Arc<dyn Disk>) -> Result<Census, store::Error> {
    let snapshot = Store::open_existing(path, disk)?.snapshot()?;
    dump(&snapshot, drop)?;
    census(&snapshot)
}

fn repair(path: &Path, disk: &Arc<dyn Disk>) -> Result<i32, CommandError> {
    let aside = path.with_extension("damaged");
    // What is found damaged now is set aside now.
    if path.exists() {
        match look(path, disk.clone()) {
            Err(error) if error.is_loss() => {
                let told = recover::set_aside(path, &**disk, error).map_err(CommandError::new)?;
                console::warn(told, None);
            }
            looked => drop(looked.map_err(CommandError::new)?),
        }
    }
    if !aside.exists() {
        console::answer(format_args!("{}: nothing to repair", path.display()));
        return Ok(0);
    }
    let (store, told) = recover::open(path, disk);
    let Some(store) = store else {
        let why = told.map_or_else(String::new, |error| error.to_string());
        return Err(CommandError::new(why));
    };
    let copied = match salvage(&aside, &store, disk) {
        Err(error) if error.is_loss() => {
            console::warn(
                format_args!("nothing can be read of {error}"),
                Some("remove it: everything starts anew"),
            );
            return Ok(1);
        }
        copied => copied.map_err(damaged)?,
    };
    disk.unlink(&aside).map_err(CommandError::new)?;
    console::answer(format_args!(
        "{}: {} executions and digests of {} files are taken over, {} were lost",
        path.display(),
        copied.executions,
        copied.files,
        copied.lost
    ));
    Ok(0)
}

/// What programs get.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    schema: &'static str,
    file: &'a str,
    #[serde(flatten)]
    census: &'a Census,
}

fn tell(stats: &Stats, disk: Arc<dyn Disk>) -> Result<i32, CommandError> {
    let path = path(&stats.options)?;
    let census = census(&*snapshot(&path, disk)?).map_err(damaged)?;
    if stats.json {
        let answer = Answer {
            schema: "rfs.store/1",
            file: &path.to_string_lossy(),
            census: &census,
        };
        let json = serde_json::to_string_pretty(&answer).expect("BUG: plain values make JSON");
        console::answer(json);
        return Ok(0);
    }
    console::answer(format_args!(
        "{}: {} of {} in use, state {}\n\
         {} executions under {} keys, {} deps in {} shared pieces\n\
         {} names, {} contents, digests of {} files, {} builds",
        path.display(),
        size::text(census.used_bytes),
        size::text(census.file_bytes),
        census.generation,
        census.executions,
        census.keys,
        census.deps,
        census.pieces,
        census.names,
        census.contents,
        census.files,
        census.builds,
    ));
    for table in &census.tables {
        console::answer(format_args!(
            "{:>10}  {}",
            size::text(table.bytes),
            table.name
        ));
    }
    Ok(0)
}

/// The store of the cache that `rfs build` would use here, or that of the workspace.
fn path(options: &Options) -> Result<PathBuf, CommandError> {
    let cwd = place::cwd()?;
    let root = workspace::find(&cwd);
    if options.workspace {
        return Ok(root.join(STATE));
    }
    let config = place::config(&root)?;
    let (option, configured) = (options.cache_dir.as_deref(), config.cache_dir.as_deref());
    Ok(place::cache(option, configured, &cwd)?.join("index"))
}

/// Opens what is there: looking does not make one.
fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<Store, CommandError> {
    Store::open_existing(path, disk).map_err(damaged)
}

fn snapshot(path: &Path, disk: Arc<dyn Disk>) -> Result<Arc<Snapshot>, CommandError> {
    open(path, disk)?.snapshot().map_err(damaged)
}

fn damaged(error: store::Error) -> CommandError {
    let is_loss = error.is_loss();
    let told = CommandError::new(error);
    if is_loss {
        told.hint("`rfs store repair` takes over what can be read")
    } else {
        told
    }
}
