//! A disk that fails when a test says so.

use super::{Disk, Fault};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What happens from the chosen operation on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// This operation alone fails, with this errno; nothing of a write reaches the disk.
    Once(i32),
    /// This operation alone fails, with this errno; half of a write reaches the disk.
    Torn(i32),
    /// As if the process were killed in the middle of this operation: half of a write reaches the disk,
    /// and nothing after it does.
    Dead,
}

/// A [`Disk`] that counts its operations and fails at the k-th.
#[derive(Debug)]
pub struct FaultyDisk {
    count: AtomicUsize,
    at: AtomicUsize,
    temper: Temper,
}

impl FaultyDisk {
    /// A disk whose operation number `at` (the first is 0) fails; `usize::MAX` for none.
    #[must_use]
    pub fn new(at: usize, temper: Temper) -> Self {
        Self {
            count: AtomicUsize::new(0),
            at: AtomicUsize::new(at),
            temper,
        }
    }

    /// Lets operation number `n` from now on fail (the first is 0); `usize::MAX` for none.
    pub fn fail_after(&self, n: usize) {
        let at = self.count().saturating_add(n);
        self.at.store(at, Ordering::Relaxed);
    }

    /// How many operations were asked for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Disk for FaultyDisk {
    fn fault(&self, _: &'static str, len: usize) -> Option<Fault> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let at = self.at.load(Ordering::Relaxed);
        let (after, errno) = match self.temper {
            Temper::Once(errno) if count == at => (0, errno),
            Temper::Torn(errno) if count == at => (len / 2, errno),
            Temper::Dead if count == at => (len / 2, libc::EIO),
            Temper::Dead if count > at => (0, libc::EIO),
            Temper::Once(_) | Temper::Torn(_) | Temper::Dead => return None,
        };
        Some(Fault {
            after,
            source: io::Error::from_raw_os_error(errno),
        })
    }
}
