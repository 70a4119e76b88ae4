//! The keeper: a process that stays where the daemon has left, in the mount namespace of whoever mounts.
//!
//! It does what it is told there, and when nobody is left to tell it anything, the daemon was killed: then it takes
//! the mount away, so that nobody waits for a server that is gone.

use super::line::Line;
use super::table::Entry;
use super::talk::{Answer, Ask, Daemon};
use super::{Error, table, users};
use crate::runner::spawn;
use nix::sys::signal::SigSet;
use nix::unistd::ForkResult;
use rfs_fs::{Connection, Gate, Removal, Standing, take_away};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// What it can do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Order {
    Mount,
    Remove(How),
    Probe,
}

/// How a mount is to go, see [`Removal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// When nobody uses it.
    Now,
    /// From the tree of names now, for those who use it when they are done.
    Lazy,
    /// Whoever uses it.
    Force,
}

impl From<How> for Removal {
    fn from(how: How) -> Self {
        match how {
            How::Now => Self::Now,
            How::Lazy => Self::Lazy,
            How::Force => Self::Abort,
        }
    }
}

/// What has become of a mount that was to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Removed {
    /// It is gone, and nobody uses it.
    Unused,
    /// It is gone from here; somebody still uses it.
    Used,
    /// It is in use, by these processes as far as they can be seen: number and name.
    Busy(Vec<(i32, String)>),
}

/// What has become of it, or what is wrong: an errno and a text.
type Done = Result<Removed, (i32, String)>;

/// The daemon's side of it.
#[derive(Debug)]
pub(super) struct Keeper {
    line: Line,
    gate: Option<Gate>,
    probing: bool,
}

impl Keeper {
    /// Starts it; `sockets` is where daemons listen. The process must have one thread.
    pub(super) fn start(standing: &Standing, sockets: &Path) -> Result<Self, Error> {
        let gate = Gate::new().map_err(Error::system("socketpair"))?;
        let (ours, its) = Line::pair().map_err(Error::system("socketpair"))?;
        match spawn::fork().map_err(Error::system("fork"))? {
            ForkResult::Child => {
                drop(ours);
                keep(&its, &gate, standing, sockets);
                spawn::leave(0)
            }
            ForkResult::Parent { .. } => Ok(Self {
                line: ours,
                gate: Some(gate),
                probing: false,
            }),
        }
    }

    /// Has it mount.
    pub(super) fn mount(&mut self) -> Result<Connection, String> {
        self.order(Order::Mount)
            .map_err(|error| error.to_string())?;
        let gate = self.gate.take().ok_or("mounted twice")?;
        gate.receive().map_err(|error| error.to_string())
    }

    /// Has it unmount.
    pub(super) fn remove(&mut self, how: How) -> io::Result<Removed> {
        self.order(Order::Remove(how))
    }

    /// Asks whether the mount answers. The reply is to be [taken](Self::probed) when it comes.
    pub(super) fn probe(&mut self) {
        if !self.probing {
            self.probing = self.line.say(&Order::Probe, None).is_ok();
        }
    }

    /// Takes a reply to [`Self::probe`]: whether the mount answers. None when the keeper has gone.
    pub(super) fn probed(&mut self) -> Option<bool> {
        self.probing = false;
        let reply: Done = self.line.hear().ok().flatten()?;
        Some(reply.is_ok())
    }

    fn order(&mut self, order: Order) -> io::Result<Removed> {
        if self.probing {
            let _late = self.probed();
        }
        self.line.say(&order, None)?;
        match self.line.hear::<Done>()? {
            Some(Ok(removed)) => Ok(removed),
            Some(Err((0, text))) => Err(io::Error::other(text)),
            Some(Err((errno, _))) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other("the process that mounts was killed")),
        }
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

fn keep(line: &Line, gate: &Gate, standing: &Standing, sockets: &Path) {
    let _named = nix::sys::prctl::set_name(c"rfs-keeper");
    // Whatever ends the daemon, a signal to the whole group included, it is to be outlived.
    let _blocked = SigSet::all().thread_block();
    let _nobodys = nix::unistd::chdir("/");
    let mut minor = None;
    while let Ok(Some(order)) = line.hear() {
        let done = match order {
            Order::Mount => match gate.stand(standing) {
                Ok(()) => {
                    minor = table::at(&standing.at).ok().flatten().map(|at| at.minor);
                    match minor {
                        Some(_) => Ok(Removed::Used),
                        None => Err((0, "it is not in the list of mounts".to_owned())),
                    }
                }
                Err(error) => Err((0, error.to_string())),
            },
            Order::Remove(how) => {
                let removed = remove(standing, how, minor);
                if let Ok(Removed::Unused | Removed::Used) = removed {
                    minor = None;
                }
                removed
            }
            Order::Probe => nix::sys::statvfs::statvfs(&standing.at)
                .map(|_| Removed::Used)
                .map_err(|errno| told(errno.into())),
        };
        if line.say(&done, None).is_err() {
            break;
        }
    }
    // Not one that somebody else has mounted there since, be it with the same number.
    let there = table::at(&standing.at).ok().flatten();
    let there = there.filter(|there| Some(there.minor) == minor);
    if there.is_some_and(|there| !is_served(&there, sockets)) {
        let _gone = take_away(&standing.at, Removal::Abort);
    }
}

/// Whether a daemon answers. One that has just been killed may seem to listen.
fn is_served(entry: &Entry, sockets: &Path) -> bool {
    let asked = Daemon::listening_in(sockets, entry).and_then(|daemon| daemon.ask(&Ask::Status));
    matches!(asked, Ok((Answer::Status(_), _)))
}

fn remove(standing: &Standing, how: How, minor: Option<u32>) -> Done {
    let there = table::at(&standing.at).ok().flatten();
    if minor.is_none() || there.map(|there| there.minor) != minor {
        // It is gone from here. What lies there now is somebody else's.
        return Ok(Removed::Used);
    }
    let users = || minor.map_or_else(Vec::new, users::of);
    // Who else is let in cannot be seen by an ordinary user.
    let sees_all = !standing.others || nix::unistd::geteuid().is_root();
    match take_away(&standing.at, how.into()) {
        Ok(()) if how == How::Lazy || !sees_all || !users().is_empty() => Ok(Removed::Used),
        Ok(()) => Ok(Removed::Unused),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(Removed::Busy(users())),
        Err(error) => Err(told(error)),
    }
}

fn told(error: io::Error) -> (i32, String) {
    (error.raw_os_error().unwrap_or(0), error.to_string())
}
