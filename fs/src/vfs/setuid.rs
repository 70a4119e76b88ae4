//! Setuid and setgid bits, which whoever changes the content of a file without privilege takes away.
//!
//! The kernel leaves that to us (`FUSE_HANDLE_KILLPRIV_V2`), since it would else ask for an extended attribute
//! before each write. Writes by passthrough we do not see: a file with such bits is not opened so by users
//! other than root. What stays open while root sets the bits is not caught.

use super::{Requester, Vfs};
use crate::inode::Ino;
use rustix::fs::{Mode, Statx};
use rustix::io::Result;
use std::os::fd::AsFd;

const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o0010;

impl Requester {
    /// Whether `CAP_FSETID` must be assumed.
    fn is_privileged(self) -> bool {
        self.uid == 0
    }
}

/// The bits that a change of content takes away. Without group execution setgid means another thing.
fn droppable(stat: &Statx) -> u32 {
    let mode = u32::from(stat.stx_mode);
    let setgid = if mode & S_IXGRP != 0 {
        mode & S_ISGID
    } else {
        0
    };
    mode & S_ISUID | setgid
}

/// Whether this requester's writing to this file would take bits away.
pub(super) fn would_drop(who: Requester, stat: &Statx) -> bool {
    !who.is_privileged() && droppable(stat) != 0
}

impl Vfs {
    /// The content of a file, which had the attributes `before`, was changed without privilege.
    pub(super) fn drop_setuid(&self, ino: Ino, fd: impl AsFd, before: &Statx) -> Result<()> {
        let bits = droppable(before);
        if bits == 0 {
            return Ok(());
        }
        // Without privilege ourselves the kernel has done it, and says EPERM unless we are the owner.
        let mode = Mode::from_raw_mode(u32::from(before.stx_mode) & 0o7777 & !bits);
        let path = super::proc_path(&fd);
        let changed = rustix::fs::chmod(path, mode);
        if let Some(stale) = self.stale.get() {
            stale(ino);
        }
        if self.euid == 0 { changed } else { Ok(()) }
    }
}
