//! The filesystem: a directory tree mirrored through descriptors, by node number. It can be run without a
//! kernel on the other side.
//!
//! An object is reached as (descriptor of its directory, name) and checked to be the object meant. When it
//! is not, a rename may be under way: the attempt is repeated while none is. When it still is not, somebody
//! changed the tree behind our back: an open file serves in its stead, else the answer is `ESTALE`, upon which
//! the kernel looks the path up anew.
//!
//! It decides nothing about what a name should mean; it knows no FUSE message.

mod attributes;
mod directories;
mod files;
mod ids;
mod names;
mod setuid;
mod xattrs;

pub(crate) use attributes::Change;
pub(crate) use directories::DirEntry;
pub(crate) use files::{OpenReply, Writing};
pub(crate) use ids::OwnIds;

use crate::descriptors::Descriptors;
use crate::handles::Handles;
use crate::inode::{Forgotten, Identity, Ino, Name, Place, ROOT, Table};
use crate::view::Observer;
use fuser::BackingId;
use parking_lot::RwLock;
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags};
use rustix::io::{Errno, Result};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What the kernel may believe, see [`Config`](crate::Config).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Belief {
    pub(crate) ttl: Duration,
    pub(crate) shared: bool,
}

/// Long enough that one stat(2) asks once: its look-up tells the attributes too.
const ONE_CALL: Duration = Duration::from_millis(1);

fn is_dir(stat: &Statx) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.stx_mode.into()) == rustix::fs::FileType::Directory
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requester {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// What the mode of something new is limited by.
    pub(crate) umask: u32,
}

/// A name and what it names.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) ino: Ino,
    pub(crate) stat: Statx,
}

/// The mirrored tree.
pub(crate) struct Vfs {
    root: Arc<OwnedFd>,
    pub(crate) table: Table<BackingId>,
    descriptors: Descriptors,
    /// Held shared while names change, exclusively to see a moment when none does.
    renames: RwLock<()>,
    files: Handles<files::File>,
    dirs: Handles<directories::Dir>,
    hide: Vec<OsString>,
    belief: Belief,
    /// Whether passthrough may still be tried.
    pub(crate) passthrough: AtomicBool,
    pub(crate) observer: Arc<dyn Observer>,
    /// Set where no other owners can be expressed.
    own_ids: Option<OwnIds>,
    euid: u32,
    /// Tells the kernel that it must not believe what it remembers of a node's attributes.
    pub(crate) stale: OnceLock<Box<dyn Fn(Ino) + Send + Sync>>,
}

/// An object as (directory descriptor, name), or as (its own `O_PATH` descriptor, nothing).
#[derive(Debug, Clone)]
struct At {
    dir: Arc<OwnedFd>,
    name: Arc<OsStr>,
}

impl At {
    fn itself(fd: Arc<OwnedFd>) -> Self {
        Self {
            dir: fd,
            name: OsStr::new("").into(),
        }
    }

    fn is_itself(&self) -> bool {
        self.name.is_empty()
    }

    fn stat(&self) -> Result<Statx> {
        stat_at(&self.dir, &self.name)
    }

    /// An `O_PATH` descriptor of the object itself.
    fn hold(&self) -> Result<Arc<OwnedFd>> {
        if self.is_itself() {
            return Ok(self.dir.clone());
        }
        hold_at(&self.dir, &self.name, OFlags::empty()).map(Arc::new)
    }
}

fn stat_at(dir: impl AsFd, name: &OsStr) -> Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(
        dir,
        name,
        flags,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )
}

fn stat_fd(fd: impl AsFd) -> Result<Statx> {
    stat_at(fd, OsStr::new(""))
}

fn hold_at(dir: impl AsFd, name: &OsStr, more: OFlags) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// A path to the object of a descriptor, for calls that take no `O_PATH` descriptor.
fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

impl Vfs {
    /// Mirrors the directory at `root`, an absolute path that must not lead into the mount.
    pub(crate) fn new(
        root: &Path,
        hide: Vec<OsString>,
        belief: Belief,
        passthrough: bool,
        own_ids: Option<OwnIds>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())?;
        let stat = stat_fd(&fd)?;
        Ok(Self {
            root: Arc::new(fd),
            table: Table::new(root.to_owned(), &stat),
            descriptors: Descriptors::new(),
            renames: RwLock::new(()),
            files: Handles::new(),
            dirs: Handles::new(),
            hide,
            belief,
            passthrough: AtomicBool::new(passthrough),
            observer,
            own_ids,
            euid: rustix::process::geteuid().as_raw(),
            stale: OnceLock::new(),
        })
    }

    /// For how long the kernel may believe that there is no such name.
    pub(crate) fn absent_ttl(&self) -> Duration {
        match self.belief.shared {
            true => Duration::ZERO,
            false => self.belief.ttl,
        }
    }

    /// For how long the kernel may believe a name of what this stat is of.
    pub(crate) fn ttl(&self, stat: &Statx) -> Duration {
        match is_dir(stat) {
            true => self.belief.ttl,
            false => self.absent_ttl(),
        }
    }

    /// For how long the kernel may believe attributes. Those of a file that is open for writing can change
    /// unseen: a shared mapping writes to the backing file without a call.
    pub(crate) fn attr_ttl(&self, ino: Ino, stat: &Statx) -> Duration {
        if self.table.is_written(ino) {
            Duration::ZERO
        } else if self.belief.shared && !is_dir(stat) {
            ONE_CALL
        } else {
            self.belief.ttl
        }
    }

    /// The root directory itself.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    fn is_hidden(&self, parent: Ino, name: &OsStr) -> bool {
        parent == ROOT && self.hide.iter().any(|hidden| hidden == name)
    }

    /// The kernel dropped `n` look-ups of a node.
    pub(crate) fn forget(&self, ino: Ino, n: u64) {
        self.drop_remembered(self.table.forget(ino, n));
    }

    fn drop_remembered(&self, gone: Forgotten) {
        for (ino, _pin) in gone {
            self.descriptors.drop(ino);
        }
    }

    /// An `O_PATH` descriptor of a directory.
    fn dir(&self, ino: Ino) -> Result<Arc<OwnedFd>> {
        match self.try_dir(ino) {
            Err(e) if is_doubtful(e) => {
                let _no_renames = self.renames.write();
                self.try_dir(ino)
            }
            result => result,
        }
    }

    fn try_dir(&self, ino: Ino) -> Result<Arc<OwnedFd>> {
        if ino == ROOT {
            return Ok(self.root.clone());
        }
        if let Some(fd) = self.descriptors.get(ino) {
            return Ok(fd);
        }
        let (fd, _) = self.attempt(ino, &|at: &At| {
            let fd = at.hold()?;
            let stat = stat_fd(&fd)?;
            Ok((fd, stat))
        })?;
        self.descriptors.put(ino, fd.clone());
        Ok(fd)
    }

    /// Does something to the object of a node, wherever it now is. `act` returns with its result a stat of
    /// what it did it to.
    fn with<T>(&self, ino: Ino, act: impl Fn(&At) -> Result<(T, Statx)>) -> Result<(T, Statx)> {
        match self.attempt(ino, &act) {
            Err(e) if is_doubtful(e) => {
                let _no_renames = self.renames.write();
                self.attempt(ino, &act)
            }
            result => result,
        }
    }

    fn attempt<T>(&self, ino: Ino, act: &dyn Fn(&At) -> Result<(T, Statx)>) -> Result<(T, Statx)> {
        if ino == ROOT {
            return act(&At::itself(self.root.clone()));
        }
        let (identity, place) = self.table.place(ino).ok_or(Errno::STALE)?;
        match place {
            Place::Pinned(fd) => act(&At::itself(fd)),
            Place::Named(names) => {
                for Name { parent, name } in names.into_iter().rev() {
                    let dir = match self.try_dir(parent) {
                        Err(e) if is_doubtful(e) => continue,
                        result => result?,
                    };
                    match act(&At { dir, name }) {
                        Ok((done, stat)) if Identity::of(&stat) == identity => {
                            return Ok((done, stat));
                        }
                        Ok(_) => {}
                        Err(e) if is_doubtful(e) => {}
                        Err(e) => return Err(e),
                    }
                }
                let fd = self.table.open_fd(ino).ok_or(Errno::STALE)?;
                act(&At::itself(fd))
            }
        }
    }

    /// An `O_PATH` descriptor of the object of a node, and its attributes.
    fn hold(&self, ino: Ino) -> Result<(Arc<OwnedFd>, Statx)> {
        self.with(ino, |at| {
            let fd = at.hold()?;
            let stat = stat_fd(&fd)?;
            Ok((fd, stat))
        })
    }

    fn tell(&self, parent: Ino, name: &OsStr) {
        if let Some(path) = self.table.path(parent, name) {
            self.observer.changed(&path);
        }
    }

    fn tell_all(&self, ino: Ino) {
        for path in self.table.paths(ino) {
            self.observer.changed(&path);
        }
    }
}

/// Whether an error may come from the object having another name by now.
fn is_doubtful(e: Errno) -> bool {
    matches!(e, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE)
}

#[cfg(test)]
mod tests;
