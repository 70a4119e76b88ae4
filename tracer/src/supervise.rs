//! A supervised command, as the users of this crate see it: start it, give it an observer, wait for it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::signal::SigSet;

use crate::event::{Counts, Observer};
use crate::fast;
use crate::reaper::Ended;
use crate::spawn::{self, Backend, Error};
use crate::supervisor::Supervisor;
use crate::table;

/// Which dynamic programs get the library that notes what they look at, which is quicker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preload {
    /// None.
    Off,
    /// All that can have it.
    On,
    /// Every second one of those, so that tests see both kinds side by side.
    Half,
}

/// A command to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its argument vector. The first is looked up as execvp(3) does.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory, entered after the preparation.
    pub cwd: PathBuf,
    /// The signals that it finds blocked. Dispositions it inherits from the host.
    pub mask: SigSet,
    /// How to stop its calls.
    pub backend: Backend,
    /// Which programs get the preload library.
    pub preload: Preload,
    /// A name: of a look at a path that has it in it, or is relative, the library does not note but stops. Empty:
    /// there is none.
    pub guard: OsString,
}

/// A command that exists as a process, but has not been executed yet.
#[derive(Debug)]
pub struct Launched {
    launched: spawn::Launched,
    preload: Preload,
    guard: OsString,
}

/// A command that runs observed. Dropping it kills what is left of it.
#[derive(Debug)]
pub struct Running {
    running: spawn::Running,
    supervisor: Arc<Supervisor>,
}

/// Forks the process that is to become the command; see [`spawn::launch`], to which this adds the rules
/// that say which calls stop.
///
/// # Errors
/// When the arguments cannot be passed or no process can be made.
pub fn launch(launch: Launch, prepare: impl FnOnce() -> io::Result<()>) -> Result<Launched, Error> {
    let Launch {
        argv,
        env,
        cwd,
        mask,
        backend,
        preload,
        guard,
    } = launch;
    let preload = match fast::has_library() {
        true => preload,
        false => Preload::Off,
    };
    let launch = spawn::Launch {
        argv,
        env,
        cwd,
        mask,
        backend,
        tables: table::tables(),
        pass: (preload != Preload::Off)
            .then_some(fast::PASS)
            .into_iter()
            .flatten()
            .collect(),
    };
    let launched = spawn::launch(launch, prepare)?;
    Ok(Launched {
        launched,
        preload,
        guard,
    })
}

impl Launched {
    /// Process id of the command.
    pub fn pid(&self) -> i32 {
        self.launched.pid()
    }

    /// Waits for the preparation and lets the command be executed: its execve is the first call that the
    /// observer may be told of.
    ///
    /// # Errors
    /// When the preparation failed or the command cannot be supervised; it has not run then.
    pub fn observe(self, observer: Arc<dyn Observer>) -> Result<Running, Error> {
        let guard = self.guard.into_vec();
        let fast = match self.preload {
            Preload::Off => None,
            Preload::On => Some((self.launched.cookie(), guard, 1)),
            Preload::Half => Some((self.launched.cookie(), guard, 2)),
        };
        let supervisor = Supervisor::with(observer, fast).map_err(|source| Error::Sys {
            call: "epoll_create1",
            source,
        })?;
        let supervisor = Arc::new(supervisor);
        let running = self.launched.attach(Arc::clone(&supervisor) as Arc<_>)?;
        Ok(Running {
            running,
            supervisor,
        })
    }
}

impl Running {
    /// Process id of the command.
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// How its calls are stopped: never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        self.running.backend()
    }

    /// To be called when something outside the command moved a directory or changed a symbolic link.
    pub fn forget_names(&self) {
        self.supervisor.forget_names();
    }

    /// How many calls came which way so far.
    pub fn counts(&self) -> Counts {
        self.supervisor.counts()
    }

    /// Waits until the command itself has ended. What it left behind goes on and is observed.
    ///
    /// # Errors
    /// [`Error::Exec`] when it could not be executed.
    pub fn wait(&mut self) -> Result<Ended, Error> {
        self.running.wait()
    }

    /// Waits until the last process has ended and everything has been told.
    pub fn drain(self) {
        self.running.drain();
        self.supervisor.finish();
    }
}
