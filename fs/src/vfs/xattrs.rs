//! Extended attributes, see xattr(7). The backing filesystem says which there are and who may have them.

use super::{At, Vfs, proc_path};
use crate::inode::Ino;
use rustix::fs::XattrFlags;
use rustix::io::Result;
use std::ffi::OsStr;
use std::path::PathBuf;

/// The longest value and the longest list of names that Linux has.
const LIMIT: usize = 64 * 1024;

impl At {
    /// A path to the object that ends in itself also when it is a symbolic link, if its last component is
    /// not followed; for a pinned object it must be followed.
    fn path(&self) -> PathBuf {
        let mut path = proc_path(&self.dir);
        if !self.is_itself() {
            path.push(&*self.name);
        }
        path
    }
}

impl Vfs {
    /// The value of an attribute.
    pub(crate) fn getxattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>> {
        self.xattr(ino, |path, follow| {
            let mut value = Vec::with_capacity(LIMIT);
            let spare = rustix::buffer::spare_capacity(&mut value);
            match follow {
                true => rustix::fs::getxattr(path, name, spare)?,
                false => rustix::fs::lgetxattr(path, name, spare)?,
            };
            Ok(value)
        })
    }

    /// The names of all attributes, each with a NUL byte after it.
    pub(crate) fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        self.xattr(ino, |path, follow| {
            let mut list = Vec::with_capacity(LIMIT);
            let spare = rustix::buffer::spare_capacity(&mut list);
            match follow {
                true => rustix::fs::listxattr(path, spare)?,
                false => rustix::fs::llistxattr(path, spare)?,
            };
            Ok(list)
        })
    }

    /// Sets an attribute. `flags` are those of setxattr(2).
    pub(crate) fn setxattr(&self, ino: Ino, name: &OsStr, value: &[u8], flags: u32) -> Result<()> {
        let flags = XattrFlags::from_bits_retain(flags);
        self.xattr(ino, |path, follow| match follow {
            true => rustix::fs::setxattr(path, name, value, flags),
            false => rustix::fs::lsetxattr(path, name, value, flags),
        })?;
        self.tell_all(ino);
        Ok(())
    }

    /// Removes an attribute.
    pub(crate) fn removexattr(&self, ino: Ino, name: &OsStr) -> Result<()> {
        self.xattr(ino, |path, follow| match follow {
            true => rustix::fs::removexattr(path, name),
            false => rustix::fs::lremovexattr(path, name),
        })?;
        self.tell_all(ino);
        Ok(())
    }

    fn xattr<T>(&self, ino: Ino, call: impl Fn(PathBuf, bool) -> Result<T>) -> Result<T> {
        let (done, _) = self.with(ino, |at| {
            let stat = at.stat()?;
            Ok((call(at.path(), at.is_itself()), stat))
        })?;
        done
    }
}
