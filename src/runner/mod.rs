//! Starts executions and brings back how they ended. Knows no command line and no terminal.

pub mod bind;
pub mod budget;
pub mod estimate;
pub mod guard;
pub mod jobs;
pub mod jobserver;
pub mod launch;
pub mod location;
pub mod pins;
pub mod pmi;
pub mod replica;
pub mod room;
pub mod slots;
pub mod spawn;
pub mod spawner;
pub mod topology;
mod views;

use crate::base::policy::Policy;
use crate::disk::RealDisk;
use crate::report::{Calls, Sink};
use crate::watch::Watch;
use crate::watch::hold::Room;
use crate::watch::pins::Pins;
use crate::watch::session::{self, Plan, Session};
pub use crate::watch::session::{STATE, title};
use budget::Budget;
use jobserver::{Jobserver, Missing, Style};
use nix::sys::signal::SigSet;
use pins::Places;
use rfs_tracer::spawn::Backend;
pub use rfs_tracer::{
    Preload, has_library,
    probe::{Abilities, probe},
};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

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
    /// Bytes that its contents may take up.
    pub cache_size: u64,
    /// Its signal mask. The caller has signals blocked that the command must not have blocked.
    pub mask: SigSet,
    /// Way of tracing.
    pub tracer: Tracer,
    /// Which dynamic programs get a library that makes tracing quicker.
    pub preload: Preload,
    /// Whether the command is a shell for others: it is never looked up or kept, what it starts is.
    pub shell: bool,
    /// Record, but serve nothing.
    pub rerun: bool,
    /// Refuse steps that visibly use the clock or random numbers.
    pub strict_clock: bool,
    /// What is known of particular tools.
    pub policy: Policy,
    /// Where steps that compute run.
    pub pins: Option<Arc<Places>>,
    /// How much room there is for steps; none: as much as they want.
    pub room: Option<Arc<room::Here>>,
    /// How many jobs all tools together may run at once, where we are to see to that.
    pub jobs: Option<Jobs>,
}

/// How many jobs there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// So many.
    Fixed(usize),
    /// So many at first, later what there is room for: `batch` is as for [`Budget::of`].
    Auto {
        /// At the start.
        first: usize,
        /// What a batch system has given.
        batch: Option<usize>,
    },
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
    jobserver: Option<Arc<Jobserver>>,
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
        let ended = self.session.wait();
        self.jobserver = None;
        match ended {
            Ok(rfs_tracer::Ended::Exit(status)) => Ok(Ended::Exit(status)),
            Ok(rfs_tracer::Ended::Signal(signal)) => Ok(Ended::Signal(signal)),
            Err(error) => Err(error.into()),
        }
    }

    /// How its calls were watched so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.session.calls()
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
    let mut env = request.env.clone();
    let jobserver = request.jobs.map(|jobs| jobserver(jobs, request));
    let jobserver = jobserver.transpose()?;
    if let Some(jobserver) = &jobserver {
        jobserver.tell(&mut env);
    }
    let plan = Plan {
        argv: request.argv.clone(),
        title: title(&request.argv),
        env,
        cwd: request.cwd.clone(),
        workspace: request.workspace.clone(),
        cache: request.cache.clone(),
        cache_size: request.cache_size,
        disk: Arc::new(RealDisk),
        mask: request.mask,
        backend: match request.tracer {
            Tracer::Auto => Backend::Auto,
            Tracer::Notify => Backend::Notify,
            Tracer::Ptrace => Backend::Ptrace,
        },
        preload: request.preload,
        passthrough: true,
        room: request.room.clone().map(|room| room as Arc<dyn Room>),
        tokens: jobserver.as_ref().and_then(|server| server.inherited()),
        jobs: None,
        shell: request.shell,
        rerun: request.rerun,
        strict_clock: request.strict_clock,
        policy: request.policy.clone(),
        pins: request.pins.clone().map(|places| places as Arc<dyn Pins>),
    };
    let session = Session::start(plan, sink);
    if let Some(jobserver) = &jobserver {
        jobserver.started();
    }
    match session {
        Ok(session) => {
            if let Some(jobserver) = &jobserver {
                look_after(Arc::downgrade(jobserver), session.watch(), request.jobs);
            }
            Ok(Running { session, jobserver })
        }
        Err(session::Error::Mount(why)) => Err(Error::Mount(request.workspace.clone(), why)),
        Err(error) => match error.into() {
            Error::Mount(_, why) => Err(Error::Mount(request.workspace.clone(), why)),
            other @ (Error::Trace(_) | Error::Exec(..) | Error::Bind(..)) => Err(other),
        },
    }
}

fn jobserver(jobs: Jobs, request: &Request) -> Result<Arc<Jobserver>, Error> {
    let (Jobs::Fixed(jobs) | Jobs::Auto { first: jobs, .. }) = jobs;
    let style = Style::suiting(&request.argv, &request.env);
    let made = Jobserver::new(jobs, style, &jobserver::temporary(&request.env));
    made.map(Arc::new)
        .map_err(|error| Error::Trace(format!("no jobserver: {error}")))
}

/// How often it is looked whether tokens are missing, once a process was killed, and whether there is room
/// for more jobs or less.
const LOOK: Duration = Duration::from_millis(200);

/// Puts the tokens of killed processes back and follows the room that there is, as long as there is a jobserver.
fn look_after(jobserver: Weak<Jobserver>, watch: Arc<Watch>, jobs: Option<Jobs>) {
    let mut settled = 0;
    let mut missing = Missing::default();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(LOOK);
            let Some(jobserver) = jobserver.upgrade() else {
                return;
            };
            if let Some(Jobs::Auto { batch, .. }) = jobs {
                let now = Budget::now(batch).map(|budget| budget.jobs());
                let resized = now.map(|now| jobserver.resize(now));
                log::trace!("room for jobs: {resized:?}");
            }
            let killed = watch.n_killed();
            if killed == settled {
                continue;
            }
            let n_held = watch.n_held();
            match jobserver.recover(n_held, &mut missing) {
                Ok(0) => {}
                Ok(lost) => log::debug!("{lost} job tokens of killed processes are put back"),
                Err(error) => log::debug!("cannot look for lost job tokens: {error}"),
            }
            if n_held == 0 && missing.nothing() {
                settled = killed;
            }
        }
    });
}
