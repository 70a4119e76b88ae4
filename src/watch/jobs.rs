//! Jobs of rules among the steps of a build: whoever decides about them, as the watch sees it.
//!
//! In a build by rules the command is a *spawner*, and each program that it starts is a job. A job is one
//! step whatever programs it runs; whether it has to run was decided before it was started.

use super::Watch;
use super::model::Model;
use super::tool::Tool;
use crate::base::{Chunk, Dep, Digest, JobId, Miss, Record, Refusal};
use rfs_tracer::event::{Exec, ExecAnswer, OwnFds, Pid};
pub use rfs_tracer::views::Views;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A job whose program is about to start.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    /// Its number.
    pub id: JobId,
    /// What its record is kept under.
    pub key: Digest,
}

/// How a job has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; negative where it was killed.
    pub status: i32,
    /// What it printed, as far as that can be told.
    pub chunks: Vec<Chunk>,
    /// Its record, which is in the cache now, or why there is none.
    pub record: Result<Box<Record>, Refusal>,
    /// Names in the workspace that it changed, where there is no record to tell.
    pub changed: Vec<PathBuf>,
}

/// Decides about jobs.
pub trait Jobs: Debug + Send + Sync {
    /// The job that a program is which the spawner starts, with these arguments and environment.
    fn starting(&self, argv: &[Vec<u8>], env: &[Vec<u8>]) -> Option<Ticket>;
    /// Whether a job may look at a path of the workspace now.
    fn is_ready(&self, job: JobId, path: &Path) -> bool;
    /// Whether some job sees directories in the place of others.
    fn have_views(&self) -> bool {
        false
    }
    /// What a job sees in the place of other directories.
    fn views(&self, job: JobId) -> Option<Arc<Views>> {
        let _: JobId = job;
        None
    }
    /// Waits until it may, or it waits no longer.
    fn wait(&self, job: JobId, path: &Path, still_there: &dyn Fn() -> bool);
    /// Whether what a dep says is the engine's to put in place before the job runs, so that the job does
    /// not depend on it.
    fn owns(&self, job: JobId, dep: &Dep) -> bool;
    /// Whether what happens at a path of the workspace is none of a job's business.
    fn ignores(&self, job: JobId, path: &Path) -> bool;
    /// The program of a job is about to exit with 0. What it did is still to be stored.
    fn exits(&self, job: JobId);
    /// A job has ended.
    fn ended(&self, job: JobId, ended: Ended);
}

/// Whether a program is one that the spawner starts, or, without a step around it, the spawner.
pub(super) fn is_of_spawner(model: &Model, parent: Option<usize>, pid: Pid) -> bool {
    parent.is_none_or(|at| {
        let step = &model.steps[at];
        step.parent.is_none() && step.pid != pid
    })
}

impl Watch {
    /// Has what the program of a job is given read. The spawner gives all the same descriptors.
    pub(super) fn complete_job(&self, exec: &mut Exec, fds: &dyn OwnFds) -> bool {
        let Some(known) = self.of_spawner.get() else {
            let read = fds.complete(exec);
            if read {
                let _first = self.of_spawner.set(exec.fds.clone()).is_ok();
            }
            return read;
        };
        exec.fds.clone_from(known);
        fds.environment(exec)
    }

    /// Decides about a program that is about to start in a build by rules.
    pub(super) fn start_job(
        &self,
        jobs: &dyn Jobs,
        exec: Exec,
        tool: Tool,
        parent: Option<usize>,
    ) -> ExecAnswer {
        let ticket = parent.and_then(|_| jobs.starting(&exec.argv, &exec.env));
        if let (Some(at), None) = (parent, ticket) {
            let mut model = self.model();
            self.loads(&mut model, at, &exec);
            model.enter(exec.pid, at, tool);
            return ExecAnswer::Run;
        }
        let key = match ticket {
            // It is walked to before the job has its views.
            Some(ticket) if jobs.views(ticket.id).is_some_and(|v| v.hide(&exec)) => {
                Err("its program, or what loads it, lies in one of its views".to_owned())
            }
            Some(ticket) => Ok(ticket.key),
            None => Err("starts jobs".to_owned()),
        };
        self.open_step(
            exec,
            tool,
            parent,
            key,
            Miss::Off,
            ticket.map(|ticket| ticket.id),
        );
        ExecAnswer::Run
    }

    /// The job that a process belongs to, if it asks for a path of the workspace.
    pub(super) fn asks(&self, pid: Pid, path: &Path) -> Option<JobId> {
        if !path.starts_with(self.world.root()) {
            return None;
        }
        let model = self.model();
        let at = model.step_of(pid)?;
        model.steps[at].job
    }
}
