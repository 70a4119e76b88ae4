//! From a hash to ids: open addressing with linear probing. Knows nothing of keys: who asks compares.
//!
//! Page 0 of the segment: number of entries (u32), power of two of the number of slots (u32). Slots
//! follow from page 1 on, 8 bytes each: id, hash. Id 0 is an empty slot.

use super::Error;
use super::layout::{PAGE, put_u32, u32_at};
use super::pages::{Pages, PagesMut, Segment};

const COUNT: u64 = 0;
const BITS: u64 = 4;
/// Power of two of the slots of a page: what an index starts with.
const FIRST_BITS: u32 = 9;
const MAX_BITS: u32 = 31;

/// A segment of slots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index {
    segment: Segment,
}

impl Index {
    pub(super) const fn new(segment: u8) -> Self {
        Self {
            segment: Segment(segment),
        }
    }

    /// The first id under a hash for which `is_it` says so.
    pub(super) fn find(
        self,
        pages: &impl Pages,
        hash: u32,
        mut is_it: impl FnMut(u32) -> Result<bool, Error>,
    ) -> Result<Option<u32>, Error> {
        let Some(mask) = self.mask(pages)? else {
            return Ok(None);
        };
        let mut slot = hash & mask;
        for _ in 0..=mask {
            let (id, found) = self.slot(pages, slot)?;
            if id == 0 {
                return Ok(None);
            }
            if found == hash && is_it(id)? {
                return Ok(Some(id));
            }
            slot = (slot + 1) & mask;
        }
        Err(pages.damaged(self.segment, 0, "no empty slot"))
    }

    /// Adds an id under a hash.
    pub(super) fn insert(self, pages: &mut impl PagesMut, hash: u32, id: u32) -> Result<(), Error> {
        if pages.n_pages(self.segment) == 0 {
            pages.grow(self.segment, 2)?;
            pages.put_u32(self.segment, BITS, FIRST_BITS)?;
        }
        let count = self.count(pages)?;
        let mask = self.mask(pages)?.unwrap_or(0);
        // Three of four slots at most.
        let mask = if u64::from(count) * 4 >= (u64::from(mask) + 1) * 3 {
            self.double(pages)?
        } else {
            mask
        };
        let mut slot = hash & mask;
        while self.slot(pages, slot)?.0 != 0 {
            slot = (slot + 1) & mask;
        }
        self.put(pages, slot, id, hash)?;
        pages.put_u32(self.segment, COUNT, count + 1)
    }

    /// Takes an id out that was inserted under a hash.
    pub(super) fn remove(self, pages: &mut impl PagesMut, hash: u32, id: u32) -> Result<(), Error> {
        let Some(mask) = self.mask(pages)? else {
            return Ok(());
        };
        let mut hole = hash & mask;
        for _ in 0..=mask {
            match self.slot(pages, hole)?.0 {
                0 => return Ok(()),
                found if found == id => break,
                _ => hole = (hole + 1) & mask,
            }
        }
        // What follows and was displaced moves up.
        let mut slot = hole;
        for _ in 0..=mask {
            slot = (slot + 1) & mask;
            let (other, other_hash) = self.slot(pages, slot)?;
            if other == 0 {
                break;
            }
            let way = slot.wrapping_sub(other_hash & mask) & mask;
            if way >= slot.wrapping_sub(hole) & mask {
                self.put(pages, hole, other, other_hash)?;
                hole = slot;
            }
        }
        self.put(pages, hole, 0, 0)?;
        let count = self.count(pages)?;
        pages.put_u32(self.segment, COUNT, count.saturating_sub(1))
    }

    pub(super) fn count(self, pages: &impl Pages) -> Result<u32, Error> {
        if pages.n_pages(self.segment) == 0 {
            return Ok(0);
        }
        pages.u32_at(self.segment, COUNT)
    }

    fn mask(self, pages: &impl Pages) -> Result<Option<u32>, Error> {
        if pages.n_pages(self.segment) == 0 {
            return Ok(None);
        }
        let bits = pages.u32_at(self.segment, BITS)?;
        let n_pages = u64::from(pages.n_pages(self.segment));
        if !(FIRST_BITS..=MAX_BITS).contains(&bits) || n_pages <= 1 << (bits - FIRST_BITS) {
            return Err(pages.damaged(self.segment, BITS, "a number of slots that cannot be"));
        }
        Ok(Some((1 << bits) - 1))
    }

    fn slot(self, pages: &impl Pages, slot: u32) -> Result<(u32, u32), Error> {
        let (page, inside) = pages.place(self.segment, at(slot))?;
        Ok((u32_at(page, inside), u32_at(page, inside + 4)))
    }

    fn put(self, pages: &mut impl PagesMut, slot: u32, id: u32, hash: u32) -> Result<(), Error> {
        let mut bytes = [0; 8];
        put_u32(&mut bytes, 0, id);
        put_u32(&mut bytes, 4, hash);
        pages.put(self.segment, at(slot), &bytes)
    }

    /// Doubles the number of slots, and gives the new mask.
    fn double(self, pages: &mut impl PagesMut) -> Result<u32, Error> {
        let mask = self.mask(pages)?.unwrap_or(0);
        let bits = mask.count_ones() + 1;
        if bits > MAX_BITS {
            return Err(pages.damaged(self.segment, BITS, "no more slots"));
        }
        let new_mask = (1 << bits) - 1;
        let mut slots = vec![(0, 0); new_mask as usize + 1];
        for slot in 0..=mask {
            let (id, hash) = self.slot(pages, slot)?;
            if id != 0 {
                let mut place = hash & new_mask;
                while slots[place as usize].0 != 0 {
                    place = (place + 1) & new_mask;
                }
                slots[place as usize] = (id, hash);
            }
        }
        let per_page = PAGE / 8;
        let n_pages = u32::try_from(slots.len() / per_page).unwrap_or(u32::MAX - 1);
        pages.grow(self.segment, 1 + n_pages)?;
        for (no, part) in (1..).zip(slots.chunks(per_page)) {
            let page = pages.page_mut(self.segment, no)?;
            for (index, (id, hash)) in part.iter().enumerate() {
                put_u32(page, index * 8, *id);
                put_u32(page, index * 8 + 4, *hash);
            }
        }
        pages.put_u32(self.segment, BITS, bits)?;
        Ok(new_mask)
    }
}

fn at(slot: u32) -> u64 {
    PAGE as u64 + u64::from(slot) * 8
}
