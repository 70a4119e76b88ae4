//! What the spy says, and to whom: typed events and the `Observer` that receives them.
//!
//! This file knows nothing of steps, records or caches; it names what a process asked of the kernel,
//! with paths already resolved the way the kernel would resolve them.

use std::io;
use std::path::PathBuf;

/// A process (thread group) id in the pid namespace of the supervisor.
pub type Pid = i32;

/// What a single path component is, as far as a path walk needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing has this name.
    Absent,
    /// A directory.
    Dir,
    /// A symbolic link with its text.
    Link(PathBuf),
    /// Anything else: a regular file, fifo, socket or device.
    File,
    /// The component could not be looked at (an errno other than `ENOENT` and `ENOTDIR`).
    Unknown(i32),
}

/// What stat(2) told a process of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Type and permissions.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Time of last modification, ns since 1970.
    pub mtime: i64,
    /// Time of last status change, ns since 1970.
    pub ctime: i64,
}

impl Sight {
    /// Whether this is what a file is now. Of other objects than regular files only type and permissions
    /// are compared: the rest changes with what is around them.
    pub fn fits(&self, now: &std::fs::Metadata) -> bool {
        use std::os::unix::fs::MetadataExt;
        let time = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        let content = (self.size, self.mtime, self.ctime)
            == (
                now.size(),
                time(now.mtime(), now.mtime_nsec()),
                time(now.ctime(), now.ctime_nsec()),
            );
        self.mode == now.mode() && (!now.is_file() || content)
    }
}

/// How many calls came which way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Looks that the preload library noted.
    pub noted: u64,
    /// Calls that stopped, the most frequent ones first.
    pub stopped: Vec<Stopped>,
    /// Programs that got the library.
    pub loaded: u64,
    /// Processes that got memory for notes.
    pub attached: u64,
}

/// Calls that stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The call's name.
    pub call: &'static str,
    /// The name of the program that made it, without directory.
    pub program: String,
    /// Why it stopped.
    pub why: Why,
    /// How often.
    pub times: u64,
}

/// Why a call stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It changes something, starts or ends a program, or uses what its process was started with.
    Acts,
    /// Its program has no preload library.
    NoLibrary,
    /// Its program gets the library, which is not at work yet.
    Loader,
    /// The library is at work and does not see it: the C library makes it inside itself, the program makes it
    /// without the C library, or it is a form that is not noted.
    Inside,
    /// The memory for notes was full.
    Full,
    /// The library was told to note nothing any more.
    Shut,
}

impl Why {
    /// All reasons, by their number.
    pub const ALL: [Self; 6] = [
        Self::Acts,
        Self::NoLibrary,
        Self::Loader,
        Self::Inside,
        Self::Full,
        Self::Shut,
    ];
}

/// Answers what is at an absolute path without following a symbolic link in its last component.
///
/// The supervisor never asks the kernel to resolve a path through the mount that it serves, so every
/// component goes through this trait. All but the last component of `path` are known directories.
pub trait Names: Send + Sync {
    /// Looks at one name.
    fn look(&self, path: &std::path::Path) -> Look;

    /// Whether a process may look at a name now, be there something or not. If not, its call waits in
    /// [`Observer::wait`] and is looked at again.
    fn is_ready(&self, pid: Pid, path: &std::path::Path) -> bool {
        let _: (Pid, &std::path::Path) = (pid, path);
        true
    }

    /// What a process sees in the place of other directories.
    fn views(&self, pid: Pid) -> Option<std::sync::Arc<crate::views::Views>> {
        let _: Pid = pid;
        None
    }

    /// Whether what was last looked at under this name, an object, is what a process saw there some time
    /// ago.
    fn is_still(&self, path: &std::path::Path, sight: &Sight) -> bool;

    /// Whether some process has heard from one that is not traced, which may change files on its behalf.
    fn hears_outside(&self) -> bool {
        false
    }

    /// A number that is another one once a file has changed; none where that cannot be known without a look.
    fn version(&self, path: &std::path::Path) -> Option<u64> {
        let _: &std::path::Path = path;
        None
    }

    /// A number that is another one once somebody who is not traced has changed a directory or a link.
    fn news(&self) -> u64 {
        0
    }

    /// Opens a file for reading, to see what kind of program it is. The path has been walked to.
    ///
    /// # Errors
    /// The errno of open(2).
    fn open(&self, path: &std::path::Path) -> io::Result<std::fs::File> {
        use std::os::unix::fs::OpenOptionsExt;
        // A fifo must not hold up anybody.
        std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
    }
}

/// How a path walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The object exists (a final symbolic link that was not followed counts as an object).
    Found(Look),
    /// The last component does not exist, but its directory does.
    Absent,
    /// A directory on the way does not exist; the path of the walk is that of the first missing name.
    MissingDir,
    /// A component on the way is not a directory; the path of the walk names it.
    NotDir,
    /// More than 40 symbolic links (`ELOOP`), or the walk could not go on for another reason.
    Failed(i32),
    /// The path leads into `/proc/<self>`, `/dev/fd` or another place whose meaning depends on the
    /// asking process. `path` keeps the text; nothing was looked up below.
    Own,
}

/// A path resolved as the kernel resolves it (path_resolution(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Absolute, without `.`, `..` or symbolic links in any component but, unfollowed, the last.
    pub path: PathBuf,
    /// The symbolic links crossed on the way, in order, each an absolute link-free path of a link. Those
    /// in the process's own `/proc` directory, `/proc/self/fd/0` say, are among them.
    pub links: Vec<PathBuf>,
    /// What was found at the end.
    pub end: End,
}

/// What an open file descriptor refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FdTarget {
    /// `/dev/null`.
    Null,
    /// A terminal, by device number.
    Tty(u64),
    /// A pipe or fifo, by inode number (and device for a named one).
    Pipe(u64, u64),
    /// A socket, by inode number.
    Socket(u64),
    /// A regular file: its path as the kernel names it, device and inode.
    File {
        /// Path as `/proc/pid/fd` shows it.
        path: PathBuf,
        /// Device number.
        dev: u64,
        /// Inode number.
        ino: u64,
    },
    /// A directory.
    Dir(PathBuf),
    /// Anything else (anon inodes, devices), by the text of its link.
    Other(PathBuf),
}

/// One open descriptor of a process that is about to execute a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fd {
    /// Its number.
    pub fd: i32,
    /// What it refers to.
    pub target: FdTarget,
    /// `O_RDONLY`, `O_WRONLY` or `O_RDWR`, with `O_APPEND` and `O_NONBLOCK` as set.
    pub flags: i32,
    /// File offset in bytes.
    pub pos: u64,
}

/// A program that is about to start. All paths are resolved, nothing has been executed yet.
#[derive(Debug, Clone)]
pub struct Exec {
    /// The process that calls execve.
    pub pid: Pid,
    /// The program file.
    pub program: Walk,
    /// Interpreters the kernel will load as well: of `#!` lines in order, then the ELF interpreter.
    pub interpreters: Vec<Walk>,
    /// Argument vector as passed, byte for byte, before any `#!` rewriting.
    pub argv: Vec<Vec<u8>>,
    /// Environment as passed, byte for byte; nothing before [`OwnFds::complete`].
    pub env: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Descriptors that survive the exec (close-on-exec ones left out), ascending; nothing before
    /// [`OwnFds::complete`].
    pub fds: Vec<Fd>,
    /// File mode creation mask.
    pub umask: u32,
    /// Real, effective user ids; real, effective group ids.
    pub ids: [u32; 4],
    /// Signals that it ignores, which a program inherits: a bit each, signal 1 lowest.
    pub ignored: u64,
    /// Direct children of the process that are alive before the exec.
    pub children: Vec<Pid>,
}

/// What to do with a program that is about to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecAnswer {
    /// Let it run.
    Run,
    /// Do not run it: the process ends now with this exit status.
    Exit(i32),
    /// Do not run it: the process dies by this signal (a reader went away while output was replayed).
    Signal(i32),
}

/// A program that is but a part of what its process does already, and runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It makes few calls: not worth the preload library.
    Brief,
    /// It may make many.
    Noted,
}

/// Writes to descriptors above this one are not told. Programs open so many files, but hardly any is
/// given so many.
pub const LAST_SEEN: i32 = 255;

/// A write by a traced process to a descriptor that it may have inherited (0 to [`LAST_SEEN`]).
pub trait WriteCall {
    /// Descriptor number.
    fn fd(&self) -> i32;
    /// What it refers to now.
    fn target(&self) -> FdTarget;
    /// Number of bytes that the call asks to write.
    fn len(&self) -> usize;
    /// Whether it asks to write nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes, copied out of the process's memory.
    ///
    /// # Errors
    /// Fails when the memory cannot be read.
    fn data(&self) -> io::Result<Vec<u8>>;
}

/// Where a socket call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A path-named Unix socket.
    Unix(Walk),
    /// An abstract Unix socket.
    Abstract(Vec<u8>),
    /// An IPv4 or IPv6 address, as text.
    Inet(String),
    /// Another address family, by number.
    Other(i32),
}

/// A System V object that is known by a key (sysvipc(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ipc {
    /// A message queue.
    Queue(i32),
    /// A set of semaphores.
    Semaphores(i32),
    /// A segment of shared memory.
    Memory(i32),
}

/// How far a taint reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only the program itself: what surrounds it can still be known.
    Own,
    /// Everything that contains it.
    All,
}

/// One thing that a process is about to do. Mutations are told before they happen.
pub enum Event<'a> {
    /// stat, lstat, fstatat, statx by path.
    Stat(Walk),
    /// access, faccessat: with the mode asked for.
    Access(Walk, i32),
    /// readlink, readlinkat (the walk does not follow the last component).
    Readlink(Walk),
    /// open, openat, openat2, creat: open flags and creation mode.
    Open {
        /// The file.
        walk: Walk,
        /// `O_*` flags.
        flags: i32,
        /// Creation mode, before the umask.
        mode: u32,
    },
    /// What a process was told of this file some moments ago is not what is there now.
    Differs(PathBuf),
    /// getdents on an open directory: its names are read.
    List(PathBuf),
    /// chdir, fchdir.
    Chdir(Walk),
    /// unlink, unlinkat, rmdir (`dir`).
    Unlink {
        /// The name.
        walk: Walk,
        /// Whether it is rmdir or `AT_REMOVEDIR`.
        dir: bool,
    },
    /// mkdir, mkdirat.
    Mkdir(Walk, u32),
    /// mknod, mknodat, and bind to a name: with the whole mode, type included.
    Mknod(Walk, u32),
    /// symlink, symlinkat: the new link and its text.
    Symlink(Walk, PathBuf),
    /// link, linkat: existing file and new name. `from.path` may be a `/proc/self/fd` name.
    Link {
        /// The existing file.
        from: Walk,
        /// The new name.
        to: Walk,
    },
    /// rename, renameat, renameat2 with `RENAME_*` flags.
    Rename {
        /// Old name.
        from: Walk,
        /// New name.
        to: Walk,
        /// `RENAME_*`.
        flags: u32,
    },
    /// chmod and its relatives, by path or descriptor.
    Chmod(Walk),
    /// chown and its relatives.
    Chown(Walk),
    /// utime and its relatives; `explicit` unless both times are "now".
    Utime {
        /// The file.
        walk: Walk,
        /// Whether a time stamp was given.
        explicit: bool,
    },
    /// truncate, ftruncate, fallocate on a file.
    Truncate(Walk),
    /// setxattr, removexattr and their relatives.
    Xattr(Walk),
    /// getxattr, listxattr and their relatives.
    Getxattr(Walk),
    /// write, writev, pwrite... to descriptors up to [`LAST_SEEN`].
    Write(&'a dyn WriteCall),
    /// copy_file_range, sendfile, splice to such descriptors: bytes that nobody can copy out.
    /// `Answer::Fail(EINVAL)` makes programs fall back to read and write.
    WriteDirect(&'a dyn WriteCall),
    /// read, readv, recv... on descriptor 0, whatever it is, with its target.
    ReadStdin(FdTarget),
    /// A descriptor 0 to 2 gets another number (dup, fcntl, or opening `/dev/stdin`, `/proc/self/fd/N`).
    Dup {
        /// Old number.
        from: i32,
        /// New number, or -1 where the kernel chooses.
        to: i32,
        /// What it refers to.
        target: FdTarget,
    },
    /// connect or sendto with an address, or bind to one that is not the name of a file.
    Socket(Peer),
    /// kill and its relatives to a process id (negative: a group), signal number.
    Kill(Pid, i32),
    /// msgget, semget, shmget with a key.
    Ipc {
        /// What is asked for.
        object: Ipc,
        /// Whether it is made if nobody has.
        create: bool,
    },
    /// A resource limit of the process is changed: resource and the new soft and hard value.
    Limit(i32, u64, u64),
    /// The process asks for the time of day or random bytes by a way that can be seen.
    Chance(&'static str),
    /// It looks at something in the directory of another process in `/proc`.
    Process(PathBuf),
    /// Something that the record cannot say: the step may not be cached, and why.
    Taint(Scope, String),
}

/// What the supervisor does with the call of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The kernel carries it out.
    Go,
    /// The call fails with this errno without being carried out.
    Fail(i32),
}

/// Receives what the spy sees. Calls for one process are in its program order and each ends before the
/// process goes on, looks on the fast path excepted: those end before anything that may depend on them goes
/// on. Calls for different processes may come from different threads.
pub trait Observer: Names {
    /// A process is seen for the first time. `parent` is the process that forked it, where known.
    fn born(&self, pid: Pid, parent: Option<Pid>);
    /// A process does something. Must be quick: it may hold up all other processes.
    fn event(&self, pid: Pid, event: Event<'_>) -> Answer;
    /// Waits until the process may look at a name, or `still_there` says that it waits no longer. Takes its
    /// time.
    fn wait(&self, pid: Pid, path: &std::path::Path, still_there: &dyn Fn() -> bool) {
        let _: (Pid, &std::path::Path, bool) = (pid, path, still_there());
    }
    /// A program is about to start, which is told before [`Observer::exec`] and, with an answer, instead of it.
    /// Must be quick. Here `exec.children` is empty, and nothing but `fds.high` may be asked for.
    fn starts_a_part(&self, exec: &Exec, fds: &dyn OwnFds) -> Option<Part> {
        let _: (&Exec, &dyn OwnFds) = (exec, fds);
        None
    }
    /// A program is about to start. May take its time. `fds` writes into the process's own descriptors.
    fn exec(&self, exec: Exec, fds: &dyn OwnFds) -> ExecAnswer;
    /// The exec that was told last for this process failed: the old program goes on.
    fn exec_failed(&self, pid: Pid);
    /// The process is about to exit with this status. It waits until this returns. May take its time.
    /// `children` are its direct children that are still alive or not yet reaped, with `true` if alive.
    fn exit(&self, pid: Pid, status: i32, children: &[(Pid, bool)]);
    /// Whether the end of the process is told quickly, so that nobody else need do it.
    fn ends_as_a_part(&self, pid: Pid) -> bool {
        let _: Pid = pid;
        false
    }
    /// The process ended without asking for it, by this signal, where that is known.
    fn died(&self, pid: Pid, signal: Option<i32>);
}

/// Access to the descriptors and the memory of a process that waits in an exec.
pub trait OwnFds {
    /// Reads what the program is given: `exec.env` and `exec.fds`. They are most of what an exec costs, so
    /// only who needs them has them read. If they cannot be read, all there is to say of that is told by
    /// an event, and the only answer is `ExecAnswer::Run`.
    #[must_use]
    fn complete(&self, exec: &mut Exec) -> bool;
    /// As [`Self::complete`], of `exec.env` alone, for who knows the descriptors.
    #[must_use]
    fn environment(&self, exec: &mut Exec) -> bool {
        self.complete(exec)
    }
    /// Descriptors above [`LAST_SEEN`] that survive the exec.
    fn high(&self) -> Vec<Fd>;
    /// Makes sure that the process can be ended by `ExecAnswer::Exit`; if not, the only answer is
    /// `ExecAnswer::Run`. To be asked before outputs are put in place.
    fn ready_to_exit(&self) -> bool;
    /// Makes sure that descriptor `fd` of the process can be reached. To be asked before outputs are put in place.
    ///
    /// # Errors
    /// The errno of pidfd_getfd(2): a container may forbid it.
    fn reach(&self, fd: i32) -> io::Result<()>;
    /// Writes all bytes to descriptor `fd` of the process, blocking as the process itself would.
    ///
    /// # Errors
    /// The errno of the write, `EPIPE` where the reader has gone.
    fn write_all(&self, fd: i32, bytes: &[u8]) -> io::Result<()>;
    /// Moves the offset of regular file `fd` to `pos`.
    ///
    /// # Errors
    /// The errno of lseek(2) or pidfd_getfd(2).
    fn seek(&self, fd: i32, pos: u64) -> io::Result<()>;
}

impl std::fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stat(w) => write!(f, "stat {w:?}"),
            Self::Access(w, m) => write!(f, "access {w:?} {m}"),
            Self::Readlink(w) => write!(f, "readlink {w:?}"),
            Self::Open { walk, flags, mode } => write!(f, "open {walk:?} {flags:#x} {mode:o}"),
            Self::List(p) => write!(f, "list {p:?}"),
            Self::Differs(p) => write!(f, "differs {p:?}"),
            Self::Chdir(w) => write!(f, "chdir {w:?}"),
            Self::Unlink { walk, dir } => write!(f, "unlink {walk:?} dir={dir}"),
            Self::Mkdir(w, m) => write!(f, "mkdir {w:?} {m:o}"),
            Self::Mknod(w, m) => write!(f, "mknod {w:?} {m:o}"),
            Self::Symlink(w, t) => write!(f, "symlink {w:?} -> {t:?}"),
            Self::Link { from, to } => write!(f, "link {from:?} {to:?}"),
            Self::Rename { from, to, flags } => write!(f, "rename {from:?} {to:?} {flags}"),
            Self::Chmod(w) => write!(f, "chmod {w:?}"),
            Self::Chown(w) => write!(f, "chown {w:?}"),
            Self::Utime { walk, explicit } => write!(f, "utime {walk:?} explicit={explicit}"),
            Self::Truncate(w) => write!(f, "truncate {w:?}"),
            Self::Xattr(w) => write!(f, "xattr {w:?}"),
            Self::Getxattr(w) => write!(f, "getxattr {w:?}"),
            Self::Write(c) => write!(f, "write fd={} len={}", c.fd(), c.len()),
            Self::WriteDirect(c) => write!(f, "write-direct fd={} len={}", c.fd(), c.len()),
            Self::ReadStdin(t) => write!(f, "read-stdin {t:?}"),
            Self::Dup { from, to, target } => write!(f, "dup {from} -> {to} {target:?}"),
            Self::Socket(p) => write!(f, "socket {p:?}"),
            Self::Kill(p, s) => write!(f, "kill {p} {s}"),
            Self::Ipc { object, create } => write!(f, "ipc {object:?} create={create}"),
            Self::Limit(r, s, h) => write!(f, "limit {r} {s} {h}"),
            Self::Chance(w) => write!(f, "chance {w}"),
            Self::Process(path) => write!(f, "process {}", path.display()),
            Self::Taint(s, why) => write!(f, "taint {s:?} {why}"),
        }
    }
}
