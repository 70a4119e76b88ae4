//! One command of a user in a build by rules: which jobs have to run for some targets, and in what order.
//!
//! One thread owns the graph of files and jobs and goes from event to event. A job starts when its static
//! deps are made; whatever else it looks at that a rule can make, it waits for in that very look, while its
//! slot goes to others. So no job runs twice. Whether a record holds is `cache`'s to say; how a program is
//! started is behind [`Run`].

mod advance;
mod board;
mod choose;
mod crew;
mod graph;
mod judge;
mod made;
mod place;
mod running;

pub use crew::Crew;
pub use made::MadeBefore;

use crate::base::{Chunk, JobId};
use crate::disk::Disk;
use crate::rules::Rules;
use crate::watch::jobs::{Ended, Jobs};
pub use crate::watch::session::{Known, machine};
use board::Board;
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
    /// A job has ended.
    Ended {
        /// Which.
        job: JobId,
        /// How.
        ended: Box<Ended>,
    },
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
}

/// Starts programs.
pub trait Run {
    /// Starts the program of a job; how it ends is told by [`Jobs`]. Gives its process group.
    ///
    /// # Errors
    /// Why it could not be started.
    fn start(&mut self, jobs: &Arc<dyn Jobs>, start: &Start) -> Result<i32, StartError>;
    /// Removes files and makes directories while programs run.
    ///
    /// # Errors
    /// The system call that failed.
    fn prepare(&mut self, remove: Vec<PathBuf>, make: Vec<PathBuf>) -> Result<(), String>;
    /// Asks a process group to end, or makes it.
    fn kill(&mut self, group: i32, at_once: bool);
}

/// A program could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// This one.
    #[error("{0}")]
    This(String),
    /// None can be.
    #[error("{0}")]
    Any(String),
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
    board: Arc<Board>,
    events: Receiver<Event>,
    made: MadeBefore,
    /// Jobs that can go on.
    todo: VecDeque<JobId>,
    /// Jobs that have to run.
    queue: VecDeque<JobId>,
    /// Held processes that may go on when their jobs have a slot again.
    resume: VecDeque<(JobId, Sender<()>)>,
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
    pub made: MadeBefore,
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
        let board = Arc::new(Board::new(
            setting.root.clone(),
            rules.clone(),
            &setting.made,
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
            board,
            events,
            made: setting.made,
            todo: VecDeque::new(),
            queue: VecDeque::new(),
            resume: VecDeque::new(),
            busy: 0,
            in_use: BTreeMap::new(),
            deadlines: Vec::new(),
            counts: Counts::default(),
            stopping: false,
        };
        (engine, send)
    }

    /// Makes some targets. Gives the counts, and what was made for later commands.
    pub fn build(mut self, targets: &[String]) -> (Counts, MadeBefore) {
        if let Err(why) = self.make_dirs() {
            self.error(why);
            return (self.counts, self.made);
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
            if self.running() == 0 {
                break;
            }
            self.next_event();
        }
        for node in roots {
            self.conclude(node);
        }
        (self.counts, self.made)
    }

    /// Jobs that have started and not ended.
    fn running(&self) -> usize {
        self.graph
            .jobs()
            .filter(|(_, job)| job.group.is_some())
            .count()
    }

    fn next_event(&mut self) {
        let now = Instant::now();
        let next = self.deadlines.iter().map(|(at, _)| *at).min();
        let event = match next {
            Some(at) => self.events.recv_timeout(at.saturating_duration_since(now)),
            None => self.events.recv().map_err(RecvTimeoutError::from),
        };
        match event {
            Ok(Event::Wanted { job, name, go }) => self.wanted(job, &name, go),
            Ok(Event::Ended { job, ended }) => self.ended(job, *ended),
            Ok(Event::Interrupt) => self.interrupt(),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        self.enforce_deadlines();
    }

    /// Says what is to be said of a target in the end.
    fn conclude(&mut self, node: NodeId) {
        let name = self.graph[node].name.clone();
        match self.graph[node].made() {
            Some(Made::By(_) | Made::Failed) => {}
            Some(Made::Source) if self.exists(&name) => {}
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

/// A second, between the kind signal and the other one.
const MERCY: Duration = Duration::from_secs(1);

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("wish", &self.wish)
            .finish_non_exhaustive()
    }
}
