//! Memory that traced processes share with the supervisor: slabs, each written by one process.
//!
//! All slabs lie in one sealed file, so that a process can neither shrink it under us nor needs a file of
//! its own. Nothing that is read is trusted: positions are bounded here, entries are checked by `wire`.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

use rfs_preload::wire;

/// So many processes can have one at a time; the others go the slow way.
const SLABS: usize = 512;
const BYTES: usize = SLABS * wire::SLAB;

/// The file with all slabs.
#[derive(Debug)]
pub(crate) struct Pool {
    file: OwnedFd,
    base: NonNull<u8>,
    free: Mutex<Vec<usize>>,
}

// SAFETY: the memory is used through atomics only, from whatever thread.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let file = memfd_create(
            c"rfs-slabs",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )?;
        ftruncate(&file, i64::try_from(BYTES).map_err(io::Error::other)?)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let len = NonZeroUsize::new(BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping where the kernel wants it touches nothing that is there.
        let base = unsafe { mmap(None, len, access, flags, &file, 0) }?;
        Ok(Arc::new(Self {
            file,
            base: base.cast(),
            free: Mutex::new((0..SLABS).rev().collect()),
        }))
    }

    /// An empty slab; none if all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Slab> {
        let index = self.lock().pop()?;
        let slab = Slab {
            pool: Arc::clone(self),
            index,
        };
        for at in [wire::TAIL, wire::HEAD, wire::STOP, wire::CWD] {
            slab.word(at).store(0, Relaxed);
        }
        Some(slab)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Pool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: whoever uses the mapping holds the pool.
        let _unmapped = unsafe { munmap(self.base.cast(), BYTES) };
    }
}

/// One process's slab. It goes back to the pool when dropped, so whoever wrote to it must be gone.
#[derive(Debug)]
pub(crate) struct Slab {
    pool: Arc<Pool>,
    index: usize,
}

impl Slab {
    /// Where it lies in the file.
    pub(crate) fn offset(&self) -> u64 {
        (self.index * wire::SLAB) as u64
    }

    pub(crate) fn tail(&self) -> u32 {
        self.word(wire::TAIL).load(Acquire)
    }

    /// Bytes that have not been taken up.
    pub(crate) fn waiting(&self) -> u32 {
        self.tail()
            .wrapping_sub(self.word(wire::HEAD).load(Relaxed))
    }

    /// Gives room back up to here.
    pub(crate) fn set_head(&self, head: u32) {
        self.word(wire::HEAD).store(head, Release);
    }

    /// Whether it was said that nothing is to be noted any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.word(wire::STOP).load(Relaxed) != 0
    }

    pub(crate) fn stop(&self) {
        self.word(wire::STOP).store(1, Release);
    }

    /// Says which name is guarded: none, if it is empty.
    pub(crate) fn guard(&self, name: &[u8]) {
        for (at, bytes) in name.chunks(4).enumerate().take(wire::MAX_GUARD / 4) {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            let place = self.word(wire::GUARDED + 4 * at);
            place.store(u32::from_le_bytes(word), Relaxed);
        }
        let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
        self.word(wire::GUARD).store(len, Release);
    }

    /// Relative paths mean something else from now on.
    pub(crate) fn next_cwd(&self) {
        self.word(wire::CWD).fetch_add(1, Release);
    }

    /// Copies what lies in the ring from `head` up to `tail`, in pieces that do not cross its end. False:
    /// nobody who keeps to the rules can have written such a tail.
    pub(crate) fn copy(&self, head: u32, tail: u32, into: &mut Vec<u8>) -> bool {
        let len = tail.wrapping_sub(head) as usize;
        if len > wire::RING || len % 8 != 0 || head % 8 != 0 {
            return false;
        }
        into.clear();
        into.reserve(len);
        for at in (0..len).step_by(8) {
            let at = (head as usize + at) % wire::RING;
            // SAFETY: within the ring and aligned, for slab and control page are whole pages.
            let word = unsafe { AtomicU64::from_ptr(self.at(wire::CONTROL + at).cast().as_ptr()) };
            into.extend_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        true
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: a control word lies in the first page of the slab, which lives as long as the pool, and
        // everybody uses it as an atomic.
        unsafe { AtomicU32::from_ptr(self.at(at).cast().as_ptr()) }
    }

    /// A byte of the slab.
    fn at(&self, at: usize) -> NonNull<u8> {
        debug_assert!(at < wire::SLAB);
        // SAFETY: the slab lies within the mapping, and the byte within the slab.
        unsafe { self.pool.base.add(self.index * wire::SLAB + at) }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        self.pool.lock().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_that_comes_back_is_empty() {
        let pool = Pool::new().unwrap();
        let slab = pool.take().unwrap();
        slab.set_head(8);
        slab.stop();
        let offset = slab.offset();
        drop(slab);
        let slab = pool.take().unwrap();
        assert_eq!(slab.offset(), offset);
        for at in [wire::TAIL, wire::HEAD, wire::STOP] {
            assert_eq!(slab.word(at).load(Relaxed), 0);
        }
        let others: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(others.len(), SLABS - 1);
    }

    #[test]
    fn what_lies_over_the_end_is_copied_in_order() {
        let pool = Pool::new().unwrap();
        let slab = pool.take().unwrap();
        let end = wire::RING as u32;
        for (at, byte) in [(wire::RING - 8, 1_u64), (0, 2)] {
            // SAFETY: as in `copy`.
            let word = unsafe { AtomicU64::from_ptr(slab.at(wire::CONTROL + at).cast().as_ptr()) };
            word.store(byte, Relaxed);
        }
        let mut bytes = Vec::new();
        assert!(slab.copy(end - 8, end + 8, &mut bytes));
        assert_eq!((bytes[0], bytes[8], bytes.len()), (1, 2, 16));
        // The count of bytes wraps as well.
        assert!(slab.copy(0_u32.wrapping_sub(8), 8, &mut bytes));
        assert_eq!((bytes[0], bytes[8]), (1, 2));
    }

    #[test]
    fn a_tail_that_cannot_be_is_refused() {
        let pool = Pool::new().unwrap();
        let slab = pool.take().unwrap();
        let mut bytes = Vec::new();
        for (head, tail) in [(0, 1), (0, u32::MAX), (8, 0), (0, wire::RING as u32 + 8)] {
            assert!(!slab.copy(head, tail, &mut bytes), "{head} {tail}");
        }
    }

    #[test]
    fn nobody_can_shrink_the_file() {
        let pool = Pool::new().unwrap();
        assert!(ftruncate(&pool, 0).is_err());
    }
}
