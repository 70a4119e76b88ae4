//! Segments of logical pages: what a table stands on, in a state that is read and in one that is written.

use super::Error;
use super::layout::{PAGE, Page};
use std::borrow::Cow;

/// One of the growing arrays of pages that a store consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment(pub(super) u8);

impl Segment {
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Reads pages of one state.
pub trait Pages {
    /// The bytes of a logical page.
    ///
    /// # Errors
    /// The page is damaged, or the segment has no such page.
    fn page(&self, segment: Segment, no: u32) -> Result<&Page, Error>;

    /// Logical pages of a segment.
    fn n_pages(&self, segment: Segment) -> u32;

    /// That something in a segment cannot be.
    fn damaged(&self, segment: Segment, at: u64, what: &'static str) -> Error;

    /// The number at a byte of a segment. `at` is a multiple of 4.
    ///
    /// # Errors
    /// As [`Self::page`].
    fn u32_at(&self, segment: Segment, at: u64) -> Result<u32, Error> {
        let (page, inside) = self.place(segment, at)?;
        Ok(super::layout::u32_at(page, inside))
    }

    /// The number at a byte of a segment. `at` is a multiple of 8.
    ///
    /// # Errors
    /// As [`Self::page`].
    fn u64_at(&self, segment: Segment, at: u64) -> Result<u64, Error> {
        let (page, inside) = self.place(segment, at)?;
        Ok(super::layout::u64_at(page, inside))
    }

    /// The page of a byte of a segment, and the place of the byte in it.
    ///
    /// # Errors
    /// As [`Self::page`].
    fn place(&self, segment: Segment, at: u64) -> Result<(&Page, usize), Error> {
        let (no, inside) = split(at);
        let no = no.ok_or_else(|| self.damaged(segment, at, "a place beyond all pages"))?;
        Ok((self.page(segment, no)?, inside))
    }

    /// `len` bytes of a segment from byte `at`, borrowed where they lie in one page.
    ///
    /// # Errors
    /// As [`Self::page`].
    fn bytes(&self, segment: Segment, at: u64, len: usize) -> Result<Cow<'_, [u8]>, Error> {
        let end = at.saturating_add(len as u64);
        if end > u64::from(self.n_pages(segment)) * PAGE as u64 {
            return Err(self.damaged(segment, at, "more bytes than the segment has"));
        }
        let (page, inside) = self.place(segment, at)?;
        if let Some(bytes) = page.get(inside..inside + len) {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let (page, inside) = self.place(segment, at + bytes.len() as u64)?;
            let n = (len - bytes.len()).min(PAGE - inside);
            bytes.extend_from_slice(&page[inside..inside + n]);
        }
        Ok(Cow::Owned(bytes))
    }
}

/// Changes pages of one state.
pub trait PagesMut: Pages {
    /// The bytes of a logical page, to be changed.
    ///
    /// # Errors
    /// As [`Pages::page`].
    fn page_mut(&mut self, segment: Segment, no: u32) -> Result<&mut Page, Error>;

    /// Makes a segment have at least so many pages; the new ones are zero.
    ///
    /// # Errors
    /// The segment would be too large.
    fn grow(&mut self, segment: Segment, n_pages: u32) -> Result<(), Error>;

    /// Writes bytes into a segment from byte `at`; the pages must be there.
    ///
    /// # Errors
    /// As [`Pages::page`].
    fn put(&mut self, segment: Segment, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < bytes.len() {
            let at = at + done as u64;
            let (no, inside) = split(at);
            let no = no.ok_or_else(|| self.damaged(segment, at, "a place beyond all pages"))?;
            let n = (bytes.len() - done).min(PAGE - inside);
            let page = self.page_mut(segment, no)?;
            page[inside..inside + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        Ok(())
    }

    /// Writes a number at a byte of a segment. `at` is a multiple of 4.
    ///
    /// # Errors
    /// As [`Pages::page`].
    fn put_u32(&mut self, segment: Segment, at: u64, value: u32) -> Result<(), Error> {
        self.put(segment, at, &value.to_le_bytes())
    }

    /// Writes a number at a byte of a segment. `at` is a multiple of 8.
    ///
    /// # Errors
    /// As [`Pages::page`].
    fn put_u64(&mut self, segment: Segment, at: u64, value: u64) -> Result<(), Error> {
        self.put(segment, at, &value.to_le_bytes())
    }
}

fn split(at: u64) -> (Option<u32>, usize) {
    let inside = usize::try_from(at % PAGE as u64).expect("BUG: less than a page");
    (u32::try_from(at / PAGE as u64).ok(), inside)
}
