//! Which process belongs to which step, and which step to which.

use super::macros::Macros;
use super::meet::Met;
use super::pipes::Traces;
use super::tool::Tool;
use crate::base::policy::Times;
use crate::base::{Access, Digest, Identity, PathId, Seen, digest::Framed};
use crate::record::{Step, Wrote};
use rfs_tracer::event::{Ipc, Pid};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// One live process.
#[derive(Debug, Clone)]
pub(super) struct Proc {
    /// Index of the innermost step that it belongs to.
    pub step: usize,
    /// What it runs.
    pub tool: Tool,
    /// Digest of the resource limits that were set for it or its forebears.
    pub limits: Option<Digest>,
    /// The process that forked it.
    pub parent: Option<Pid>,
    /// What it did that can be seen when it is gone.
    pub traces: Traces,
    /// What it asked stat(2) about and may replace.
    pub peeked: HashSet<PathId>,
    /// Step and tool before the last exec, until that is known to have worked.
    before: Option<(usize, Tool)>,
}

/// All processes and steps of one build.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub procs: HashMap<Pid, Proc>,
    pub steps: Vec<Step>,
    /// What is known of the sources that compilers opened.
    pub macros: HashMap<(PathId, Identity), Macros>,
    /// Whether some process has sent SIGPIPE by itself.
    pub pipe_signal_sent: bool,
    /// The places of steps that have one.
    pub places: HashMap<usize, usize>,
    /// System V objects that steps have made.
    pub ipc: BTreeMap<Ipc, usize>,
    /// Who came to the names of sockets and fifos.
    pub met: HashMap<PathId, Met>,
    /// Processes that another one of the build has told to end.
    pub told_to_end: HashSet<Pid>,
    /// The steps of processes that have ended and may not have been waited for.
    pub ended: HashMap<Pid, usize>,
    /// Fifos of GNU make's jobservers: nothing that a step depends on.
    pub jobservers: HashSet<PathBuf>,
    /// How often the build has changed names in a directory.
    named: HashMap<PathId, u32>,
    /// Steps that changed a path, as long as they run: they may hold it open.
    writers: HashMap<PathId, Vec<usize>>,
}

impl Model {
    /// A process was forked. Without a known parent it belongs to the whole build, which is then unknowable.
    pub(super) fn born(&mut self, pid: Pid, parent: Option<Pid>) {
        if self.procs.contains_key(&pid) {
            return;
        }
        self.ended.remove(&pid);
        let known = parent.and_then(|parent| self.procs.get(&parent)).cloned();
        let proc = match known {
            Some(known) => Proc {
                before: None,
                parent,
                traces: Traces::default(),
                ..known
            },
            None if self.steps.is_empty() => return,
            None => {
                self.steps[0].refuse(format!("process {pid} came from nowhere"));
                let tool = Tool {
                    name: String::new(),
                    driver: String::new(),
                    times: Times::Exact,
                    dirs: true,
                    stores: true,
                    times_opened: true,
                    replaces: false,
                    brief: false,
                    shell: false,
                };
                Proc {
                    step: 0,
                    tool,
                    limits: None,
                    parent: None,
                    traces: Traces::default(),
                    peeked: HashSet::new(),
                    before: None,
                }
            }
        };
        self.procs.insert(pid, proc);
    }

    /// The innermost step that a process belongs to.
    pub(super) fn step_of(&self, pid: Pid) -> Option<usize> {
        self.procs.get(&pid).map(|proc| proc.step)
    }

    /// Whether a process is what a step started with.
    pub(super) fn has_step(&self, pid: Pid) -> bool {
        self.step_of(pid)
            .is_some_and(|at| self.steps[at].pid == pid)
    }

    /// Whether a process runs one of the small tools that are but parts of a step.
    pub(super) fn is_small(&self, pid: Pid) -> bool {
        self.procs.get(&pid).is_some_and(|proc| proc.tool.brief) && !self.has_step(pid)
    }

    /// The step of a process that is about to change something.
    pub(super) fn changing(&mut self, pid: Pid) -> Option<usize> {
        let proc = self.procs.get_mut(&pid)?;
        proc.traces.change();
        Some(proc.step)
    }

    /// A step and all around it, innermost first.
    pub(super) fn chain(&self, at: usize) -> Vec<usize> {
        std::iter::successors(Some(at), |at| self.steps[*at].parent).collect()
    }

    /// Calls `f` for a step and those around it until it says that the rest know already.
    pub(super) fn up(&mut self, at: usize, mut f: impl FnMut(&mut Step) -> bool) {
        let mut next = Some(at);
        while let Some(at) = next {
            let step = &mut self.steps[at];
            if !f(step) {
                break;
            }
            next = step.parent;
        }
    }

    /// Two steps share something that only those around both can know. Refuses the others.
    pub(super) fn refuse_between(&mut self, one: usize, other: usize, why: &str) {
        let (one, other) = (self.chain(one), self.chain(other));
        let apart = |here: &[usize], there: &[usize]| -> Vec<usize> {
            let alone = here.iter().filter(|at| !there.contains(at));
            alone.copied().collect()
        };
        for at in apart(&one, &other).into_iter().chain(apart(&other, &one)) {
            self.steps[at].refuse(why);
        }
    }

    /// A look at a path by a process of step `at`. `parents` are the directories above it, nearest first.
    pub(super) fn read(
        &mut self,
        at: usize,
        id: PathId,
        access: Access,
        seen: &Arc<Seen>,
        changes: u32,
        parents: &dyn Fn() -> Vec<PathId>,
    ) {
        let mut above: Option<Vec<PathId>> = None;
        self.up(at, |step| {
            if !step.made.is_empty() {
                let above = above.get_or_insert_with(parents);
                if above.iter().any(|dir| step.made.contains(dir)) {
                    return true;
                }
            }
            step.read(id, access, seen, changes)
        });
    }

    /// A change of a path by a process of step `at`. Below a directory that a step made, nothing was there
    /// before that step.
    pub(super) fn write(
        &mut self,
        at: usize,
        id: PathId,
        how: Wrote,
        access: Access,
        before: (&Arc<Seen>, u32),
        parents: &[PathId],
    ) {
        let chain = self.chain(at);
        let dir = parents.first().map(|dir| {
            let named = self.named.entry(*dir).or_default();
            *named += u32::from(how.any(Wrote::NAME));
            (*dir, *named)
        });
        let mut shared: Vec<usize> = Vec::new();
        let rivals = self.rivals(&chain, id);
        for rival in rivals {
            let around = self.chain(rival);
            let alone = chain.iter().filter(|step| !around.contains(step));
            shared.extend(alone);
        }
        self.up(at, |step| {
            let fresh = parents.iter().any(|dir| step.made.contains(dir));
            if fresh && !step.paths.contains_key(&id) {
                let absent = Arc::new(Seen::absent());
                step.write(id, dir, how, Access::NONE, (&absent, before.1));
            } else {
                step.write(id, dir, how, access, before);
            }
            true
        });
        for at in shared {
            if let Some(entry) = self.steps[at].paths.get_mut(&id) {
                entry.shared = true;
            }
        }
        let writers = self.writers.entry(id).or_default();
        if !writers.contains(&at) {
            writers.retain(|at| !self.steps[*at].closed);
            writers.push(at);
        }
    }

    /// Names come and go in a directory by step `at`, who knows which.
    pub(super) fn name_in(&mut self, at: usize, dir: PathId) {
        let named = self.named.entry(dir).or_default();
        *named += 1;
        let named = *named;
        self.up(at, |step| {
            let inside = step.changed_in.entry(dir).or_default();
            (inside.named, inside.unknown) = (named, true);
            true
        });
    }

    /// Whether it was the `named`th time, and the last so far, that the build changed names in a directory.
    pub(super) fn named_last(&self, dir: PathId, named: u32) -> bool {
        self.named.get(&dir) == Some(&named)
    }

    /// What step `at` and those around it have set of a file goes with it to another name.
    pub(super) fn inherit(&mut self, at: usize, from: PathId, to: PathId) {
        self.up(at, |step| {
            let wrote = step.paths.get(&from).map(|entry| entry.wrote.kept());
            if let (Some(wrote), Some(entry)) = (wrote, step.paths.get_mut(&to)) {
                entry.wrote |= wrote;
            }
            true
        });
    }

    /// Running steps that changed a path and are none of `chain`, which is a step and all around it.
    pub(super) fn rivals(&self, chain: &[usize], id: PathId) -> Vec<usize> {
        let writers = self.writers.get(&id).map_or(&[][..], Vec::as_slice);
        let rival = |at: &&usize| !self.steps[**at].closed && !chain.contains(at);
        writers.iter().filter(rival).copied().collect()
    }

    /// A program starts in a process that the model may not know yet.
    pub(super) fn enter(&mut self, pid: Pid, step: usize, tool: Tool) {
        match self.procs.get_mut(&pid) {
            Some(proc) => {
                proc.traces.next();
                proc.peeked.clear();
                let before = (proc.step, std::mem::replace(&mut proc.tool, tool));
                proc.before = Some(before);
                proc.step = step;
            }
            None => {
                self.procs.insert(
                    pid,
                    Proc {
                        step,
                        tool,
                        limits: None,
                        parent: None,
                        traces: Traces::default(),
                        peeked: HashSet::new(),
                        before: None,
                    },
                );
            }
        }
    }

    /// The last exec of the process failed: the old program goes on.
    pub(super) fn exec_failed(&mut self, pid: Pid) {
        let Some(proc) = self.procs.get_mut(&pid) else {
            return;
        };
        let Some((step, tool)) = proc.before.take() else {
            return;
        };
        if proc.step != step {
            self.steps[proc.step].closed = true;
        }
        proc.step = step;
        proc.tool = tool;
    }

    /// Resource limits decide what a program can do, so they are part of the key of what follows.
    pub(super) fn limit(&mut self, pid: Pid, resource: i32, soft: u64, hard: u64) {
        if let Some(proc) = self.procs.get_mut(&pid) {
            let mut framed = Framed::new("rfs limits 1");
            if let Some(old) = proc.limits {
                framed.part(&old.0);
            }
            framed
                .number(u64::from(resource.unsigned_abs()))
                .number(soft)
                .number(hard);
            proc.limits = Some(framed.finish());
        }
    }
}
