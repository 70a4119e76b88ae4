//! Records of one size by id. Knows nothing of what they hold.
//!
//! Page 0 of the segment: number of ids given out (u32), first free id (u32); the records follow from
//! page 1 on, none across pages. Ids start at 1. A free record begins with the next free id.

use super::Error;
use super::layout::PAGE;
use super::pages::{Pages, PagesMut, Segment};

/// Where the number of ids lies.
const COUNT: u64 = 0;
/// Where the first free id lies.
const FREE: u64 = 4;
/// Where the numbers lie that the user of the table keeps.
const CELLS: u64 = 64;

/// A segment of records of one size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    segment: Segment,
    size: usize,
}

impl Table {
    pub(super) const fn new(segment: u8, size: usize) -> Self {
        Self {
            segment: Segment(segment),
            size,
        }
    }

    /// Ids given out so far, free ones included.
    pub(super) fn count(self, pages: &impl Pages) -> Result<u32, Error> {
        if pages.n_pages(self.segment) == 0 {
            return Ok(0);
        }
        pages.u32_at(self.segment, COUNT)
    }

    /// The record of an id. What it says of others is not to be believed without a check.
    pub(super) fn get(self, pages: &impl Pages, id: u32) -> Result<&[u8], Error> {
        let at = self.at(id);
        let (page, inside) = match id {
            0 => return Err(pages.damaged(self.segment, at, "no such id")),
            _ => pages.place(self.segment, at)?,
        };
        // Only the last page has places for ids that were not given out.
        let is_last = at / PAGE as u64 + 1 >= u64::from(pages.n_pages(self.segment));
        if is_last && id > self.count(pages)? {
            return Err(pages.damaged(self.segment, at, "no such id"));
        }
        page.get(inside..inside + self.size)
            .ok_or_else(|| pages.damaged(self.segment, at, "a record across pages"))
    }

    /// Puts a record into a place that is free, and gives its id.
    pub(super) fn add(self, pages: &mut impl PagesMut, record: &[u8]) -> Result<u32, Error> {
        let count = self.count(pages)?;
        let free = if count == 0 {
            0
        } else {
            pages.u32_at(self.segment, FREE)?
        };
        if free != 0 {
            let next = super::layout::u32_at(self.get(pages, free)?, 0);
            pages.put_u32(self.segment, FREE, next)?;
            pages.put(self.segment, self.at(free), record)?;
            return Ok(free);
        }
        let id = count
            .checked_add(1)
            .ok_or_else(|| pages.damaged(self.segment, COUNT, "no more ids"))?;
        let at = self.at(id);
        let last = u32::try_from(at / PAGE as u64).unwrap_or(u32::MAX - 1);
        pages.grow(self.segment, last + 1)?;
        pages.put_u32(self.segment, COUNT, id)?;
        pages.put(self.segment, at, record)?;
        Ok(id)
    }

    /// Changes bytes of a record from byte `offset` of it.
    pub(super) fn put(
        self,
        pages: &mut impl PagesMut,
        id: u32,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.get(pages, id)?;
        let room = self.size.saturating_sub(offset);
        let bytes = &bytes[..bytes.len().min(room)];
        pages.put(self.segment, self.at(id) + offset as u64, bytes)
    }

    /// Writes the record of an id of another table: ids up to it are given out, with records of zeros.
    pub(super) fn set(
        self,
        pages: &mut impl PagesMut,
        id: u32,
        record: &[u8],
    ) -> Result<(), Error> {
        if id > self.count(pages)? {
            let last = u32::try_from(self.at(id) / PAGE as u64).unwrap_or(u32::MAX - 1);
            pages.grow(self.segment, last + 1)?;
            pages.put_u32(self.segment, COUNT, id)?;
        }
        self.put(pages, id, 0, record)
    }

    /// Gives an id back, to be given out again.
    pub(super) fn remove(self, pages: &mut impl PagesMut, id: u32) -> Result<(), Error> {
        let next = pages.u32_at(self.segment, FREE)?;
        let mut record = vec![0; self.size];
        super::layout::put_u32(&mut record, 0, next);
        self.put(pages, id, 0, &record)?;
        pages.put_u32(self.segment, FREE, id)
    }

    /// A number that the user of the table keeps; 0 at first. There are 64.
    pub(super) fn cell(self, pages: &impl Pages, n: u8) -> Result<u64, Error> {
        if pages.n_pages(self.segment) == 0 {
            return Ok(0);
        }
        pages.u64_at(self.segment, CELLS + u64::from(n % 64) * 8)
    }

    pub(super) fn put_cell(
        self,
        pages: &mut impl PagesMut,
        n: u8,
        value: u64,
    ) -> Result<(), Error> {
        pages.grow(self.segment, 1)?;
        pages.put_u64(self.segment, CELLS + u64::from(n % 64) * 8, value)
    }

    fn at(self, id: u32) -> u64 {
        let per_page = (PAGE / self.size) as u64;
        let index = u64::from(id.saturating_sub(1));
        (1 + index / per_page) * PAGE as u64 + index % per_page * self.size as u64
    }
}
