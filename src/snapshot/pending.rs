//! A restore that goes on by and by: the tree is what it is to be where somebody has looked, and elsewhere what it was.
//!
//! A directory is *settled* before anybody looks into it: what is in it is made what the snapshot says, one level
//! deep. What is replaced is moved out of the tree, and in the end kept in a snapshot as by a restore at once. Lies
//! in `pending` beside the snapshots: `journal`, `new` for what is to be put, `old` for what was moved out.
//!
//! Who settles must be the only one who works in the workspace by other ways than through this.

use super::journal::{Goal, Journal, Note, path};
use super::{Error, Shelf};
use crate::base::Digest;
use crate::disk::{At, Disk};
use crate::world::World;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// It, as long as this process works on it. Nobody else changes snapshots meanwhile.
#[derive(Debug)]
pub struct Pending {
    pub(super) shelf: Shelf,
    pub(super) world: World,
    pub(super) goal: Goal,
    state: Mutex<State>,
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What the tree is to be.
    pub name: String,
    /// Under which name is kept what was there before, if anything of it would be lost.
    pub before: Option<String>,
    /// Directories that are what they are to be.
    pub settled: usize,
    /// Directories that are known not to be. There may be others below them.
    pub waiting: usize,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) journal: Journal,
    /// Directories that wait, none below another, with what they are to be.
    pub(super) waiting: BTreeMap<PathBuf, Digest>,
    /// Permission bits and time of directories that were begun.
    pub(super) begun: HashMap<PathBuf, (u32, i64)>,
    /// The next number for what is moved out.
    pub(super) next: u64,
    pub(super) settled: usize,
}

impl Pending {
    /// Begins to make the tree what it was in a snapshot; survives a loss of power. With `force` what is there now
    /// and in no snapshot is lost.
    ///
    /// # Errors
    /// There is no such snapshot, or one goes on already, or a system call fails. Nothing has begun then.
    pub fn begin(shelf: Shelf, world: World, name: &str, force: bool) -> Result<Self, Error> {
        let root = shelf.root_of(name)?;
        let _there = shelf.branch(&root)?;
        let goal = Goal {
            root,
            name: name.to_owned(),
            before: (!force).then(|| shelf.free_name(name)),
        };
        let (dir, new) = (place(&shelf), shelf.dir().join("pending.new"));
        remove_all(&**shelf.disk(), &new)?;
        let disk = &**shelf.disk();
        disk.mkdir(&new, 0o700)?;
        disk.mkdir(&new.join("old"), 0o700)?;
        Journal::create(disk, &new.join("journal"), goal)?;
        disk.rename(&new, &dir)?;
        let parent = File::open(shelf.dir()).at("open", shelf.dir())?;
        disk.sync(&parent, shelf.dir())?;
        let begun = Self::open(shelf, world)?;
        begun.map_err(|_shelf| Error::Unknown(name.to_owned()))
    }

    /// Whether there is one in the workspace at `root`.
    #[must_use]
    pub fn is_there(root: &Path) -> bool {
        let shelf = super::shelf::place(root);
        ["pending", "pending.done"]
            .iter()
            .any(|name| shelf.join(name).is_dir())
    }

    /// Goes on with the one that was begun, if there is one; else the shelf is given back.
    ///
    /// # Errors
    /// What was written of it is damaged, or a system call fails.
    pub fn open(shelf: Shelf, world: World) -> Result<Result<Self, Shelf>, Error> {
        let disk = &**shelf.disk();
        remove_all(disk, &shelf.dir().join("pending.done"))?;
        let dir = place(&shelf);
        if !dir.is_dir() {
            return Ok(Err(shelf));
        }
        remove_all(disk, &dir.join("new"))?;
        let (journal, goal, notes) = Journal::open(disk, &dir.join("journal"))?;
        let mut state = State {
            journal,
            waiting: BTreeMap::from([(PathBuf::new(), goal.root)]),
            begun: HashMap::new(),
            next: 0,
            settled: 0,
        };
        for note in notes {
            match note {
                Note::Goal(_) => {}
                Note::Begun(begun) => {
                    let was = (begun.mode, begun.mtime);
                    state.begun.entry(begun.dir()).or_insert(was);
                }
                Note::Settled(dir) => state.settled(&shelf, &path(&dir))?,
            }
        }
        let old = dir.join("old");
        for entry in fs::read_dir(&old).at("getdents", &old)? {
            let name = entry.at("getdents", &old)?.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
            state.next = state.next.max(number.map_or(0, |number| number + 1));
        }
        Ok(Ok(Self {
            shelf,
            world,
            goal,
            state: Mutex::new(state),
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &**self.shelf.disk()
    }

    pub(super) fn dir(&self) -> PathBuf {
        place(&self.shelf)
    }

    /// Where lies what was moved out under this number.
    pub(super) fn out(&self, number: u64) -> PathBuf {
        self.dir().join("old").join(number.to_string())
    }

    /// Whether no build works in the workspace beside this one.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.world.is_alone()
    }

    /// Whether any directory waits.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let state = self.state();
        Progress {
            name: self.goal.name.clone(),
            before: self.goal.before.clone(),
            settled: state.settled,
            waiting: state.waiting.len(),
        }
    }

    /// Gives it up: what it has moved out is set aside, what waits stays as it is. Returns where that lies.
    ///
    /// # Errors
    /// A system call fails.
    pub fn give_up(&self) -> Result<PathBuf, Error> {
        // Nobody settles what lies elsewhere now.
        let mut state = self.state();
        let aside = set_aside(&self.shelf)?;
        state.waiting.clear();
        Ok(aside)
    }
}

/// Sets aside one that cannot go on. Returns where it lies.
///
/// # Errors
/// A system call fails.
pub fn set_aside(shelf: &Shelf) -> Result<PathBuf, Error> {
    let aside = shelf.aside()?;
    shelf.disk().rename(&place(shelf), &aside)?;
    Ok(aside)
}

impl State {
    /// A directory is settled: those in it wait.
    pub(super) fn settled(&mut self, shelf: &Shelf, dir: &Path) -> Result<(), Error> {
        if let Some(digest) = self.waiting.get(dir).copied() {
            let branch = shelf.branch(&digest)?;
            self.waiting.remove(dir);
            let below = branch.into_iter();
            let below = below.filter_map(|(name, leaf)| Some((dir.join(name), leaf.tree?)));
            self.waiting.extend(below);
            self.settled += 1;
        }
        self.begun.remove(dir);
        Ok(())
    }
}

pub(super) fn place(shelf: &Shelf) -> PathBuf {
    shelf.dir().join("pending")
}

/// What the tree of a workspace is to be by and by.
pub(super) fn goal(shelf: &Shelf) -> Result<Option<Digest>, Error> {
    let dir = place(shelf);
    match dir.is_dir() {
        true => {
            let (_, goal, _) = Journal::open(&**shelf.disk(), &dir.join("journal"))?;
            Ok(Some(goal.root))
        }
        false => Ok(None),
    }
}

/// Removes a directory of ours with all that is in it.
pub(super) fn remove_all(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.at("getdents", dir)?,
    };
    for entry in entries {
        let entry = entry.at("getdents", dir)?;
        let path = entry.path();
        if entry.file_type().at("lstat", &path)?.is_dir() {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &entry.metadata().at("lstat", &path)?.permissions(),
            );
            if mode & 0o700 != 0o700 {
                disk.chmod(&path, 0o700)?;
            }
            remove_all(disk, &path)?;
        } else {
            disk.unlink(&path)?;
        }
    }
    Ok(disk.rmdir(dir)?)
}

#[cfg(test)]
mod tests;
