//! A change of the store that becomes visible as a whole or not at all. Knows no table.

use super::Error;
use super::file::Writing;
use super::layout::{FAN_OUT, N_SEGMENTS, PAGE, Page, Ptr, Root, Slot, height};
use super::map::Map;
use super::pages::{Pages, PagesMut, Segment};
use super::snapshot::Snapshot;
use std::sync::Arc;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process. Costs no sync.
    Lazy,
    /// Loss of power. Costs two syncs.
    Durable,
}

/// Bytes that are written at once, at most.
const BATCH: usize = 1 << 20;
/// Logical pages of a segment: 1 TiB.
const MAX_PAGES: u32 = 1 << 28;

/// A transaction. Dropped without a commit, it never was.
#[derive(Debug)]
pub struct Txn<'s> {
    writing: Writing<'s>,
    base: Arc<Snapshot>,
    n_pages: [u32; N_SEGMENTS],
    dirty: [Dirty; N_SEGMENTS],
}

impl<'s> Txn<'s> {
    pub(super) fn new(writing: Writing<'s>, base: Arc<Snapshot>) -> Self {
        let n_pages = base.slot().roots.map(|root| root.n_pages);
        Self {
            writing,
            base,
            n_pages,
            dirty: std::array::from_fn(|_| Dirty::default()),
        }
    }

    /// Makes the change visible to all, and gives the new state.
    ///
    /// # Errors
    /// A system call fails; the state is then the old one (or, if the last write failed, one of the two),
    /// and nothing more is committed until the store is opened anew.
    pub fn commit(self, durability: Durability) -> Result<Arc<Snapshot>, Error> {
        let Self {
            mut writing,
            base,
            n_pages,
            mut dirty,
        } = self;
        let old = base.slot();
        let mut out = Out {
            base: &base,
            writing: &mut writing,
            pages: Vec::new(),
            left: Vec::new(),
        };
        let mut roots = old.roots;
        for (index, dirty) in dirty.iter_mut().enumerate() {
            let root = old.roots[index];
            if dirty.is_empty() && height(n_pages[index]) == root.height() {
                roots[index].n_pages = n_pages[index];
                continue;
            }
            let top = height(n_pages[index]);
            let ptr = out.build(dirty, top, 0, root.ptr, root.height())?;
            roots[index] = Root {
                ptr,
                n_pages: n_pages[index],
            };
        }
        let Out {
            mut pages, left, ..
        } = out;
        pages.sort_unstable_by_key(|(no, _)| *no);
        writing.write_pages(&pages, BATCH)?;
        let slot = Slot {
            generation: writing.next_generation(),
            boot: match durability {
                Durability::Lazy => writing.boot(),
                Durability::Durable => [0; 16],
            },
            n_pages: writing.space().n_pages(),
            roots,
        };
        let written = pages.iter().map(|(no, _)| *no);
        let checked = base.checked().after(slot.n_pages, written);
        writing.finish(slot, checked, left)
    }
}

impl Pages for Txn<'_> {
    fn page(&self, segment: Segment, no: u32) -> Result<&Page, Error> {
        if let Some(page) = self.dirty[segment.index()].get(no) {
            return Ok(page);
        }
        if no >= self.base.n_pages(segment) && no < self.n_pages[segment.index()] {
            return self.base.follow(Ptr::default());
        }
        self.base.page(segment, no)
    }

    fn n_pages(&self, segment: Segment) -> u32 {
        self.n_pages[segment.index()]
    }

    fn damaged(&self, segment: Segment, at: u64, what: &'static str) -> Error {
        self.base.damaged(segment, at, what)
    }
}

impl PagesMut for Txn<'_> {
    fn page_mut(&mut self, segment: Segment, no: u32) -> Result<&mut Page, Error> {
        if self.dirty[segment.index()].get(no).is_none() {
            let page = Box::new(*self.page(segment, no)?);
            self.dirty[segment.index()].insert(no, page);
        }
        let page = self.dirty[segment.index()].get_mut(no);
        Ok(page.expect("BUG: it was just put there"))
    }

    fn grow(&mut self, segment: Segment, n_pages: u32) -> Result<(), Error> {
        if n_pages > MAX_PAGES {
            return Err(self.writing.full());
        }
        let now = &mut self.n_pages[segment.index()];
        *now = n_pages.max(*now);
        Ok(())
    }
}

/// The pages of a segment that a transaction has changed, in the groups of a table page.
#[derive(Debug, Default)]
struct Dirty(Vec<Option<Box<Group>>>);

type Group = [Option<Box<Page>>; FAN_OUT as usize];

impl Dirty {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, no: u32) -> Option<&Page> {
        let group = self.0.get((no / FAN_OUT) as usize)?.as_ref()?;
        group[(no % FAN_OUT) as usize].as_deref()
    }

    fn get_mut(&mut self, no: u32) -> Option<&mut Page> {
        let group = self.0.get_mut((no / FAN_OUT) as usize)?.as_mut()?;
        group[(no % FAN_OUT) as usize].as_deref_mut()
    }

    fn insert(&mut self, no: u32, page: Box<Page>) {
        let index = (no / FAN_OUT) as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        let group =
            self.0[index].get_or_insert_with(|| Box::new([const { None }; FAN_OUT as usize]));
        group[(no % FAN_OUT) as usize] = Some(page);
    }

    fn take(&mut self, no: u32) -> Option<Box<Page>> {
        let group = self.0.get_mut((no / FAN_OUT) as usize)?.as_mut()?;
        group[(no % FAN_OUT) as usize].take()
    }

    /// Whether there is a page below node number `index` of a level.
    fn has_below(&self, level: u32, index: u32) -> bool {
        if level == 0 {
            return self.get(index).is_some();
        }
        let width = u64::from(FAN_OUT).pow(level - 1);
        let first = u64::from(index) * width;
        let end = (first + width).min(self.0.len() as u64);
        let (first, end) = (
            usize::try_from(first).unwrap_or(usize::MAX),
            usize::try_from(end).unwrap_or(usize::MAX),
        );
        first < end && self.0[first..end].iter().any(Option::is_some)
    }
}

/// Pages on their way to the disk.
struct Out<'a, 's> {
    base: &'a Snapshot,
    writing: &'a mut Writing<'s>,
    pages: Vec<(u32, Box<Page>)>,
    /// Pages that the new state does not need any more.
    left: Vec<u32>,
}

impl Out<'_, '_> {
    /// Builds node number `index` of a level, from what was at its place (`old`, a node of `old_level`,
    /// which is lower where the tree has become higher) and what has changed.
    fn build(
        &mut self,
        dirty: &mut Dirty,
        level: u32,
        index: u32,
        old: Ptr,
        old_level: u32,
    ) -> Result<Ptr, Error> {
        if level == 0 {
            let Some(page) = dirty.take(index) else {
                return Ok(old);
            };
            self.leave(old);
            return self.place(page);
        }
        let grown = old_level < level;
        if !grown && !dirty.has_below(level, index) {
            return Ok(old);
        }
        let mut table: Box<Page> = Box::new(if grown {
            [0; PAGE]
        } else {
            *self.base.follow(old)?
        });
        for child in 0..FAN_OUT {
            let (below, below_level) = match (grown, child) {
                (false, _) => (Ptr::read(&table, child as usize), level - 1),
                (true, 0) => (old, old_level),
                (true, _) => (Ptr::default(), level - 1),
            };
            let no = index * FAN_OUT + child;
            if dirty.has_below(level - 1, no) || !below.is_null() {
                let ptr = self.build(dirty, level - 1, no, below, below_level)?;
                ptr.write(&mut table, child as usize);
            }
        }
        if !grown {
            self.leave(old);
        }
        self.place(table)
    }

    fn leave(&mut self, old: Ptr) {
        if !old.is_null() {
            self.left.push(old.page);
        }
    }

    fn place(&mut self, page: Box<Page>) -> Result<Ptr, Error> {
        if page.iter().all(|byte| *byte == 0) {
            return Ok(Ptr::default());
        }
        let Some(no) = self.writing.space_mut().take(Map::MAX_PAGES) else {
            return Err(self.writing.full());
        };
        let crc = crc32fast::hash(&*page);
        self.pages.push((no, page));
        Ok(Ptr { page: no, crc })
    }
}
