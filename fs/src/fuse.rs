//! The adapter: one operation is one call and one reply. It decides nothing.

mod replies;
mod told;
mod values;

use crate::error::Op;
use crate::session::Counters;
use crate::vfs::{Change, DirEntry, OpenReply, Vfs, Writing};
use crate::view::Deed;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{AtFlags, OFlags, SeekFrom};
use rustix::io::Errno as Error;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use values::{NOTHING, file_attr, kind, open_flags, timespec, who, with_umask};

/// Answers the kernel out of a [`Vfs`].
pub(crate) struct Adapter {
    pub(crate) vfs: Arc<Vfs>,
    /// Whether the observer wants to know who did what.
    pub(crate) attends: bool,
    pub(crate) counters: Arc<Counters>,
    pub(crate) max_stack_depth: u32,
}

/// Numbers are not reused while the kernel knows them.
const GENERATION: Generation = Generation(0);
const MAX_WRITE: u32 = 1 << 20;
const MAX_BACKGROUND: u16 = 64;
/// The kernel asks again when it wants more.
const MAX_COPY: u64 = 1 << 30;

fn fopen_flags(open: &OpenReply) -> FopenFlags {
    let mut flags = FopenFlags::FOPEN_NOFLUSH;
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, open.keep_pages);
    flags
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Not FUSE_ATOMIC_O_TRUNC: the kernel would not say whose setuid bits the truncation clears.
        let wanted = InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_ASYNC_DIO;
        let offered = config.capabilities();
        config.add_capabilities(wanted & offered).ok();
        if self.vfs.passthrough.load(Ordering::Relaxed) {
            let possible = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
                && config.set_max_stack_depth(self.max_stack_depth).is_ok();
            self.vfs.passthrough.store(possible, Ordering::Relaxed);
        }
        config.set_max_write(MAX_WRITE).ok();
        config.set_max_background(MAX_BACKGROUND).ok();
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.run(Op::Lookup, parent, |vfs| vfs.lookup(parent.0, name));
        self.did(req, Deed::Look, parent, name);
        match found {
            Ok(Some(entry)) => self.reply_entry(reply, &entry),
            // Node 0 says that there is no such name, and for how long that may be believed.
            Ok(None) => reply.entry(&self.vfs.absent_ttl(), &NOTHING, GENERATION),
            Err(e) => reply.error(e),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, n: u64) {
        self.run(Op::Forget, ino, |vfs| {
            vfs.forget(ino.0, n);
            Ok(())
        })
        .ok();
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        self.attr(Op::Getattr, ino, reply, |vfs| {
            vfs.getattr(ino.0, fh.map(|fh| fh.0))
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.did_to(req, Deed::Write, ino);
        let (atime, mtime) = (atime.map(timespec), mtime.map(timespec));
        let change = Change {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        };
        self.attr(Op::Setattr, ino, reply, |vfs| {
            vfs.setattr(who(req), ino.0, fh.map(|fh| fh.0), &change)
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.did_to(req, Deed::ReadLink, ino);
        match self.run(Op::Readlink, ino, |vfs| vfs.readlink(ino.0)) {
            Ok(text) => reply.data(&text),
            Err(e) => reply.error(e),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.did(req, Deed::Write, parent, name);
        self.entry(Op::Mknod, parent, reply, |vfs| {
            vfs.make(with_umask(req, umask), parent.0, name, mode, rdev)
        });
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = mode & 0o7777 | rustix::fs::FileType::Directory.as_raw_mode();
        self.did(req, Deed::Write, parent, name);
        self.entry(Op::Mkdir, parent, reply, |vfs| {
            vfs.make(with_umask(req, umask), parent.0, name, mode, 0)
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.did(req, Deed::Write, parent, name);
        self.empty(Op::Unlink, parent, reply, |vfs| {
            vfs.unlink(parent.0, name, AtFlags::empty())
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.did(req, Deed::Write, parent, name);
        self.empty(Op::Rmdir, parent, reply, |vfs| {
            vfs.unlink(parent.0, name, AtFlags::REMOVEDIR)
        });
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        self.did(req, Deed::Write, parent, name);
        self.entry(Op::Symlink, parent, reply, |vfs| {
            vfs.symlink(who(req), parent.0, name, target)
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.did(req, Deed::Write, parent, name);
        self.did(req, Deed::Write, newparent, newname);
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        self.empty(Op::Rename, parent, reply, |vfs| {
            vfs.rename((parent.0, name), (newparent.0, newname), flags)
        });
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        self.did(req, Deed::Write, newparent, newname);
        self.entry(Op::Link, ino, reply, |vfs| {
            vfs.link(ino.0, newparent.0, newname)
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.run(Op::Open, ino, |vfs| {
            vfs.open(who(req), ino.0, open_flags(flags.0), &|fd| {
                reply.open_backing(fd)
            })
        });
        self.did_open(req, ino, open_flags(flags.0));
        match opened {
            Ok(open) => match &open.backing {
                Some(id) => reply.opened_passthrough(FileHandle(open.fh), fopen_flags(&open), id),
                None => reply.opened(FileHandle(open.fh), fopen_flags(&open)),
            },
            Err(e) => reply.error(e),
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let created = self.run(Op::Create, parent, |vfs| {
            vfs.create(
                with_umask(req, umask),
                (parent.0, name),
                mode,
                open_flags(flags),
                &|fd| reply.open_backing(fd),
            )
        });
        self.did(req, Deed::Write, parent, name);
        match created {
            Ok((entry, open)) => {
                let ttl = self.vfs.ttl(&entry.stat);
                let (attr, flags, fh) =
                    (file_attr(&entry), fopen_flags(&open), FileHandle(open.fh));
                match &open.backing {
                    Some(id) => reply.created_passthrough(&ttl, &attr, GENERATION, fh, flags, id),
                    None => reply.created(&ttl, &attr, GENERATION, fh, flags),
                }
            }
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.run(Op::Read, ino, |vfs| vfs.read(fh.0, offset, size as usize)) {
            Ok(data) => reply.data(&data),
            Err(e) => reply.error(e),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // A page of a mapping has its place, whatever file it is written through.
        let is_page = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let how = Writing {
            appends: open_flags(flags.0).contains(OFlags::APPEND) && !is_page,
            drops_setuid: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
        };
        match self.run(Op::Write, ino, |vfs| vfs.write(fh.0, offset, data, how)) {
            Ok(n) => reply.written(u32::try_from(n).unwrap_or(u32::MAX)),
            Err(e) => reply.error(e),
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.empty(Op::Release, ino, reply, |vfs| {
            vfs.release(fh.0);
            Ok(())
        });
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.empty(Op::Fsync, ino, reply, |vfs| vfs.fsync(fh.0, datasync));
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.did_to(req, Deed::List, ino);
        match self.run(Op::Opendir, ino, |vfs| vfs.opendir(ino.0)) {
            Ok(fh) => reply.opened(FileHandle(fh), self.opendir_flags()),
            Err(e) => reply.error(e),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let read = self.run(Op::Readdir, ino, |vfs| {
            vfs.readdir(fh.0, offset, |entry: &DirEntry<'_>| {
                !reply.add(INodeNo(entry.ino), entry.next, kind(entry.kind), entry.name)
            })
        });
        match read {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.empty(Op::Releasedir, ino, reply, |vfs| {
            vfs.releasedir(fh.0);
            Ok(())
        });
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.empty(Op::Fsync, ino, reply, |vfs| vfs.fsyncdir(fh.0));
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.run(Op::Statfs, ino, |vfs| vfs.statfs(ino.0)) {
            Ok(s) => reply.statfs(
                s.f_blocks,
                s.f_bfree,
                s.f_bavail,
                s.f_files,
                s.f_ffree,
                u32::try_from(s.f_bsize).unwrap_or(u32::MAX),
                u32::try_from(s.f_namemax).unwrap_or(u32::MAX),
                u32::try_from(s.f_frsize).unwrap_or(u32::MAX),
            ),
            Err(e) => reply.error(e),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.did_to(req, Deed::Write, ino);
        self.empty(Op::Setxattr, ino, reply, |vfs| {
            vfs.setxattr(ino.0, name, value, flags as u32)
        });
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.xattr(Op::Getxattr, ino, size, reply, |vfs| {
            vfs.getxattr(ino.0, name)
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.xattr(Op::Listxattr, ino, size, reply, |vfs| vfs.listxattr(ino.0));
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(Op::Removexattr, ino, reply, |vfs| {
            vfs.removexattr(ino.0, name)
        });
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.empty(Op::Fallocate, ino, reply, |vfs| {
            vfs.fallocate(fh.0, offset, length, mode as u32)
        });
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let sought = self.run(Op::Lseek, ino, |vfs| {
            let offset = u64::try_from(offset).map_err(|_negative| Error::NXIO)?;
            let to = match whence {
                libc::SEEK_DATA => SeekFrom::Data(offset),
                libc::SEEK_HOLE => SeekFrom::Hole(offset),
                _ => return Err(Error::INVAL),
            };
            vfs.seek(fh.0, to)
        });
        match sought {
            Ok(at) => reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
            Err(e) => reply.error(e),
        }
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let len = usize::try_from(len.min(MAX_COPY)).unwrap_or(0);
        let copied = self.run(Op::CopyFileRange, ino_out, |vfs| {
            vfs.copy((fh_in.0, offset_in), (fh_out.0, offset_out), len)
        });
        match copied {
            Ok(n) => reply.written(u32::try_from(n).unwrap_or(u32::MAX)),
            Err(e) => reply.error(e),
        }
    }

    fn ioctl(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let none: Result<(), _> = self.run(Op::Ioctl, ino, |_| Err(Error::NOTTY));
        if let Err(e) = none {
            reply.error(e);
        }
    }
}
