//! Owners in a user namespace that knows one user and one group, those of the server.
//!
//! The kernel refuses to change an object whose owner it cannot express there, whoever may write to it. So an
//! unknown group is shown as the own one, and an unknown user too where the object can be written. What may
//! be done is in the end decided by the backing filesystem, on behalf of the server's user.

use super::{At, Vfs, proc_path};
use crate::inode::Ino;
use rustix::fs::{Access, AtFlags, FileType, Statx};
use std::os::fd::{AsFd, BorrowedFd};

/// The only user and group that can be expressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnIds {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Vfs {
    /// Attributes as the view shows them; `may_write` tells whether the server can write to the object.
    fn with_known_owner(&self, mut stat: Statx, may_write: impl FnOnce() -> bool) -> Statx {
        let Some(own) = self.own_ids else { return stat };
        let is_link = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Symlink;
        if stat.stx_uid != own.uid && (is_link || may_write()) {
            stat.stx_uid = own.uid;
        }
        if stat.stx_gid != own.gid {
            stat.stx_gid = own.gid;
        }
        stat
    }

    pub(super) fn seen_at(&self, dir: impl AsFd, name: &std::ffi::OsStr, stat: Statx) -> Statx {
        self.with_known_owner(stat, || {
            rustix::fs::accessat(dir, name, Access::WRITE_OK, AtFlags::empty()).is_ok()
        })
    }

    pub(super) fn seen(&self, fd: BorrowedFd<'_>, stat: Statx) -> Statx {
        self.with_known_owner(stat, || {
            rustix::fs::access(proc_path(fd), Access::WRITE_OK).is_ok()
        })
    }

    pub(super) fn stat_seen(&self, ino: Ino) -> rustix::io::Result<Statx> {
        let (seen, _) = self.with(ino, |at: &At| {
            let stat = at.stat()?;
            let seen = match at.is_itself() {
                true => self.seen(at.dir.as_fd(), stat),
                false => self.seen_at(&at.dir, &at.name, stat),
            };
            Ok((seen, stat))
        })?;
        Ok(seen)
    }
}
