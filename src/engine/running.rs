//! Jobs that run: from slot to verdict, with the waits in between.

use super::advance::inside;
use super::graph::{Made, Outcome, Stage, Waiter};
use super::judge::{judge, outputs};
use super::ledger::Thing;
use super::{Engine, MERCY, Mark, Told};
use crate::base::{JobId, Kind, Record, What};
use crate::rules::Spec;
use crate::watch::jobs::{Ended, Jobs, Ticket};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

impl Engine<'_> {
    /// Gives free slots to held processes that may go on, then to jobs that have to run.
    pub(super) fn start_queued(&mut self) {
        while let Some((job, go)) = self.resume.pop_front() {
            let runs = self.graph[job].stage == Stage::Running;
            if runs && !self.graph[job].has_slot && !self.take_slot(job) {
                self.resume.push_front((job, go));
                break;
            }
            let _gone = go.send(()).is_err();
        }
        let mut skipped = Vec::new();
        while self.busy < self.wish.jobs && !self.stopping {
            let Some(job) = self.queue.pop_front() else {
                break;
            };
            // One of two that look alike could be taken for the other.
            if self.answers.is_like_ordered(&self.graph[job].spec) || !self.take_slot(job) {
                skipped.push(job);
            } else if self.lock(job) {
                self.launch(job);
            } else {
                self.give_slot_back(job);
            }
        }
        for job in skipped.into_iter().rev() {
            self.queue.push_front(job);
        }
        if self.stopping {
            self.stop();
        }
    }

    /// Nothing is started any more: what waits for a job to be started waits in vain.
    fn stop(&mut self) {
        self.queue.clear();
        let held: Vec<JobId> = self
            .graph
            .jobs()
            .filter(|(_, job)| job.stage == Stage::Running)
            .filter(|(_, job)| !job.held.is_empty() && job.killed.is_none())
            .map(|(id, _)| id)
            .collect();
        for job in held {
            self.kill(job, "the build stops".to_owned());
        }
    }

    /// Takes a slot and the resources of a job, if they are free.
    fn take_slot(&mut self, job: JobId) -> bool {
        let rules = self.rules.clone();
        let limits = self.graph[job].spec.limits.clone();
        let needs = &limits.resources;
        let fits = |(name, amount): (&String, &u64)| {
            let used = self.in_use.get(name).copied().unwrap_or(0);
            used + amount <= rules.resources.get(name).copied().unwrap_or(0)
        };
        if self.busy >= self.wish.jobs || !needs.iter().all(fits) {
            return false;
        }
        for (name, amount) in needs {
            *self.in_use.entry(name.clone()).or_default() += amount;
        }
        self.busy += 1;
        self.graph[job].has_slot = true;
        true
    }

    fn give_slot_back(&mut self, job: JobId) {
        if !std::mem::replace(&mut self.graph[job].has_slot, false) {
            return;
        }
        self.busy -= 1;
        let limits = self.graph[job].spec.limits.clone();
        for (name, amount) in &limits.resources {
            if let Some(used) = self.in_use.get_mut(name) {
                *used -= amount;
            }
        }
    }

    /// What a job needs more of than there is.
    pub(super) fn too_much(&self, job: JobId) -> Option<String> {
        let rules = &self.rules;
        let needs = &self.graph[job].spec.limits.resources;
        needs.iter().find_map(|(name, amount)| {
            let all = rules.resources.get(name).copied().unwrap_or(0);
            (*amount > all).then(|| format!("it needs {amount} of {name}, of which there is {all}"))
        })
    }

    fn launch(&mut self, job: JobId) {
        let spec = self.graph[job].spec.clone();
        let start = match self.wash(&spec) {
            Ok(start) => start,
            Err(why) => {
                self.give_slot_back(job);
                return self.fail(job, why, true);
            }
        };
        let key = self.graph[job].key;
        self.begin(job);
        self.answers.order(Ticket { id: job, key }, spec.clone());
        let why = self.graph[job].why.clone();
        self.tell.tell(Told::Runs(spec.title.clone(), why));
        let jobs = self.answers.clone() as Arc<dyn Jobs>;
        if let Err(why) = self.run.start(job, start, &jobs, &self.to_us) {
            self.give_slot_back(job);
            self.stopping = true;
            return self.fail(job, why, true);
        }
        let own = &mut self.graph[job];
        own.group = None;
        own.stage = Stage::Running;
        own.n_runs += 1;
        self.n_running += 1;
        self.counts.ran += 1;
        if let Some(timeout) = spec.limits.timeout {
            self.deadlines.push((Instant::now() + timeout, job));
        }
    }

    /// The program of a job was started, or could not be.
    pub(super) fn started(&mut self, job: JobId, started: Result<i32, String>) {
        if self.graph[job].stage != Stage::Running {
            return;
        }
        match started {
            Ok(group) => {
                self.graph[job].group = Some(group);
                if self.graph[job].killed.is_some() {
                    self.send_next_signal(job);
                }
            }
            Err(why) => {
                self.answers.give_up(job);
                self.stops_running(job);
                self.fail(job, why, true);
            }
        }
    }

    /// Nobody tells any more how the jobs that run end.
    pub(super) fn lost(&mut self, why: &str) {
        self.stopping = true;
        for job in self.those_that_run() {
            self.stops_running(job);
            self.fail(job, why.to_owned(), true);
        }
    }

    fn those_that_run(&self) -> Vec<JobId> {
        let jobs = self.graph.jobs();
        let runs = jobs.filter(|(_, job)| job.stage == Stage::Running);
        runs.map(|(id, _)| id).collect()
    }

    fn stops_running(&mut self, job: JobId) {
        self.give_slot_back(job);
        self.n_running -= 1;
        self.deadlines.retain(|(_, other)| *other != job);
        let own = &mut self.graph[job];
        own.group = None;
        own.n_signals = 0;
        own.held.clear();
    }

    /// A process of a job looks at a file that a rule may make.
    pub(super) fn wanted(&mut self, job: JobId, name: &str, go: Sender<()>) {
        let node = self.graph.node(name);
        let over = self.graph[job].outcome.is_some();
        if over || self.make(node) {
            self.own_up(node);
            let _gone = go.send(()).is_err();
            return;
        }
        if let Some(chain) = self.graph.waits_for(node, job) {
            let title = self.graph[job].spec.title.clone();
            let names: Vec<&str> = chain.iter().map(|name| &**name).collect();
            let why = format!(
                "files need each other: {title} reads {}",
                names.join(", which needs ")
            );
            self.graph[job].cycle = Some(why);
            self.answers.let_look(job, name);
            let _gone = go.send(()).is_err();
            return;
        }
        self.graph[node].waiters.push(Waiter::Hold(job, go));
        self.graph[job].held.push(node);
        self.give_slot_back(job);
    }

    /// The program of a job exits: while what it did is stored, another one can run. A resource is given back
    /// when nothing is left of it.
    pub(super) fn exits(&mut self, job: JobId) {
        if self.graph[job].spec.limits.resources.is_empty() {
            self.give_slot_back(job);
        }
    }

    /// A job has ended.
    pub(super) fn ended(&mut self, job: JobId, ended: Ended) {
        if self.graph[job].stage != Stage::Running {
            return;
        }
        self.stops_running(job);
        let spec = self.graph[job].spec.clone();
        self.graph[job].chunks.clone_from(&ended.chunks);
        let made = self.made_by(&ended);
        let verdict = self.verdict(job, &spec, &ended, &made);
        match verdict {
            Ok(targets) => {
                self.keep(&spec, &ended, &made);
                match ended.record {
                    Ok(record) => self.witness.later(job, *record),
                    Err(why) => {
                        self.witness.spoil();
                        self.warn(format!("{} will run again next time: {why}", spec.title));
                    }
                }
                let chunks = std::mem::take(&mut self.graph[job].chunks);
                self.tell.tell(Told::Done(spec.title.clone(), chunks));
                self.finish(job, Outcome::Made(targets));
            }
            Err(why) => {
                self.keep_failed(&made);
                self.remove_made(&made);
                let retries = spec.limits.retries.max(self.wish.retries);
                let own = &mut self.graph[job];
                if own.n_runs <= retries && own.cycle.is_none() && !self.stopping {
                    own.killed = None;
                    own.why = format!("it failed: {why}");
                    own.stage = Stage::Queued;
                    self.queue.push_back(job);
                    return;
                }
                if own.killed.is_some() && self.stopping {
                    return self.finish(job, Outcome::Failed(why));
                }
                self.fail(job, why, true);
            }
        }
    }

    /// The names of the workspace that a job left changed.
    fn made_by(&self, ended: &Ended) -> Vec<String> {
        match &ended.record {
            Ok(record) => outputs(record).map(str::to_owned).collect(),
            Err(_) => {
                let names = ended.changed.iter().filter_map(|path| self.name(path));
                let there = |name: &&str| {
                    let kind = self.known.world.look(&self.path(name)).seen.kind;
                    !matches!(kind, Kind::Absent | Kind::Dir)
                };
                names.filter(there).map(str::to_owned).collect()
            }
        }
    }

    fn verdict(
        &self,
        job: JobId,
        spec: &Spec,
        ended: &Ended,
        made: &[String],
    ) -> Result<Vec<String>, String> {
        let own = &self.graph[job];
        if let Some(why) = own.killed.as_ref().or(own.cycle.as_ref()) {
            return Err(why.clone());
        }
        if let (true, Err(why)) = (ended.status < 0, &ended.record) {
            return Err(why.to_string());
        }
        if let Ok(record) = &ended.record {
            let failed = |name: &&str| {
                let made = self.graph.known(name).and_then(super::graph::Node::made);
                made == Some(Made::Failed) && !spec.deps.iter().any(|dep| dep.name == **name)
            };
            if let Some(name) = record.deps.iter().filter_map(inside).find(failed) {
                return Err(format!("it reads {name}, which could not be made"));
            }
            self.dangling(record.deps.iter().filter_map(inside), spec)?;
            if let Some(name) = self.removed(record, spec) {
                return Err(format!("it removes {name}, which another job has made"));
            }
        }
        let names: Vec<&str> = made.iter().map(String::as_str).collect();
        judge(
            (self.rules.rule(spec.rule), &self.rules.sources),
            spec,
            ended.status,
            &ended.chunks,
            &names,
        )
    }

    /// A target of another job that a job has removed.
    fn removed<'r>(&self, record: &'r Record, spec: &Spec) -> Option<&'r str> {
        let gone = record
            .outputs
            .iter()
            .filter(|output| output.what == What::Absent);
        let names = gone.filter_map(|output| output.name.as_path().to_str());
        names.into_iter().find(|name| {
            let made = self.graph.known(name).and_then(super::graph::Node::made);
            matches!(made, Some(Made::By(_) | Made::Before)) && spec.target(name).is_none()
        })
    }

    /// Where sources are named, a job may read no file that is none and that nobody makes.
    fn dangling<'n>(
        &self,
        mut deps: impl Iterator<Item = &'n str>,
        spec: &Spec,
    ) -> Result<(), String> {
        let sources = &self.rules.sources;
        if !sources.are_named() {
            return Ok(());
        }
        let dangles = |name: &&str| {
            let made = self.graph.known(name).and_then(super::graph::Node::made);
            let kind = self.known.world.last(&self.path(name)).seen.kind;
            !sources.names(name)
                && !self.marks.has(Mark::Frozen, name)
                && !matches!(made, Some(Made::By(_) | Made::Before))
                && matches!(kind, Kind::File | Kind::Link)
                && spec.target(name).is_none()
        };
        match deps.find(dangles) {
            Some(name) => Err(format!(
                "it reads {name}, which is no source and which no rule makes\n  write \
                 `source({name:?})`, or remove the file"
            )),
            None => Ok(()),
        }
    }

    /// Notes what a job has made.
    fn keep(&mut self, spec: &Spec, ended: &Ended, made: &[String]) {
        if let Ok(record) = &ended.record {
            return self.remember(spec, record);
        }
        for name in made {
            if self.rules.sources.names(name) {
                continue;
            }
            let path = self.path(name);
            let seen = self.known.world.look(&path).seen;
            let digest = self.known.world.digest(&path, &seen).ok();
            let job = spec.identity;
            self.ledger.put(name, Thing { digest, job });
        }
    }

    /// Has a job end, for this reason: the signals of its rule, one after the other, then SIGKILL.
    fn kill(&mut self, job: JobId, why: String) {
        if self.graph[job].stage != Stage::Running {
            return;
        }
        let is_first = self.graph[job].killed.is_none();
        self.graph[job].killed.get_or_insert(why);
        if self.graph[job].group.is_some() || !is_first {
            self.send_next_signal(job);
        }
    }

    fn send_next_signal(&mut self, job: JobId) {
        let limits = self.graph[job].spec.limits.clone();
        let own = &mut self.graph[job];
        let signal = limits.kill.get(own.n_signals).copied();
        own.n_signals += 1;
        if let Some(group) = own.group {
            self.run.kill(group, signal.unwrap_or(libc::SIGKILL));
        }
        if signal.is_some() {
            self.deadlines.push((Instant::now() + MERCY, job));
        }
    }

    /// Ends jobs that took too long, and those that do not end when asked to.
    pub(super) fn enforce_deadlines(&mut self) {
        let now = Instant::now();
        let (due, later) = self.deadlines.drain(..).partition(|(at, _)| *at <= now);
        self.deadlines = later;
        let due: Vec<(Instant, JobId)> = due;
        for (_, job) in due {
            let timeout = self.graph[job].spec.limits.timeout;
            let seconds = timeout.unwrap_or_default().as_secs_f64();
            self.kill(job, format!("it took longer than {seconds} s"));
        }
    }

    /// The user wants it to stop; if he says so twice, at once.
    pub(super) fn interrupt(&mut self) {
        self.counts.interrupted = true;
        self.stopping = true;
        for job in self.those_that_run() {
            self.kill(job, "interrupted".to_owned());
        }
    }
}
