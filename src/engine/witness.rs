//! Gathers what a command sees, so that the next one finds it [standing](super::standing).
//!
//! Whatever is in doubt spoils it: then nothing is kept, and the next command looks into everything.

use super::Engine;
use super::graph::{Made, NodeState, Outcome, Stage};
use super::standing::{Clean, Entry, Found, Standing, Stood};
use crate::base::{Access, Dep, Digest, JobId, Record, Seen, What};
use crate::cache::lookup;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Witness {
    spoilt: bool,
    numbers: HashMap<PathBuf, u32>,
    paths: Vec<(PathBuf, Found, bool)>,
    jobs: BTreeMap<JobId, Stood>,
    /// Jobs whose outputs are new, to be looked at in the end.
    late: Vec<(JobId, Record)>,
}

impl Witness {
    fn number(&mut self, path: PathBuf, found: Found, decides: bool) -> u32 {
        if let Some(number) = self.numbers.get(&path) {
            let (_, known, deciding) = &mut self.paths[*number as usize];
            *deciding |= decides;
            match known.and(found) {
                Some(both) => *known = both,
                None => self.spoilt = true,
            }
            return *number;
        }
        let number = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        self.numbers.insert(path.clone(), number);
        self.paths.push((path, found, decides));
        number
    }

    fn seen(&mut self, path: PathBuf, seen: &Seen, whole: bool) -> u32 {
        let found = Found::of(seen, whole);
        self.spoilt |= found.is_none();
        self.number(path, found.unwrap_or(Found::Whatever), false)
    }

    /// Whether a file is there has decided something about rules.
    pub(super) fn decides(&mut self, path: PathBuf, is_there: bool) {
        let found = match is_there {
            true => Found::Something,
            false => Found::Nothing,
        };
        self.number(path, found, true);
    }

    /// What a job left has no record.
    pub(super) fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// The record of a job that has changed its outputs now.
    pub(super) fn later(&mut self, job: JobId, record: Record) {
        if !self.spoilt {
            self.late.push((job, record));
        }
    }

    /// Takes over what still stands.
    fn take_over(&mut self, clean: &Clean) {
        let made: HashSet<u32> = self
            .jobs
            .values()
            .flat_map(|job| &job.makes)
            .copied()
            .collect();
        let jobs = clean.standing.jobs.iter().zip(&clean.dirty);
        let jobs: Vec<&Stood> = jobs
            .filter(|(_, dirty)| !**dirty)
            .map(|(job, _)| job)
            .collect();
        let mut stands = HashSet::new();
        for job in &jobs {
            stands.extend(job.on.iter().chain(&job.makes).copied());
        }
        let entries = clean.standing.dirs.iter().flat_map(|(dir, entries)| {
            let dir = Path::new(OsStr::from_bytes(dir));
            let path = move |entry: &Entry| dir.join(OsStr::from_bytes(&entry.name));
            entries.iter().map(move |entry| (path(entry), entry))
        });
        let mut numbers = Vec::new();
        for (at, (path, entry)) in (0_u32..).zip(entries) {
            let found = match (stands.contains(&at), entry.found) {
                (true, found) => Some(found),
                (false, _) if !entry.decides => None,
                (false, Found::Nothing) => Some(Found::Nothing),
                (false, _) => Some(Found::Something),
            };
            numbers.push(found.map(|found| self.number(path, found, entry.decides)));
        }
        let number = |path: &u32| numbers.get(*path as usize).copied().flatten();
        let renumber = |paths: &[u32]| paths.iter().filter_map(number).collect::<Vec<u32>>();
        for (at, job) in (0..).zip(jobs) {
            let makes = renumber(&job.makes);
            // Somebody has asked for it for another reason.
            if makes.iter().all(|path| made.contains(path)) {
                continue;
            }
            let stood = Stood {
                on: renumber(&job.on),
                makes,
                asked_for: renumber(&job.asked_for),
            };
            // Numbers of jobs that this command knows begin at 0.
            self.jobs.insert(JobId(u32::MAX - at), stood);
        }
    }

    /// Leaves out jobs that nobody needs any more.
    fn prune(&mut self, roots: &[PathBuf]) {
        let mut makers: HashMap<u32, Vec<JobId>> = HashMap::new();
        for (id, job) in &self.jobs {
            for path in &job.makes {
                makers.entry(*path).or_default().push(*id);
            }
        }
        let root = |path: &PathBuf| self.numbers.get(path).copied();
        let mut todo: Vec<u32> = roots.iter().filter_map(root).collect();
        let mut needed = HashSet::new();
        while let Some(path) = todo.pop() {
            for id in makers.remove(&path).unwrap_or_default() {
                if let (true, Some(job)) = (needed.insert(id), self.jobs.get(&id)) {
                    todo.extend(job.on.iter().chain(&job.makes));
                }
            }
        }
        self.jobs.retain(|id, _| needed.contains(id));
    }

    /// What there is to be kept, paths in order.
    fn standing(self, rules: crate::rules::Asked) -> Standing {
        let mut order: Vec<u32> = (0..).take(self.paths.len()).collect();
        let place = |number: &u32| {
            let path = &self.paths[*number as usize].0;
            (path.parent(), path.file_name())
        };
        order.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        let mut now = vec![0; order.len()];
        let mut dirs: Vec<(Vec<u8>, Vec<Entry>)> = Vec::new();
        for (at, number) in (0..).zip(&order) {
            now[*number as usize] = at;
            let (path, found, decides) = &self.paths[*number as usize];
            let dir = path.parent().unwrap_or(path).as_os_str().as_bytes();
            let name = path.file_name().unwrap_or(OsStr::new("."));
            if dirs.last().is_none_or(|(last, _)| last != dir) {
                dirs.push((dir.to_owned(), Vec::new()));
            }
            if let Some((_, entries)) = dirs.last_mut() {
                entries.push(Entry {
                    name: name.as_bytes().to_owned(),
                    found: *found,
                    decides: *decides,
                });
            }
        }
        let renumbered = self.jobs.into_values().map(|mut job| {
            for paths in [&mut job.on, &mut job.makes, &mut job.asked_for] {
                paths
                    .iter_mut()
                    .for_each(|path| *path = now[*path as usize]);
                paths.sort_unstable();
                paths.dedup();
            }
            job
        });
        Standing {
            rules,
            dirs,
            jobs: renumbered.collect(),
        }
    }
}

impl Engine<'_> {
    /// A record of a job holds and its outputs are in place: these are the looks that said so.
    pub(super) fn witness(&mut self, job: JobId, record: &Record, looks: &[lookup::Look]) {
        let world = self.known.world.clone();
        if self.witness.spoilt || !looks.iter().all(|look| world.is_sure(&look.seen)) {
            return self.witness.spoil();
        }
        let mut stood = Stood::default();
        let deps = record.deps.iter().filter(|dep| !self.is_quiet(dep));
        let deps: Vec<&Dep> = deps.collect();
        for (dep, look) in deps.into_iter().zip(looks) {
            let whole = Access::LIST | Access::MTIME | Access::ORDER | Access::PLAIN;
            let whole = dep.access.any(whole) || dep.rank != 0;
            let path = dep.name.at(&self.root);
            stood.on.push(self.witness.seen(path, &look.seen, whole));
        }
        for output in &record.outputs {
            let path = output.name.at(&self.root);
            let seen = world.last(&path).seen;
            if !world.is_sure(&seen) {
                return self.witness.spoil();
            }
            stood.makes.push(self.witness.seen(path, &seen, false));
            if let What::HardLink(other) = &output.what {
                let path = other.at(&self.root);
                let seen = world.last(&path).seen;
                stood.on.push(self.witness.seen(path, &seen, false));
            }
        }
        self.witness.jobs.insert(job, stood);
    }

    /// Whether a change of what a dep names does not count.
    pub(super) fn is_quiet(&self, dep: &Dep) -> bool {
        let name = super::advance::inside(dep);
        name.is_some_and(|name| self.marks.has(super::Mark::Quiet, name))
    }

    /// Keeps what was seen under a key, if all went well.
    pub(super) fn keep_witness(&mut self, targets: &[String], path: &Path) {
        if self.wish.dry || self.stopping || !self.rules.asked().is_sure() {
            return;
        }
        for (job, record) in std::mem::take(&mut self.witness.late) {
            let quiet = |name: &crate::base::Name| {
                let text = name.as_path().to_str();
                let marked = |text| self.marks.has(super::Mark::Quiet, text);
                name.inside() && text.is_some_and(marked)
            };
            let held = lookup::still_holds(&record, &self.known.world, &quiet);
            match held {
                Ok(looks) if self.in_place(&record) => self.witness(job, &record, &looks),
                Ok(_) | Err(_) => self.witness.spoil(),
            }
        }
        let jobs: Vec<JobId> = self.graph.jobs().map(|(id, _)| id).collect();
        for id in jobs {
            self.witness_asked(id);
        }
        for dir in self.rules.dirs() {
            let path = self.root.join(dir);
            let is_there = path.is_dir();
            self.witness.decides(path, is_there);
        }
        if let Some(clean) = self.clean.take() {
            self.witness.take_over(&clean);
        }
        let mut witness = std::mem::take(&mut self.witness);
        if witness.spoilt || self.counts.failed + self.counts.blocked + self.counts.errors > 0 {
            return;
        }
        let roots: Vec<PathBuf> = targets.iter().map(|name| self.path(name)).collect();
        witness.prune(&roots);
        let standing = witness.standing(self.rules.asked());
        // Without it the next command takes longer, and that is all.
        drop(standing.write(path, &*self.disk));
    }

    /// What was asked of a job, beside its record.
    fn witness_asked(&mut self, id: JobId) {
        let job = &self.graph[id];
        match (job.stage, &job.outcome) {
            (Stage::New, _) => return,
            (_, Some(Outcome::Made(_))) => {}
            (_, Some(Outcome::Failed(_) | Outcome::Blocked(_)) | None) => {
                return self.witness.spoil();
            }
        }
        if self.witness.spoilt {
            return;
        }
        let Some(mut stood) = self.witness.jobs.remove(&id) else {
            return self.witness.spoil();
        };
        for dep in &job.spec.deps {
            let path = self.root.join(&dep.name);
            stood
                .on
                .push(self.witness.number(path, Found::Whatever, false));
        }
        for node in &job.wanted_by {
            let node = &self.graph[*node];
            let path = self.root.join(&*node.name);
            let number = self.witness.number(path, Found::Whatever, false);
            stood.makes.push(number);
            if let NodeState::Done(Made::By(_)) = node.state {
                stood.asked_for.push(number);
            }
        }
        self.witness.jobs.insert(id, stood);
    }
}

/// What decides, beside the rules and the tree, what a command would find: a name for it.
#[must_use]
pub fn key<'t>(parts: impl IntoIterator<Item = &'t [u8]>) -> Digest {
    let mut key = crate::base::digest::Framed::new("rfs standing 1");
    for part in parts {
        key.part(part);
    }
    key.finish()
}
