//! The last small texts that the build itself made and that somebody had hashed: who wants to know what a file
//! said that is about to go need not read it again.

use super::open;
use crate::base::{Digest, Identity, Seen};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a text, at most.
pub(super) const LARGEST: u64 = 64 << 10;
/// Texts that are held.
const MANY: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Texts(Mutex<VecDeque<(Digest, Arc<str>)>>);

impl Texts {
    /// Hashes a small file that is the one that was seen, before and after, and holds its text.
    ///
    /// # Errors
    /// An errno; `ESTALE` when it is another one.
    pub(super) fn hash(&self, path: &Path, seen: &Seen) -> Result<Digest, i32> {
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        let mut file = open(path).map_err(errno)?;
        let is_it = |file: &std::fs::File| -> Result<bool, i32> {
            Ok(Identity::of(&file.metadata().map_err(errno)?) == seen.id)
        };
        if !is_it(&file)? {
            return Err(libc::ESTALE);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(seen.id.size).unwrap_or(0) + 1);
        let _size = file.read_to_end(&mut bytes).map_err(errno)?;
        if !is_it(&file)? {
            return Err(libc::ESTALE);
        }
        let digest = Digest::of(&bytes);
        let text = String::from_utf8(bytes).ok();
        if let Some(text) = text.filter(|text| !text.contains('\0')) {
            let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if texts.len() == MANY {
                drop(texts.pop_front());
            }
            texts.push_back((digest, text.into()));
        }
        Ok(digest)
    }

    /// What a file says, where it is held.
    pub(super) fn of(&self, seen: &Seen) -> Option<(Digest, Arc<str>)> {
        let digest = seen.digest.get()?.ok()?;
        let texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts = texts.iter().rev();
        texts.find(|(known, _)| *known == digest).cloned()
    }
}
