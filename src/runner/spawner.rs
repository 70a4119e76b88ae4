//! The process that starts the programs of jobs: the command of a build by rules. It runs inside the view,
//! so that its children do, and so that what it makes and removes is seen as any other change.
//!
//! It hears [`Order`]s on its standard input, a socket, and answers each with a [`Reply`]. Its standard
//! output and error are those of the jobs. Knows nothing of rules.

use nix::unistd::Pid;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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
pub fn serve() -> io::Result<()> {
    // The terminal's signals are for the one that gives orders.
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    let mut wire = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    while let Some(order) = receive::<Order>(&mut wire)? {
        let done = start(&order).map(|child| {
            let pid = child.as_ref().map_or(0, std::process::Child::id);
            if let Some(child) = child {
                std::thread::spawn(move || reap(child));
            }
            i32::try_from(pid).unwrap_or(0)
        });
        let of = order.job;
        send(&mut wire, &Reply { of, done })?;
    }
    Ok(())
}

/// Waits for a child. One that was killed has not said so itself; whoever watches hears of it at the next
/// call that names a file.
fn reap(mut child: Child) {
    if child.wait().is_ok_and(|status| status.signal().is_some()) {
        let _seen = std::fs::symlink_metadata("/").is_ok();
    }
}

/// Gives no process for an order without words.
fn start(order: &Order) -> Result<Option<Child>, String> {
    for path in &order.remove {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("unlink {}: {error}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    for dir in &order.make {
        std::fs::create_dir_all(dir)
            .map_err(|error| format!("mkdir {}: {error}", dir.display()))?;
    }
    let Some((program, args)) = order.argv.split_first() else {
        return Ok(None);
    };
    Command::new(program)
        .args(args)
        .env_clear()
        .envs(order.env.iter().cloned())
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map(Some)
        .map_err(|error| format!("{}: {error}", program.to_string_lossy()))
}
