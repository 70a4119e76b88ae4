//! Makes a tree what it was. Nothing is lost that is in no snapshot: what would be is kept in one before.
//!
//! All that is to be put is staged first, so that a full disk or a damaged content is found before the tree is
//! touched. Who is killed in between leaves a tree of which some names are as they were and some as they are to be;
//! doing it again completes it.

use super::{Change, Difference, Entry, Error, Shelf, Snapshot, Tree, What, compare, look};
use crate::base::{Identity, Kind, Seen};
use crate::cache::Cache;
use crate::disk::Disk;
use crate::world::{World, see};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Names that were made, changed or removed.
    pub touched: usize,
    /// The snapshot that was made of the tree before, where something would have been lost.
    pub before: Option<String>,
    /// What was left as it is, and why.
    pub left: Vec<(PathBuf, String)>,
    /// What somebody else wrote meanwhile: the name, and where it lies now.
    pub aside: Vec<(PathBuf, PathBuf)>,
}

/// Makes the tree, or `paths` of it with all that is in them, what it was in the snapshot `name`. With `force` what
/// is there now and in no snapshot is lost.
///
/// # Errors
/// The tree is as it was where something stands in the way, or cannot be kept or staged; a system call that fails
/// later leaves it in between.
pub fn restore(
    shelf: &Shelf,
    world: &World,
    cache: Option<&Cache>,
    name: &str,
    paths: &[PathBuf],
    force: bool,
) -> Result<Restored, Error> {
    let snapshot = shelf.load(name)?;
    let tree = look(world)?;
    let is_wanted =
        |path: &Path| paths.is_empty() || paths.iter().any(|wanted| path.starts_with(wanted));
    for path in paths {
        let is_there = path.as_os_str().is_empty()
            || snapshot.entries.contains_key(path)
            || tree.entries.contains_key(path);
        if !is_there {
            return Err(Error::Nowhere(path.clone()));
        }
    }
    let now = entries(&tree);
    let mut differences = compare(&now, &snapshot.entries);
    differences.retain(|one| is_wanted(&one.path) || leads_to(one, &snapshot, paths));
    let mut done = Restored::default();
    leave_what_cannot_be_kept(&mut differences, &tree, &snapshot, &mut done)?;
    let lost: Vec<_> = differences.iter().filter(|one| loses(one)).collect();
    if !force && !lost.is_empty() && !is_kept(shelf, &lost, &now)? {
        let before = free_name(shelf, name);
        shelf.keep(&before, &tree, world.root(), cache)?;
        done.before = Some(before);
    }
    if differences.is_empty() {
        return Ok(done);
    }
    let work = Work {
        shelf,
        disk: &**shelf.disk(),
        world,
        root: world.root(),
        stage: shelf.stage(),
        now: &tree,
        then: &snapshot,
    };
    work.disk.mkdir(&work.stage, 0o700)?;
    let staged = work.stage(&differences);
    if let Err(error) = staged {
        work.clear();
        return Err(error);
    }
    work.commit(&differences, &mut done)?;
    work.clear();
    done.touched = differences.len();
    Ok(done)
}

fn entries(tree: &Tree) -> BTreeMap<PathBuf, Entry> {
    let plain = |(path, (entry, _)): (&PathBuf, &(Entry, _))| (path.clone(), entry.clone());
    tree.entries.iter().map(plain).collect()
}

/// Whether it is a directory that is missing around what is wanted.
fn leads_to(one: &Difference, snapshot: &Snapshot, paths: &[PathBuf]) -> bool {
    let around =
        |path: &PathBuf| path.starts_with(&one.path) && snapshot.entries.contains_key(path);
    one.change == Change::Added && one.is_dir && paths.iter().any(around)
}

/// Whether putting it right destroys something. The time of a directory is nobody's work.
fn loses(one: &Difference) -> bool {
    match one.change {
        Change::Added => false,
        Change::Time => !one.is_dir,
        Change::Removed | Change::Content | Change::Mode => true,
    }
}

/// Whether one snapshot has all of them as they are.
fn is_kept(
    shelf: &Shelf,
    lost: &[&Difference],
    now: &BTreeMap<PathBuf, Entry>,
) -> Result<bool, Error> {
    for name in shelf.names()? {
        // One that is damaged keeps nothing.
        let Ok(snapshot) = shelf.load(&name) else {
            continue;
        };
        let same = |one: &&&Difference| now.get(&one.path) == snapshot.entries.get(&one.path);
        if lost.iter().filter(same).count() == lost.len() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn free_name(shelf: &Shelf, name: &str) -> String {
    let base = format!("before-{name}");
    let mut names = std::iter::once(base.clone()).chain((2_u32..).map(|n| format!("{base}.{n}")));
    names.find(|name| !shelf.has(name)).unwrap_or(base)
}

/// What no snapshot can hold stays. Where something is to be put in its place, nothing is done at all.
fn leave_what_cannot_be_kept(
    differences: &mut Vec<Difference>,
    tree: &Tree,
    snapshot: &Snapshot,
    done: &mut Restored,
) -> Result<(), Error> {
    for (path, why) in &tree.left_out {
        let is_dir = |one: &Difference| {
            let then = snapshot.entries.get(&one.path);
            then.is_some_and(|entry| entry.what == What::Dir)
        };
        let in_the_way = differences.iter().any(|one| {
            let is_put = one.change != Change::Removed && path.starts_with(&one.path);
            is_put && (one.path == *path || !is_dir(one))
        });
        if in_the_way {
            return Err(Error::Obstacle {
                path: path.clone(),
                why: why.clone(),
            });
        }
        let before = differences.len();
        differences.retain(|one| one.change != Change::Removed || !path.starts_with(&one.path));
        if differences.len() != before {
            done.left.push((path.clone(), why.clone()));
        }
    }
    Ok(())
}

struct Work<'a> {
    shelf: &'a Shelf,
    disk: &'a dyn Disk,
    world: &'a World,
    root: &'a Path,
    stage: PathBuf,
    now: &'a Tree,
    then: &'a Snapshot,
}

impl Work<'_> {
    fn staged(&self, n: usize) -> PathBuf {
        self.stage.join(format!("new-{n}"))
    }

    fn old(&self, n: usize) -> PathBuf {
        self.stage.join(format!("old-{n}"))
    }

    fn was(&self, path: &Path) -> Option<&Seen> {
        self.now.entries.get(path).map(|(_, seen)| &**seen)
    }

    fn was_dir(&self, path: &Path) -> bool {
        self.was(path).is_some_and(|seen| seen.kind == Kind::Dir)
    }

    /// Makes all files and links that are to be put.
    fn stage(&self, differences: &[Difference]) -> Result<(), Error> {
        for (n, one) in differences.iter().enumerate() {
            let Some(entry) = self.then.entries.get(&one.path) else {
                continue;
            };
            if matches!(one.change, Change::Mode | Change::Time) {
                continue;
            }
            let new = self.staged(n);
            match &entry.what {
                What::Dir => continue,
                What::Link(text) => self
                    .disk
                    .symlink(Path::new(OsStr::from_bytes(text)), &new)?,
                What::File { digest, .. } => {
                    let file = self.disk.create(&new, 0o600)?;
                    self.shelf.fetch(digest, &file, &new)?;
                }
            }
            self.dress(&new, entry)?;
        }
        Ok(())
    }

    /// Gives it owner, permissions and time.
    fn dress(&self, path: &Path, entry: &Entry) -> Result<(), Error> {
        if nix::unistd::geteuid().is_root() {
            self.disk.chown(path, entry.owner[0], entry.owner[1])?;
        }
        if !matches!(entry.what, What::Link(_)) {
            self.disk.chmod(path, entry.mode)?;
        }
        Ok(self.disk.set_mtime(path, entry.mtime)?)
    }

    fn commit(&self, differences: &[Difference], done: &mut Restored) -> Result<(), Error> {
        let is_dir_then = |one: &Difference| {
            let then = self.then.entries.get(&one.path);
            then.is_some_and(|entry| entry.what == What::Dir)
        };
        // What is in a directory comes after it: from behind, directories are empty when their turn comes.
        for (n, one) in differences.iter().enumerate().rev() {
            let goes = match one.change {
                Change::Removed => true,
                Change::Content => self.was_dir(&one.path) || is_dir_then(one),
                Change::Added | Change::Mode | Change::Time => false,
            };
            if goes {
                self.remove(n, &one.path, done)?;
            }
        }
        for (n, one) in differences.iter().enumerate() {
            let Some(entry) = self.then.entries.get(&one.path) else {
                continue;
            };
            let path = self.root.join(&one.path);
            self.world.changed(&path);
            match (&entry.what, one.change) {
                (What::Dir, Change::Added | Change::Content) => {
                    match self.disk.mkdir(&path, 0o700) {
                        Err(error) if error.source.kind() != ErrorKind::AlreadyExists => {
                            return Err(error.into());
                        }
                        Ok(()) | Err(_) => {}
                    }
                }
                (What::Dir, _) => {}
                (_, Change::Mode | Change::Time) => self.dress(&path, entry)?,
                (What::Link(_) | What::File { .. }, _) => self.put(n, one, done)?,
            }
        }
        self.dress_directories(differences)
    }

    /// Directories of the snapshot that were made or changed, and those around what was: the inner ones first.
    fn dress_directories(&self, differences: &[Difference]) -> Result<(), Error> {
        let mut dirs: BTreeMap<&Path, &Entry> = BTreeMap::new();
        for one in differences {
            for around in one.path.ancestors() {
                if let Some(entry) = self.then.entries.get(around) {
                    if entry.what == What::Dir {
                        dirs.insert(around, entry);
                    }
                }
            }
        }
        for (dir, entry) in dirs.into_iter().rev() {
            self.dress(&self.root.join(dir), entry)?;
        }
        Ok(())
    }

    fn remove(&self, n: usize, path: &Path, done: &mut Restored) -> Result<(), Error> {
        let at = self.root.join(path);
        self.world.changed(&at);
        if self.was_dir(path) {
            return match self.disk.rmdir(&at) {
                Err(error) if error.source.kind() == ErrorKind::DirectoryNotEmpty => {
                    let why = "something was put into it meanwhile";
                    done.left.push((path.to_owned(), why.to_owned()));
                    Ok(())
                }
                removed => Ok(removed?),
            };
        }
        let old = self.old(n);
        match self.disk.rename(&at, &old) {
            Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        self.inspect(path, &old, done)
    }

    /// Puts what is staged in its place.
    fn put(&self, n: usize, one: &Difference, done: &mut Restored) -> Result<(), Error> {
        let (new, at) = (self.staged(n), self.root.join(&one.path));
        match self.disk.link(&new, &at) {
            Ok(()) => return Ok(self.disk.unlink(&new)?),
            Err(error) if error.source.kind() == ErrorKind::AlreadyExists => {}
            // A filesystem without hard links.
            Err(_) if at.symlink_metadata().is_err() => return Ok(self.disk.rename(&new, &at)?),
            Err(error) => return Err(error.into()),
        }
        if self.disk.exchange(&new, &at)? {
            return self.inspect(&one.path, &new, done);
        }
        let old = self.old(n);
        self.disk.rename(&at, &old)?;
        self.disk.rename(&new, &at)?;
        self.inspect(&one.path, &old, done)
    }

    /// Whether what came out of the tree is what was seen there, and so is kept or not wanted; else it is set aside.
    fn inspect(&self, path: &Path, out: &Path, done: &mut Restored) -> Result<(), Error> {
        let found = see(out);
        let is_it = self.was(path).is_some_and(|seen| {
            let timeless = |id: Identity| Identity { ctime: 0, ..id };
            seen.kind == found.kind && timeless(seen.id) == timeless(found.id)
        });
        if !is_it {
            let aside = self.shelf.aside()?;
            self.disk.rename(out, &aside)?;
            done.aside.push((path.to_owned(), aside));
        }
        Ok(())
    }

    /// What lies in the stage is kept elsewhere, or is not wanted. What cannot be removed is set aside next time.
    fn clear(&self) {
        if let Ok(entries) = self.stage.read_dir() {
            for entry in entries.flatten() {
                drop(self.disk.unlink(&entry.path()));
            }
        }
        drop(self.disk.rmdir(&self.stage));
    }
}
