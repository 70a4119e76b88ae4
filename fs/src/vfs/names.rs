//! Operations on names: look up, make, remove, rename, link.

use super::{At, Entry, Requester, Vfs, hold_at, proc_path, stat_at};
use crate::inode::{Identity, Ino};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, FileType, Gid, Mode, RenameFlags, Statx, Uid};
use rustix::io::{Errno, Result};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const S_ISUID_SGID: u32 = 0o6000;
const S_ISGID: u32 = 0o2000;

thread_local! {
    /// The umask belongs to the whole process unless the thread asks for its own, see `CLONE_FS` in
    /// unshare(2).
    static OWN_UMASK: nix::Result<()> = unshare(CloneFlags::CLONE_FS);
}

/// Has what this thread makes limited by this umask, or by a default ACL instead, as open(2) has it.
fn set_umask(umask: u32) -> Result<()> {
    OWN_UMASK.with(|result| result.map_err(|e| Errno::from_raw_os_error(e as i32)))?;
    rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
    Ok(())
}

impl Vfs {
    /// Finds a name. `None` when there is none.
    pub(crate) fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Option<Entry>> {
        if self.is_hidden(parent, name) {
            return Ok(None);
        }
        let dir = self.dir(parent)?;
        match stat_at(&dir, name) {
            Ok(stat) => Ok(Some(self.entry(&dir, parent, name, stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the kernel is told of a name.
    pub(super) fn entry(&self, dir: &OwnedFd, parent: Ino, name: &OsStr, stat: Statx) -> Entry {
        let ino = self.table.enter(parent, name, Identity::of(&stat));
        Entry {
            ino,
            stat: self.seen_at(dir, name, stat),
        }
    }

    /// Makes a directory, or by mknod(2) a file, fifo, socket or device.
    pub(crate) fn make(
        &self,
        who: Requester,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        rdev: u32,
    ) -> Result<Entry> {
        self.make_with(who, parent, name, mode, |dir| {
            let kind = FileType::from_raw_mode(mode);
            let mode = Mode::from_raw_mode(mode);
            if kind == FileType::Directory {
                rustix::fs::mkdirat(dir, name, mode)
            } else {
                rustix::fs::mknodat(dir, name, kind, mode, decode_dev(rdev))
            }
        })
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(
        &self,
        who: Requester,
        parent: Ino,
        name: &OsStr,
        target: &Path,
    ) -> Result<Entry> {
        self.make_with(who, parent, name, 0, |dir| {
            rustix::fs::symlinkat(target, dir, name)
        })
    }

    fn make_with(
        &self,
        who: Requester,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        make: impl Fn(&OwnedFd) -> Result<()>,
    ) -> Result<Entry> {
        let dir = self.dir_to_make_in(who, parent, name)?;
        make(&dir)?;
        let stat = self.give(who, &dir, name, mode)?;
        let entry = self.entry(&dir, parent, name, stat);
        self.tell(parent, name);
        Ok(entry)
    }

    /// The directory for something that is about to be made.
    pub(super) fn dir_to_make_in(
        &self,
        who: Requester,
        parent: Ino,
        name: &OsStr,
    ) -> Result<std::sync::Arc<OwnedFd>> {
        if self.is_hidden(parent, name) {
            return Err(Errno::PERM);
        }
        set_umask(who.umask)?;
        self.dir(parent)
    }

    /// Gives what was just made to who asked for it. A directory with the setgid bit has already given it its
    /// group.
    pub(super) fn give(
        &self,
        who: Requester,
        dir: &OwnedFd,
        name: &OsStr,
        mode: u32,
    ) -> Result<Statx> {
        let stat = stat_at(dir, name)?;
        let uid = (who.uid != self.euid).then_some(who.uid);
        let inherits =
            || Ok::<_, Errno>(u32::from(stat_at(dir, OsStr::new(""))?.stx_mode) & S_ISGID != 0);
        let gid = (who.gid != stat.stx_gid && !inherits()?).then_some(who.gid);
        if uid.is_none() && gid.is_none() {
            return Ok(stat);
        }
        rustix::fs::chownat(
            dir,
            name,
            uid.map(Uid::from_raw),
            gid.map(Gid::from_raw),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        // chown(2) takes these bits away, also from root.
        let special = mode & S_ISUID_SGID;
        if special != 0 {
            let fd = hold_at(dir, name, rustix::fs::OFlags::empty())?;
            let mode = u32::from(stat.stx_mode) | special;
            rustix::fs::chmod(proc_path(&fd), Mode::from_raw_mode(mode & 0o7777))?;
        }
        stat_at(dir, name)
    }

    /// Removes a name; a directory with `AtFlags::REMOVEDIR`.
    pub(crate) fn unlink(&self, parent: Ino, name: &OsStr, flags: AtFlags) -> Result<()> {
        if self.is_hidden(parent, name) {
            return Err(Errno::NOENT);
        }
        let dir = self.dir(parent)?;
        let pinned = self.pin(&dir, name);
        let removed = {
            let _renaming = self.renames.read();
            let removed = rustix::fs::unlinkat(&dir, name, flags);
            if removed.is_ok() {
                self.table.remove_name(parent, name);
            }
            removed
        };
        if let Some(ino) = pinned {
            self.table.unpin_named(ino);
        }
        removed?;
        self.tell(parent, name);
        Ok(())
    }

    /// Keeps reachable what a name means, which is about to be taken from it. It may be open, or a working
    /// directory, and it may be its last name.
    fn pin(&self, dir: impl AsFd, name: &OsStr) -> Option<Ino> {
        let fd = hold_at(dir, name, rustix::fs::OFlags::empty()).ok()?;
        let ino = self.table.find(Identity::of(&super::stat_fd(&fd).ok()?))?;
        self.table.pin(ino, fd);
        Some(ino)
    }

    /// Renames as renameat2(2) does with `RENAME_NOREPLACE` or `RENAME_EXCHANGE`, or neither.
    pub(crate) fn rename(
        &self,
        from: (Ino, &OsStr),
        to: (Ino, &OsStr),
        flags: RenameFlags,
    ) -> Result<()> {
        if flags.intersects(!(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE)) {
            return Err(Errno::INVAL);
        }
        if self.is_hidden(from.0, from.1) {
            return Err(Errno::NOENT);
        }
        if self.is_hidden(to.0, to.1) {
            return Err(Errno::PERM);
        }
        let (from_dir, to_dir) = (self.dir(from.0)?, self.dir(to.0)?);
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let replaced = if exchange {
            None
        } else {
            self.pin(&to_dir, to.1)
        };
        let renamed = {
            let _renaming = self.renames.read();
            let renamed = rustix::fs::renameat_with(&from_dir, from.1, &to_dir, to.1, flags);
            if renamed.is_ok() {
                self.rename_in_table(from, to, exchange, &to_dir);
            }
            renamed
        };
        if let Some(ino) = replaced {
            self.table.unpin_named(ino);
        }
        renamed?;
        self.tell(from.0, from.1);
        self.tell(to.0, to.1);
        Ok(())
    }

    fn rename_in_table(
        &self,
        from: (Ino, &OsStr),
        to: (Ino, &OsStr),
        exchange: bool,
        to_dir: &OwnedFd,
    ) {
        if exchange {
            self.table.exchange(from, to);
            return;
        }
        // Between two names of one file rename(2) does nothing.
        let moved = self.table.child(from.0, from.1);
        if moved.is_some() && moved == self.table.child(to.0, to.1) {
            return;
        }
        self.table.remove_name(from.0, from.1);
        // What is there now, whatever the table believed to be called so.
        match stat_at(to_dir, to.1)
            .ok()
            .and_then(|stat| self.table.find(Identity::of(&stat)))
        {
            Some(ino) => self.table.add_name(to.0, to.1, ino),
            None => self.table.remove_name(to.0, to.1),
        }
    }

    /// Gives an object one more name.
    pub(crate) fn link(&self, ino: Ino, parent: Ino, name: &OsStr) -> Result<Entry> {
        if self.is_hidden(parent, name) {
            return Err(Errno::PERM);
        }
        let dir = self.dir(parent)?;
        let (object, _) = self.hold(ino)?;
        let from = proc_path(&object);
        rustix::fs::linkat(rustix::fs::CWD, &from, &dir, name, AtFlags::SYMLINK_FOLLOW)?;
        let entry = self.entry(&dir, parent, name, stat_at(&dir, name)?);
        self.tell(parent, name);
        Ok(entry)
    }

    /// The text of a symbolic link.
    pub(crate) fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let (text, _) = self.with(ino, |at: &At| {
            let stat = at.stat()?;
            let text = rustix::fs::readlinkat(&at.dir, &*at.name, Vec::new())?;
            Ok((text.into_bytes(), stat))
        })?;
        Ok(text)
    }
}

/// The 32-bit device number of the protocol, see `new_decode_dev` in the kernel.
fn decode_dev(rdev: u32) -> u64 {
    rustix::fs::makedev(
        (rdev >> 8) & 0xfff,
        (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00),
    )
}
