//! Starts executions and brings back how they ended. Knows no command line and no terminal.

pub mod bind;
pub mod budget;
pub mod launch;
pub mod location;
pub mod pins;
pub mod slots;
pub mod spawn;
pub mod topology;

use crate::base::policy::Policy;
use crate::disk::RealDisk;
use crate::report::Sink;
use crate::watch::pins::Pins;
use crate::watch::session::{self, Plan, Session};
use nix::sys::signal::SigSet;
use pins::Places;
use rfs_tracer::spawn::Backend;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// Which way of tracing to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tracer {
    /// The best that this machine allows.
    #[default]
    Auto,
    /// Seccomp user notification.
    Notify,
    /// Ptrace.
    Ptrace,
}

/// A wrapped build to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// The command.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory, without symbolic links.
    pub cwd: PathBuf,
    /// The workspace's root, without symbolic links. Has `.rfs/`.
    pub workspace: PathBuf,
    /// The cache's directory; need not exist.
    pub cache: PathBuf,
    /// Its signal mask. The caller has signals blocked that the command must not have blocked.
    pub mask: SigSet,
    /// Way of tracing.
    pub tracer: Tracer,
    /// Whether to put a library into dynamic programs that makes tracing quicker.
    pub preload: bool,
    /// Record, but serve nothing.
    pub rerun: bool,
    /// Refuse steps that visibly use the clock or random numbers.
    pub strict_clock: bool,
    /// What is known of particular tools.
    pub policy: Policy,
    /// Where steps that compute run.
    pub pins: Option<Arc<Places>>,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// Our environment failed; the command did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The view could not be mounted.
    #[error("cannot mount the view over {0}: {1}")]
    Mount(PathBuf, String),
    /// The command could not be traced.
    #[error("cannot trace the command: {0}")]
    Trace(String),
    /// The processors or the memory could not be had.
    #[error("cannot bind to {0}: {1}")]
    Bind(bind::Binding, std::io::Error),
    /// The command could not be executed: errno.
    #[error("{0}: cannot execute: {1}")]
    Exec(String, std::io::Error),
}

/// A command that runs under watch.
#[derive(Debug)]
pub struct Running {
    session: Session,
}

impl Running {
    /// Process id of the command.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.session.pid()
    }

    /// Waits until the command itself has ended and everything it recorded is stored.
    ///
    /// # Errors
    /// [`Error::Exec`] when it could not be executed.
    pub fn wait(&mut self) -> Result<Ended, Error> {
        match self.session.wait() {
            Ok(rfs_tracer::Ended::Exit(status)) => Ok(Ended::Exit(status)),
            Ok(rfs_tracer::Ended::Signal(signal)) => Ok(Ended::Signal(signal)),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the last process that it left behind has ended too.
    pub fn drain(self) {
        self.session.drain();
    }
}

impl From<session::Error> for Error {
    fn from(error: session::Error) -> Self {
        use rfs_tracer::spawn::Error as Spawn;
        match error {
            session::Error::Mount(why) => Self::Mount(PathBuf::new(), why),
            session::Error::Trace(Spawn::Exec { program, source }) => {
                Self::Exec(program.display().to_string(), source)
            }
            session::Error::Trace(Spawn::Prepare(why)) => Self::Mount(PathBuf::new(), why),
            session::Error::Trace(error) => Self::Trace(error.to_string()),
        }
    }
}

/// Starts a wrapped build. To be called while the process has one thread.
///
/// # Errors
/// When mount or tracer cannot be had. Nothing has run then.
pub fn start(request: &Request, sink: Arc<dyn Sink>) -> Result<Running, Error> {
    let plan = Plan {
        argv: request.argv.clone(),
        env: request.env.clone(),
        cwd: request.cwd.clone(),
        workspace: request.workspace.clone(),
        cache: request.cache.clone(),
        disk: Arc::new(RealDisk),
        mask: request.mask,
        backend: match request.tracer {
            Tracer::Auto => Backend::Auto,
            Tracer::Notify => Backend::Notify,
            Tracer::Ptrace => Backend::Ptrace,
        },
        preload: request.preload,
        passthrough: true,
        rerun: request.rerun,
        strict_clock: request.strict_clock,
        policy: request.policy.clone(),
        pins: request.pins.clone().map(|places| places as Arc<dyn Pins>),
    };
    match Session::start(plan, sink) {
        Ok(session) => Ok(Running { session }),
        Err(session::Error::Mount(why)) => Err(Error::Mount(request.workspace.clone(), why)),
        Err(error) => match error.into() {
            Error::Mount(_, why) => Err(Error::Mount(request.workspace.clone(), why)),
            other @ (Error::Trace(_) | Error::Exec(..) | Error::Bind(..)) => Err(other),
        },
    }
}
