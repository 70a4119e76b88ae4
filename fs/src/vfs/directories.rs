//! Reading directories, with the positions of the backing filesystem.

use super::{Vfs, proc_path};
use crate::inode::{Ino, ROOT};
use parking_lot::Mutex;
use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::{Errno, Result};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir {
    ino: Ino,
    /// Locked because it has one position.
    fd: Mutex<OwnedFd>,
}

/// A name in a directory as getdents(2) tells it.
pub(crate) struct DirEntry<'a> {
    pub(crate) ino: u64,
    pub(crate) kind: FileType,
    pub(crate) name: &'a OsStr,
    /// Where the entry after this one starts.
    pub(crate) next: u64,
}

const BUFFER_LEN: usize = 32 * 1024;

impl Vfs {
    /// Opens a directory.
    pub(crate) fn opendir(&self, ino: Ino) -> Result<u64> {
        let (at, _) = self.hold(ino)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(proc_path(&at), flags, Mode::empty())?;
        Ok(self.dirs.insert(Dir {
            ino,
            fd: Mutex::new(fd),
        }))
    }

    /// Gives the entries from `offset` on to `add` until it returns false. `offset` is 0 or a `next` of this
    /// directory, whichever time it was opened.
    pub(crate) fn readdir(
        &self,
        fh: u64,
        offset: u64,
        mut add: impl FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let dir = self.dirs.get(fh).ok_or(Errno::BADF)?;
        let fd = dir.fd.lock();
        rustix::fs::seek(&*fd, SeekFrom::Start(offset))?;
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_LEN];
        let mut entries = RawDir::new(&*fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if dir.ino == ROOT && self.hide.iter().any(|hidden| hidden == name) {
                continue;
            }
            let (ino, kind, next) = (entry.ino(), entry.file_type(), entry.next_entry_cookie());
            if !add(&DirEntry {
                ino,
                kind,
                name,
                next,
            }) {
                break;
            }
        }
        Ok(())
    }

    /// The last descriptor of an open directory is gone.
    pub(crate) fn releasedir(&self, fh: u64) {
        self.dirs.remove(fh);
    }

    /// fsync(2) of a directory.
    pub(crate) fn fsyncdir(&self, fh: u64) -> Result<()> {
        let dir = self.dirs.get(fh).ok_or(Errno::BADF)?;
        let fd = dir.fd.lock();
        rustix::fs::fsync(&*fd)
    }
}
