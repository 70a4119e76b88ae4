//! Values of the protocol as values of the filesystem, and back.

use crate::vfs::{Entry, Requester};
use fuser::{FileAttr, FileType, INodeNo, Request, TimeOrNow};
use rustix::fs::{OFlags, Statx, StatxTimestamp, Timespec};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) fn who(req: &Request) -> Requester {
    with_umask(req, 0)
}

pub(super) fn with_umask(req: &Request, umask: u32) -> Requester {
    Requester {
        uid: req.uid(),
        gid: req.gid(),
        umask,
    }
}

pub(super) fn open_flags(flags: i32) -> OFlags {
    OFlags::from_bits_retain(flags as u32)
}

/// What a reply says of a name that is not there.
pub(super) const NOTHING: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

pub(super) fn file_attr(Entry { ino, stat }: &Entry) -> FileAttr {
    FileAttr {
        ino: INodeNo(*ino),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: system_time(&stat.stx_atime),
        mtime: system_time(&stat.stx_mtime),
        ctime: system_time(&stat.stx_ctime),
        crtime: system_time(&stat.stx_btime),
        kind: kind(rustix::fs::FileType::from_raw_mode(stat.stx_mode.into())),
        perm: stat.stx_mode & 0o7777,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: encode_dev(stat),
        blksize: stat.stx_blksize,
        flags: 0,
    }
}

/// The 32-bit device number of the protocol, see `new_encode_dev` in the kernel.
fn encode_dev(stat: &Statx) -> u32 {
    let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

pub(super) fn kind(kind: rustix::fs::FileType) -> FileType {
    use rustix::fs::FileType as Kind;
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::RegularFile | Kind::Unknown => FileType::RegularFile,
    }
}

fn system_time(t: &StatxTimestamp) -> SystemTime {
    let nanos = Duration::from_nanos(t.tv_nsec.into());
    match u64::try_from(t.tv_sec) {
        Ok(secs) => UNIX_EPOCH + Duration::from_secs(secs) + nanos,
        Err(_) => UNIX_EPOCH - Duration::from_secs(t.tv_sec.unsigned_abs()) + nanos,
    }
}

pub(super) fn timespec(t: TimeOrNow) -> Timespec {
    let t = match t {
        TimeOrNow::Now => {
            return Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            };
        }
        TimeOrNow::SpecificTime(t) => t,
    };
    match t.duration_since(UNIX_EPOCH) {
        Ok(since) => Timespec {
            tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: since.subsec_nanos().into(),
        },
        // fuser takes the nanoseconds away from a negative number of seconds; timespec adds them.
        Err(before) => Timespec {
            tv_sec: -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
            tv_nsec: before.duration().subsec_nanos().into(),
        },
    }
}
