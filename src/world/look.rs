//! One look at one path, by the system calls that it takes. Remembers nothing.

use crate::base::{Digest, Identity, Kind, Seen};
use crate::disk;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Whether its directory is told of each change of it: a directory's names change, and a file may have others.
pub(super) fn is_told_by_name(seen: &Seen) -> bool {
    match seen.kind {
        Kind::File => seen.nlink < 2,
        Kind::Dir => false,
        Kind::Absent | Kind::Link | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown(_) => {
            true
        }
    }
}

/// Whether two looks saw the same, as far as a stat can tell.
#[must_use]
pub fn same(a: &Seen, b: &Seen) -> bool {
    a.kind == b.kind && a.id == b.id && a.mode == b.mode && a.text == b.text
}

/// One lstat(2), and readlink(2) for a link.
#[must_use]
pub fn see(path: &Path) -> Seen {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => Seen::absent(),
                errno => Seen::new(
                    Kind::Unknown(errno.unwrap_or(libc::EIO)),
                    Identity::default(),
                ),
            };
        }
    };
    let kind = meta.file_type();
    let kind = if kind.is_file() {
        Kind::File
    } else if kind.is_dir() {
        Kind::Dir
    } else if kind.is_symlink() {
        Kind::Link
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else {
        Kind::Device
    };
    let mut seen = Seen::new(kind, Identity::of(&meta));
    seen.mode = [meta.mode() & 0o7777, meta.uid(), meta.gid()];
    seen.rdev = meta.rdev();
    seen.nlink = meta.nlink();
    if kind == Kind::Link {
        match std::fs::read_link(path) {
            Ok(text) => seen.text = text.as_os_str().as_bytes().to_vec(),
            Err(error) => seen.kind = Kind::Unknown(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
    seen
}

/// Hashes a regular file that is the one that was seen, before and after.
///
/// # Errors
/// An errno; `ESTALE` when it is another one.
pub fn hash(path: &Path, seen: &Seen) -> Result<Digest, i32> {
    let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    let file = open(path).map_err(errno)?;
    let is_it = |file: &File| -> Result<bool, i32> {
        Ok(Identity::of(&file.metadata().map_err(errno)?) == seen.id)
    };
    if !is_it(&file)? {
        return Err(libc::ESTALE);
    }
    let (digest, _) =
        disk::hash(&file).map_err(|error| error.source.raw_os_error().unwrap_or(libc::EIO))?;
    if is_it(&file)? {
        Ok(digest)
    } else {
        Err(libc::ESTALE)
    }
}

/// Opens a file for reading, neither following a link nor waiting for a fifo's writer.
///
/// # Errors
/// As open(2).
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
}
