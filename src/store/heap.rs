//! Blocks of any length. Knows nothing of what they hold.
//!
//! An address is a number of 8-byte units. Lengths are rounded up to one of four sizes to each doubling;
//! each size has a list of free blocks. A block of up to a page lies in one page, a longer one starts
//! with a page. Page 0 of the segment: where the free part of the last opened page starts (u64), a
//! number that the user keeps (u64), the first free block of each size (u32 each) from byte 64 on.

use super::Error;
use super::layout::PAGE;
use super::pages::{Pages, PagesMut, Segment};
use std::borrow::Cow;

/// Bytes of a unit.
const UNIT: usize = 8;
/// Units of a page.
const UNITS: usize = PAGE / UNIT;
/// Sizes of blocks that fit into a page.
const SMALL: usize = 32;
/// Sizes of blocks.
const CLASSES: usize = SMALL + 120;
const OPEN: u64 = 0;
const CELL: u64 = 8;
const FREE: u64 = 64;

/// A segment of blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heap {
    pub(super) segment: Segment,
}

impl Heap {
    pub(super) const fn new(segment: u8) -> Self {
        Self {
            segment: Segment(segment),
        }
    }

    /// A block for `len` bytes, which hold anything. Address 0 is never given out.
    pub(super) fn alloc(self, pages: &mut impl PagesMut, len: usize) -> Result<u32, Error> {
        if pages.n_pages(self.segment) == 0 {
            pages.grow(self.segment, 1)?;
        }
        let (class, size) = class(len);
        if class >= CLASSES {
            return Err(pages.damaged(self.segment, 0, "a block of more than 4 GiB"));
        }
        let head = FREE + class as u64 * 4;
        let free = pages.u32_at(self.segment, head)?;
        if free != 0 {
            let next = pages.u32_at(self.segment, byte(free))?;
            pages.put_u32(self.segment, head, next)?;
            return Ok(free);
        }
        if size > PAGE {
            return self.open(pages, size);
        }
        let mut at = pages.u64_at(self.segment, OPEN)?;
        let left = at.next_multiple_of(PAGE as u64) - at;
        if left < size as u64 {
            self.give_back(pages, at, left)?;
            at = byte(self.open(pages, PAGE)?);
        }
        pages.put_u64(self.segment, OPEN, at + size as u64)?;
        Ok(address(at))
    }

    /// Gives a block back that was allocated for `len` bytes.
    pub(super) fn free(
        self,
        pages: &mut impl PagesMut,
        address: u32,
        len: usize,
    ) -> Result<(), Error> {
        let head = FREE + class(len).0 as u64 * 4;
        let next = pages.u32_at(self.segment, head)?;
        pages.put_u32(self.segment, byte(address), next)?;
        pages.put_u32(self.segment, head, address)
    }

    /// Writes into a block from its start.
    pub(super) fn put(
        self,
        pages: &mut impl PagesMut,
        address: u32,
        bytes: &[u8],
    ) -> Result<(), Error> {
        pages.put(self.segment, byte(address), bytes)
    }

    /// Allocates a block for a length and so many bytes, and writes them.
    pub(super) fn add(self, pages: &mut impl PagesMut, bytes: &[u8]) -> Result<u32, Error> {
        let address = self.alloc(pages, bytes.len() + 4)?;
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        pages.put_u32(self.segment, byte(address), len)?;
        pages.put(self.segment, byte(address) + 4, bytes)?;
        Ok(address)
    }

    /// What [`Self::add`] wrote.
    pub(super) fn read(self, pages: &impl Pages, address: u32) -> Result<Cow<'_, [u8]>, Error> {
        let (page, inside) = pages.place(self.segment, byte(address))?;
        let len = super::layout::u32_at(page, inside) as usize;
        // Most lie in the page in which they start.
        match page[inside + 4..].get(..len) {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None => pages.bytes(self.segment, byte(address) + 4, len),
        }
    }

    /// Gives back what [`Self::add`] allocated.
    pub(super) fn remove(self, pages: &mut impl PagesMut, address: u32) -> Result<(), Error> {
        let len = pages.u32_at(self.segment, byte(address))?;
        self.free(pages, address, len as usize + 4)
    }

    /// A number that the user of the heap keeps; 0 at first.
    pub(super) fn cell(self, pages: &impl Pages) -> Result<u64, Error> {
        if pages.n_pages(self.segment) == 0 {
            return Ok(0);
        }
        pages.u64_at(self.segment, CELL)
    }

    pub(super) fn put_cell(self, pages: &mut impl PagesMut, value: u64) -> Result<(), Error> {
        pages.grow(self.segment, 1)?;
        pages.put_u64(self.segment, CELL, value)
    }

    /// New pages at the end of the segment.
    fn open(self, pages: &mut impl PagesMut, size: usize) -> Result<u32, Error> {
        let first = pages.n_pages(self.segment);
        let n_pages = u32::try_from(size.div_ceil(PAGE)).unwrap_or(u32::MAX);
        let end = u64::from(first) + u64::from(n_pages);
        // Addresses have 32 bits.
        if end * UNITS as u64 > u64::from(u32::MAX) {
            return Err(pages.damaged(self.segment, 0, "no more addresses"));
        }
        pages.grow(self.segment, first + n_pages)?;
        Ok(address(u64::from(first) * PAGE as u64))
    }

    /// Makes free blocks of the rest of a page.
    fn give_back(self, pages: &mut impl PagesMut, mut at: u64, mut left: u64) -> Result<(), Error> {
        while left >= UNIT as u64 {
            let mut len = usize::try_from(left).unwrap_or(0);
            while class(len).1 as u64 > left {
                len -= UNIT;
            }
            self.free(pages, address(at), len)?;
            at += len as u64;
            left -= len as u64;
        }
        Ok(())
    }
}

fn byte(address: u32) -> u64 {
    u64::from(address) * UNIT as u64
}

fn address(at: u64) -> u32 {
    u32::try_from(at / UNIT as u64).expect("BUG: the end of the segment was checked")
}

/// The number of the size for `len` bytes, and that size.
fn class(len: usize) -> (usize, usize) {
    let units = len.div_ceil(UNIT).max(1);
    let (index, units) = step(units);
    if units <= UNITS {
        return (index, units * UNIT);
    }
    let (index, pages) = step(len.div_ceil(PAGE));
    (SMALL + index, pages * PAGE)
}

/// The number of the least step that is not below `n`, and that step: four to each doubling.
fn step(n: usize) -> (usize, usize) {
    if n <= 4 {
        return (n.max(1) - 1, n.max(1));
    }
    let e = (n - 1).ilog2() as usize;
    let width = e - 2;
    let quarter = ((n - 1) >> width) - 4;
    (4 * (e - 1) + quarter, (quarter + 5) << width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_by_a_quarter_at_most_and_have_one_number_each() {
        let mut last = (0, UNIT);
        for len in 1..200_000 {
            let now = class(len);
            assert!(now.1 >= len, "{len}");
            assert!(now.1 < len + len / 4 + UNIT || len > PAGE, "{len}: {now:?}");
            assert!(now == last || now.1 > last.1 && now.0 > last.0, "{len}");
            assert_eq!(class(now.1), now, "{len}");
            last = now;
        }
        assert_eq!(class(PAGE), (SMALL - 1, PAGE));
        assert_eq!(class(PAGE + 1), (SMALL + 1, 2 * PAGE));
        assert!(class(u32::MAX as usize).0 < CLASSES);
        assert!(FREE + CLASSES as u64 * 4 <= PAGE as u64);
    }
}
