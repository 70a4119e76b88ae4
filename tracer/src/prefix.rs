//! Directories already walked to, so that most paths cost one look at their last name.
//!
//! An entry says where `base`/`dirname` leads and holds until something that was looked at on the way is
//! made, removed or replaced. A mutation is told before it is carried out; until its thread makes another
//! call nobody knows whether it has been, and nothing that looked at its name is kept. Traffic of regular
//! files touches no entry.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{End, Look, Walk};
use crate::table::Last;
use crate::walk::{Asker, Outcome, walk, walk_on};

/// A few MiB; then everything is walked to again.
const MAX_ENTRIES: usize = 1 << 16;

/// Looks at a name.
type Looking<'a> = &'a dyn Fn(&Path) -> Look;

/// The directories walked to.
#[derive(Debug, Default)]
pub(crate) struct Prefixes(Mutex<State>, AtomicU64);

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Box<[u8]>, Arc<Entry>>,
    /// Every path that an entry depends on.
    looked: HashSet<PathBuf>,
    /// Names that a thread is changing right now.
    unsettled: HashMap<i32, Vec<Change>>,
    /// Counts changes.
    epoch: u64,
    /// Counts moves of directories.
    moves: u64,
    key: Vec<u8>,
}

#[derive(Debug)]
enum Entry {
    /// A directory and the links on the way to it.
    Dir(PathBuf, Vec<PathBuf>),
    /// Whatever name follows, the walk ends so.
    Stop(Walk),
}

/// A name that a call is about to make, remove or replace.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    /// It is a directory that gets another name, with everything below it.
    pub(crate) moves_dir: bool,
}

impl Prefixes {
    /// Resolves a path as [`walk`] does.
    pub(crate) fn walk(
        &self,
        look: Looking<'_>,
        asker: &dyn Asker,
        base: &Path,
        text: &[u8],
        last: Last,
    ) -> Outcome {
        let Some((dirname, name)) = split(text) else {
            return walk(&mut |p| look(p), asker, base, text, last);
        };
        if dirname.is_empty() {
            return walk_on(&mut |p| look(p), asker, base, Vec::new(), name, last);
        }
        let (known, epoch) = self.get(base, dirname);
        let entry = match known {
            Some(entry) => entry,
            None => match self.enter(look, asker, base, dirname, epoch) {
                Some(entry) => entry,
                None => return walk(&mut |p| look(p), asker, base, text, last),
            },
        };
        match &*entry {
            Entry::Dir(dir, links) => {
                walk_on(&mut |p| look(p), asker, dir, links.clone(), name, last)
            }
            Entry::Stop(walk) => Outcome {
                walk: walk.clone(),
                own_fd: None,
                foreign: false,
            },
        }
    }

    /// A call of this thread is about to change names.
    pub(crate) fn change(&self, tid: i32, changes: Vec<Change>) {
        let mut state = self.lock();
        state.epoch += 1;
        let moves_dir = changes.iter().any(|c| c.moves_dir);
        state.moves += u64::from(moves_dir);
        if moves_dir || changes.iter().any(|c| state.looked.contains(&c.path)) {
            state.clear();
        }
        state.unsettled.insert(tid, changes);
    }

    /// The last call of this thread is over.
    pub(crate) fn settle(&self, tid: i32) {
        let mut state = self.lock();
        if !state.unsettled.is_empty() && state.unsettled.remove(&tid).is_some() {
            state.epoch += 1;
        }
    }

    /// What is known of others' changes now; all is forgotten when that is not what it was.
    pub(crate) fn hear(&self, news: u64) {
        if self.1.swap(news, Ordering::AcqRel) != news {
            self.forget();
        }
    }

    /// Somebody else changed directories or links.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.epoch += 1;
        state.moves += 1;
        state.clear();
    }

    /// A number that stays the same as long as directories keep their names; none while that is open.
    pub(crate) fn moves(&self) -> Option<u64> {
        let state = self.lock();
        (!state.dir_is_moving()).then_some(state.moves)
    }

    fn get(&self, base: &Path, dirname: &[u8]) -> (Option<Arc<Entry>>, u64) {
        let mut state = self.lock();
        let state = &mut *state;
        state.key.clear();
        if dirname[0] != b'/' {
            state.key.extend_from_slice(base.as_os_str().as_bytes());
            state.key.push(0);
        }
        state.key.extend_from_slice(dirname);
        (
            state.entries.get(state.key.as_slice()).cloned(),
            state.epoch,
        )
    }

    /// Walks to a directory and keeps the result; none if it depends on who asks.
    fn enter(
        &self,
        look: Looking<'_>,
        asker: &dyn Asker,
        base: &Path,
        dirname: &[u8],
        epoch: u64,
    ) -> Option<Arc<Entry>> {
        let mut looked = Vec::new();
        let mut noted = |path: &Path| -> Look {
            looked.push(path.to_path_buf());
            look(path)
        };
        let Outcome {
            mut walk,
            own_fd,
            foreign,
        } = walk(&mut noted, asker, base, dirname, Last::Follow);
        if own_fd.is_some() || foreign || walk.path.starts_with("/proc") {
            return None;
        }
        let entry = match walk.end {
            End::Found(_) => Entry::Dir(walk.path, walk.links),
            End::Absent | End::MissingDir => {
                walk.end = End::MissingDir;
                Entry::Stop(walk)
            }
            End::NotDir => Entry::Stop(walk),
            End::Failed(_) | End::Own => return None,
        };
        let entry = Arc::new(entry);
        let mut state = self.lock();
        let unsettled = |path: &Path| state.unsettled.values().flatten().any(|c| c.path == path);
        if state.epoch == epoch
            && !state.dir_is_moving()
            && (state.unsettled.is_empty() || !looked.iter().any(|p| unsettled(p)))
        {
            let key = [base.as_os_str().as_bytes(), b"\0", dirname];
            let from = if dirname[0] == b'/' { 2 } else { 0 };
            if state.entries.len() >= MAX_ENTRIES {
                state.clear();
            }
            state
                .entries
                .insert(key[from..].concat().into(), Arc::clone(&entry));
            state.looked.extend(looked);
        }
        Some(entry)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn clear(&mut self) {
        self.entries.clear();
        self.looked.clear();
    }

    fn dir_is_moving(&self) -> bool {
        self.unsettled.values().flatten().any(|c| c.moves_dir)
    }
}

/// Cuts a path before its last name; none where that is not a name.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = text.iter().rposition(|b| *b != b'/')? + 1;
    let start = text[..len]
        .iter()
        .rposition(|b| *b == b'/')
        .map_or(0, |slash| slash + 1);
    let name = &text[start..len];
    if matches!(name, b"." | b"..") || text.len() >= 4096 {
        return None;
    }
    Some((&text[..start], &text[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    struct Nobody;

    impl Asker for Nobody {
        fn is_own(&self, _: &[u8]) -> bool {
            false
        }
        fn own_link(&self, _: &[u8]) -> Option<PathBuf> {
            None
        }
    }

    /// A tree in memory that counts how often it is looked at.
    struct Tree {
        names: RefCell<BTreeMap<&'static str, Look>>,
        looks: Cell<usize>,
        prefixes: Prefixes,
    }

    impl Tree {
        fn new(names: &[(&'static str, Look)]) -> Self {
            Self {
                names: RefCell::new(names.iter().cloned().collect()),
                looks: Cell::new(0),
                prefixes: Prefixes::default(),
            }
        }

        fn walk(&self, base: &str, text: &str) -> (String, End, usize) {
            self.looks.set(0);
            let look = |path: &Path| {
                self.looks.set(self.looks.get() + 1);
                let names = self.names.borrow();
                names
                    .get(path.to_str().unwrap())
                    .cloned()
                    .unwrap_or(Look::Absent)
            };
            let base = Path::new(base);
            let out = self
                .prefixes
                .walk(&look, &Nobody, base, text.as_bytes(), Last::Follow);
            (
                out.walk.path.display().to_string(),
                out.walk.end,
                self.looks.get(),
            )
        }

        /// The call that does it has been told and is over.
        fn set(&self, name: &'static str, is: Option<Look>) {
            self.change(name, false);
            self.put(name, is);
            self.prefixes.settle(1);
        }

        fn change(&self, name: &str, moves_dir: bool) {
            self.prefixes.change(
                1,
                vec![Change {
                    path: name.into(),
                    moves_dir,
                }],
            );
        }

        fn put(&self, name: &'static str, is: Option<Look>) {
            match is {
                Some(is) => drop(self.names.borrow_mut().insert(name, is)),
                None => drop(self.names.borrow_mut().remove(name)),
            }
        }
    }

    fn tree() -> Tree {
        Tree::new(&[
            ("/a", Look::Dir),
            ("/a/b", Look::Dir),
            ("/a/b/f", Look::File),
            ("/c", Look::Dir),
            ("/l", Look::Link("a/b".into())),
        ])
    }

    fn found(path: &str, looks: usize) -> (String, End, usize) {
        (path.to_owned(), End::Found(Look::File), looks)
    }

    fn missing(path: &str, looks: usize) -> (String, End, usize) {
        (path.to_owned(), End::MissingDir, looks)
    }

    #[test]
    fn what_others_have_changed_is_walked_to_again() {
        let tree = tree();
        tree.prefixes.hear(1);
        assert_eq!(tree.walk("/", "/l/f").0, "/a/b/f");
        tree.put("/c/f", Some(Look::File));
        tree.put("/l", Some(Look::Link("c".into())));
        tree.prefixes.hear(1);
        assert_eq!(tree.walk("/", "/l/f").0, "/a/b/f", "nothing was heard");
        tree.prefixes.hear(2);
        assert_eq!(tree.walk("/", "/l/f").0, "/c/f");
    }

    #[test]
    fn a_known_directory_costs_one_look() {
        let tree = tree();
        assert_eq!(tree.walk("/", "/l/f"), found("/a/b/f", 4));
        assert_eq!(tree.walk("/c", "/l/f"), found("/a/b/f", 1));
        assert_eq!(tree.walk("/a", "b/f"), found("/a/b/f", 2));
        assert_eq!(tree.walk("/a", "b/f"), found("/a/b/f", 1));
        assert_eq!(tree.walk("/", "/none/x/y"), missing("/none", 1));
        assert_eq!(tree.walk("/", "/none/x/y"), missing("/none", 0));
    }

    #[test]
    fn files_that_come_and_go_drop_nothing() {
        let tree = tree();
        tree.walk("/", "/l/f");
        tree.set("/a/b/g", Some(Look::File));
        tree.set("/a/b/f", None);
        assert_eq!(tree.walk("/", "/l/g"), found("/a/b/g", 1));
    }

    #[test]
    fn what_a_walk_crossed_drops_it_when_changed() {
        let tree = tree();
        tree.walk("/", "/l/f");
        tree.walk("/", "/none/x/y");
        tree.set("/l", Some(Look::Link("c".into())));
        assert_eq!(tree.walk("/", "/l/f"), ("/c/f".to_owned(), End::Absent, 3));
        tree.set("/none", Some(Look::Dir));
        assert_eq!(tree.walk("/", "/none/x/y"), missing("/none/x", 2));
    }

    #[test]
    fn nothing_is_kept_of_a_name_that_is_just_changing() {
        let tree = tree();
        tree.change("/l", false);
        assert_eq!(tree.walk("/", "/l/f"), found("/a/b/f", 4));
        tree.put("/l", Some(Look::Link("c".into())));
        assert_eq!(tree.walk("/", "/l/f").0, "/c/f");
        tree.prefixes.settle(1);
        assert_eq!(tree.walk("/", "/l/f").2, 3);
        assert_eq!(tree.walk("/", "/l/f").2, 1);
    }

    #[test]
    fn a_directory_that_moves_takes_all_with_it() {
        let tree = tree();
        tree.walk("/a", "b/f");
        let moves = tree.prefixes.moves();
        tree.change("/a", true);
        assert_eq!(tree.prefixes.moves(), None);
        tree.put("/a/b", None);
        tree.prefixes.settle(1);
        assert_ne!(tree.prefixes.moves(), moves);
        assert_eq!(tree.walk("/a", "b/f"), missing("/a/b", 1));
    }
}
