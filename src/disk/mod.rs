//! Every durable write of the program goes through [`Disk`], so that a test can make each of them fail.
//!
//! Knows system calls and paths; knows nothing of what the bytes mean. Reading needs no seam and is done
//! by whoever reads, with the errors of this room ([`At`]).

mod copy;
mod faulty;
mod hash;
mod lock;

pub use copy::copy;
pub use faulty::{FaultyDisk, Temper};
pub use hash::{copy_hashed, hash};
pub use lock::lock;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A system call that failed on a path.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}: {source}", path.display())]
pub struct Error {
    /// The system call.
    pub op: &'static str,
    /// What it was called on.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// What the verbs of this room return.
pub type Result<T> = std::result::Result<T, Error>;

/// Names the system call and the path of a failure.
pub trait At<T> {
    /// The value, or an [`Error`] that names `op` and `path`.
    fn at(self, op: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, op: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error {
            op,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// A failure that a test wants to see.
#[derive(Debug)]
pub struct Fault {
    /// How many bytes of a write still reach the disk.
    pub after: usize,
    /// The error that is given back.
    pub source: io::Error,
}

/// The verbs of writing. All of them are provided: an implementation only says when they fail.
///
/// No verb follows a symbolic link at the last component of a path that it creates or changes.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Asked before every operation, with the bytes that it wants to write (0 for most).
    fn fault(&self, op: &'static str, len: usize) -> Option<Fault>;

    /// Fails when [`Self::fault`] says so.
    fn admit(&self, op: &'static str, path: &Path) -> Result<()> {
        match self.fault(op, 0) {
            None => Ok(()),
            Some(fault) => Err(fault.source).at(op, path),
        }
    }

    /// Creates a file for reading and writing that must not exist: open(2) with `O_CREAT | O_EXCL`.
    fn create(&self, path: &Path, mode: u32) -> Result<File> {
        self.admit("create", path)?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .at("create", path)
    }

    /// Opens a file for reading and appending, creating it with mode 0600.
    fn open_append(&self, path: &Path) -> Result<File> {
        self.admit("open", path)?;
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .at("open", path)
    }

    /// Opens an existing regular file for reading and writing.
    fn open_write(&self, path: &Path) -> Result<File> {
        self.admit("open", path)?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .at("open", path)
    }

    /// Opens a file that several processes hold locks on, and makes it with mode 0600 where there is none.
    fn open_shared(&self, path: &Path) -> Result<File> {
        self.admit("open", path)?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .at("open", path)
    }

    /// Finds out by open(2) whether an existing file can be written to now: its mode may forbid it, or that it is
    /// being executed.
    fn try_write(&self, path: &Path) -> Result<()> {
        self.admit("open", path)?;
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map(drop)
            .at("open", path)
    }

    /// Opens an existing regular file for writing and cuts it to nothing.
    fn open_truncate(&self, path: &Path) -> Result<File> {
        self.admit("open", path)?;
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .at("open", path)
    }

    /// Writes all of `bytes` at an offset.
    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
        let fault = self.fault("write", bytes.len());
        written(fault, bytes, path, |now| file.write_all_at(now, offset))
    }

    /// Writes eight bytes at an offset: one of many notes that a build makes for others while it goes on.
    fn note_at(&self, file: &File, path: &Path, value: u64, offset: u64) -> Result<()> {
        let fault = self.fault("note", size_of::<u64>());
        let bytes = value.to_le_bytes();
        written(fault, &bytes, path, |now| file.write_all_at(now, offset))
    }

    /// Writes all of `bytes` at the end of a file opened by [`Self::open_append`].
    fn append(&self, mut file: &File, path: &Path, bytes: &[u8]) -> Result<()> {
        let fault = self.fault("write", bytes.len());
        written(fault, bytes, path, |now| {
            io::Write::write_all(&mut file, now)
        })
    }

    /// Sets the length of a file.
    fn set_len(&self, file: &File, path: &Path, len: u64) -> Result<()> {
        self.admit("ftruncate", path)?;
        file.set_len(len).at("ftruncate", path)
    }

    /// Makes content and size survive a loss of power: fdatasync(2).
    fn sync(&self, file: &File, path: &Path) -> Result<()> {
        self.admit("fdatasync", path)?;
        rustix::fs::fdatasync(file).at("fdatasync", path)
    }

    /// Makes all that was written to the file's filesystem survive a loss of power: syncfs(2).
    fn sync_all(&self, file: &File, path: &Path) -> Result<()> {
        self.admit("syncfs", path)?;
        rustix::fs::syncfs(file).at("syncfs", path)
    }

    /// Shares the blocks of `from` with the empty file `to`; false where the filesystem cannot.
    fn reflink(&self, from: &File, to: &File, path: &Path) -> Result<bool> {
        self.admit("ficlone", path)?;
        Ok(rustix::fs::ioctl_ficlone(to, from).is_ok())
    }

    /// Makes the empty file `to` (at `path`) a copy of `from`, in the cheapest way there is: see [`copy()`].
    fn copy(&self, from: &File, to: &File, path: &Path) -> Result<()> {
        self.admit("copy", path)?;
        copy(from, to).at("copy", path)
    }

    /// rename(2): replaces what is at `to`.
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.admit("rename", to)?;
        rustix::fs::rename(from, to).at("rename", to)
    }

    /// Puts bytes in the place of a file in one moment. They are written under a name beside it, of which nothing is
    /// left where that fails.
    fn replace(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".rfs-{}-{count}", std::process::id()));
        let fresh = path.with_file_name(name);
        // Of a process that was killed and had the same number.
        self.unlink_if_there(&fresh)?;
        let file = self.create(&fresh, mode)?;
        let done = self
            .write_at(&file, &fresh, bytes, 0)
            .and_then(|()| self.rename(&fresh, path));
        if done.is_err() {
            let _best_effort = self.unlink(&fresh);
        }
        done
    }

    /// Lets two names change their places, so that neither is ever missing; false where the filesystem
    /// cannot.
    ///
    /// On ext4 (`auto_da_alloc`) a rename(2) over a file waits until the new content is allocated, which
    /// costs more than writing a small file; an exchange does not.
    fn exchange(&self, one: &Path, other: &Path) -> Result<bool> {
        self.admit("rename", other)?;
        match rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS) => Ok(false),
            Err(errno) => Err(errno).at("rename", other),
        }
    }

    /// unlink(2).
    fn unlink(&self, path: &Path) -> Result<()> {
        self.admit("unlink", path)?;
        fs::remove_file(path).at("unlink", path)
    }

    /// unlink(2) of a name that need not be there.
    fn unlink_if_there(&self, path: &Path) -> Result<()> {
        match self.unlink(path) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Removes a directory with all that is in it.
    fn remove_all(&self, path: &Path) -> Result<()> {
        self.admit("rmdir", path)?;
        fs::remove_dir_all(path).at("rmdir", path)
    }

    /// rmdir(2).
    fn rmdir(&self, path: &Path) -> Result<()> {
        self.admit("rmdir", path)?;
        fs::remove_dir(path).at("rmdir", path)
    }

    /// mkdir(2); the umask applies.
    fn mkdir(&self, path: &Path, mode: u32) -> Result<()> {
        self.admit("mkdir", path)?;
        fs::DirBuilder::new()
            .mode(mode)
            .create(path)
            .at("mkdir", path)
    }

    /// mkdir(2) of a directory and of those above it, as far as they are not there.
    fn mkdir_all(&self, path: &Path, mode: u32) -> Result<()> {
        // Whether it follows links is up to whoever made them.
        if path.is_dir() {
            return Ok(());
        }
        match self.mkdir(path, mode) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                let Some(above) = path.parent() else {
                    return Err(error);
                };
                self.mkdir_all(above, mode)?;
                match self.mkdir(path, mode) {
                    Err(_) if path.is_dir() => Ok(()),
                    done => done,
                }
            }
            // Somebody else has just made it.
            Err(_) if path.is_dir() => Ok(()),
            done => done,
        }
    }

    /// symlink(2).
    fn symlink(&self, text: &Path, path: &Path) -> Result<()> {
        self.admit("symlink", path)?;
        rustix::fs::symlink(text, path).at("symlink", path)
    }

    /// link(2): a second name of `old` itself, also where that is a symbolic link.
    fn link(&self, old: &Path, new: &Path) -> Result<()> {
        self.admit("link", new)?;
        rustix::fs::linkat(CWD, old, CWD, new, AtFlags::empty()).at("link", new)
    }

    /// mkfifo(3); the umask applies.
    fn mkfifo(&self, path: &Path, mode: u32) -> Result<()> {
        self.admit("mkfifo", path)?;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), 0).at("mkfifo", path)
    }

    /// Sets the permission bits (07777) of an open file.
    fn fchmod(&self, file: &File, path: &Path, mode: u32) -> Result<()> {
        self.admit("fchmod", path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .at("fchmod", path)
    }

    /// Sets the permission bits (07777) of anything but a symbolic link.
    fn chmod(&self, path: &Path, mode: u32) -> Result<()> {
        self.admit("chmod", path)?;
        // fchmodat(2) takes AT_SYMLINK_NOFOLLOW since Linux 6.6 only; on the magic link of a
        // descriptor of a symbolic link chmod(2) fails with EOPNOTSUPP.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
        let magic = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fs::set_permissions(magic, fs::Permissions::from_mode(mode)).at("chmod", path)
    }

    /// Sets owner and group of an open file.
    fn fchown(&self, file: &File, path: &Path, uid: u32, gid: u32) -> Result<()> {
        self.admit("fchown", path)?;
        std::os::unix::fs::fchown(file, Some(uid), Some(gid)).at("fchown", path)
    }

    /// Sets owner and group.
    fn chown(&self, path: &Path, uid: u32, gid: u32) -> Result<()> {
        self.admit("chown", path)?;
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).at("chown", path)
    }

    /// Sets the time of last modification, ns since 1970; the time of last access stays.
    fn set_mtime(&self, path: &Path, mtime: i64) -> Result<()> {
        self.admit("utimensat", path)?;
        let stamp = Timespec {
            tv_sec: mtime.div_euclid(1_000_000_000),
            tv_nsec: mtime.rem_euclid(1_000_000_000),
        };
        stamps(path, stamp).at("utimensat", path)
    }

    /// Lets the filesystem set the time of last modification to its own present time, which is returned
    /// in ns since 1970. No time stamp that it gives later is older.
    fn touch(&self, path: &Path) -> Result<i64> {
        self.admit("utimensat", path)?;
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        stamps(path, now).at("utimensat", path)?;
        let meta = fs::symlink_metadata(path).at("lstat", path)?;
        Ok(meta.mtime() * 1_000_000_000 + meta.mtime_nsec())
    }

    /// Takes an exclusive flock(2) if nobody has it; false if somebody does.
    fn try_lock(&self, file: &File, path: &Path) -> Result<bool> {
        self.admit("flock", path)?;
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno).at("flock", path),
        }
    }
}

/// Writes as much of `bytes` as still reaches the disk.
fn written(
    fault: Option<Fault>,
    bytes: &[u8],
    path: &Path,
    write: impl FnOnce(&[u8]) -> io::Result<()>,
) -> Result<()> {
    let now = fault.as_ref().map_or(bytes.len(), |fault| fault.after);
    let done = write(&bytes[..now.min(bytes.len())]);
    fault
        .map_or(done, |fault| Err(fault.source))
        .at("write", path)
}

/// The path under which an open file is known to the kernel, for messages only.
#[must_use]
pub fn path_of(file: &File) -> PathBuf {
    let magic = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::read_link(&magic).unwrap_or_else(|_| magic.into())
}

fn stamps(path: &Path, last_modification: Timespec) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// The disk as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn fault(&self, _: &'static str, _: usize) -> Option<Fault> {
        None
    }
}
