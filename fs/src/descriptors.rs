//! A bounded cache of directory descriptors, so that reaching a file costs one system call and not one a
//! component.
//!
//! It is direct mapped: a directory has one slot, which it may lose to another. It knows numbers and
//! descriptors only.

use crate::inode::Ino;
use parking_lot::Mutex;
use std::os::fd::OwnedFd;
use std::sync::Arc;

const N_SLOTS: usize = 1024;

type Slot = Mutex<Option<(Ino, Arc<OwnedFd>)>>;

/// `O_PATH` descriptors of directories by their number.
#[derive(Debug)]
pub(crate) struct Descriptors {
    slots: Box<[Slot]>,
}

impl Descriptors {
    pub(crate) fn new() -> Self {
        Self {
            slots: (0..N_SLOTS).map(|_| Mutex::new(None)).collect(),
        }
    }

    fn slot(&self, ino: Ino) -> &Slot {
        // Numbers of directories made together are often close, or equal but for their high bits.
        let mixed = ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        &self.slots[usize::try_from(mixed).unwrap_or(0) % N_SLOTS]
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<Arc<OwnedFd>> {
        let slot = self.slot(ino).lock();
        slot.as_ref()
            .filter(|(of, _)| *of == ino)
            .map(|(_, fd)| fd.clone())
    }

    pub(crate) fn put(&self, ino: Ino, fd: Arc<OwnedFd>) {
        *self.slot(ino).lock() = Some((ino, fd));
    }

    /// The number may come to mean another directory.
    pub(crate) fn drop(&self, ino: Ino) {
        let mut slot = self.slot(ino).lock();
        if slot.as_ref().is_some_and(|(of, _)| *of == ino) {
            *slot = None;
        }
    }
}
