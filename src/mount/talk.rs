//! How other processes find a daemon and what they can ask it.
//!
//! Each daemon listens on a socket named after its mount's device, in its user's directory for such things, and not
//! in the workspace: a socket there would be one of the mount.

pub use super::keeper::How;
use super::line::Line;
use super::table::Entry;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one that answers takes at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// How it goes.
    Status,
    /// To unmount and end. Of its user and root only.
    Remove(How),
    /// The real directory, for [`step_behind`](super::step_behind).
    Real,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// How it goes.
    Status(Status),
    /// It is done.
    Done,
    /// It is in use, by these processes as far as they can be seen: number and name.
    Busy(Vec<(i32, String)>),
    /// It cannot be done.
    Failed(String),
}

/// How a daemon goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its process id.
    pub pid: i32,
    /// Seconds since it has mounted.
    pub seconds: u64,
    /// Requests answered.
    pub requests: u64,
    /// Whether the kernel reads and writes files in its stead.
    pub passthrough: bool,
    /// Seconds without a request after which it ends, if nobody uses the mount.
    pub idle: Option<u64>,
    /// What went wrong, the last first.
    pub warnings: Vec<String>,
}

/// The directory for sockets of a user; `runtime` is `$XDG_RUNTIME_DIR` where it is that of the user.
#[must_use]
pub fn directory(uid: u32, runtime: Option<&Path>) -> PathBuf {
    match (uid, runtime) {
        (0, _) => PathBuf::from("/run/rfs"),
        (_, Some(runtime)) => runtime.join("rfs"),
        (_, None) => {
            let usual = PathBuf::from(format!("/run/user/{uid}"));
            match usual.is_dir() {
                true => usual.join("rfs"),
                false => PathBuf::from(format!("/tmp/rfs-{uid}")),
            }
        }
    }
}

/// Where a daemon listens.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Starts to listen for the mount of this device.
    pub(super) fn bind(directory: &Path, minor: u32) -> io::Result<Self> {
        let uid = rustix::process::geteuid();
        // Root's can be asked by everybody.
        let mode = if uid.is_root() { 0o755 } else { 0o700 };
        match DirBuilder::new().mode(mode).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let meta = directory.symlink_metadata()?;
        if !meta.is_dir() || meta.uid() != uid.as_raw() {
            let what = format!("{} is not a directory of yours", directory.display());
            return Err(io::Error::other(what));
        }
        let path = path(directory, minor);
        // Numbers are used again.
        let _old = std::fs::remove_file(&path);
        let socket = socket()?;
        bind(&socket, &SocketAddrUnix::new(&path)?)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        listen(&socket, 16)?;
        Ok(Self { socket, path })
    }

    /// The next one who asks, with what he asks and his user id. None where he does not come to the point.
    pub(super) fn accept(&self) -> Option<(Asker, Ask)> {
        let socket = accept_with(&self.socket, SocketFlags::CLOEXEC).ok()?;
        let uid = socket_peercred(&socket).ok()?.uid.as_raw();
        let line = Line::on(socket);
        line.be_patient(Duration::from_secs(1)).ok()?;
        let ask = line.hear().ok()??;
        Some((Asker { line, uid }, ask))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// One who asks.
#[derive(Debug)]
pub(super) struct Asker {
    line: Line,
    /// His user id.
    pub(super) uid: u32,
}

impl Asker {
    pub(super) fn answer(&self, answer: &Answer, fd: Option<BorrowedFd<'_>>) {
        // He may have gone.
        let _said = self.line.say(answer, fd).is_ok();
    }
}

fn socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

fn path(directory: &Path, minor: u32) -> PathBuf {
    directory.join(format!("{minor}.sock"))
}

/// A daemon that can be asked something, once.
#[derive(Debug)]
pub struct Daemon(Line);

impl Daemon {
    /// The daemon of a mount. `runtime` as for [`directory`].
    ///
    /// # Errors
    /// Nobody listens there, or he is not who mounted.
    pub fn of(entry: &Entry, runtime: Option<&Path>) -> io::Result<Self> {
        let socket = socket()?;
        let path = path(&directory(entry.uid, runtime), entry.minor);
        connect(&socket, &SocketAddrUnix::new(&path)?)?;
        if socket_peercred(&socket)?.uid.as_raw() != entry.uid {
            return Err(io::Error::other("somebody else listens there"));
        }
        let line = Line::on(socket);
        line.be_patient(PATIENCE)?;
        Ok(Self(line))
    }

    /// Asks it.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&self, ask: &Ask) -> io::Result<(Answer, Option<OwnedFd>)> {
        self.0.say(ask, None)?;
        let answer = self.0.hear_with_fd()?;
        answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Waits until it has ended, but not for ever; whether it has.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.0.hear::<Answer>(), Ok(None))
    }
}
