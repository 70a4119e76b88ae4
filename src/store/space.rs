//! Which pages of the file may be written to. Not stored: found by a walk over the page tables.

use super::Error;
use super::layout::{FIRST, Ptr};
use super::snapshot::Snapshot;
use std::ops::Range;

/// The free pages, as the holder of the write lock knows them.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// The state that this is about.
    generation: u64,
    /// Pages of the file.
    n_pages: u32,
    /// Pages that must not be written to, for any reason.
    used: Bits,
    /// Pages in use that the durable state does not need.
    young: Bits,
    /// No longer needed but by the durable state, or the one before it.
    held: Vec<u32>,
    /// No longer needed but by who has pinned one of the generations that had it.
    limbo: Vec<(Range<u64>, u32)>,
    /// By page: a generation before which nobody had it; 0 if that is not known.
    born: Vec<u64>,
    /// Where the next page is looked for.
    cursor: u32,
}

impl Space {
    /// The free pages when `current` is the newest state and `durable` or the one `before` that, which may
    /// be damaged, the one that a loss of power would leave. `pinned` tells whether one of the
    /// generations before the current one is being read.
    pub(super) fn of(
        current: &Snapshot,
        durable: &Snapshot,
        before: Option<&Snapshot>,
        pinned: bool,
    ) -> Result<Self, Error> {
        let n_pages = current.slot().n_pages.max(durable.slot().n_pages);
        let mut space = Self {
            generation: current.generation(),
            n_pages,
            cursor: FIRST,
            ..Self::default()
        };
        for page in 0..FIRST {
            space.used.set(page);
        }
        current.walk(&mut |ptr: Ptr, _| {
            space.used.set(ptr.page);
            space.young.set(ptr.page);
            Ok(())
        })?;
        if durable.generation() == current.generation() {
            space.young = Bits::default();
        } else {
            durable.walk(&mut |ptr: Ptr, _| {
                if !space.used.has(ptr.page) {
                    space.used.set(ptr.page);
                    space.held.push(ptr.page);
                }
                space.young.clear(ptr.page);
                Ok(())
            })?;
        }
        if let Some(before) = before {
            let walked = before.walk(&mut |ptr: Ptr, _| {
                if !space.used.has(ptr.page) {
                    space.used.set(ptr.page);
                    space.held.push(ptr.page);
                }
                Ok(())
            });
            // What is left of it is held until the next durable commit, for nothing.
            drop(walked);
        }
        if pinned {
            // Nobody remembers which of the pages those readers need.
            let left: Vec<u32> = (FIRST..n_pages).filter(|p| !space.used.has(*p)).collect();
            for page in &left {
                space.used.set(*page);
            }
            let all = 0..space.generation;
            space
                .limbo
                .extend(left.into_iter().map(|page| (all.clone(), page)));
        }
        Ok(space)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn n_pages(&self) -> u32 {
        self.n_pages
    }

    /// Frees what is no longer being read. `pinned` are the generations that are, in ranges.
    pub(super) fn reclaim(&mut self, pinned: &[Range<u64>]) {
        let mut limbo = std::mem::take(&mut self.limbo);
        limbo.retain(|(lived, page)| {
            let is_read = |pin: &Range<u64>| pin.start < lived.end && lived.start < pin.end;
            if pinned.iter().any(is_read) {
                return true;
            }
            self.used.clear(*page);
            self.cursor = self.cursor.min(*page);
            false
        });
        self.limbo = limbo;
    }

    /// A page that may be written to; none if the file would be too long.
    pub(super) fn take(&mut self, max_pages: u32) -> Option<u32> {
        let page = self.used.first_clear(self.cursor);
        if page >= max_pages {
            return None;
        }
        self.used.set(page);
        self.young.set(page);
        self.cursor = page + 1;
        let index = page as usize;
        if index >= self.born.len() {
            self.born.resize(index + 1, 0);
        }
        self.born[index] = self.generation + 1;
        self.n_pages = self.n_pages.max(page + 1);
        Some(page)
    }

    /// `generation` was committed, and does not need these pages, which the one before did.
    pub(super) fn committed(&mut self, generation: u64, durable: bool, left: Vec<u32>) {
        self.generation = generation;
        for page in left {
            if self.young.has(page) {
                self.leave(page);
            } else {
                self.held.push(page);
            }
        }
        if durable {
            for page in std::mem::take(&mut self.held) {
                self.leave(page);
            }
            self.young = Bits::default();
        }
    }

    fn leave(&mut self, page: u32) {
        let born = self.born.get(page as usize).copied().unwrap_or(0);
        self.limbo.push((born..self.generation, page));
    }
}

/// A set of page numbers.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, page: u32) -> bool {
        self.0
            .get(page as usize / 64)
            .is_some_and(|word| word & 1 << (page % 64) != 0)
    }

    fn set(&mut self, page: u32) {
        let word = page as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (page % 64);
    }

    fn clear(&mut self, page: u32) {
        if let Some(word) = self.0.get_mut(page as usize / 64) {
            *word &= !(1 << (page % 64));
        }
    }

    /// The first page from `from` on that is not in the set.
    fn first_clear(&self, from: u32) -> u32 {
        let mut mask = u64::MAX << (from % 64);
        for (index, word) in self.0.iter().enumerate().skip(from as usize / 64) {
            let free = !word & mask;
            if free != 0 {
                return u32::try_from(index * 64).unwrap_or(u32::MAX) + free.trailing_zeros();
            }
            mask = u64::MAX;
        }
        from.max(u32::try_from(self.0.len() * 64).unwrap_or(u32::MAX))
    }
}
