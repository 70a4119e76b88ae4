//! How other processes find a daemon and what they can ask it.
//!
//! Each daemon listens on a socket named after its mount's device, in its user's directory for such things, and not
//! in the workspace: a socket there would be one of the mount.

pub use super::keeper::How;
use super::line::Line;
use super::table::Entry;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long one that answers takes at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one who starts waits for those who ask.
const STUBBORN: Duration = Duration::from_millis(200);

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

/// What is answered. Daemons of earlier versions know the first ones, by their order.
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
    /// It is unmounted, but somebody uses it still.
    Used,
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

/// In the directory for sockets: who holds the lock has a mount and does not listen for it yet.
const STARTING: &str = "starting";

/// A daemon mounts and will listen in a moment: whoever asks waits for that.
#[derive(Debug)]
pub(super) struct Starting {
    _lock: File,
}

impl Starting {
    /// Tells it until dropped. Makes the directory for sockets.
    pub(super) fn tell(directory: &Path) -> io::Result<Self> {
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
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o644)
            .open(directory.join(STARTING))?;
        // Several start at once. Whoever waits for them has it for a moment; who keeps it is not waited for.
        let _shared = wait_for(&file, FlockOperation::NonBlockingLockShared, STUBBORN);
        Ok(Self { _lock: file })
    }

    /// Waits, but not for ever, until nobody is about to listen in this directory.
    fn wait(directory: &Path) {
        drop(Self::lock_out(directory, PATIENCE));
    }

    /// Nobody starts as long as this is held. None where somebody starts for longer than that.
    fn lock_out(directory: &Path, patience: Duration) -> Option<File> {
        let file = File::open(directory.join(STARTING)).ok()?;
        wait_for(&file, FlockOperation::NonBlockingLockExclusive, patience).then_some(file)
    }
}

/// Whether the lock was to be had in time.
fn wait_for(file: &File, how: FlockOperation, patience: Duration) -> bool {
    let begun = Instant::now();
    loop {
        match flock(file, how) {
            Ok(()) => return true,
            Err(_held) if begun.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_held) => return false,
        }
    }
}

/// Where a daemon listens.
#[derive(Debug)]
pub(super) struct Listener {
    /// Until it is dropped.
    socket: Option<OwnedFd>,
    directory: PathBuf,
    path: PathBuf,
}

impl Listener {
    /// Starts to listen for the mount of this device, in a directory that [`Starting`] has looked at.
    pub(super) fn bind(directory: &Path, minor: u32) -> io::Result<Self> {
        let path = path(directory, minor);
        // Numbers are used again.
        let _old = std::fs::remove_file(&path);
        let socket = socket()?;
        bind(&socket, &SocketAddrUnix::new(&path)?)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        listen(&socket, 16)?;
        Ok(Self {
            socket: Some(socket),
            directory: directory.to_owned(),
            path,
        })
    }

    /// The next one who asks, with what he asks and his user id. None where he does not come to the point.
    pub(super) fn accept(&self) -> Option<(Asker, Ask)> {
        let socket = accept_with(self, SocketFlags::CLOEXEC).ok()?;
        let uid = socket_peercred(&socket).ok()?.uid.as_raw();
        let line = Line::on(socket);
        line.be_patient(Duration::from_secs(1)).ok()?;
        let ask = line.hear().ok()??;
        Some((Asker { line, uid }, ask))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let socket = self.socket.as_ref();
        socket.expect("BUG: it listens until dropped").as_fd()
    }
}

impl Drop for Listener {
    /// The number is free as soon as the mount has gone: the name may be another daemon's by now.
    fn drop(&mut self) {
        drop(self.socket.take());
        let nobody_starts = Starting::lock_out(&self.directory, STUBBORN);
        if nobody_starts.is_some() && nobody_listens(&self.path) {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

fn nobody_listens(path: &Path) -> bool {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let asked = socket_with(family, kind, flags, None)
        .and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
    asked == Err(Errno::CONNREFUSED)
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
        Self::listening_in(&directory(entry.uid, runtime), entry)
    }

    pub(super) fn listening_in(directory: &Path, entry: &Entry) -> io::Result<Self> {
        let socket = socket()?;
        let address = SocketAddrUnix::new(path(directory, entry.minor))?;
        connect(&socket, &address).or_else(|_nobody| {
            Starting::wait(directory);
            connect(&socket, &address)
        })?;
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
    pub fn has_ended(&self, patience: Duration) -> bool {
        let _set = self.0.be_patient(patience).is_ok();
        matches!(self.0.hear::<Answer>(), Ok(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_waits_for_one_who_starts() {
        let space = tempfile::tempdir().unwrap();
        let directory = space.path().join("rfs");
        let entry = Entry {
            at: "/w".into(),
            backing: "/w".into(),
            minor: 50,
            uid: rustix::process::geteuid().as_raw(),
        };
        let starting = Starting::tell(&directory).unwrap();
        let other = Starting::tell(&directory).unwrap();
        drop(other);
        let (begun, begins) = std::sync::mpsc::channel();
        let asker = {
            let directory = directory.clone();
            std::thread::spawn(move || {
                begun.send(()).unwrap();
                Daemon::listening_in(&directory, &entry).map(drop)
            })
        };
        begins.recv().unwrap();
        for _ in 0..1000 {
            std::thread::yield_now();
            assert!(!asker.is_finished());
        }
        let _listener = Listener::bind(&directory, 50).unwrap();
        drop(starting);
        asker.join().unwrap().unwrap();
    }

    #[test]
    fn who_ends_leaves_the_socket_of_another() {
        let space = tempfile::tempdir().unwrap();
        let entry = Entry {
            at: "/w".into(),
            backing: "/w".into(),
            minor: 52,
            uid: rustix::process::geteuid().as_raw(),
        };
        let starting = Starting::tell(space.path()).unwrap();
        let old = Listener::bind(space.path(), 52).unwrap();
        let new = Listener::bind(space.path(), 52).unwrap();
        drop(starting);
        drop(old);
        Daemon::listening_in(space.path(), &entry).unwrap();
        drop(new);
        assert!(!path(space.path(), 52).exists());
    }

    #[test]
    fn one_that_is_dead_is_not_waited_for() {
        let space = tempfile::tempdir().unwrap();
        let entry = Entry {
            at: "/w".into(),
            backing: "/w".into(),
            minor: 51,
            uid: 0,
        };
        drop(Starting::tell(space.path()).unwrap());
        let error = Daemon::listening_in(space.path(), &entry).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
