//! Who may write, and what is still being read. Both are locks of the kernel on the store's file, which
//! end with the process that holds them.

use crate::disk::{self, At};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Byte of the file whose lock stands for generation 0.
const PINS: i64 = 1 << 62;
/// Byte of the file whose lock says that something is about to be written.
const PENDING: i64 = 1 << 61;

/// Releases flock(2).
pub(super) fn unlock(file: &File) {
    // Where it fails, close(2) releases it.
    let _released = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock);
}

/// Pins a generation until `file` is closed or [`unpin`]ned.
pub(super) fn pin(file: &File, path: &Path, generation: u64) -> Result<(), disk::Error> {
    set(file, path, libc::F_RDLCK, generation)
}

/// Releases a generation.
pub(super) fn unpin(file: &File, path: &Path, generation: u64) -> Result<(), disk::Error> {
    set(file, path, libc::F_UNLCK, generation)
}

/// Those of some generations that somebody has pinned, in ranges, in no order.
pub(super) fn pinned(
    file: &File,
    path: &Path,
    among: Range<u64>,
) -> Result<Vec<Range<u64>>, disk::Error> {
    let mut found = Vec::new();
    let mut open = vec![among];
    while let Some(among) = open.pop() {
        if among.is_empty() {
            continue;
        }
        let mut lock = range(libc::F_WRLCK, among.clone());
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))
            .map_err(io::Error::from)
            .at("fcntl(F_OFD_GETLK)", path)?;
        if i32::from(lock.l_type) == libc::F_UNLCK {
            continue;
        }
        // Any one of them is told; a length of 0 reaches to the end.
        let start = u64::try_from(lock.l_start.saturating_sub(PINS)).unwrap_or(0);
        let len = u64::try_from(lock.l_len).unwrap_or(0);
        let end = if len == 0 { u64::MAX } else { start + len };
        found.push(start..end);
        open.push(among.start..start.clamp(among.start, among.end));
        open.push(end.clamp(among.start, among.end)..among.end);
    }
    Ok(found)
}

/// Says that something is about to be written, until `file` is closed.
pub(super) fn announce(file: &File, path: &Path) -> Result<(), disk::Error> {
    fcntl(
        file,
        FcntlArg::F_OFD_SETLK(&bytes(libc::F_RDLCK, PENDING, 1)),
    )
    .map_err(io::Error::from)
    .at("fcntl(F_OFD_SETLK)", path)?;
    Ok(())
}

/// Whether somebody says so.
pub(super) fn is_announced(file: &File, path: &Path) -> Result<bool, disk::Error> {
    let mut lock = bytes(libc::F_WRLCK, PENDING, 1);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))
        .map_err(io::Error::from)
        .at("fcntl(F_OFD_GETLK)", path)?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn set(file: &File, path: &Path, kind: i32, generation: u64) -> Result<(), disk::Error> {
    let lock = range(kind, generation..generation + 1);
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock))
        .map_err(io::Error::from)
        .at("fcntl(F_OFD_SETLK)", path)?;
    Ok(())
}

fn range(kind: i32, generations: Range<u64>) -> libc::flock {
    let offset = |n: u64| i64::try_from(n).unwrap_or(i64::MAX - PINS);
    let len = offset(generations.end - generations.start);
    bytes(kind, PINS + offset(generations.start), len)
}

fn bytes(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).expect("BUG: the kinds are 0 to 2"),
        l_whence: i16::try_from(libc::SEEK_SET).expect("BUG: it is 0"),
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}
