//! The process that starts the programs of jobs: the command of a build by rules. It runs inside the view,
//! so that its children do, and so that what it makes and removes is seen as any other change.
//!
//! It hears [`Order`]s on its standard input, a socket, and answers each with a [`Reply`]. Its standard
//! output and error are those of the jobs. Knows nothing of rules.

use super::spawn;
use super::views::Views;
use crate::disk::{self, Disk};
use nix::sys::wait::wait;
use nix::unistd::{Pid, dup2_stdin};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The number of the job whose program it is, to be told with the answer.
    pub job: Option<u32>,
    /// The program, by an absolute path, and its arguments; nothing is started where there are none.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Files to be removed before it starts, if they are there.
    pub remove: Vec<PathBuf>,
    /// Directories to be made before it starts, if they are not there.
    pub make: Vec<PathBuf>,
    /// Directories that it sees others in the place of: where, and which.
    pub views: Vec<(PathBuf, PathBuf)>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The job of the order.
    pub of: Option<u32>,
    /// The process group that its program leads, 0 without one; or why it could not be followed.
    pub done: Result<i32, String>,
}

/// No message is longer, in bytes.
const LONGEST: u32 = 64 << 20;

/// Sends one message.
///
/// # Errors
/// The other side has gone.
pub fn send<T: Serialize>(wire: &mut impl Write, message: &T) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    wire.write_all(&[&len.to_le_bytes(), bytes.as_slice()].concat())
}

/// Waits for a message; none when the other side has gone.
///
/// # Errors
/// It is none of ours, or broken off.
pub fn receive<T: DeserializeOwned>(wire: &mut impl Read) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    match wire.read_exact(&mut len) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let len = u32::from_le_bytes(len);
    if len > LONGEST {
        return Err(io::Error::other("a message that is too long"));
    }
    let mut bytes = vec![0; len as usize];
    wire.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes)
        .map(Some)
        .map_err(io::Error::other)
}

/// Serves until nobody gives orders any more.
///
/// # Errors
/// Standard input is no socket, or fails.
pub fn serve(disk: &dyn Disk) -> io::Result<()> {
    // The terminal's signals are for the one that gives orders.
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    let orders = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let replies = orders.try_clone()?;
    // What every program starts with.
    dup2_stdin(File::open("/dev/null")?)?;
    let (started, more) = channel();
    std::thread::spawn(move || reap(&more));
    let spawner = Spawner {
        disk,
        orders: Mutex::new(orders),
        replies: Mutex::new(replies),
    };
    // Who starts a program is held until the program has begun, which whoever watches has a say in.
    let n_threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let serve = || spawner.serve(started.clone());
        let threads = (1..n_threads.clamp(2, 8)).map(|_| scope.spawn(serve));
        let threads: Vec<_> = threads.collect();
        let served = spawner.serve(started.clone());
        for thread in threads {
            thread.join().unwrap_or(Ok(()))?;
        }
        served
    })
}

/// Both ways of the socket, each for one message at a time.
struct Spawner<'a> {
    disk: &'a dyn Disk,
    orders: Mutex<UnixStream>,
    replies: Mutex<UnixStream>,
}

impl Spawner<'_> {
    fn serve(&self, started: Sender<()>) -> io::Result<()> {
        let lock = |wire| Mutex::lock(wire).unwrap_or_else(PoisonError::into_inner);
        loop {
            let order = receive::<Order>(&mut *lock(&self.orders))?;
            let Some(order) = order else {
                return Ok(());
            };
            let done = start(&order, self.disk).map(|child| child.map_or(0, Pid::as_raw));
            // The thread that hears it lives as long as we do.
            let _told = started.send(()).is_ok();
            let of = order.job;
            send(&mut *lock(&self.replies), &Reply { of, done })?;
        }
    }
}

/// Waits for all children, and to be told of more. One thread for all: that a thread starts and ends is looked
/// at. A child that was killed has not said so itself: whoever watches hears of it because waits stop, or
/// because the library that makes them tells.
fn reap(more: &Receiver<()>) {
    while more.recv().is_ok() {
        while wait().is_ok() {}
    }
}

/// Removes files that may be there, and makes directories that may not.
///
/// # Errors
/// The system call that failed.
pub fn prepare(remove: &[PathBuf], make: &[PathBuf], disk: &dyn Disk) -> disk::Result<()> {
    for path in remove {
        disk.unlink_if_there(path)?;
    }
    make.iter().try_for_each(|dir| disk.mkdir_all(dir, 0o777))
}

/// Gives no process for an order without words.
fn start(order: &Order, disk: &dyn Disk) -> Result<Option<Pid>, String> {
    prepare(&order.remove, &order.make, disk).map_err(|error| error.to_string())?;
    let Some(program) = order.argv.first() else {
        return Ok(None);
    };
    let failed = |error: io::Error| format!("{}: {error}", program.to_string_lossy());
    let word = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::other);
    let argv = order.argv.iter().map(|arg| word(arg.as_bytes().to_vec()));
    let env = order
        .env
        .iter()
        .map(|(name, value)| word([name.as_bytes(), b"=", value.as_bytes()].concat()));
    let argv: Vec<CString> = argv.collect::<io::Result<_>>().map_err(failed)?;
    let env: Vec<CString> = env.collect::<io::Result<_>>().map_err(failed)?;
    if order.views.is_empty() {
        return spawn::program(&argv, &env, None).map(Some).map_err(failed);
    }
    let no_views = |error: io::Error| format!("its views: {error}");
    let path = |path: &PathBuf| match path.canonicalize()? == *path {
        true => word(path.as_os_str().as_bytes().to_vec()),
        // Whoever watches goes by the names alone.
        false => Err(io::Error::other(format!(
            "{} is reached through a symbolic link",
            path.display()
        ))),
    };
    let pairs = order.views.iter();
    let pairs = pairs.map(|(at, real)| Ok((path(at)?, path(real)?)));
    let views = Views::new(pairs.collect::<io::Result<_>>().map_err(no_views)?);
    spawn::program(&argv, &env, Some(&views))
        .map(Some)
        .map_err(|error| format!("its views, or {}", failed(error)))
}
