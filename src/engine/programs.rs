//! Programs of jobs in a view under watch, which is made when the first of them has to run.

use super::{Event, Known, Run, Start};
use crate::base::JobId;
use crate::report::Sink;
use crate::runner::guard::Guard;
use crate::runner::jobs::{self, JobView, Setup};
use crate::runner::spawner::{self, Order, Reply};
use crate::watch::jobs::Jobs;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The programs of one command.
pub struct Programs {
    setup: Setup,
    /// The program and the arguments of the guard.
    guard: Vec<OsString>,
    known: Known,
    sink: Arc<dyn Sink>,
    running: Option<Running>,
    /// Called when the process may have several threads.
    started: Option<Box<dyn FnOnce()>>,
}

struct Running {
    view: JobView,
    /// Answers to orders that start nothing.
    prepared: Receiver<Result<(), String>>,
    guard: Option<Guard>,
}

impl Programs {
    /// None yet.
    #[must_use]
    pub fn new(
        setup: Setup,
        guard: Vec<OsString>,
        known: Known,
        sink: Arc<dyn Sink>,
        started: Box<dyn FnOnce()>,
    ) -> Self {
        Self {
            setup,
            guard,
            known,
            sink,
            running: None,
            started: Some(started),
        }
    }

    /// Waits until the last process has ended and everything is stored.
    pub fn end(self) {
        if let Some(running) = self.running {
            running.view.end();
            if let Some(guard) = running.guard {
                guard.dismiss();
            }
        }
    }

    fn running(
        &mut self,
        jobs: &Arc<dyn Jobs>,
        tell: &Sender<Event>,
    ) -> Result<&mut Running, String> {
        if self.running.is_none() {
            let (setup, known) = (self.setup.clone(), self.known.clone());
            let (send, prepared) = channel();
            let view = JobView::start(setup, known, jobs.clone(), self.sink.clone());
            let mut view = view.map_err(|error| error.to_string())?;
            let tell = tell.clone();
            view.listen(move |reply| {
                let gone = match reply {
                    Ok(Reply { of: Some(id), done }) => {
                        tell.send(Event::Started(JobId(id), done)).is_err()
                    }
                    Ok(Reply { of: None, done }) => send.send(done.map(drop)).is_err(),
                    Err(why) => tell.send(Event::Lost(why)).is_err(),
                };
                !gone
            })
            .map_err(|error| error.to_string())?;
            if let Some(started) = self.started.take() {
                started();
            }
            self.running = Some(Running {
                view,
                prepared,
                guard: Guard::start(&self.guard).ok(),
            });
        }
        self.running.as_mut().ok_or_else(String::new)
    }
}

impl Run for Programs {
    fn start(
        &mut self,
        job: JobId,
        start: Start,
        jobs: &Arc<dyn Jobs>,
        tell: &Sender<Event>,
    ) -> Result<(), String> {
        let text = |(name, value): &(String, String)| (name.into(), value.into());
        let order = Order {
            job: Some(job.0),
            argv: start.argv.iter().map(OsString::from).collect(),
            env: start.env.iter().map(text).collect(),
            remove: start.remove,
            make: start.make,
            views: start.views,
        };
        self.running(jobs, tell)?.view.order(&order)
    }

    fn prepare(&mut self, remove: Vec<PathBuf>, make: Vec<PathBuf>) -> Result<(), String> {
        if let Some(running) = &mut self.running {
            let order = Order {
                job: None,
                argv: Vec::new(),
                env: Vec::new(),
                remove,
                make,
                views: Vec::new(),
            };
            running.view.order(&order)?;
            let gone = |_| "the spawner is gone".to_owned();
            return running.prepared.recv().map_err(gone)?;
        }
        spawner::prepare(&remove, &make, &*self.setup.disk).map_err(|error| error.to_string())
    }

    fn kill(&mut self, group: i32, signal: i32) {
        jobs::signal(group, signal);
    }
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs")
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}
