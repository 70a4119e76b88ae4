//! Files and jobs of one command, and who waits for whom.

use crate::base::{Chunk, Digest, JobId, Record};
use crate::rules::pattern::Stems;
use crate::rules::{Candidate, RuleId, Spec};
use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// A file name, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

/// What is known of a file in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// No rule makes it; it may be there or not.
    Source,
    /// This job has made it.
    By(JobId),
    /// An earlier command has had it made, and nothing has changed since.
    Before,
    /// It could not be made.
    Failed,
}

/// How far a file is.
#[derive(Debug)]
pub(super) enum NodeState {
    /// Nobody has asked for it.
    Unknown,
    /// Jobs that may make it are not done; `group` is the group of rules they are of.
    Making { group: usize, jobs: Vec<JobId> },
    /// It is as it shall be.
    Done(Made),
}

/// Who waits for a file.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A job that has not started.
    Job(JobId),
    /// A process of a running job that looks at it.
    Hold(JobId, Sender<()>),
}

/// A file.
#[derive(Debug)]
pub(super) struct Node {
    pub name: Rc<str>,
    pub state: NodeState,
    /// Whether it can be had, where somebody wanted to know.
    pub buildable: Option<bool>,
    /// Groups of rules that may make it, where somebody wanted to know.
    pub groups: Option<Rc<Vec<Vec<Candidate>>>>,
    pub waiters: Vec<Waiter>,
    /// Whether the user has asked for it.
    pub is_root: bool,
    /// The jobs by whose failure it is not made.
    pub failed_by: Vec<JobId>,
}

impl Node {
    /// What became of it, if that is settled.
    pub(super) fn made(&self) -> Option<Made> {
        match self.state {
            NodeState::Done(made) => Some(made),
            NodeState::Unknown | NodeState::Making { .. } => None,
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has asked for it.
    New,
    /// Its static deps are being made.
    Deps,
    /// What its records depend on is being made, to see whether they hold.
    Check,
    /// Another command is at it.
    Elsewhere,
    /// It has to run, and waits for a slot.
    Queued,
    /// It runs, or is held.
    Running,
    /// It is over.
    Done,
}

/// How a job is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its outputs are right: these names.
    Made(Vec<String>),
    /// It failed, for this reason.
    Failed(String),
    /// It was not run, since something it needs could not be made.
    Blocked(String),
}

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    pub spec: Arc<Spec>,
    pub key: Digest,
    pub stage: Stage,
    /// How many of its static deps are being made.
    pub n_deps_begun: usize,
    /// Files that it waits for before it can go on.
    pub awaits: Vec<NodeId>,
    /// Its records that may still hold, the most promising last.
    pub records: Option<Vec<Record>>,
    /// Why it has to run, for people.
    pub why: String,
    /// Files that wait for it.
    pub wanted_by: Vec<NodeId>,
    /// Files that its processes are held for.
    pub held: Vec<NodeId>,
    /// Whether it has a slot.
    pub has_slot: bool,
    /// Whether this command has its lock.
    pub is_locked: bool,
    /// Process group while it runs, once it is known.
    pub group: Option<i32>,
    /// How often it has been started.
    pub n_runs: u32,
    /// Waits of it that nobody can end, as chains of names.
    pub cycle: Option<String>,
    /// Why it is being killed, where it is.
    pub killed: Option<String>,
    /// How many signals it was sent for that.
    pub n_signals: usize,
    pub outcome: Option<Outcome>,
    /// It failed while nobody was known to need it, which is still to be told: whether it ran.
    pub untold: Option<bool>,
    /// In a dry run: it would have run.
    pub would_run: bool,
    /// What it printed when it ran last.
    pub chunks: Vec<Chunk>,
}

/// All files and jobs.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    by_name: HashMap<Rc<str>, NodeId>,
    jobs: Vec<Job>,
    by_instance: HashMap<(RuleId, Stems), JobId>,
}

impl Graph {
    /// The node of a name.
    pub(super) fn node(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let name: Rc<str> = name.into();
        self.nodes.push(Node {
            name: name.clone(),
            state: NodeState::Unknown,
            buildable: None,
            groups: None,
            waiters: Vec::new(),
            is_root: false,
            failed_by: Vec::new(),
        });
        self.by_name.insert(name, id);
        id
    }

    /// The node of a name that somebody has asked for.
    pub(super) fn known(&self, name: &str) -> Option<&Node> {
        self.by_name.get(name).map(|id| &self[*id])
    }

    /// The job of a rule with these stems, if somebody has asked for it.
    pub(super) fn known_job(&self, candidate: &Candidate) -> Option<JobId> {
        // A map of pairs cannot be asked with borrowed ones.
        let instance = (candidate.rule, candidate.stems.clone());
        self.by_instance.get(&instance).copied()
    }

    /// The job of a rule with these stems.
    pub(super) fn job(
        &mut self,
        candidate: &Candidate,
        make: impl FnOnce() -> (Spec, Digest),
    ) -> JobId {
        let instance = (candidate.rule, candidate.stems.clone());
        if let Some(id) = self.by_instance.get(&instance) {
            return *id;
        }
        let id = JobId(u32::try_from(self.jobs.len()).unwrap_or(u32::MAX));
        let (spec, key) = make();
        self.jobs.push(Job {
            spec: Arc::new(spec),
            key,
            stage: Stage::New,
            n_deps_begun: 0,
            awaits: Vec::new(),
            records: None,
            why: String::new(),
            wanted_by: Vec::new(),
            held: Vec::new(),
            has_slot: false,
            is_locked: false,
            group: None,
            n_runs: 0,
            cycle: None,
            killed: None,
            n_signals: 0,
            outcome: None,
            untold: None,
            would_run: false,
            chunks: Vec::new(),
        });
        self.by_instance.insert(instance, id);
        id
    }

    /// All jobs.
    pub(super) fn jobs(&self) -> impl Iterator<Item = (JobId, &Job)> {
        let number = |at: usize| JobId(u32::try_from(at).unwrap_or(u32::MAX));
        self.jobs
            .iter()
            .enumerate()
            .map(move |(at, job)| (number(at), job))
    }

    /// Whether somebody cannot do without a job: a target of the user's, a running job, or a job that has it
    /// as a static dep and is needed itself. What only an old record says is no need.
    pub(super) fn is_needed(&self, job: JobId) -> bool {
        self[job].wanted_by.iter().any(|node| {
            let node = &self[*node];
            node.is_root
                || node.waiters.iter().any(|waiter| match waiter {
                    Waiter::Hold(..) => true,
                    Waiter::Job(other) => {
                        self[*other].stage == Stage::Deps && self.is_needed(*other)
                    }
                })
        })
    }

    /// The chain by which a file waits for a job, if it does: names of files, the job's own target last.
    pub(super) fn waits_for(&self, node: NodeId, job: JobId) -> Option<Vec<Rc<str>>> {
        let mut seen = Vec::new();
        let mut chain = Vec::new();
        self.search(node, job, &mut seen, &mut chain)
            .then_some(chain)
    }

    fn search(
        &self,
        node: NodeId,
        wanted: JobId,
        seen: &mut Vec<NodeId>,
        chain: &mut Vec<Rc<str>>,
    ) -> bool {
        let NodeState::Making { jobs, .. } = &self[node].state else {
            return false;
        };
        if seen.contains(&node) {
            return false;
        }
        seen.push(node);
        chain.push(self[node].name.clone());
        for id in jobs {
            let job = &self[*id];
            if job.stage == Stage::Done {
                continue;
            }
            if *id == wanted {
                return true;
            }
            let waits = job.awaits.iter().chain(&job.held);
            for next in waits {
                if self.search(*next, wanted, seen, chain) {
                    return true;
                }
            }
        }
        chain.pop();
        false
    }
}

impl Index<NodeId> for Graph {
    type Output = Node;
    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
}

impl IndexMut<NodeId> for Graph {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }
}

impl Index<JobId> for Graph {
    type Output = Job;
    fn index(&self, id: JobId) -> &Job {
        &self.jobs[id.0 as usize]
    }
}

impl IndexMut<JobId> for Graph {
    fn index_mut(&mut self, id: JobId) -> &mut Job {
        &mut self.jobs[id.0 as usize]
    }
}
