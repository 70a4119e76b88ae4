//! The end of a restore that went on by and by: what it has moved out is kept as a snapshot of the tree before.

use super::journal::{Journal, Note, Was};
use super::pending::{Pending, remove_all};
use super::restore::{is_kept, loses};
use super::tree::look_at;
use super::{Entry, Error, compare};
use crate::cache::Cache;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finished {
    /// What the tree is now.
    pub name: String,
    /// The snapshot of the tree before, where something would have been lost.
    pub before: Option<String>,
    /// Where lies what no snapshot can keep and stood in the way.
    pub aside: Option<PathBuf>,
}

/// A tree as it was, put together from what it is to be and what was moved out.
struct Before {
    entries: BTreeMap<PathBuf, Entry>,
    /// Where the contents lie of what was moved out.
    places: BTreeMap<PathBuf, PathBuf>,
    /// What was moved out and is known; the rest nobody can keep.
    whole: bool,
}

impl Pending {
    /// Settles what waits, and ends it.
    ///
    /// # Errors
    /// As [`Self::settle`]; it goes on then, and nothing is lost.
    pub fn finish(&self, cache: Option<&Cache>) -> Result<Finished, Error> {
        self.settle(self.shelf.root(), true)?;
        let mut done = Finished {
            name: self.goal.name.clone(),
            ..Finished::default()
        };
        let disk = self.disk();
        if let Some(name) = &self.goal.before {
            let goal = self.shelf.grow(&self.goal.root)?;
            let before = self.before(&goal)?;
            let differences = compare(&before.entries, &goal);
            let lost: Vec<_> = differences.iter().filter(|one| loses(one)).collect();
            if !lost.is_empty() && !is_kept(&self.shelf, &lost, &before.entries)? {
                let place = |path: &Path| {
                    let moved = before.places.get(path).cloned();
                    moved.unwrap_or_else(|| self.shelf.root().join(path))
                };
                let entries = before.entries.clone();
                self.shelf.keep_entries(name, entries, place, cache)?;
                done.before = Some(name.clone());
            }
            if !before.whole {
                let aside = self.shelf.aside()?;
                disk.rename(&self.dir().join("old"), &aside)?;
                done.aside = Some(aside);
            }
        }
        let gone = self.shelf.dir().join("pending.done");
        remove_all(disk, &gone)?;
        disk.rename(&self.dir(), &gone)?;
        // Who opens it next does it else.
        let _cleared = remove_all(disk, &gone).is_ok();
        self.world.finish();
        if let Err(error) = self.world.flush() {
            log::warn!("{error}");
        }
        Ok(done)
    }

    fn before(&self, goal: &BTreeMap<PathBuf, Entry>) -> Result<Before, Error> {
        let (_, _, notes) = Journal::open(self.disk(), &self.dir().join("journal"))?;
        let mut before = Before {
            entries: goal.clone(),
            places: BTreeMap::new(),
            whole: true,
        };
        let mut known = HashSet::new();
        let mut out = HashSet::new();
        for note in notes {
            let Note::Begun(begun) = note else {
                continue;
            };
            for (path, was) in begun.was() {
                let moved = match was {
                    Was::Out(number) => Some(self.out(number)),
                    Was::Nothing | Was::Stays(_) => None,
                };
                // Who was killed before it was moved has begun again, under another number.
                let is_missing = |moved: &PathBuf| moved.symlink_metadata().is_err();
                if moved.as_ref().is_some_and(is_missing) || !known.insert(path.clone()) {
                    continue;
                }
                match (was, moved) {
                    (Was::Stays(entry), _) => {
                        before.entries.insert(path, entry);
                    }
                    (_, Some(moved)) => {
                        before.remove(&path);
                        out.extend(moved.file_name().map(OsStr::to_owned));
                        before.add(&path, moved)?;
                    }
                    (_, None) => before.remove(&path),
                }
            }
        }
        if let Ok(entries) = self.dir().join("old").read_dir() {
            let mut names = entries.flatten().map(|entry| entry.file_name());
            before.whole &= names.all(|name| out.contains(&name));
        }
        Ok(before)
    }
}

impl Before {
    /// There was nothing at a name.
    fn remove(&mut self, path: &Path) {
        let below = self.entries.range(path.to_owned()..);
        let names = below.map(|(name, _)| name.clone());
        let gone: Vec<_> = names.take_while(|name| name.starts_with(path)).collect();
        for name in gone {
            self.entries.remove(&name);
        }
    }

    /// There was what lies at `moved` now.
    fn add(&mut self, path: &Path, moved: PathBuf) -> Result<(), Error> {
        let tree = look_at(&moved)?;
        self.whole &= tree.left_out.is_empty();
        for (name, (entry, _)) in tree.entries {
            let (path, moved) = match name.as_os_str().is_empty() {
                true => (path.to_owned(), moved.clone()),
                false => (path.join(&name), moved.join(&name)),
            };
            self.places.insert(path.clone(), moved);
            self.entries.insert(path, entry);
        }
        Ok(())
    }
}
