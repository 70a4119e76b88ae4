//! The pages of a file, mapped for reading. Knows nothing of what they hold.
//!
//! The file is mapped in pieces when they are first needed. A piece is never moved or unmapped as long
//! as the map lives, however the file grows.
#![allow(unsafe_code)]

use super::layout::{PAGE, Page};
use memmap2::{Mmap, MmapOptions};
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::OnceLock;

/// Pages of a piece: 64 MiB.
const PIECE: u32 = 16 * 1024;
/// Pieces: 256 GiB.
const N_PIECES: usize = 4096;

/// A file, as far as it was looked at.
pub(super) struct Map {
    file: File,
    pieces: Box<[OnceLock<Mmap>]>,
}

impl Map {
    /// Pages that a map can show.
    pub(super) const MAX_PAGES: u32 = PIECE * N_PIECES as u32;

    /// `file` must be open for reading.
    pub(super) fn new(file: File) -> Self {
        let pieces = (0..N_PIECES).map(|_| OnceLock::new()).collect();
        Self { file, pieces }
    }

    /// A page of the file. The caller knows that the file is long enough, that nobody writes to the page
    /// as long as the reference lives, and takes no byte of it for granted.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub(super) fn page(&self, page: u32) -> io::Result<&Page> {
        let (piece, inside) = ((page / PIECE) as usize, (page % PIECE) as usize);
        let cell = self
            .pieces
            .get(piece)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EFBIG))?;
        let map = match cell.get() {
            Some(map) => map,
            None => {
                let map = self.map(piece)?;
                cell.get_or_init(|| map)
            }
        };
        let bytes = map.get(inside * PAGE..).and_then(<[u8]>::first_chunk);
        Ok(bytes.expect("BUG: a piece is PIECE pages long"))
    }

    fn map(&self, piece: usize) -> io::Result<Mmap> {
        let len = PIECE as usize * PAGE;
        let mut options = MmapOptions::new();
        options.offset((piece * len) as u64).len(len);
        // SAFETY: mapped bytes must not change while they are borrowed, and must exist when read.
        // - Only `store` writes to the file, never through a map, and never to a page that a pinned
        //   state reaches (doc/store.md, "Readers and the writer"); callers read no other pages by it.
        // - The piece may reach beyond the end of the file. Callers ask for pages before the end only;
        //   no code of ours shortens a file that is mapped.
        // - Whoever has the right to write to the file can break both: the documented assumption.
        unsafe { options.map(&self.file) }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
