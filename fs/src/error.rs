//! Errors of the mount: what was asked, of which path, and what the kernel said.
//!
//! It does not know how an error is shown; a request answers with the errno alone.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A kind of request, by the name FUSE has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
#[allow(
    missing_docs,
    reason = "fuse(4) and the manual page of each call describe them"
)]
pub enum Op {
    Lookup,
    Forget,
    Getattr,
    Setattr,
    Readlink,
    Mknod,
    Mkdir,
    Unlink,
    Rmdir,
    Symlink,
    Rename,
    Link,
    Open,
    Create,
    Read,
    Write,
    Release,
    Fsync,
    Opendir,
    Readdir,
    Releasedir,
    Statfs,
    Setxattr,
    Getxattr,
    Listxattr,
    Removexattr,
    Fallocate,
    Lseek,
    CopyFileRange,
    Ioctl,
    /// Not a request: the session itself starts, ends or drops what the kernel caches.
    Session,
}

impl Op {
    /// Every kind, in the order of their discriminants.
    pub const ALL: [Self; 31] = [
        Self::Lookup,
        Self::Forget,
        Self::Getattr,
        Self::Setattr,
        Self::Readlink,
        Self::Mknod,
        Self::Mkdir,
        Self::Unlink,
        Self::Rmdir,
        Self::Symlink,
        Self::Rename,
        Self::Link,
        Self::Open,
        Self::Create,
        Self::Read,
        Self::Write,
        Self::Release,
        Self::Fsync,
        Self::Opendir,
        Self::Readdir,
        Self::Releasedir,
        Self::Statfs,
        Self::Setxattr,
        Self::Getxattr,
        Self::Listxattr,
        Self::Removexattr,
        Self::Fallocate,
        Self::Lseek,
        Self::CopyFileRange,
        Self::Ioctl,
        Self::Session,
    ];
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}");
        f.write_str(&name.to_ascii_lowercase())
    }
}

/// A request, or the session, failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}: {source}", path.display())]
pub struct FsError {
    /// What was asked.
    pub op: Op,
    /// The backing path it was asked of, as far as it is known.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl FsError {
    /// The errno behind it, `EIO` when there is none.
    pub fn errno(&self) -> i32 {
        self.source
            .raw_os_error()
            .unwrap_or(rustix::io::Errno::IO.raw_os_error())
    }
}
