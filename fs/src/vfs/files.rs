//! Open files: how their bytes travel, and all that is done through a file handle.
//!
//! The bytes of an object travel one way at a time, for the kernel allows no mixture: either it reads and
//! writes the backing file itself (passthrough, one backing file an object while any of its files is open),
//! or through us and its page cache.

use super::setuid::would_drop;
use super::{At, Entry, Requester, Vfs, proc_path, stat_fd};
use crate::inode::{Ino, Opened, Stamp};
use fuser::BackingId;
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, Statx};
use rustix::io::{Errno, ReadWriteFlags, Result};
use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Makes a file known to the kernel as one that it may read and write in our stead.
pub(crate) type Register<'a> = &'a dyn Fn(BorrowedFd<'_>) -> std::io::Result<BackingId>;

/// How the kernel is to treat the bytes of a file.
#[derive(Debug, Clone)]
enum Way {
    Passthrough(Arc<BackingId>),
    Cached,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct File {
    pub(super) fd: Arc<OwnedFd>,
    ino: Ino,
    writes: bool,
    way: Way,
    opened: Arc<Mutex<Opened<BackingId>>>,
}

/// How bytes are to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writing {
    /// At the end of the file, wherever that is.
    pub(crate) appends: bool,
    /// By somebody who may not leave setuid bits behind.
    pub(crate) drops_setuid: bool,
}

/// An answer to open or create.
pub(crate) struct OpenReply {
    pub(crate) fh: u64,
    /// The kernel reads and writes the backing file itself.
    pub(crate) backing: Option<Arc<BackingId>>,
    /// What its page cache holds of the file is still right.
    pub(crate) keep_pages: bool,
}

impl Vfs {
    /// Opens a file. `flags` are those of open(2).
    pub(crate) fn open(
        &self,
        who: Requester,
        ino: Ino,
        flags: OFlags,
        register: Register<'_>,
    ) -> Result<OpenReply> {
        let flags = backing_flags(flags);
        let (fd, stat) = self.with(ino, |at: &At| {
            let fd = open_for(flags, |flags| match at.is_itself() {
                true => rustix::fs::open(proc_path(&at.dir), flags, Mode::empty()),
                false => {
                    rustix::fs::openat(&at.dir, &*at.name, flags | OFlags::NOFOLLOW, Mode::empty())
                }
            })?;
            let stat = stat_fd(&fd)?;
            Ok((fd, stat))
        })?;
        let reply = self.opened(who, ino, fd, &stat, flags, register)?;
        if writes(flags) {
            self.tell_all(ino);
        }
        Ok(reply)
    }

    /// Makes a file and opens it; opens it when it is there and `flags` do not say `O_EXCL`.
    pub(crate) fn create(
        &self,
        who: Requester,
        (parent, name): (Ino, &OsStr),
        mode: u32,
        flags: OFlags,
        register: Register<'_>,
    ) -> Result<(Entry, OpenReply)> {
        let dir = self.dir_to_make_in(who, parent, name)?;
        let there = backing_flags(flags) | OFlags::NOFOLLOW;
        let new = there | OFlags::CREATE | OFlags::EXCL;
        let made = open_for(new, |flags| {
            rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(mode & 0o7777))
        });
        let (fd, stat) = match made {
            Ok(fd) => (fd, self.give(who, &dir, name, mode)?),
            Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {
                let open = |flags| rustix::fs::openat(&dir, name, flags, Mode::empty());
                let fd = open_for(there, open)?;
                let stat = stat_fd(&fd)?;
                (fd, stat)
            }
            Err(e) => return Err(e),
        };
        let entry = self.entry(&dir, parent, name, stat);
        let opened = self.opened(who, entry.ino, fd, &entry.stat, there, register);
        self.tell(parent, name);
        match opened {
            Ok(reply) => Ok((entry, reply)),
            Err(e) => {
                // The kernel does not hear of the name.
                self.forget(entry.ino, 1);
                Err(e)
            }
        }
    }

    fn opened(
        &self,
        who: Requester,
        ino: Ino,
        fd: OwnedFd,
        stat: &Statx,
        flags: OFlags,
        register: Register<'_>,
    ) -> Result<OpenReply> {
        let writes = writes(flags);
        let shared = self.table.open(ino, writes).ok_or(Errno::STALE)?;
        let fd = Arc::new(fd);
        let drops_setuid = writes && would_drop(who, stat);
        let (way, keep_pages) = {
            let mut opened = shared.lock();
            opened.fds.retain(|fd| fd.strong_count() > 0);
            opened.fds.push(Arc::downgrade(&fd));
            match self.passthrough(&mut opened, &fd, drops_setuid, register) {
                Some(id) => (Way::Passthrough(id), false),
                None => {
                    let is_written = self.table.is_written(ino);
                    (Way::Cached, cache(&mut opened, stat, is_written))
                }
            }
        };
        let backing = match &way {
            Way::Passthrough(id) => Some(id.clone()),
            Way::Cached => None,
        };
        let file = File {
            fd: fd.clone(),
            ino,
            writes,
            way,
            opened: shared,
        };
        let fh = self.files.insert(file);
        if drops_setuid && backing.is_some() {
            if let Err(e) = self.drop_setuid(ino, &fd, stat) {
                self.release(fh);
                return Err(e);
            }
        }
        Ok(OpenReply {
            fh,
            backing,
            keep_pages,
        })
    }

    /// Has the kernel read and write the file itself if it can. It must when it does so already.
    fn passthrough(
        &self,
        opened: &mut Opened<BackingId>,
        fd: &OwnedFd,
        unwanted: bool,
        register: Register<'_>,
    ) -> Option<Arc<BackingId>> {
        if let Some(id) = opened.backing.upgrade() {
            return Some(id);
        }
        if unwanted || opened.n_cached > 0 || !self.passthrough.load(Ordering::Relaxed) {
            return None;
        }
        match register(fd.as_fd()) {
            Ok(id) => {
                let id = Arc::new(id);
                opened.backing = Arc::downgrade(&id);
                Some(id)
            }
            Err(e) => {
                // Not allowed to us, whatever the file; any other error is about this one.
                if e.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
                    self.passthrough.store(false, Ordering::Relaxed);
                }
                None
            }
        }
    }

    /// The last descriptor of an open file is gone.
    pub(crate) fn release(&self, fh: u64) {
        let Some(file) = self.files.remove(fh) else {
            return;
        };
        if let Way::Cached = file.way {
            let mut opened = file.opened.lock();
            opened.n_cached -= 1;
            if file.writes {
                opened.pages = stat_fd(&file.fd).map(|stat| Stamp::of(&stat)).ok();
            }
        }
        if file.writes {
            self.tell_all(file.ino);
        }
        self.drop_remembered(self.table.close(file.ino, file.writes));
    }

    fn file(&self, fh: u64) -> Result<Arc<File>> {
        self.files.get(fh).ok_or(Errno::BADF)
    }

    /// Reads until `size` bytes or the end of the file: a short answer means its end to the kernel.
    pub(crate) fn read(&self, fh: u64, offset: u64, size: usize) -> Result<Vec<u8>> {
        let file = self.file(fh)?;
        let mut data = Vec::with_capacity(size);
        while data.len() < size {
            let at = offset + data.len() as u64;
            let spare = rustix::buffer::spare_capacity(&mut data);
            match rustix::io::pread(&file.fd, spare, at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) if data.is_empty() => return Err(e),
                Err(_) => break,
            }
        }
        Ok(data)
    }

    /// Writes all of `data`. Returns the number of bytes written.
    pub(crate) fn write(&self, fh: u64, offset: u64, data: &[u8], how: Writing) -> Result<usize> {
        let file = self.file(fh)?;
        let flags = if how.appends {
            ReadWriteFlags::APPEND
        } else {
            ReadWriteFlags::empty()
        };
        let before = if how.drops_setuid {
            Some(stat_fd(&file.fd)?)
        } else {
            None
        };
        let mut done = 0;
        while done < data.len() {
            let rest = [IoSlice::new(&data[done..])];
            match rustix::io::pwritev2(&file.fd, &rest, offset + done as u64, flags) {
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        if let Some(before) = before {
            self.drop_setuid(file.ino, &file.fd, &before)?;
        }
        Ok(done)
    }

    /// fsync(2) or fdatasync(2).
    pub(crate) fn fsync(&self, fh: u64, data_only: bool) -> Result<()> {
        let file = self.file(fh)?;
        if data_only {
            rustix::fs::fdatasync(&file.fd)
        } else {
            rustix::fs::fsync(&file.fd)
        }
    }

    /// fallocate(2).
    pub(crate) fn fallocate(&self, fh: u64, offset: u64, len: u64, mode: u32) -> Result<()> {
        let file = self.file(fh)?;
        rustix::fs::fallocate(
            &file.fd,
            FallocateFlags::from_bits_retain(mode),
            offset,
            len,
        )
    }

    /// The next data or hole, see lseek(2).
    pub(crate) fn seek(&self, fh: u64, to: SeekFrom) -> Result<u64> {
        rustix::fs::seek(&self.file(fh)?.fd, to)
    }

    /// copy_file_range(2). Returns the number of bytes copied.
    pub(crate) fn copy(
        &self,
        (from, mut from_offset): (u64, u64),
        (to, mut to_offset): (u64, u64),
        len: usize,
    ) -> Result<usize> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        rustix::fs::copy_file_range(
            &from.fd,
            Some(&mut from_offset),
            &to.fd,
            Some(&mut to_offset),
            len,
        )
    }
}

/// Another file of this object is open through us and the kernel's page cache. Tells whether the pages that
/// it has are still right.
fn cache(opened: &mut Opened<BackingId>, stat: &Statx, is_written: bool) -> bool {
    let now = Some(Stamp::of(stat));
    // Writers go through the same pages; what they change is not news.
    let keep = opened.n_cached > 0 && is_written || opened.pages == now;
    opened.pages = now;
    opened.n_cached += 1;
    keep
}

fn writes(flags: OFlags) -> bool {
    flags.intersects(OFlags::WRONLY | OFlags::RDWR)
}

/// The flags to open the backing file with. Appending is done write by write, since the kernel may write
/// mapped pages through any file that is open for writing; its buffers are not aligned for `O_DIRECT`; and
/// nothing that took the file's name may block us or become our terminal.
fn backing_flags(flags: OFlags) -> OFlags {
    let dropped = OFlags::APPEND | OFlags::DIRECT | OFlags::CREATE | OFlags::EXCL;
    (flags - dropped) | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY
}

/// Opens for reading too where only writing is asked for, if that is allowed: the kernel fills pages.
fn open_for(flags: OFlags, open: impl Fn(OFlags) -> Result<OwnedFd>) -> Result<OwnedFd> {
    if flags.contains(OFlags::WRONLY) {
        match open((flags - OFlags::WRONLY) | OFlags::RDWR) {
            Err(Errno::ACCESS | Errno::PERM) => {}
            result => return result,
        }
    }
    open(flags)
}
