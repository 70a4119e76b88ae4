//! A shared mapping of a file, to be used as any program does.
#![allow(unsafe_code, reason = "mmap(2) has no safe form")]

use nix::sys::mman::{MapFlags, MmapAdvise, MsFlags, ProtFlags, madvise, mmap, msync, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// The first bytes of a file, readable and writable. Those after its end must not be touched (SIGBUS).
pub struct Mapping {
    start: NonNull<c_void>,
    len: NonZeroUsize,
}

impl Mapping {
    /// Maps the first `len` bytes, whether the file has them or not.
    pub fn new(file: &File, len: NonZeroUsize) -> io::Result<Self> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at no given address, takes nothing from anybody.
        let start = unsafe { mmap(None, len, prot, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start, len })
    }

    /// Copies `bytes` to an offset, one by one, as the file may change at the same time.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len.get());
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: checked to lie in the mapping, which lives as long as `self`.
            let to = unsafe { self.start.cast::<u8>().add(at + i) };
            // SAFETY: the mapping is writable, and one byte is aligned.
            unsafe { to.write_volatile(*byte) };
        }
    }

    /// The bytes in front of `len`.
    pub fn read(&self, len: usize) -> Vec<u8> {
        assert!(len <= self.len.get());
        let byte = |i: usize| {
            // SAFETY: checked to lie in the mapping, which lives as long as `self`.
            let from = unsafe { self.start.cast::<u8>().add(i) };
            // SAFETY: the mapping is readable, and one byte is aligned.
            unsafe { from.read_volatile() }
        };
        (0..len).map(byte).collect()
    }

    /// msync(2) with `MS_SYNC`.
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is that of the mapping.
        Ok(unsafe { msync(self.start, self.len.get(), MsFlags::MS_SYNC) }?)
    }

    /// Forgets the pages of this mapping, which are read again when they are used.
    pub fn forget(&self) -> io::Result<()> {
        // SAFETY: pages of a shared mapping keep their content in the file.
        Ok(unsafe { madvise(self.start, self.len.get(), MmapAdvise::MADV_DONTNEED) }?)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing of the mapping can be used any more.
        unsafe { munmap(self.start, self.len.get()) }.unwrap();
    }
}
