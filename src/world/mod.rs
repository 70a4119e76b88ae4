//! What is true of a path now. One memory for the whole build.
//!
//! Looks go to the real files (the host does not see its own mount). Paths of the workspace are looked at
//! each time they come up, so that edits from outside are noticed; others once while the command runs, and
//! again when the kernel has told of a change.
//! This room decides nothing about steps.

mod attributes;
mod clock;
pub mod listing;
mod look;
mod memory;
mod others;
mod outside;
mod texts;

use look::is_told_by_name;
pub use look::{hash, open, same, see};
use memory::{Inner, Told};
use outside::Outside;

use crate::base::{Digest, Identity, Kind, PathId, Seen};
use crate::disk::Disk;
use crate::store::Memo;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// In the workspace's root, and hidden by the view: what rfs keeps there.
pub const OURS: &str = ".rfs";

/// Told when the workspace's files changed in a way that the kernel's caches of the view cannot know.
pub trait Stale: Send + Sync {
    /// This name changed.
    fn stale(&self, path: &Path);
    /// Whether what a process writes to a shared mapping may reach the file only when it is unmapped.
    fn delays_mapped_writes(&self) -> bool;
    /// Has the kernel write what was written to mappings of a file to the file.
    fn write_back(&self, path: &Path);
}

/// The memory.
pub struct World {
    root: PathBuf,
    inner: Mutex<Inner>,
    /// Digests of files outside the workspace, and of those inside it.
    memo: Memo,
    own: Memo,
    stale: OnceLock<Arc<dyn Stale>>,
    absent: Arc<Seen>,
    clock: clock::Clock,
    others: others::Others,
    saved: (Mutex<()>, Condvar),
    texts: texts::Texts,
    /// How often a directory or a link outside was told to have changed.
    leads: AtomicU64,
}

/// One look: the path's number, what was seen, and how often the build had changed it before.
#[derive(Debug, Clone)]
pub struct Look {
    /// The path.
    pub id: PathId,
    /// What was seen.
    pub seen: Arc<Seen>,
    /// Number of changes by the build before the look.
    pub changes: u32,
}

impl World {
    /// The world of a workspace. `memo` remembers digests between builds, `own` those of the workspace's
    /// own files; `disk` writes down for others what this build changes.
    #[must_use]
    pub fn new(root: PathBuf, memo: Memo, own: Memo, disk: Arc<dyn Disk>) -> Self {
        Self {
            clock: clock::Clock::of(&root),
            others: others::Others::enter(&root.join(".rfs"), disk),
            root,
            inner: Mutex::new(Inner {
                ids: HashMap::new(),
                slots: Vec::new(),
                outside: Told::NotYet,
                news: 0,
            }),
            memo,
            own,
            stale: OnceLock::new(),
            absent: Arc::new(Seen::absent()),
            saved: (Mutex::new(()), Condvar::new()),
            texts: texts::Texts::default(),
            leads: AtomicU64::new(0),
        }
    }

    /// Says who is to be told of changes from outside. Only the first one counts.
    pub fn tell(&self, stale: Arc<dyn Stale>) {
        let _ = self.stale.set(stale).is_ok();
    }

    /// The workspace's root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many paths have a number.
    #[must_use]
    pub fn n_names(&self) -> usize {
        self.lock().slots.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path behind a number.
    #[must_use]
    pub fn path(&self, id: PathId) -> Arc<Path> {
        self.lock().slots[id.0 as usize].path.clone()
    }

    /// Looks at a path, without following a link in its last component.
    #[must_use]
    pub fn look(&self, path: &Path) -> Look {
        let covered = {
            let mut inner = self.lock();
            let id = inner.id(path);
            let slot = &inner.slots[id.0 as usize];
            if let (true, Some(seen)) = (slot.settled, &slot.seen) {
                return Look {
                    id,
                    seen: seen.clone(),
                    changes: slot.changes,
                };
            }
            let is_outside = !path.starts_with(&self.root);
            is_outside.then(|| inner.cover(path)).flatten()
        };
        let mut fresh = self.see(path);
        let mut settles = covered.is_some() && self.lock().covers(path, &fresh);
        if settles && !is_told_by_name(&fresh) {
            let before = std::mem::replace(&mut fresh, self.see(path));
            settles = before.kind == fresh.kind;
        }
        let mut inner = self.lock();
        let id = inner.id(path);
        settles &= covered == Some(inner.news);
        let slot = &mut inner.slots[id.0 as usize];
        let changes = slot.changes;
        slot.settled = settles && changes == 0;
        let was_told = std::mem::take(&mut slot.is_news);
        let (seen, news) = match &slot.seen {
            Some(old) if !was_told && same(old, &fresh) => (old.clone(), false),
            old => {
                let news = old.is_some();
                let seen = if fresh.is_absent() && !was_told {
                    self.absent.clone()
                } else {
                    Arc::new(fresh)
                };
                slot.seen = Some(seen.clone());
                (seen, news)
            }
        };
        drop(inner);
        if news {
            self.tell_stale(path);
        }
        Look { id, seen, changes }
    }

    /// Takes note of what the kernel has told. Until the next time, nothing else of it is known.
    pub fn hear(&self) {
        let leads = self.lock().hear();
        self.leads.fetch_add(leads, Ordering::AcqRel);
    }

    /// A number that is another one once the path has changed; none where that is known by a look only.
    #[must_use]
    pub fn version(&self, path: &Path) -> Option<u64> {
        self.hear();
        let inner = self.lock();
        let slot = &inner.slots[inner.ids.get(path)?.0 as usize];
        slot.settled.then_some(slot.told)
    }

    /// A number that is another one once a directory or a link outside has changed, as was told.
    #[must_use]
    pub fn news(&self) -> u64 {
        self.leads.load(Ordering::Acquire)
    }

    /// Whether what was seen is still there, the build's own changes aside: as was [told](Self::hear), or
    /// by a look. What was told to have changed is not, be it as it was.
    #[must_use]
    pub fn still(&self, id: PathId, seen: &Arc<Seen>) -> bool {
        let is_it = |last: &Arc<Seen>| Arc::ptr_eq(last, seen);
        let (path, told) = {
            let inner = self.lock();
            let slot = &inner.slots[id.0 as usize];
            if slot.settled && slot.seen.as_ref().is_some_and(is_it) {
                return true;
            }
            (slot.path.clone(), slot.told)
        };
        if path.starts_with(&self.root) {
            return self.unchanged(&path, seen);
        }
        // Names come into a directory and go, and who lists them is told by their digest.
        let decides = told == 0 || seen.kind == Kind::Dir;
        is_it(&self.look(&path).seen) || (decides && self.unchanged(&path, seen))
    }

    /// What a process under watch sees: of what is ours in the workspace nothing.
    fn see(&self, path: &Path) -> Seen {
        let is_ours = |path: &Path| path.starts_with(OURS);
        match path.strip_prefix(&self.root).is_ok_and(is_ours) {
            true => Seen::absent(),
            false => see(path),
        }
    }

    /// The last look, without a new one where there is one.
    #[must_use]
    pub fn last(&self, path: &Path) -> Look {
        {
            let mut inner = self.lock();
            let id = inner.id(path);
            let slot = &inner.slots[id.0 as usize];
            if let Some(seen) = &slot.seen {
                return Look {
                    id,
                    seen: seen.clone(),
                    changes: slot.changes,
                };
            }
        }
        self.look(path)
    }

    /// The build is about to change the path: what was there before. Its content, where somebody saw it
    /// and may ask for it later, is hashed now; with `in_place` it is first allowed to reach the cache.
    #[must_use]
    pub fn change(&self, path: &Path, in_place: bool) -> Look {
        let before = self.last(path);
        self.keep(path, &before, in_place);
        self.changed(path);
        before
    }

    /// What takes its time in [`Self::change`].
    pub fn keep(&self, path: &Path, look: &Look, in_place: bool) {
        let seen = &look.seen;
        if seen.kind == Kind::File && seen.digest.get().is_none() {
            if seen.is_saving() {
                if in_place {
                    self.wait_saved(seen);
                }
            } else if Arc::strong_count(seen) > 2 {
                let _settled = self.digest(path, seen);
            }
        }
    }

    /// The build changes the path, or is about to.
    pub fn changed(&self, path: &Path) {
        if path.starts_with(&self.root) {
            self.others.note(path);
        }
        let mut inner = self.lock();
        let id = inner.id(path);
        let slot = &mut inner.slots[id.0 as usize];
        slot.seen = None;
        slot.settled = false;
        slot.changes += 1;
    }

    /// What was seen of the path is not to be relied on any more, though no step changed it.
    pub fn forget(&self, path: &Path) {
        let mut inner = self.lock();
        let id = inner.id(path);
        let slot = &mut inner.slots[id.0 as usize];
        slot.seen = None;
        slot.settled = false;
    }

    /// The first of some paths that another build in the workspace has changed `within` the last time, or
    /// may have open, and what is wrong with it, for people. To be asked when all that was to be read of
    /// them has been read.
    #[must_use]
    pub fn disturbed(&self, paths: &[Arc<Path>], within: Duration) -> Option<(Arc<Path>, String)> {
        let inside = |path: &&Arc<Path>| path.starts_with(&self.root);
        let inside: Vec<&Arc<Path>> = paths.iter().filter(inside).collect();
        let (place, why) = self.others.changed(&inside, within)?;
        Some((inside[place].clone(), why))
    }

    /// Something is going to run, so that paths may be looked at again: the kernel is to tell of changes
    /// outside. To answer from the cache alone takes one look at each, and nothing has to be told.
    pub fn follow(&self) {
        let mut inner = self.lock();
        if matches!(inner.outside, Told::NotYet) {
            let told = Outside::new();
            inner.outside = told.map_or(Told::Nothing, |told| Told::News(Box::new(told)));
        }
    }

    /// The command has ended: what other builds find changed by it is complete.
    pub fn finish(&self) {
        self.others.finish();
        let mut inner = self.lock();
        let told = std::mem::replace(&mut inner.outside, Told::Nothing);
        inner.slots.iter_mut().for_each(|slot| slot.settled = false);
        drop(inner);
        if let Told::News(told) = told {
            // The kernel waits some milliseconds for all its readers (inotify(7)): nobody has to.
            let _detached = std::thread::spawn(move || drop(told));
        }
    }

    /// How often the build has changed the path.
    #[must_use]
    pub fn changes(&self, id: PathId) -> u32 {
        self.lock().slots[id.0 as usize].changes
    }

    /// Whether what a process writes to a shared mapping of a file of the workspace may reach the file
    /// only when it is unmapped.
    #[must_use]
    pub fn delays_mapped_writes(&self) -> bool {
        self.stale
            .get()
            .is_some_and(|stale| stale.delays_mapped_writes())
    }

    /// Has the kernel write what was written to mappings of a file of the workspace to the file.
    pub fn write_back(&self, path: &Path) {
        if let Some(stale) = self.stale.get() {
            stale.write_back(path);
        }
    }

    /// Tells the view that a name changed behind the kernel's back.
    pub fn tell_stale(&self, path: &Path) {
        if let (Some(stale), true) = (self.stale.get(), path.starts_with(&self.root)) {
            stale.stale(path);
        }
    }

    /// The digest of what was seen at `path`, from memory or by reading it now.
    ///
    /// # Errors
    /// An errno; `ESTALE` when what is there now is not what was seen.
    pub fn digest(&self, path: &Path, seen: &Seen) -> Result<Digest, i32> {
        if let Some(known) = seen.digest.get() {
            return *known;
        }
        if seen.kind != Kind::File {
            return Err(libc::EINVAL);
        }
        let memo = self.memo_of(path);
        let digest = match memo.get(&seen.id) {
            Some(digest) => Ok(digest),
            None => {
                let made = seen.id.size <= texts::LARGEST && self.is_made(path);
                let hashed = if made {
                    self.texts.hash(path, seen)
                } else {
                    hash(path, seen)
                };
                hashed.inspect(|digest| self.remember(memo, seen, *digest))
            }
        };
        *seen.digest.get_or_init(|| digest)
    }

    /// Whether what was seen now is sure to be told from what is there after another change.
    #[must_use]
    pub fn is_sure(&self, seen: &Seen) -> bool {
        seen.is_absent() || self.clock.tells_apart(&seen.id)
    }

    /// What a small file says that the build has made, if somebody has asked for its digest lately.
    #[must_use]
    pub fn text(&self, seen: &Seen) -> Option<(Digest, Arc<str>)> {
        self.texts.of(seen)
    }

    /// Whether the build itself has changed the path.
    fn is_made(&self, path: &Path) -> bool {
        let mut inner = self.lock();
        let id = inner.id(path);
        inner.slots[id.0 as usize].changes > 0
    }

    fn memo_of(&self, path: &Path) -> &Memo {
        if path.starts_with(&self.root) {
            &self.own
        } else {
            &self.memo
        }
    }

    fn remember(&self, memo: &Memo, seen: &Seen, digest: Digest) {
        if self.clock.tells_apart(&seen.id) {
            memo.put(seen.id, digest);
        }
    }

    /// Remembers the digest of what was seen at `path`, computed while it was stored, and wakes who waits for it.
    pub fn settle(&self, path: &Path, seen: &Seen, digest: Result<Digest, i32>) {
        if let Ok(digest) = digest {
            self.remember(self.memo_of(path), seen, digest);
        }
        let _ = seen.digest.set(digest).is_ok();
        drop(self.saved.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.saved.1.notify_all();
    }

    fn wait_saved(&self, seen: &Seen) {
        let mut guard = self.saved.0.lock().unwrap_or_else(PoisonError::into_inner);
        while seen.is_saving() {
            guard = self
                .saved
                .1
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether what was seen at `path` has extended attributes.
    #[must_use]
    pub fn has_attributes(&self, path: &Path, seen: &Seen) -> bool {
        match seen.kind {
            Kind::File | Kind::Dir | Kind::Link => {
                *seen.attributes.get_or_init(|| attributes::any(path))
            }
            Kind::Absent | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown(_) => false,
        }
    }

    /// The time stamp that a directory has now, in ns since 1970, without remembering it: the build's own
    /// changes are no news.
    #[must_use]
    pub fn dir_stamp(&self, path: &Path) -> Option<i64> {
        let meta = std::fs::symlink_metadata(path).ok()?;
        meta.is_dir().then(|| Identity::of(&meta).mtime)
    }

    /// Whether what was seen is still there, the build's own changes aside.
    fn unchanged(&self, path: &Path, seen: &Seen) -> bool {
        let now = self.see(path);
        if same(seen, &now) {
            return true;
        }
        // A changed ctime alone is a new name or new permissions: the content decides.
        let alike = seen.kind == now.kind
            && seen.mode == now.mode
            && Identity {
                ctime: 0,
                ..seen.id
            } == Identity { ctime: 0, ..now.id };
        match seen.kind {
            Kind::File if alike => match (seen.digest.get(), hash(path, &now)) {
                (Some(Ok(old)), Ok(new)) => *old == new,
                // With as many names as before it was written to, its time stamp set back.
                (None, Ok(new)) if seen.nlink != now.nlink => seen.digest.set(Ok(new)).is_ok(),
                (Some(_) | None, _) => false,
            },
            Kind::Dir => now.kind == Kind::Dir && seen.mode == now.mode,
            Kind::Absent
            | Kind::File
            | Kind::Link
            | Kind::Fifo
            | Kind::Socket
            | Kind::Device
            | Kind::Unknown(_) => alike,
        }
    }

    /// Writes what is to be remembered between builds.
    ///
    /// # Errors
    /// The memory's file could not be written; the next build hashes again.
    pub fn flush(&self) -> Result<(), crate::store::Error> {
        self.memo.flush().and(self.own.flush())
    }

    /// Makes what was written survive a loss of power.
    ///
    /// # Errors
    /// The memory's file could not be written.
    pub fn sync(&self) -> Result<(), crate::store::Error> {
        self.memo.sync().and(self.own.sync())
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
