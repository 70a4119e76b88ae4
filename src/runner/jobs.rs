//! Starts the programs of jobs in one view, under one tracer, by way of a [`super::spawner`].

use super::spawner::{self, Order, Reply};
use super::{Error, Tracer};
use crate::base::policy::Policy;
use crate::disk::RealDisk;
use crate::report::Sink;
use crate::watch::jobs::Jobs;
use crate::watch::session::{Known, Plan, Session};
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2};
use rfs_tracer::Backend;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

/// Where jobs are to run.
#[derive(Debug, Clone)]
pub struct Place {
    /// The spawner's program and arguments.
    pub spawner: Vec<OsString>,
    /// The workspace's root, without symbolic links. Has `.rfs/`.
    pub workspace: PathBuf,
    /// The cache's directory.
    pub cache: PathBuf,
    /// Bytes that its contents may take up.
    pub cache_size: u64,
    /// The signal mask of jobs.
    pub mask: SigSet,
    /// Way of tracing.
    pub tracer: Tracer,
    /// What is known of particular tools.
    pub policy: Policy,
}

/// A view in which jobs can be started.
#[derive(Debug)]
pub struct Crew {
    session: Session,
    wire: UnixStream,
}

impl Crew {
    /// Makes the view and starts the spawner. To be called while the process has one thread.
    ///
    /// # Errors
    /// When mount or tracer cannot be had.
    pub fn start(
        place: Place,
        known: Known,
        jobs: Arc<dyn Jobs>,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Trace(error.to_string());
        let (wire, theirs) = UnixStream::pair().map_err(failed)?;
        let (out, to_out) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let (err, to_err) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let plan = Plan {
            argv: place.spawner,
            env: Vec::new(),
            cwd: place.workspace.clone(),
            workspace: place.workspace.clone(),
            cache: place.cache,
            cache_size: place.cache_size,
            disk: Arc::new(RealDisk),
            mask: place.mask,
            backend: match place.tracer {
                Tracer::Auto => Backend::Auto,
                Tracer::Notify => Backend::Notify,
                Tracer::Ptrace => Backend::Ptrace,
            },
            preload: false,
            passthrough: true,
            room: None,
            tokens: None,
            jobs: Some((jobs, known)),
            rerun: false,
            strict_clock: false,
            policy: place.policy,
            pins: None,
        };
        let standard =
            Standard::replace(theirs.as_fd(), to_out.as_fd(), to_err.as_fd()).map_err(failed)?;
        let session = Session::start(plan, sink);
        standard.restore().map_err(failed)?;
        let session = session.map_err(|error| match Error::from(error) {
            Error::Mount(_, why) => Error::Mount(place.workspace, why),
            other @ (Error::Trace(_) | Error::Exec(..) | Error::Bind(..)) => other,
        })?;
        drain(out);
        drain(err);
        Ok(Self { session, wire })
    }

    /// Has a program started, and waits until it is. Gives its process group.
    ///
    /// # Errors
    /// Why it could not be.
    pub fn order(&mut self, order: &Order) -> Result<i32, String> {
        let gone = |error: &dyn std::fmt::Display| format!("the spawner is gone: {error}");
        spawner::send(&mut self.wire, order).map_err(|error| gone(&error))?;
        match spawner::receive(&mut self.wire).map_err(|error| gone(&error))? {
            Some(Reply::Started(group)) => Ok(group),
            Some(Reply::Failed(why)) => Err(why),
            None => Err(gone(&"end of file")),
        }
    }

    /// Ends it. Waits until the last process has ended and everything is stored.
    pub fn end(self) {
        let Self { mut session, wire } = self;
        drop(wire);
        drop(session.wait());
        session.drain();
    }
}

/// Sends a signal to a process group; it may be gone.
pub fn signal(group: i32, signal: Signal) {
    let _gone = killpg(Pid::from_raw(group), signal);
}

/// Reads what jobs print, which is known from watching them, and drops it.
fn drain(pipe: OwnedFd) {
    let mut pipe = File::from(pipe);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while matches!(pipe.read(&mut buffer), Ok(n) if n > 0) {}
    });
}

/// Our standard descriptors while others stand in their place.
struct Standard([OwnedFd; 3]);

impl Standard {
    fn replace(input: impl AsFd, output: impl AsFd, error: impl AsFd) -> io::Result<Self> {
        let ours = Self([
            io::stdin().as_fd().try_clone_to_owned()?,
            io::stdout().as_fd().try_clone_to_owned()?,
            io::stderr().as_fd().try_clone_to_owned()?,
        ]);
        dup2_stdin(input)?;
        dup2_stdout(output)?;
        dup2_stderr(error)?;
        Ok(ours)
    }

    fn restore(self) -> io::Result<()> {
        let [input, output, error] = self.0;
        dup2_stdin(input)?;
        dup2_stdout(output)?;
        dup2_stderr(error)?;
        Ok(())
    }
}
