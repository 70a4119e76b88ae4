//! One state of the store, for reading. Pinned: nobody writes to its pages as long as it lives.

use super::Error;
use super::file::Core;
use super::layout::{FAN_OUT, FIRST, PAGE, Page, Ptr, Slot};
use super::lock;
use super::pages::{Pages, Segment};
use crate::disk::At;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

static ZERO: Page = [0; PAGE];

/// A whole state of the store.
#[derive(Debug)]
pub struct Snapshot {
    core: Arc<Core>,
    slot: Slot,
    checked: Checked,
    _pin: Pin,
}

/// A file of a store while it is open: another one of the same name, or one that came after it under the
/// same number, is not equal to it.
#[derive(Debug, Clone)]
pub struct Origin(Arc<Core>);

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Origin {}

impl Snapshot {
    pub(super) fn new(core: Arc<Core>, slot: Slot, pin: Pin, checked: Checked) -> Self {
        Self {
            core,
            slot,
            checked,
            _pin: pin,
        }
    }

    /// One more for each commit.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.slot.generation
    }

    /// Bytes of the file that the state may use.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        u64::from(self.slot.n_pages) * PAGE as u64
    }

    /// The file that it is a state of.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin(self.core.clone())
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    pub(super) fn checked(&self) -> &Checked {
        &self.checked
    }

    /// The page behind a pointer, if it is the one that was meant.
    pub(super) fn follow(&self, ptr: Ptr) -> Result<&Page, Error> {
        if ptr.is_null() {
            return Ok(&ZERO);
        }
        if ptr.page < FIRST || ptr.page >= self.slot.n_pages {
            return Err(self.bad_page(ptr, "a pointer to no page"));
        }
        let page = self
            .core
            .map
            .page(ptr.page)
            .at("mmap", &self.core.path)
            .map_err(Error::Disk)?;
        if !self.checked.has(ptr.page) {
            if crc32fast::hash(page) != ptr.crc {
                return Err(self.bad_page(ptr, "not the page that was written there"));
            }
            self.checked.set(ptr.page);
        }
        Ok(page)
    }

    /// Gives every pointer of the state to `each`, those of table pages first, with whether it is one.
    pub(super) fn walk(
        &self,
        each: &mut dyn FnMut(Ptr, bool) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for root in &self.slot.roots {
            self.walk_below(root.ptr, root.height(), each)?;
        }
        Ok(())
    }

    fn walk_below(
        &self,
        ptr: Ptr,
        height: u32,
        each: &mut dyn FnMut(Ptr, bool) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if ptr.is_null() {
            return Ok(());
        }
        each(ptr, height > 0)?;
        if height > 0 {
            let table = self.follow(ptr)?;
            for index in 0..FAN_OUT as usize {
                self.walk_below(Ptr::read(table, index), height - 1, each)?;
            }
        }
        Ok(())
    }

    /// Checks every page of the state, and that no page is used twice. Gives the number of pages.
    ///
    /// # Errors
    /// The first damage.
    pub fn check(&self) -> Result<u64, Error> {
        let seen = Checked::new(self.slot.n_pages);
        let mut n_pages = 0;
        self.walk(&mut |ptr, _| {
            self.follow(ptr)?;
            if seen.has(ptr.page) {
                return Err(self.bad_page(ptr, "a page that is used twice"));
            }
            seen.set(ptr.page);
            n_pages += 1;
            Ok(())
        })?;
        Ok(n_pages)
    }

    fn bad_page(&self, ptr: Ptr, what: &'static str) -> Error {
        Error::Damaged {
            path: self.core.path.clone(),
            at: u64::from(ptr.page) * PAGE as u64,
            what,
        }
    }
}

impl Pages for Snapshot {
    fn page(&self, segment: Segment, no: u32) -> Result<&Page, Error> {
        let root = self.slot.roots[segment.index()];
        if no >= root.n_pages {
            return Err(self.damaged(segment, u64::from(no) * PAGE as u64, "no such page"));
        }
        let mut ptr = root.ptr;
        for level in (0..root.height()).rev() {
            let table = self.follow(ptr)?;
            ptr = Ptr::read(table, (no >> (9 * level)) as usize % FAN_OUT as usize);
        }
        self.follow(ptr)
    }

    fn n_pages(&self, segment: Segment) -> u32 {
        self.slot.roots[segment.index()].n_pages
    }

    fn damaged(&self, segment: Segment, at: u64, what: &'static str) -> Error {
        Error::Unsound {
            path: self.core.path.clone(),
            segment: segment.0,
            at,
            what,
        }
    }
}

/// Which pages of the file this process has compared with their crc.
#[derive(Debug)]
pub(super) struct Checked(Box<[AtomicU64]>);

impl Checked {
    pub(super) fn new(n_pages: u32) -> Self {
        let words = n_pages.div_ceil(64);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// The same for a longer file in which `written` have been written to.
    pub(super) fn after(&self, n_pages: u32, written: impl Iterator<Item = u32>) -> Self {
        let next = Self::new(n_pages);
        for (new, old) in next.0.iter().zip(&self.0) {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for page in written {
            if let Some(word) = next.0.get(page as usize / 64) {
                word.fetch_and(!(1 << (page % 64)), Ordering::Relaxed);
            }
        }
        next
    }

    fn has(&self, page: u32) -> bool {
        self.0
            .get(page as usize / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (page % 64) != 0)
    }

    fn set(&self, page: u32) {
        if let Some(word) = self.0.get(page as usize / 64) {
            word.fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
    }
}

/// Keeps the pages of a generation from being written to.
#[derive(Debug)]
pub(super) struct Pin {
    core: Arc<Core>,
    generation: u64,
}

impl Pin {
    pub(super) fn new(core: Arc<Core>, generation: u64) -> Result<Self, Error> {
        let mut pins = core.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let count = pins.entry(generation).or_default();
        if *count == 0 {
            lock::pin(&core.pin_file, &core.path, generation)?;
        }
        *count += 1;
        drop(pins);
        Ok(Self { core, generation })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let core = &self.core;
        let mut pins = core.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pins.get_mut(&self.generation) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.generation);
                // What stays locked keeps pages from being used again, no more.
                drop(lock::unpin(&core.pin_file, &core.path, self.generation));
            }
        }
    }
}
