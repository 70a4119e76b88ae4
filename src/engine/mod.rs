//! One command of a user in a build by rules: which jobs have to run for some targets, and in what order.
//!
//! One thread owns the graph of files and jobs and goes from event to event. A job starts when its static
//! deps are made; whatever else it looks at that a rule can make, it waits for in that very look, while its
//! slot goes to others. So no job runs twice. Whether a record holds is `cache`'s to say; how a program is
//! started is behind [`Run`].

mod advance;
mod answers;
mod choose;
mod collect;
mod graph;
mod judge;
mod ledger;
mod locks;
mod marks;
mod programs;
mod rescue;
mod running;
mod sharing;
mod standing;
mod targets;
mod witness;

pub use collect::{Obsolete, collect};
pub use ledger::{Ledger, made};
pub use marks::{Mark, Marks};
pub use programs::Programs;
pub use rescue::remove_half_made;
pub use standing::Clean;
pub use witness::key;

use crate::base::{Chunk, Digest, JobId};
use crate::disk::Disk;
use crate::rules::Rules;
use crate::watch::jobs::{Ended, Jobs};
pub use crate::watch::session::{Known, machine};
use answers::Answers;
use graph::{Graph, Made, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// What the engine hears.
#[derive(Debug)]
pub enum Event {
    /// A process of a job looks at a file that a rule may make; it goes on when told.
    Wanted {
        /// The job.
        job: JobId,
        /// The file.
        name: String,
        /// Dropped or told when it may go on.
        go: Sender<()>,
    },
    /// The program of a job was started, with this process group, or why it could not be.
    Started(JobId, Result<i32, String>),
    /// The program of a job is about to exit well.
    Exits(JobId),
    /// A job has ended.
    Ended {
        /// Which.
        job: JobId,
        /// How.
        ended: Box<Ended>,
    },
    /// No program can be started any more, and nobody tells how those that run end.
    Lost(String),
    /// The user wants it to stop.
    Interrupt,
}

/// What is to be done to start a job.
#[derive(Debug, Clone)]
pub struct Start {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Files that must be gone before.
    pub remove: Vec<PathBuf>,
    /// Directories that must be there before.
    pub make: Vec<PathBuf>,
    /// Directories that it sees others in the place of: where, and which.
    pub views: Vec<(PathBuf, PathBuf)>,
}

/// Starts programs.
pub trait Run {
    /// Starts the program of a job. Whether that succeeded is an [`Event`]; how it ends is told by [`Jobs`].
    ///
    /// # Errors
    /// Why no program can be started.
    fn start(
        &mut self,
        job: JobId,
        start: Start,
        jobs: &Arc<dyn Jobs>,
        tell: &Sender<Event>,
    ) -> Result<(), String>;
    /// Removes files and makes directories while programs run.
    ///
    /// # Errors
    /// The system call that failed.
    fn prepare(&mut self, remove: Vec<PathBuf>, make: Vec<PathBuf>) -> Result<(), String>;
    /// Sends a signal to a process group.
    fn kill(&mut self, group: i32, signal: i32);
}

/// What is told while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A job has to run, for this reason.
    Runs(String, String),
    /// A job was found to be up to date.
    UpToDate(String),
    /// The outputs of a job were taken from the cache.
    Served(String),
    /// A job has ended well and has printed this.
    Done(String, Vec<Chunk>),
    /// A job has failed, for this reason, and has printed this. Whether it was run now.
    Failed(String, String, Vec<Chunk>, bool),
    /// A target could not be made, for this reason.
    Error(String),
    /// Something that the user should know.
    Warning(String),
}

/// Hears what is told.
pub trait Tell {
    /// One thing.
    fn tell(&mut self, told: Told);
}

/// What the user wants.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Jobs at a time.
    pub jobs: usize,
    /// Go on after a failure.
    pub keep_going: bool,
    /// Run nothing.
    pub dry: bool,
    /// Run failed jobs again though nothing has changed.
    pub retry_failed: bool,
    /// Run all jobs of these targets' own again.
    pub force: bool,
    /// Make incremental targets from nothing.
    pub from_nothing: bool,
    /// Keep what failed jobs have written, out of the way.
    pub keep_failed: bool,
    /// Further runs of a job that fails.
    pub retries: u32,
}

/// Counts of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Jobs that ran (or would run).
    pub ran: usize,
    /// Jobs whose outputs came from the cache.
    pub served: usize,
    /// Jobs that were up to date.
    pub up_to_date: usize,
    /// Jobs that failed, now or before.
    pub failed: usize,
    /// Jobs that could not run for the failure of others.
    pub blocked: usize,
    /// Targets and deps that nobody can make.
    pub errors: usize,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

/// The state of one command.
pub struct Engine<'a> {
    rules: Arc<Rules>,
    root: PathBuf,
    machine: String,
    known: Known,
    disk: Arc<dyn Disk>,
    wish: Wish,
    run: &'a mut dyn Run,
    tell: &'a mut dyn Tell,
    graph: Graph,
    answers: Arc<Answers>,
    events: Receiver<Event>,
    to_us: Sender<Event>,
    ledger: Ledger,
    marks: Marks,
    /// What still stands of what an earlier command has seen.
    clean: Option<Clean>,
    /// What this one sees.
    witness: witness::Witness,
    /// Forgotten files that were made anew.
    remembered: Vec<String>,
    /// Jobs that can go on.
    todo: VecDeque<JobId>,
    /// Jobs that have to run.
    queue: VecDeque<JobId>,
    /// Held processes that may go on when their jobs have a slot again.
    resume: VecDeque<(JobId, Sender<()>)>,
    /// Jobs that another command is at.
    elsewhere: Vec<JobId>,
    /// Jobs that have started and not ended.
    n_running: usize,
    busy: usize,
    in_use: BTreeMap<String, u64>,
    deadlines: Vec<(Instant, JobId)>,
    counts: Counts,
    /// No job is started any more.
    stopping: bool,
}

/// Where and with what an engine works.
#[derive(Debug)]
pub struct Setting {
    /// The workspace.
    pub root: PathBuf,
    /// What decides beside files and commands what jobs make.
    pub machine: String,
    /// World and cache.
    pub known: Known,
    /// What writes to the workspace.
    pub disk: Arc<dyn Disk>,
    /// What earlier commands have made.
    pub ledger: Ledger,
    /// What people have said of single files.
    pub marks: Marks,
    /// What still stands of what an earlier command for the same targets has seen.
    pub clean: Option<Clean>,
}

impl<'a> Engine<'a> {
    /// An engine for one command, and where it hears.
    pub fn new(
        rules: Rules,
        setting: Setting,
        wish: Wish,
        run: &'a mut dyn Run,
        tell: &'a mut dyn Tell,
    ) -> (Self, Sender<Event>) {
        let (send, events) = channel();
        let rules = Arc::new(rules);
        let answers = Arc::new(Answers::new(
            setting.root.clone(),
            rules.clone(),
            &setting.ledger,
            send.clone(),
        ));
        let engine = Self {
            rules,
            root: setting.root,
            machine: setting.machine,
            known: setting.known,
            disk: setting.disk,
            wish,
            run,
            tell,
            graph: Graph::default(),
            answers,
            events,
            to_us: send.clone(),
            ledger: setting.ledger,
            marks: setting.marks,
            clean: setting.clean,
            witness: witness::Witness::default(),
            remembered: Vec::new(),
            todo: VecDeque::new(),
            queue: VecDeque::new(),
            resume: VecDeque::new(),
            elsewhere: Vec::new(),
            n_running: 0,
            busy: 0,
            in_use: BTreeMap::new(),
            deadlines: Vec::new(),
            counts: Counts::default(),
            stopping: false,
        };
        (engine, send)
    }

    /// Makes some targets. Gives the counts, and the forgotten files that were made anew. What it has seen is
    /// kept under the key that `key` gives in the end.
    pub fn build(
        mut self,
        targets: &[String],
        key: impl FnOnce() -> Option<Digest>,
    ) -> (Counts, Vec<String>) {
        self.rescue();
        self.counts.up_to_date += self.clean.as_ref().map_or(0, Clean::n_jobs);
        if let Err(why) = self.make_dirs() {
            self.error(why);
            return (self.counts, self.remembered);
        }
        let mut roots = Vec::new();
        for target in targets {
            let node = self.graph.node(target);
            self.graph[node].is_root = true;
            if self.make(node) {
                self.own_up(node);
            }
            roots.push(node);
        }
        loop {
            while let Some(job) = self.todo.pop_front() {
                self.advance(job);
            }
            self.start_queued();
            if !self.todo.is_empty() {
                continue;
            }
            if self.n_running == 0 && self.elsewhere.is_empty() {
                break;
            }
            self.next_event();
            self.ask_for_locks();
        }
        for node in roots {
            self.conclude(node);
        }
        let written = self.ledger.write();
        self.note(written);
        if let Some(key) = key() {
            let dir = self.root.join(".rfs");
            self.keep_witness(targets, &standing::Standing::path(&dir, key));
        }
        (self.counts, self.remembered)
    }

    /// Says that the ledger could not be written.
    fn note(&mut self, written: crate::disk::Result<()>) {
        if let Err(error) = written {
            self.warn(format!("what jobs make is not remembered: {error}"));
        }
    }

    fn next_event(&mut self) {
        let now = Instant::now();
        let next = self.deadlines.iter().map(|(at, _)| *at);
        let ask = (!self.elsewhere.is_empty()).then(|| now + ASK);
        let next = next.chain(ask).min();
        let event = match next {
            Some(at) => self.events.recv_timeout(at.saturating_duration_since(now)),
            None => self.events.recv().map_err(RecvTimeoutError::from),
        };
        match event {
            Ok(Event::Wanted { job, name, go }) => self.wanted(job, &name, go),
            Ok(Event::Ended { job, ended }) => self.ended(job, *ended),
            Ok(Event::Started(job, started)) => self.started(job, started),
            Ok(Event::Exits(job)) => self.exits(job),
            Ok(Event::Lost(why)) => self.lost(&why),
            Ok(Event::Interrupt) => self.interrupt(),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        self.enforce_deadlines();
    }

    /// Says what is to be said of a target in the end.
    fn conclude(&mut self, node: NodeId) {
        let name = self.graph[node].name.clone();
        match self.graph[node].made() {
            Some(Made::By(_) | Made::Before | Made::Failed) => {}
            Some(Made::Source) if self.exists(&name) => {
                let path = self.path(&name);
                self.witness.decides(path, true);
            }
            Some(Made::Source) => {
                let why = self.nobody_makes(&name);
                self.error(why);
            }
            None if self.stopping => {}
            None => {
                let chain = self.loops(node);
                self.error(chain);
            }
        }
    }

    fn error(&mut self, why: String) {
        self.counts.errors += 1;
        self.tell.tell(Told::Error(why));
    }

    /// Whether a name of the workspace is there.
    fn exists(&self, name: &str) -> bool {
        !self.known.world.look(&self.path(name)).seen.is_absent()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The name of a path of the workspace.
    fn name<'p>(&self, path: &'p Path) -> Option<&'p str> {
        path.strip_prefix(&self.root).ok()?.to_str()
    }
}

/// Between one signal that ends a job and the next.
const MERCY: Duration = Duration::from_secs(1);

/// Between one question for the locks of other commands and the next.
const ASK: Duration = Duration::from_millis(20);

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("wish", &self.wish)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
