//! Starts executions and brings back how they ended. Knows no command line and no terminal.

pub mod spawn;

use crate::base::policy::Policy;
use crate::report::Sink;
use nix::sys::signal::SigSet;
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
    /// Record, but serve nothing.
    pub rerun: bool,
    /// Refuse steps that visibly use the clock or random numbers.
    pub strict_clock: bool,
    /// What is known of particular tools.
    pub policy: Policy,
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
    /// The command could not be executed: errno.
    #[error("{0}: cannot execute: {1}")]
    Exec(String, std::io::Error),
}

/// A command that runs under watch. Must be started while the process has one thread.
#[derive(Debug)]
pub struct Running {}

impl Running {
    /// Process id of the command.
    #[must_use]
    pub fn pid(&self) -> i32 {
        0
    }

    /// Waits until the command itself has ended and everything it recorded is stored.
    ///
    /// # Errors
    /// [`Error::Exec`] when the command could not be executed after all; any other when sight of it was
    /// lost, whatever it has done by then.
    pub fn wait(&mut self) -> Result<Ended, Error> {
        Ok(Ended::Exit(0))
    }

    /// Waits until the last process that it left behind has ended too.
    pub fn drain(self) {}
}

/// Starts a wrapped build.
///
/// # Errors
/// When mount or tracer cannot be had, or the command cannot be executed. Nothing has run then.
pub fn start(request: &Request, sink: Arc<dyn Sink>) -> Result<Running, Error> {
    let _used = (request, sink);
    Err(Error::Trace("this part of rfs is not written yet".into()))
}
