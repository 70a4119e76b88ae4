//! A job on its way to its start: its deps are made, its records looked at, and where one holds nothing
//! runs.

use super::graph::{Made, NodeId, Outcome, Stage, Waiter};
use super::judge::{judge, outputs};
use super::{Engine, Mark, Told};
use crate::base::{Dep, JobId, Name, Record};
use crate::cache::lookup;
use crate::rules::Spec;
use std::sync::Arc;

impl Engine<'_> {
    /// Has the static deps of a job made.
    pub(super) fn start_deps(&mut self, job: JobId) {
        let spec = self.graph[job].spec.clone();
        if let Some(why) = &spec.broken {
            return self.fail(job, why.clone(), true);
        }
        let begun = self.graph[job].n_deps_begun;
        for dep in &spec.deps[begun..] {
            self.graph[job].n_deps_begun += 1;
            let node = self.graph.node(&dep.name);
            let is_made = self.make(node);
            if !is_made && !self.await_node(job, node) {
                return;
            }
            if dep.flags.critical && (!is_made || self.is(&dep.name, Made::Failed)) {
                break;
            }
        }
        if self.graph[job].awaits.is_empty() {
            self.todo.push_back(job);
        }
    }

    /// Has a job wait for a file. False if the file waits for the job: then the job has failed.
    fn await_node(&mut self, job: JobId, node: NodeId) -> bool {
        if self.graph[job].outcome.is_some() {
            return false;
        }
        if let Some(chain) = self.graph.waits_for(node, job) {
            let first = chain.first().cloned();
            let names: Vec<&str> = chain.iter().chain(&first).map(|name| &**name).collect();
            let why = format!("files need each other: {}", names.join(" -> "));
            self.fail(job, why, false);
            return false;
        }
        if !self.graph[job].awaits.contains(&node) {
            self.graph[job].awaits.push(node);
            self.graph[node].waiters.push(Waiter::Job(job));
        }
        true
    }

    /// A job has nothing to wait for.
    pub(super) fn advance(&mut self, job: JobId) {
        match self.graph[job].stage {
            Stage::Deps => {
                if let Some(name) = self.failed_dep(job) {
                    let node = self.graph.node(&name);
                    self.own_up(node);
                    return self.block(job, name);
                }
                if self.graph[job].n_deps_begun < self.graph[job].spec.deps.len() {
                    return self.start_deps(job);
                }
                if let Some(name) = self.lacking_dep(job) {
                    let why = self.nobody_makes(&name);
                    return self.fail(job, why, true);
                }
                self.graph[job].stage = Stage::Check;
                self.check(job);
            }
            Stage::Check => self.check(job),
            Stage::New | Stage::Elsewhere | Stage::Queued | Stage::Running | Stage::Done => {}
        }
    }

    /// A static dep that could not be made and without which the job does not run.
    fn failed_dep(&self, job: JobId) -> Option<String> {
        let mut needed = self.graph[job]
            .spec
            .deps
            .iter()
            .filter(|dep| !dep.flags.ignore_error);
        let failed = needed.find(|dep| self.is(&dep.name, Made::Failed));
        failed.map(|dep| dep.name.clone())
    }

    /// A dep that must be there and is not.
    fn lacking_dep(&mut self, job: JobId) -> Option<String> {
        let spec = self.graph[job].spec.clone();
        let mut required = spec.deps.iter().filter(|dep| dep.flags.required);
        let lacking = required.find(|dep| {
            self.is(&dep.name, Made::Source)
                && !dep.name.starts_with('/')
                && !self.exists(&dep.name)
        });
        lacking.map(|dep| dep.name.clone())
    }

    fn is(&self, name: &str, made: Made) -> bool {
        self.graph.known(name).and_then(super::graph::Node::made) == Some(made)
    }

    /// Looks for a record of a job that holds, newest first. What a rule may make among what a record
    /// depends on is made first, if all the rest holds.
    fn check(&mut self, job: JobId) {
        if self.graph[job].records.is_none() {
            let records = self.load(job);
            self.graph[job].records = Some(records);
        }
        loop {
            let records = self.graph[job].records.take().unwrap_or_default();
            let Some(record) = records.last() else {
                return self.must_run(job);
            };
            let pending = self.pending(job, record);
            let aside = |name: &crate::base::Name| {
                name.as_path().to_str().is_some_and(|text| {
                    pending.iter().any(|other| other == text)
                        || (name.inside() && self.marks.has(Mark::Quiet, text))
                })
            };
            let held = lookup::still_holds(record, &self.known.world, &aside);
            let spec = &self.graph[job].spec;
            let failed = record
                .deps
                .iter()
                .filter_map(inside)
                .filter(|name| !spec.deps.iter().any(|dep| dep.name == **name))
                .find(|name| self.is(name, Made::Failed));
            let failed = failed.map(str::to_owned);
            self.graph[job].records = Some(records);
            let looks = match held {
                Ok(looks) => looks,
                Err(miss) => {
                    self.drop_record(job, miss.to_string());
                    continue;
                }
            };
            if let Some(name) = self.would_change(job) {
                self.drop_record(job, format!("{name} would be made anew"));
                continue;
            }
            if !pending.is_empty() {
                if self.await_all(job, &pending) {
                    return;
                }
                continue;
            }
            let Some(name) = failed else {
                return self.use_record(job, &looks);
            };
            // It would look at it again.
            let node = self.graph.node(&name);
            self.own_up(node);
            return self.block(job, name);
        }
    }

    fn load(&mut self, job: JobId) -> Vec<Record> {
        let Some(cache) = self.known.cache.clone() else {
            return Vec::new();
        };
        if self.wish.force {
            self.graph[job].why = "it is wanted anew".to_owned();
            return Vec::new();
        }
        let mut files = self.graph[job].spec.targets.iter();
        if self.wish.from_nothing && files.any(|target| target.flags().incremental) {
            self.graph[job].why = "its targets are to be made from nothing".to_owned();
            return Vec::new();
        }
        if let Some(name) = self.forgotten(job) {
            self.graph[job].why = format!("{name} was to be forgotten");
            return Vec::new();
        }
        let loaded = cache.load(&self.graph[job].key);
        for trouble in loaded
            .damaged
            .into_iter()
            .chain(loaded.unreadable.map(|e| e.to_string()))
        {
            self.warn(trouble);
        }
        let records = loaded.records.into_iter();
        let mut records: Vec<Record> = records.map(Arc::unwrap_or_clone).collect();
        records.reverse();
        let spec = self.graph[job].spec.clone();
        if spec.ignore.are_named() {
            for record in &mut records {
                leave_out_ignored(record, &spec);
            }
        }
        if records.is_empty() {
            self.graph[job].why = match self.ledger.of(self.graph[job].spec.identity).is_empty() {
                true => "not made before".to_owned(),
                false => "its command changed".to_owned(),
            };
        }
        records
    }

    /// A target of a job that is to be made anew.
    fn forgotten(&self, job: JobId) -> Option<String> {
        let spec = &self.graph[job].spec;
        let mut names = self.marks.of(Mark::Forgotten);
        names
            .find(|name| spec.target(name).is_some())
            .map(str::to_owned)
    }

    /// In a dry run: what the newest record of a job depends on and a job would make that would run.
    fn would_change(&self, job: JobId) -> Option<String> {
        if !self.wish.dry {
            return None;
        }
        let record = self.graph[job].records.as_ref()?.last()?;
        let would = |name: &&str| match self.graph.known(name).and_then(super::graph::Node::made) {
            Some(Made::By(job)) => self.graph[job].would_run,
            Some(Made::Source | Made::Before | Made::Failed) | None => false,
        };
        record
            .deps
            .iter()
            .filter_map(inside)
            .find(would)
            .map(str::to_owned)
    }

    /// The first reason is that of the newest record, which people have in mind.
    fn drop_record(&mut self, job: JobId, why: String) {
        let job = &mut self.graph[job];
        if job.why.is_empty() {
            job.why = why;
        }
        if let Some(records) = &mut job.records {
            records.pop();
        }
    }

    /// What a record depends on and a rule may make, and is not yet as it shall be.
    fn pending(&self, job: JobId, record: &Record) -> Vec<String> {
        let open = |name: &&str| {
            self.graph
                .known(name)
                .and_then(super::graph::Node::made)
                .is_none()
                && self.answers.concerns(name)
                && self.graph[job].spec.target(name).is_none()
        };
        record
            .deps
            .iter()
            .filter_map(inside)
            .filter(open)
            .map(str::to_owned)
            .collect()
    }

    /// Has files made that a record depends on. Whether the job now waits for some; if not, either all are
    /// done, or one waits for the job, and the record is dropped.
    fn await_all(&mut self, job: JobId, names: &[String]) -> bool {
        for name in names {
            let node = self.graph.node(name);
            if self.make(node) {
                continue;
            }
            if self.graph.waits_for(node, job).is_some() {
                self.drop_record(job, format!("{name} needs it now"));
                continue;
            }
            self.await_node(job, node);
        }
        !self.graph[job].awaits.is_empty()
    }

    /// The newest record of a job that is left holds.
    fn use_record(&mut self, job: JobId, looks: &[lookup::Look]) {
        let Some(record) = self.graph[job].records.as_mut().and_then(Vec::pop) else {
            return;
        };
        let spec = self.graph[job].spec.clone();
        let rules = self.rules.clone();
        let names: Vec<&str> = outputs(&record).collect();
        let verdict = judge(
            (rules.rule(spec.rule), &rules.sources),
            &spec,
            record.status,
            &record.chunks,
            &names,
        );
        let targets = match verdict {
            Err(_) if self.wish.retry_failed => {
                self.graph[job].why = "it failed before".to_owned();
                return self.must_run(job);
            }
            Err(why) => {
                self.graph[job].chunks = record.chunks;
                return self.fail(job, why, false);
            }
            Ok(targets) => targets,
        };
        if self.in_place(&record) {
            self.counts.up_to_date += 1;
            self.tell.tell(Told::UpToDate(spec.title.clone()));
            self.remember(&spec, &record);
            self.witness(job, &record, looks);
            return self.finish(job, Outcome::Made(targets));
        }
        if !self.wish.dry {
            if !self.lock(job) {
                return;
            }
            self.begin(job);
            if let Err(why) = self.serve(&spec, &record) {
                self.graph[job].why = why;
                return self.must_run(job);
            }
        }
        self.witness.later(job, record);
        self.counts.served += 1;
        self.tell.tell(Told::Served(spec.title.clone()));
        self.finish(job, Outcome::Made(targets));
    }

    /// No record of a job holds.
    fn must_run(&mut self, job: JobId) {
        let spec = self.graph[job].spec.clone();
        if self.wish.dry {
            self.counts.ran += 1;
            self.tell
                .tell(Told::Runs(spec.title.clone(), self.graph[job].why.clone()));
            let names = spec.files().map(|(name, _)| name.to_owned()).collect();
            self.graph[job].would_run = true;
            return self.finish(job, Outcome::Made(names));
        }
        if let Some(why) = self.too_much(job) {
            return self.fail(job, why, false);
        }
        self.graph[job].stage = Stage::Queued;
        self.queue.push_back(job);
    }

    /// A job needs what could not be made.
    pub(super) fn block(&mut self, job: JobId, name: String) {
        self.counts.blocked += 1;
        self.finish(job, Outcome::Blocked(name));
    }

    /// A job has failed, `now` or before.
    pub(super) fn fail(&mut self, job: JobId, why: String, now: bool) {
        if !self.graph.is_needed(job) {
            self.graph[job].untold = Some(now);
            return self.finish(job, Outcome::Failed(why));
        }
        self.tell_failure(job, why.clone(), now);
        self.finish(job, Outcome::Failed(why));
    }

    /// A file that could not be made is needed: if its failure was not told, it is now.
    pub(super) fn own_up(&mut self, node: NodeId) {
        for job in self.graph[node].failed_by.clone() {
            let untold = self.graph[job].untold.take();
            if let (Some(now), Some(Outcome::Failed(why))) = (untold, &self.graph[job].outcome) {
                let why = why.clone();
                self.tell_failure(job, why, now);
            }
        }
    }

    fn tell_failure(&mut self, job: JobId, why: String, now: bool) {
        self.counts.failed += 1;
        let title = self.graph[job].spec.title.clone();
        let chunks = self.graph[job].chunks.clone();
        self.tell.tell(Told::Failed(title, why, chunks, now));
        if !self.wish.keep_going {
            self.stopping = true;
        }
    }

    /// A job is over.
    pub(super) fn finish(&mut self, job: JobId, outcome: Outcome) {
        let own = &mut self.graph[job];
        own.stage = Stage::Done;
        own.outcome = Some(outcome);
        own.records = None;
        own.awaits.clear();
        if let Some(Outcome::Made(_)) = &self.graph[job].outcome {
            while let Some(name) = self.forgotten(job) {
                self.marks.set(Mark::Forgotten, &name, false);
                self.remembered.push(name);
            }
        }
        self.unlock(job);
        for node in self.graph[job].wanted_by.clone() {
            self.review(node);
        }
    }
}

/// Leaves out of a record what it says was done to files that nobody cares for.
fn leave_out_ignored(record: &mut Record, spec: &Spec) {
    let ignored = |name: &Name| {
        name.inside()
            && name
                .as_path()
                .to_str()
                .is_some_and(|name| spec.ignores(name))
    };
    record.outputs.retain(|output| !ignored(&output.name));
}

/// The name of a dep in the workspace.
pub(super) fn inside(dep: &Dep) -> Option<&str> {
    dep.name.as_path().to_str().filter(|_| dep.name.inside())
}
