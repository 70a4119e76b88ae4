//! Starts the programs of jobs in one view, under one tracer, by way of a [`super::spawner`].

use super::spawner::{self, Order, Reply};
use super::{Error, Tracer};
use crate::base::policy::Policy;
use crate::disk::Disk;
use crate::report::Sink;
use crate::watch::jobs::Jobs;
use crate::watch::session::{Known, Plan, Session};
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2};
use rfs_tracer::{Backend, Preload};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

/// Where jobs are to run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The spawner's program and arguments.
    pub spawner: Vec<OsString>,
    /// What the build is called.
    pub title: String,
    /// The workspace's root, without symbolic links. Has `.rfs/`.
    pub workspace: PathBuf,
    /// The cache's directory.
    pub cache: PathBuf,
    /// Bytes that its contents may take up.
    pub cache_size: u64,
    /// What writes to the workspace and to the cache.
    pub disk: Arc<dyn Disk>,
    /// The signal mask of jobs.
    pub mask: SigSet,
    /// Way of tracing.
    pub tracer: Tracer,
    /// What is known of particular tools.
    pub policy: Policy,
    /// Which programs get the preload library.
    pub preload: Preload,
}

/// A view in which jobs can be started.
#[derive(Debug)]
pub struct JobView {
    session: Session,
    wire: UnixStream,
}

impl JobView {
    /// Makes the view and starts the spawner. To be called while the process has one thread.
    ///
    /// # Errors
    /// When mount or tracer cannot be had.
    pub fn start(
        setup: Setup,
        known: Known,
        jobs: Arc<dyn Jobs>,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Trace(error.to_string());
        let (wire, theirs) = UnixStream::pair().map_err(failed)?;
        let (out, to_out) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let (err, to_err) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let plan = Plan {
            argv: setup.spawner,
            title: setup.title,
            env: Vec::new(),
            cwd: setup.workspace.clone(),
            workspace: setup.workspace.clone(),
            cache: setup.cache,
            cache_size: setup.cache_size,
            disk: setup.disk,
            mask: setup.mask,
            backend: match setup.tracer {
                Tracer::Auto => Backend::Auto,
                Tracer::Notify => Backend::Notify,
                Tracer::Ptrace => Backend::Ptrace,
            },
            preload: setup.preload,
            passthrough: true,
            room: None,
            tokens: None,
            jobs: Some((jobs, known)),
            shell: false,
            rerun: false,
            strict_clock: false,
            policy: setup.policy,
            pins: None,
        };
        let standard =
            Standard::replace(theirs.as_fd(), to_out.as_fd(), to_err.as_fd()).map_err(failed)?;
        let session = Session::start(plan, sink);
        standard.restore().map_err(failed)?;
        let session = session.map_err(|error| match Error::from(error) {
            Error::Mount(_, why) => Error::Mount(setup.workspace, why),
            other @ (Error::Trace(_) | Error::Exec(..) | Error::Bind(..)) => other,
        })?;
        drain(out);
        drain(err);
        Ok(Self { session, wire })
    }

    /// Says who hears what became of the orders, in their order, and why when no more will be told. He says
    /// whether he still listens.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn listen(
        &mut self,
        hear: impl Fn(Result<Reply, String>) -> bool + Send + 'static,
    ) -> io::Result<()> {
        let mut wire = self.wire.try_clone()?;
        thread::spawn(move || {
            loop {
                let reply = match spawner::receive(&mut wire) {
                    Ok(Some(reply)) => Ok(reply),
                    Ok(None) => Err("the spawner is gone".to_owned()),
                    Err(error) => Err(format!("the spawner is gone: {error}")),
                };
                let last = reply.is_err();
                if !hear(reply) || last {
                    break;
                }
            }
        });
        Ok(())
    }

    /// Gives an order. What became of it is told to who listens.
    ///
    /// # Errors
    /// Nobody takes orders any more.
    pub fn order(&mut self, order: &Order) -> Result<(), String> {
        spawner::send(&mut self.wire, order)
            .map_err(|error| format!("the spawner is gone: {error}"))
    }

    /// Ends it. Waits until the last process has ended and everything is stored.
    pub fn end(self) {
        let Self { mut session, wire } = self;
        // Also for the thread that listens.
        let _closed = wire.shutdown(Shutdown::Both);
        drop(session.wait());
        session.drain();
    }
}

/// Sends a signal to a process group; it may be gone.
pub fn signal(group: i32, signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        let _gone = killpg(Pid::from_raw(group), signal);
    }
}

/// Reads what jobs print, which is known from watching them, and drops it.
fn drain(pipe: OwnedFd) {
    let mut pipe = File::from(pipe);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while matches!(pipe.read(&mut buffer), Ok(n) if n > 0) {}
    });
}

/// Our standard descriptors while others stand in their setup.
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
