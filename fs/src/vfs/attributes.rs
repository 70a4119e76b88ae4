//! Attributes: stat, chmod, chown, truncate, utimens, statfs.

use super::setuid::would_drop;
use super::{Entry, Requester, Vfs, proc_path, stat_fd};
use crate::inode::{Ino, ROOT, Stamp};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, StatVfs, Statx, Timespec, Timestamps, Uid};
use rustix::io::Result;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What is to change; `None` leaves a thing as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    /// With `UTIME_NOW` as nanoseconds for the present time.
    pub(crate) atime: Option<Timespec>,
    pub(crate) mtime: Option<Timespec>,
}

/// An open file, or an `O_PATH` descriptor.
enum Target {
    Open(Arc<OwnedFd>),
    Path(Arc<OwnedFd>),
}

impl AsFd for Target {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Open(fd) | Self::Path(fd) => fd.as_fd(),
        }
    }
}

impl Vfs {
    /// Attributes of a node, through an open file when there is one.
    pub(crate) fn getattr(&self, ino: Ino, fh: Option<u64>) -> Result<Entry> {
        let stat = match fh.and_then(|fh| self.files.get(fh)) {
            Some(file) => self.seen(file.fd.as_fd(), stat_fd(&file.fd)?),
            None => self.stat_seen(ino)?,
        };
        Ok(shown(ino, stat))
    }

    /// Changes attributes of a node, through an open file when there is one.
    pub(crate) fn setattr(
        &self,
        who: Requester,
        ino: Ino,
        fh: Option<u64>,
        change: &Change,
    ) -> Result<Entry> {
        let (target, before) = match fh.and_then(|fh| self.files.get(fh)) {
            Some(file) => (Target::Open(file.fd.clone()), stat_fd(&file.fd)?),
            None => {
                let (fd, stat) = self.hold(ino)?;
                (Target::Path(fd), stat)
            }
        };
        apply(&target, change)?;
        if change.size.is_some() && change.mode.is_none() && would_drop(who, &before) {
            self.drop_setuid(ino, &target, &before)?;
        }
        let stat = stat_fd(&target)?;
        self.keep_pages(ino, &before, &stat);
        self.tell_all(ino);
        Ok(shown(ino, self.seen(target.as_fd(), stat)))
    }

    /// We changed size or times ourselves: pages that were right before still are.
    fn keep_pages(&self, ino: Ino, before: &Statx, after: &Statx) {
        if let Some(opened) = self.table.opened(ino) {
            let mut opened = opened.lock();
            if opened.pages == Some(Stamp::of(before)) {
                opened.pages = Some(Stamp::of(after));
            }
        }
    }

    /// The filesystem that a node lies on.
    pub(crate) fn statfs(&self, ino: Ino) -> Result<StatVfs> {
        let fd = self
            .hold(ino)
            .map_or_else(|_| self.root.clone(), |(fd, _)| fd);
        rustix::fs::fstatvfs(&fd)
    }
}

/// Objects show the number that the kernel knows them by, but the root shows its own.
fn shown(ino: Ino, stat: Statx) -> Entry {
    let ino = if ino == ROOT { stat.stx_ino } else { ino };
    Entry { ino, stat }
}

fn apply(target: &Target, change: &Change) -> Result<()> {
    if let Some(size) = change.size {
        match target {
            Target::Open(fd) => rustix::fs::ftruncate(fd, size)?,
            Target::Path(fd) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let file = rustix::fs::open(proc_path(fd), flags, Mode::empty())?;
                rustix::fs::ftruncate(&file, size)?;
            }
        }
    }
    if change.uid.is_some() || change.gid.is_some() {
        let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
        rustix::fs::chownat(target, "", uid, gid, AtFlags::EMPTY_PATH)?;
    }
    // After chown(2), which takes suid and sgid bits away.
    if let Some(mode) = change.mode {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match target {
            Target::Open(fd) => rustix::fs::fchmod(fd, mode)?,
            Target::Path(fd) => rustix::fs::chmod(proc_path(fd), mode)?,
        }
    }
    if change.atime.is_some() || change.mtime.is_some() {
        let omit = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        };
        let times = Timestamps {
            last_access: change.atime.unwrap_or(omit),
            last_modification: change.mtime.unwrap_or(omit),
        };
        rustix::fs::utimensat(target, "", &times, AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}
