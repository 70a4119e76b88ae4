//! The session: from a connection to a served mount and its end.
//!
//! It knows neither what the operations do nor who uses the mount.

use crate::error::{FsError, Op};
use crate::fuse::Adapter;
use crate::inode::{Identity, ROOT};
use crate::mount::{AT_STATX_DONT_SYNC, Connection};
use crate::vfs::{Belief, OwnIds, Vfs};
use crate::view::Observer;
use fuser::{BackgroundSession, INodeNo, Notifier, Session, SessionACL};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Whether the kernel may read and write backing files in our stead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passthrough {
    /// Where it can: Linux 6.9, and root of the first user namespace.
    Auto,
    /// Never.
    Off,
}

/// What to serve and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory that is shown; its real files, not the mount.
    pub root: PathBuf,
    /// Names in the root directory that are not shown.
    pub hide: Vec<OsString>,
    /// Threads that answer requests.
    pub n_threads: usize,
    /// Whether passthrough is to be tried.
    pub passthrough: Passthrough,
    /// For how long the kernel may believe names, absent names and attributes.
    pub ttl: Duration,
    /// Whether others change the directory too: then the kernel asks each time about names of files, absent
    /// names and what stat(2) tells of files, and believes directories alone.
    pub shared: bool,
}

impl Config {
    /// The usual settings for a directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            hide: Vec::new(),
            n_threads: 8,
            passthrough: Passthrough::Auto,
            ttl: Duration::from_secs(24 * 60 * 60),
            shared: false,
        }
    }
}

/// How many requests of each kind were answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    counts: [u64; Op::ALL.len()],
}

impl Stats {
    /// Requests of one kind.
    pub fn of(&self, op: Op) -> u64 {
        self.counts[op as usize]
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The kinds that occurred, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Op, u64)> + '_ {
        Op::ALL
            .into_iter()
            .map(|op| (op, self.of(op)))
            .filter(|(_, n)| *n > 0)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters([AtomicU64; Op::ALL.len()]);

impl Counters {
    pub(crate) fn count(&self, op: Op) {
        self.0[op as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Stats {
        Stats {
            counts: std::array::from_fn(|i| self.0[i].load(Ordering::Relaxed)),
        }
    }
}

/// A served mount. Dropping it leaves it served until its namespace ends.
pub struct Mounted {
    vfs: Arc<Vfs>,
    counters: Arc<Counters>,
    session: BackgroundSession,
    notifier: Notifier,
    root: PathBuf,
    minor: u32,
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mounted")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// Starts to answer the requests of a connection. Returns when the mount can be used.
pub fn serve(
    connection: Connection,
    config: Config,
    observer: Arc<dyn Observer>,
) -> Result<Mounted, FsError> {
    let failed = |source| FsError {
        op: Op::Session,
        path: config.root.clone(),
        source,
    };
    if is_visible(&connection, &config.root) {
        // Whatever happens, it must not stay: nobody will answer.
        rustix::mount::unmount(&config.root, rustix::mount::UnmountFlags::DETACH).ok();
        return Err(failed(io::Error::other(
            "the mount covers its own server's files",
        )));
    }
    let vfs = Vfs::new(
        &config.root,
        config.hide.clone(),
        Belief {
            ttl: config.ttl,
            shared: config.shared,
        },
        config.passthrough == Passthrough::Auto,
        connection.own_ids.map(|(uid, gid)| OwnIds { uid, gid }),
        observer,
    )
    .map_err(|e| failed(e.into()))?;
    let max_stack_depth = stack_depth(&vfs).map_err(failed)?;
    let (vfs, counters) = (Arc::new(vfs), Arc::new(Counters::default()));
    let adapter = Adapter {
        attends: vfs.observer.attends(),
        vfs: vfs.clone(),
        counters: counters.clone(),
        max_stack_depth,
    };
    let mut options = fuser::Config::default();
    options.n_threads = Some(config.n_threads.max(1));
    // One descriptor for all threads: one of another user namespace may not be cloned, and with
    // the kernel's one queue of requests clones are no faster.
    options.clone_fd = false;
    let session =
        Session::from_fd(adapter, connection.fuse, SessionACL::All, options).map_err(failed)?;
    let notifier = session.notifier();
    let to_kernel = notifier.clone();
    // Attributes only, which waits for nothing and so may be done while a request of the node is served.
    let stale = move |ino| drop(to_kernel.inval_inode(INodeNo(ino), -1, 0));
    vfs.stale.set(Box::new(stale)).ok();
    let session = session.spawn().map_err(failed)?;
    let root = config.root;
    Ok(Mounted {
        vfs,
        counters,
        session,
        notifier,
        root,
        minor: connection.minor,
    })
}

/// Whether the mount has reached the namespace of its server, by the propagation of a shared mount that
/// the child could not change. Asked without waiting for the mount's answer, which would be ours.
fn is_visible(connection: &Connection, root: &Path) -> bool {
    let flags = AtFlags::from_bits_retain(AT_STATX_DONT_SYNC) | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(rustix::fs::CWD, root, flags, StatxFlags::INO)
        .is_ok_and(|stat| stat.stx_dev_major == 0 && stat.stx_dev_minor == connection.minor)
}

/// How deep filesystems may be stacked with the view on top: one more than the backing files' own depth. The
/// kernel allows two in all, so that over an overlayfs nothing can be mounted on the view.
fn stack_depth(vfs: &Vfs) -> io::Result<u32> {
    const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
    let kind = rustix::fs::fstatfs(vfs.root())?.f_type;
    Ok(if kind == OVERLAYFS_SUPER_MAGIC { 2 } else { 1 })
}

impl Mounted {
    /// The name at this absolute backing path changed behind the kernel's back: drops what it caches about it.
    ///
    /// Not to be called by a thread that the mount waits for, such as an [`Observer`]'s.
    pub fn invalidate(&self, path: &Path) {
        let Ok(relative) = path.strip_prefix(&self.root) else {
            return;
        };
        let Some(name) = relative.file_name() else {
            self.drop_inode(ROOT);
            return;
        };
        let parent = relative.parent().unwrap_or(Path::new(""));
        let Some(parent) = self.node(parent) else {
            return;
        };
        let known = self.vfs.table.child(parent, name);
        let present = present(path).and_then(|identity| self.vfs.table.find(identity));
        if known.is_none() || known != present {
            self.notifier.inval_entry(INodeNo(parent), name).ok();
        }
        for ino in [known, present.filter(|_| present != known)]
            .into_iter()
            .flatten()
        {
            self.drop_inode(ino);
        }
        self.drop_inode(parent);
    }

    /// Has the kernel write back what it holds of the file at this absolute backing path: pages of shared
    /// mappings that were written to, which without passthrough reach the backing file when unmapped
    /// at the latest. Returns when they have.
    ///
    /// Not to be called by a thread that the mount waits for.
    pub fn write_back(&self, path: &Path) {
        let node = path
            .strip_prefix(&self.root)
            .ok()
            .and_then(|relative| self.node(relative));
        if let Some(ino) = node {
            // The kernel writes dirty pages back before it drops them.
            self.drop_inode(ino);
        }
    }

    fn drop_inode(&self, ino: u64) {
        // An error says that the kernel has nothing cached, or is gone.
        self.notifier.inval_inode(INodeNo(ino), 0, 0).ok();
    }

    fn node(&self, relative: &Path) -> Option<u64> {
        relative
            .iter()
            .try_fold(ROOT, |dir, name: &OsStr| self.vfs.table.child(dir, name))
    }

    /// Whether files are read and written by passthrough, as far as has been tried.
    pub fn passthrough(&self) -> bool {
        self.vfs.passthrough.load(Ordering::Relaxed)
    }

    /// Requests answered so far.
    pub fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// Ends the connection although the mount is still there: every request and every later access fails with
    /// `ENOTCONN` or `ECONNABORTED`. Needs the fusectl filesystem, as systemd mounts it, or root to mount it.
    pub fn abort(&self) -> Result<(), FsError> {
        let path = Path::new(CONNECTIONS).join(format!("{}/abort", self.minor));
        let result = match abort(&path) {
            Err(Errno::NOENT) => abort_by_own_mount(&path),
            result => result,
        };
        result.map_err(|e| FsError {
            op: Op::Session,
            path,
            source: e.into(),
        })
    }

    /// Whether nobody answers requests any more.
    pub fn is_over(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Waits for the session to end, which it does with the last process of the mount's namespace or when
    /// aborted.
    pub fn finish(self) -> Result<Stats, FsError> {
        let Self {
            counters,
            session,
            root,
            ..
        } = self;
        match session.join() {
            // How the kernel says that the connection is over depends on how far the last request had come.
            Err(error) if error.raw_os_error() != Some(Errno::CONNABORTED.raw_os_error()) => {
                Err(FsError {
                    op: Op::Session,
                    path: root,
                    source: error,
                })
            }
            Ok(()) | Err(_) => Ok(counters.read()),
        }
    }
}

/// Where fusectl belongs, see Documentation/filesystems/fuse.rst of the kernel.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

fn abort(path: &Path) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::io::write(&file, b"1").map(drop)
}

/// Mounts fusectl where nobody else sees it: in a namespace of a thread that ends at once.
fn abort_by_own_mount(path: &Path) -> Result<(), Errno> {
    let path = path.to_owned();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| Errno::from_raw_os_error(e as i32))?;
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change("/", private)?;
        rustix::mount::mount("fusectl", CONNECTIONS, "fusectl", MountFlags::empty(), None)?;
        abort(&path)
    });
    thread.join().unwrap_or(Err(Errno::IO))
}

fn present(path: &Path) -> Option<Identity> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = rustix::fs::statx(rustix::fs::CWD, path, flags, mask).ok()?;
    Some(Identity::of(&stat))
}
