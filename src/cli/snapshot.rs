//! `rfs snapshot`, `rfs snapshots`, `rfs restore`, and `rfs diff` where snapshots are meant.

use super::error::CommandError;
use super::{console, place, workspace};
use crate::base::time::rfc3339;
use crate::cache::Cache;
use crate::disk::RealDisk;
use crate::report::size;
use crate::runner::STATE;
use crate::snapshot::{Change, Difference, Error, Shelf, Summary, Tree, compare, look, restore};
use crate::store::{Memo, recover};
use crate::world::World;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Keep the tree of the workspace as it is now, under a name
///
/// All files, links and directories but `.rfs` and what version control keeps by itself (`.git`). Contents that other
/// snapshots or the cache have take no room again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its name [default: the time, as 2026-01-31T12:30:00Z]
    name: Option<String>,
}

/// List the snapshots of the workspace, or remove some
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Remove this snapshot, and the contents that no other one has
    #[arg(long, value_name = "NAME")]
    rm: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Make the tree, or parts of it, what it was in a snapshot
///
/// Only what differs is touched; what is not in the snapshot is removed. If something would be lost that is in no
/// snapshot, one of the tree as it is now is made before: `before-NAME`.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// The snapshot
    name: String,
    /// Only these files and directories, with all that is in them
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// Lose what is in no snapshot
    #[arg(short, long)]
    force: bool,
}

pub(super) fn take(args: &Args) -> Result<i32, CommandError> {
    let here = Here::find()?;
    let (shelf, aside) = Shelf::lock(&here.root, Arc::new(RealDisk)).map_err(explained)?;
    tell_aside(aside.as_deref());
    let name = args.name.clone().unwrap_or_else(now);
    let world = here.world();
    let tree = look(&world).map_err(explained)?;
    let kept = shelf.keep(&name, &tree, &here.root, here.cache()?.as_ref());
    remember(&world);
    let kept = kept.map_err(explained)?;
    tell_left_out(&tree);
    console::answer(format_args!(
        "rfs: snapshot {name}: {} names",
        kept.entries.len()
    ));
    Ok(0)
}

/// A snapshot, for programs.
#[derive(Serialize)]
struct Told {
    name: String,
    taken: i64,
    files: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct List {
    schema: &'static str,
    snapshots: Vec<Told>,
}

pub(super) fn list(args: &ListArgs) -> Result<i32, CommandError> {
    let here = Here::find()?;
    if !args.rm.is_empty() {
        let (shelf, aside) = Shelf::lock(&here.root, Arc::new(RealDisk)).map_err(explained)?;
        tell_aside(aside.as_deref());
        for name in &args.rm {
            shelf.remove(name).map_err(explained)?;
        }
        return Ok(0);
    }
    let all = Shelf::of(&here.root, Arc::new(RealDisk)).list();
    let mut all = all.map_err(explained)?;
    all.sort_by_key(|one| one.taken);
    if args.json {
        let told = |one: Summary| Told {
            name: one.name,
            taken: one.taken,
            files: one.files,
            bytes: one.bytes,
        };
        let list = List {
            schema: "rfs.snapshots/1",
            snapshots: all.into_iter().map(told).collect(),
        };
        console::answer(serde_json::to_string_pretty(&list).expect("BUG: plain values make JSON"));
        return Ok(0);
    }
    if all.is_empty() {
        console::answer("rfs: there are no snapshots here");
    }
    for one in &all {
        let (time, bytes) = (rfc3339(one.taken), size::text(one.bytes));
        console::answer(format_args!(
            "{time}  {:>8} files  {bytes:>10}  {}",
            one.files, one.name
        ));
    }
    Ok(0)
}

pub(super) fn give_back(args: &RestoreArgs) -> Result<i32, CommandError> {
    let here = Here::find()?;
    let (shelf, aside) = Shelf::lock(&here.root, Arc::new(RealDisk)).map_err(explained)?;
    tell_aside(aside.as_deref());
    let paths = args.paths.iter().map(|path| here.inside(path));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    let world = here.world();
    let cache = here.cache()?;
    let done = restore(
        &shelf,
        &world,
        cache.as_ref(),
        &args.name,
        &paths,
        args.force,
    );
    world.finish();
    remember(&world);
    let done = done.map_err(explained)?;
    for (path, why) in &done.left {
        let path = path.display();
        console::warn(format_args!("{path} is left as it is: {why}"), None);
    }
    for (path, aside) in &done.aside {
        let (path, aside) = (path.display(), aside.display());
        console::warn(
            format_args!("{path} was written meanwhile: that is in {aside} now"),
            None,
        );
    }
    let before = match &done.before {
        Some(before) => format!("; what was there is snapshot {before}"),
        None => String::new(),
    };
    console::answer(format_args!("rfs: {} names restored{before}", done.touched));
    Ok(0)
}

#[derive(Serialize)]
struct Diff {
    schema: &'static str,
    differences: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    path: String,
    change: &'static str,
}

/// What is different in `new`, or in the tree, from `old`.
pub(super) fn diff(old: &str, new: Option<&str>, json: bool) -> Result<i32, CommandError> {
    let here = Here::find()?;
    let shelf = Shelf::of(&here.root, Arc::new(RealDisk));
    let load = |name: &str| shelf.load(name).map_err(explained);
    let old = load(old)?.entries;
    let new = match new {
        Some(new) => load(new)?.entries,
        None => {
            let world = here.world();
            let tree = look(&world).map_err(explained)?;
            remember(&world);
            let entries = tree.entries.into_iter();
            entries
                .map(|(path, (entry, _))| (path, entry))
                .collect::<BTreeMap<_, _>>()
        }
    };
    let mut differences = compare(&old, &new);
    // Which every look at the clock would make.
    differences.retain(|one| one.change != Change::Time);
    let lines = differences.iter().map(line).collect::<Vec<_>>();
    if json {
        let diff = Diff {
            schema: "rfs.snapshot-diff/1",
            differences: lines,
        };
        console::answer(serde_json::to_string_pretty(&diff).expect("BUG: plain values make JSON"));
    } else {
        for line in lines {
            console::answer(format_args!("{:<8} {}", line.change, line.path));
        }
    }
    Ok(0)
}

fn line(one: &Difference) -> Line {
    let slash = if one.is_dir { "/" } else { "" };
    Line {
        path: format!("{}{slash}", one.path.display()),
        change: match one.change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Content => "changed",
            Change::Mode => "mode",
            Change::Time => "time",
        },
    }
}

/// The workspace of the working directory.
struct Here {
    root: PathBuf,
    cwd: PathBuf,
}

impl Here {
    fn find() -> Result<Self, CommandError> {
        let cwd = place::cwd()?;
        let root = workspace::of(&cwd)?;
        workspace::prepare(&root, &RealDisk).map_err(|error| {
            CommandError::new(format_args!("cannot keep state in the workspace: {error}"))
        })?;
        Ok(Self { root, cwd })
    }

    fn world(&self) -> World {
        let disk: Arc<dyn crate::disk::Disk> = Arc::new(RealDisk);
        let (state, told) = recover::open(&self.root.join(STATE), &disk);
        if let Some(error) = told {
            console::warn(error, None);
        }
        let own = Memo::on(state, disk.clone());
        World::new(self.root.clone(), Memo::volatile(), own, disk)
    }

    /// The cache, where there is one: what it has need not be copied.
    fn cache(&self) -> Result<Option<Cache>, CommandError> {
        let config = place::config(&self.root)?;
        let dir = place::cache(None, config.cache_dir.as_deref(), &self.cwd)?;
        let there = dir.join("VERSION").exists();
        Ok(there
            .then(|| Cache::open(&dir, Arc::new(RealDisk)).ok())
            .flatten())
    }

    /// A path of the workspace that a user names; it need not exist.
    fn inside(&self, path: &Path) -> Result<PathBuf, CommandError> {
        let mut plain = PathBuf::new();
        for component in self.cwd.join(path).components() {
            match component {
                Component::ParentDir => {
                    plain.pop();
                }
                Component::CurDir => {}
                Component::RootDir | Component::Normal(_) | Component::Prefix(_) => {
                    plain.push(component);
                }
            }
        }
        let inside = plain.strip_prefix(&self.root).map(Path::to_owned);
        inside.map_err(|_outside| {
            let (path, root) = (path.display(), self.root.display());
            CommandError::new(format_args!("{path} is outside of the workspace {root}"))
                .hint("name files and directories of the workspace")
        })
    }
}

/// Digests that were computed are known next time.
fn remember(world: &World) {
    if let Err(error) = world.flush() {
        log::warn!("{error}");
    }
}

fn tell_aside(aside: Option<&Path>) {
    if let Some(aside) = aside {
        console::warn(
            format_args!(
                "what a restore that was killed has left is in {}",
                aside.display()
            ),
            Some("do the restore again; then remove that directory"),
        );
    }
}

fn tell_left_out(tree: &Tree) {
    let own = |why: &str| why.starts_with("version control");
    for (path, why) in tree.left_out.iter().filter(|(_, why)| !own(why)) {
        console::warn(format_args!("{} is left out: {why}", path.display()), None);
    }
}

fn explained(error: Error) -> CommandError {
    let hint = match &error {
        Error::Unknown(_) => "`rfs snapshots` lists them",
        Error::Exists(_) => "choose another name, or remove that one with `rfs snapshots --rm`",
        Error::Name(..) => "choose another name",
        Error::Restless(_) => "do it again when nothing is written there",
        Error::Obstacle { .. } => "move it away, or restore other paths only",
        Error::Nowhere(_) => "a path is relative to this directory",
        Error::Damaged { .. } => "remove that snapshot with `rfs snapshots --rm`",
        Error::Disk(_) => "make room, or see whether it is yours",
    };
    CommandError::new(&error).hint(hint)
}

fn now() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    rfc3339(i64::try_from(now.as_secs()).unwrap_or(0))
}
