//! Programs of jobs in a view under watch, which is made when the first of them has to run.

use super::{Known, Run, Start, StartError};
use crate::report::Sink;
use crate::runner::jobs::{self, Place};
use crate::runner::spawner::Order;
use crate::watch::jobs::Jobs;
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

/// The programs of one command.
pub struct Crew {
    place: Place,
    known: Known,
    sink: Arc<dyn Sink>,
    crew: Option<jobs::Crew>,
    /// Called when the process may have several threads.
    started: Option<Box<dyn FnOnce()>>,
}

impl Crew {
    /// None yet.
    #[must_use]
    pub fn new(
        place: Place,
        known: Known,
        sink: Arc<dyn Sink>,
        started: Box<dyn FnOnce()>,
    ) -> Self {
        Self {
            place,
            known,
            sink,
            crew: None,
            started: Some(started),
        }
    }

    /// Waits until the last process has ended and everything is stored.
    pub fn end(self) {
        if let Some(crew) = self.crew {
            crew.end();
        }
    }
}

impl Run for Crew {
    fn start(&mut self, jobs: &Arc<dyn Jobs>, start: &Start) -> Result<i32, StartError> {
        let crew = match &mut self.crew {
            Some(crew) => crew,
            none => {
                let (place, known) = (self.place.clone(), self.known.clone());
                let crew = jobs::Crew::start(place, known, jobs.clone(), self.sink.clone())
                    .map_err(|error| StartError::Any(error.to_string()))?;
                if let Some(started) = self.started.take() {
                    started();
                }
                none.insert(crew)
            }
        };
        let text = |text: &String| OsString::from(text);
        let order = Order {
            argv: start.argv.iter().map(text).collect(),
            env: start
                .env
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            remove: start.remove.clone(),
            make: start.make.clone(),
        };
        crew.order(&order).map_err(StartError::This)
    }

    fn prepare(&mut self, remove: Vec<PathBuf>, make: Vec<PathBuf>) -> Result<(), String> {
        if let Some(crew) = &mut self.crew {
            let order = Order {
                argv: Vec::new(),
                env: Vec::new(),
                remove,
                make,
            };
            return crew.order(&order).map(drop);
        }
        for path in &remove {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(format!("unlink {}: {error}", path.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        for dir in &make {
            std::fs::create_dir_all(dir)
                .map_err(|error| format!("mkdir {}: {error}", dir.display()))?;
        }
        Ok(())
    }

    fn kill(&mut self, group: i32, at_once: bool) {
        jobs::signal(
            group,
            if at_once {
                Signal::SIGKILL
            } else {
                Signal::SIGTERM
            },
        );
    }
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
