//! From a result to a reply: each request is answered once, also by a panic.

use super::values::file_attr;
use super::{Adapter, GENERATION};
use crate::error::{FsError, Op};
use crate::vfs::{Entry, Vfs};
use fuser::{Errno, FopenFlags, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyXattr};
use rustix::io::Errno as Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Adapter {
    /// Runs one operation. A panic must not leave its request without an answer.
    pub(super) fn run<T>(
        &self,
        op: Op,
        ino: INodeNo,
        act: impl FnOnce(&Vfs) -> Result<T, Error>,
    ) -> Result<T, Errno> {
        let result = catch_unwind(AssertUnwindSafe(|| act(&self.vfs))).unwrap_or(Err(Error::IO));
        self.counters.count(op);
        result.map_err(|e| {
            if is_our_fault(e) {
                let path = self.vfs.table.paths(ino.0).pop().unwrap_or_default();
                self.vfs.observer.failed(&FsError {
                    op,
                    path,
                    source: e.into(),
                });
            }
            Errno::from_i32(e.raw_os_error())
        })
    }

    pub(super) fn empty(
        &self,
        op: Op,
        ino: INodeNo,
        reply: ReplyEmpty,
        act: impl FnOnce(&Vfs) -> Result<(), Error>,
    ) {
        match self.run(op, ino, act) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    pub(super) fn entry(
        &self,
        op: Op,
        parent: INodeNo,
        reply: ReplyEntry,
        act: impl FnOnce(&Vfs) -> Result<Entry, Error>,
    ) {
        match self.run(op, parent, act) {
            Ok(entry) => self.reply_entry(reply, &entry),
            Err(e) => reply.error(e),
        }
    }

    /// The kernel may keep lists of names as long as it may keep names.
    pub(super) fn opendir_flags(&self) -> FopenFlags {
        if self.vfs.absent_ttl().is_zero() {
            FopenFlags::empty()
        } else {
            FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
        }
    }

    pub(super) fn reply_entry(&self, reply: ReplyEntry, entry: &Entry) {
        let attr_ttl = self.vfs.attr_ttl(entry.ino, &entry.stat);
        let ttl = self.vfs.ttl(&entry.stat);
        reply.entry_with_ttls(&attr_ttl, &ttl, &file_attr(entry), GENERATION);
    }

    pub(super) fn attr(
        &self,
        op: Op,
        ino: INodeNo,
        reply: ReplyAttr,
        act: impl FnOnce(&Vfs) -> Result<Entry, Error>,
    ) {
        match self.run(op, ino, act) {
            Ok(entry) => {
                reply.attr(&self.vfs.attr_ttl(ino.0, &entry.stat), &file_attr(&entry));
            }
            Err(e) => reply.error(e),
        }
    }

    pub(super) fn xattr(
        &self,
        op: Op,
        ino: INodeNo,
        size: u32,
        reply: ReplyXattr,
        act: impl FnOnce(&Vfs) -> Result<Vec<u8>, Error>,
    ) {
        match self.run(op, ino, act) {
            Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
            Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
            Ok(value) => reply.data(&value),
            Err(e) => reply.error(e),
        }
    }
}

/// Errors that tell of us or of the machine, not of the request.
fn is_our_fault(e: Error) -> bool {
    matches!(
        e,
        Error::IO | Error::BADF | Error::MFILE | Error::NFILE | Error::FAULT | Error::NOMEM
    )
}
