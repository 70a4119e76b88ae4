//! Who did what: from a request to what the observer is told, while the requester waits.

use super::Adapter;
use crate::view::Deed;
use fuser::{INodeNo, Request};
use rustix::fs::OFlags;
use std::ffi::OsStr;

impl Adapter {
    /// Something was done to a name.
    pub(super) fn did(&self, req: &Request, deed: Deed, parent: INodeNo, name: &OsStr) {
        if !self.attends {
            return;
        }
        if let Some(path) = self.vfs.table.path(parent.0, name) {
            self.vfs.observer.did(req.pid(), deed, &path);
        }
    }

    /// Something was done to a node; of several names the newest is told.
    pub(super) fn did_to(&self, req: &Request, deed: Deed, ino: INodeNo) {
        if !self.attends {
            return;
        }
        if let Some(path) = self.vfs.table.paths(ino.0).last() {
            self.vfs.observer.did(req.pid(), deed, path);
        }
    }

    /// A file was opened.
    pub(super) fn did_open(&self, req: &Request, ino: INodeNo, flags: OFlags) {
        let (reads, writes) = match flags & OFlags::RWMODE {
            OFlags::WRONLY => (false, true),
            OFlags::RDWR => (true, true),
            _ => (true, false),
        };
        if reads {
            self.did_to(req, Deed::Read, ino);
        }
        if writes {
            self.did_to(req, Deed::Write, ino);
        }
    }
}
