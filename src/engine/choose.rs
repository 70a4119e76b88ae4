//! Which jobs make a file, and whether it can be had at all.

use super::graph::{Made, NodeId, NodeState, Outcome, Stage, Waiter};
use super::{Engine, Mark, Told};
use crate::base::JobId;
use crate::rules::{Candidate, Target};
use std::rc::Rc;

/// Files through which one file may be made out of another, before the rules are taken to go on for ever.
const MAX_DEPTH: usize = 100;
/// Bytes of a name that a rule asks for: the kernel takes no longer ones.
const MAX_NAME: usize = libc::PATH_MAX as usize;

impl Engine<'_> {
    /// Has a file made. Whether it is done already.
    pub(super) fn make(&mut self, node: NodeId) -> bool {
        match self.graph[node].state {
            NodeState::Done(_) => true,
            NodeState::Making { .. } => false,
            NodeState::Unknown if self.stands(node) => {
                self.settle(node, Made::Before);
                true
            }
            NodeState::Unknown => {
                self.choose(node, 0);
                matches!(self.graph[node].state, NodeState::Done(_))
            }
        }
    }

    /// Whether a file is as it shall be, as it was before.
    fn stands(&self, node: NodeId) -> bool {
        let name = &*self.graph[node].name;
        let clean = self.clean.as_ref();
        clean.is_some_and(|clean| clean.names.contains(name))
    }

    /// The groups of rules that may make a file.
    fn groups(&mut self, node: NodeId) -> Rc<Vec<Vec<Candidate>>> {
        if let Some(groups) = &self.graph[node].groups {
            return groups.clone();
        }
        let name = self.graph[node].name.clone();
        let named = self.rules.sources.names(&name) || self.marks.has(Mark::Frozen, &name);
        let groups = if named {
            Vec::new()
        } else {
            self.rules.candidates(&name)
        };
        let groups = Rc::new(groups);
        self.graph[node].groups = Some(groups.clone());
        groups
    }

    /// Tries groups of rules from `from` on, until one has a job for the file.
    fn choose(&mut self, node: NodeId, from: usize) {
        let groups = self.groups(node);
        for (index, group) in groups.iter().enumerate().skip(from) {
            let mut jobs = Vec::new();
            for candidate in group {
                if let Some(job) = self.applicable(candidate, 0) {
                    jobs.push((job, candidate.target));
                }
            }
            if jobs.is_empty() {
                continue;
            }
            let sure: Vec<JobId> = jobs
                .iter()
                .filter(|(job, target)| {
                    let target = &self.graph[*job].spec.targets[*target];
                    matches!(target, Target::File(_, flags) if !flags.optional)
                })
                .map(|(job, _)| *job)
                .collect();
            if sure.len() > 1 {
                self.several(node, &sure);
                return;
            }
            let jobs: Vec<JobId> = jobs.into_iter().map(|(job, _)| job).collect();
            self.graph[node].state = NodeState::Making {
                group: index,
                jobs: jobs.clone(),
            };
            for job in jobs {
                self.graph[job].wanted_by.push(node);
                if self.graph[job].stage == Stage::New {
                    self.graph[job].stage = Stage::Deps;
                    self.start_deps(job);
                } else if self.graph[job].stage == Stage::Done {
                    self.review(node);
                }
            }
            return;
        }
        let name = self.graph[node].name.clone();
        if !self.marks.has(Mark::Frozen, &name) {
            self.remove_orphan(&name);
        }
        self.settle(node, Made::Source);
    }

    /// Several rules say that they make a file.
    fn several(&mut self, node: NodeId, jobs: &[JobId]) {
        let name = self.graph[node].name.clone();
        let place = |job: &JobId| {
            let rule = self.rules.rule(self.graph[*job].spec.rule);
            format!("\n  {} at {}", rule.name, rule.at)
        };
        let rules: String = jobs.iter().map(place).collect();
        self.error(format!(
            "several rules make {name}:{rules}\n\
             give one of them a higher `priority`, or say `anti_rule({name:?})`"
        ));
        self.settle(node, Made::Failed);
    }

    /// The job of a rule, if all that it is known to need can be had.
    fn applicable(&mut self, candidate: &Candidate, depth: usize) -> Option<JobId> {
        if let Some(job) = self.graph.known_job(candidate) {
            return Some(job);
        }
        let rules = self.rules.clone();
        let spec = rules.spec(candidate.rule, &candidate.stems);
        for dep in &spec.deps {
            if dep.name.is_empty() {
                return None;
            }
            if !self.buildable(&dep.name, depth + 1) && !dep.flags.required {
                return None;
            }
        }
        let machine = &self.machine;
        Some(self.graph.job(candidate, || {
            let key = spec.key(machine);
            (spec, key)
        }))
    }

    /// Whether a file can be had: it is a source or there is a rule for it.
    fn buildable(&mut self, name: &str, depth: usize) -> bool {
        let node = self.graph.node(name);
        if let Some(known) = self.graph[node].buildable {
            return known;
        }
        if self.stands(node) {
            return true;
        }
        if depth > MAX_DEPTH || name.len() > MAX_NAME {
            self.endless(name);
            return false;
        }
        // Whoever asks again meanwhile goes in a circle, which is told when the file is made.
        self.graph[node].buildable = Some(true);
        let groups = self.groups(node);
        let mut can = false;
        'groups: for group in groups.iter() {
            for candidate in group {
                if self.applicable(candidate, depth).is_some() {
                    can = true;
                    break 'groups;
                }
            }
        }
        let can = can || self.is_source(name);
        self.graph[node].buildable = Some(can);
        can
    }

    /// Whether a file that no rule makes is there by right.
    pub(super) fn is_source(&mut self, name: &str) -> bool {
        let right = !self.rules.sources.are_named() || self.rules.sources.names(name);
        if !right || name.starts_with('/') {
            return right;
        }
        let is_there = self.exists(name);
        let path = self.path(name);
        self.witness.decides(path, is_there);
        is_there
    }

    fn endless(&mut self, name: &str) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let what = match name.char_indices().nth(200) {
            Some((end, _)) => format!("{}... ({} bytes)", &name[..end], name.len()),
            None => name.to_owned(),
        };
        let how = match name.len() > MAX_NAME {
            true => "too long for a file".to_owned(),
            false => format!("needed {MAX_DEPTH} files deep"),
        };
        self.error(format!(
            "rules need each other without end: {what} is {how}\n\
             an `anti_rule(...)` for such names ends it"
        ));
    }

    /// A job of a file is over: the file is made, or others may make it.
    pub(super) fn review(&mut self, node: NodeId) {
        let NodeState::Making { group, jobs } = &self.graph[node].state else {
            return;
        };
        let (group, jobs) = (*group, jobs.clone());
        if jobs.iter().any(|job| self.graph[*job].outcome.is_none()) {
            return;
        }
        let name = self.graph[node].name.clone();
        let mut makers = Vec::new();
        let mut failed = false;
        for job in &jobs {
            match &self.graph[*job].outcome {
                Some(Outcome::Made(names))
                    if names.iter().any(|made| **made == *name)
                        || self.is_phony_star(*job, &name) =>
                {
                    makers.push(*job);
                }
                Some(Outcome::Made(_)) | None => {}
                Some(Outcome::Failed(_) | Outcome::Blocked(_)) => failed = true,
            }
        }
        match makers.as_slice() {
            _ if failed => {
                self.graph[node].failed_by = jobs;
                self.settle(node, Made::Failed);
            }
            [] => self.choose(node, group + 1),
            [job] => self.settle(node, Made::By(*job)),
            [..] => {
                let makers = makers.clone();
                self.several(node, &makers);
            }
        }
    }

    /// Whether a file is a target of a job that is as good absent, whatever files the job makes.
    fn is_phony_star(&self, job: JobId, name: &str) -> bool {
        let target = self.graph[job].spec.target(name);
        matches!(target, Some(Target::Star(_, _, flags)) if flags.phony)
    }

    /// A file is as it shall be: who waits for it goes on.
    pub(super) fn settle(&mut self, node: NodeId, made: Made) {
        let name = self.graph[node].name.clone();
        self.graph[node].state = NodeState::Done(made);
        self.answers.settle(&name);
        for waiter in std::mem::take(&mut self.graph[node].waiters) {
            match waiter {
                Waiter::Job(job) => {
                    let waiting = &mut self.graph[job].awaits;
                    waiting.retain(|awaited| *awaited != node);
                    if waiting.is_empty() {
                        self.todo.push_back(job);
                    }
                }
                Waiter::Hold(job, go) => {
                    let held = &mut self.graph[job].held;
                    if let Some(at) = held.iter().position(|held| *held == node) {
                        held.swap_remove(at);
                    }
                    self.resume.push_back((job, go));
                }
            }
        }
    }

    /// Why a file that is not there cannot be made.
    pub(super) fn nobody_makes(&mut self, name: &str) -> String {
        let node = self.graph.node(name);
        let groups = self.groups(node);
        let rules = self.rules.clone();
        let mut lines = Vec::new();
        for candidate in groups.iter().flatten() {
            let rule = rules.rule(candidate.rule);
            let spec = rules.spec(candidate.rule, &candidate.stems);
            let had = |engine: &mut Self, name: &str| !name.is_empty() && engine.buildable(name, 0);
            let lacking = spec.deps.iter().find(|dep| !had(self, &dep.name));
            if let Some(dep) = lacking {
                let what = if dep.name.is_empty() {
                    "a dep without a name"
                } else {
                    &dep.name
                };
                lines.push(format!(
                    "\n  {} at {} would need {what}",
                    rule.name, rule.at
                ));
            }
        }
        let near = self.near(name);
        match (lines.is_empty(), near) {
            (false, _) => format!("cannot make {name}: no rule can{}", lines.concat()),
            (true, Some(near)) => {
                format!("no rule makes {name}, nor is it there: did you mean {near}?")
            }
            (true, None) => format!("no rule makes {name}, nor is it there"),
        }
    }

    /// A name that was made before and differs in a letter or two.
    fn near(&self, name: &str) -> Option<String> {
        let distance = |known: &str| strsim::damerau_levenshtein(known, name);
        let known = self.ledger.names().filter(|known| distance(known) <= 2);
        known.min_by_key(|known| distance(known)).map(str::to_owned)
    }

    /// The loop in which a file that nobody could finish is waited for.
    pub(super) fn loops(&self, node: NodeId) -> String {
        let mut chain = vec![node];
        loop {
            let Some(last) = chain.last().copied() else {
                return String::new();
            };
            let NodeState::Making { jobs, .. } = &self.graph[last].state else {
                break;
            };
            let open = |job: &&JobId| self.graph[**job].outcome.is_none();
            let Some(job) = jobs.iter().find(open) else {
                break;
            };
            let job = &self.graph[*job];
            let Some(next) = job.awaits.iter().chain(&job.held).next().copied() else {
                break;
            };
            if let Some(from) = chain.iter().position(|known| *known == next) {
                chain.push(next);
                let names: Vec<&str> = chain[from..]
                    .iter()
                    .map(|node| &*self.graph[*node].name)
                    .collect();
                return format!("files need each other: {}", names.join(" -> "));
            }
            chain.push(next);
        }
        let names: Vec<&str> = chain.iter().map(|node| &*self.graph[*node].name).collect();
        format!("cannot make {}", names.join(" -> "))
    }

    /// Tells a warning.
    pub(super) fn warn(&mut self, text: String) {
        self.tell.tell(Told::Warning(text));
    }
}
