//! Stores finished steps in the background: contents into the cache, then the record.

use super::close::micros;
use super::history::{self, History};
use super::jobs::{Ended, Jobs};
use super::machine;
use crate::base::{Access, Dep, Digest, Kind, Name, Provenance, Record, Refusal, Seen, What};
use crate::base::{Cost, Identity};
use crate::cache::Cache;
use crate::record::{Folded, Step, Wrote};
use crate::report::{Event as Report, Sink, Step as Told, Verdict};
use crate::store::graph::{Done, Fate};
use crate::world::World;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Finished steps that wait, at most; each may hold open files.
const QUEUE: usize = 64;

/// A step to store.
#[derive(Debug)]
pub(super) struct Job {
    pub step: Step,
    pub folded: Folded,
    /// Output files by their place among the outputs, opened at the end of the step.
    pub files: Vec<(usize, File)>,
    pub status: i32,
    pub wall: Duration,
    pub provenance: Provenance,
}

enum Work {
    Save(Box<Job>),
    Drain(SyncSender<()>),
}

/// The background thread.
pub(super) struct Saver {
    queue: SyncSender<Work>,
    _thread: JoinHandle<()>,
    cache: Option<Arc<Cache>>,
    jobs: Option<Arc<dyn Jobs>>,
    world: Arc<World>,
    sink: Arc<dyn Sink>,
    history: Arc<History>,
}

impl Saver {
    pub(super) fn new(
        world: Arc<World>,
        cache: Option<Arc<Cache>>,
        jobs: Option<Arc<dyn Jobs>>,
        sink: Arc<dyn Sink>,
        history: Arc<History>,
    ) -> Self {
        let (queue, work) = sync_channel(QUEUE);
        let store = Store {
            world: world.clone(),
            cache: cache.clone(),
            jobs: jobs.clone(),
            sink: sink.clone(),
            history: history.clone(),
            warned: false,
        };
        let thread = std::thread::spawn(move || store.run(&work));
        Self {
            queue,
            _thread: thread,
            cache,
            jobs,
            world,
            sink,
            history,
        }
    }

    /// Whether the content of what was seen is in the cache already.
    pub(super) fn has(&self, seen: &Seen) -> bool {
        match (seen.digest.get(), &self.cache) {
            (Some(Ok(digest)), Some(cache)) => cache.contains(digest, seen.id.size),
            _ => false,
        }
    }

    /// Stores one file before anybody can change it. Gives its digest, none without a cache.
    ///
    /// # Errors
    /// Why it is not stored.
    pub(super) fn store(&self, file: &File, seen: &Seen) -> Result<Option<Digest>, String> {
        let stored = self.cache.as_ref().map(|cache| insert(cache, file, seen));
        stored.transpose().map_err(|trouble| match trouble {
            Trouble::Refuse(Refusal(why)) | Trouble::Cache(why) => why,
        })
    }

    pub(super) fn save(&self, job: Job) {
        let _ = self.queue.send(Work::Save(Box::new(job))).is_ok();
    }

    /// Tells of a step that may not be cached.
    pub(super) fn refused(&self, step: Step, status: i32, wall: Duration) {
        let why = step
            .refusal
            .clone()
            .unwrap_or_else(|| Refusal("unknown".to_owned()));
        if let (Some(jobs), Some(id)) = (&self.jobs, step.job) {
            jobs.ended(id, unrecorded(&step, status, why.clone(), &self.world));
        }
        tell(&*self.sink, &step, Verdict::Refused(why), wall);
        self.history.refused(step, status, wall);
    }

    /// Waits until everything handed in so far is stored.
    pub(super) fn drain(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Work::Drain(done)).is_ok() {
            let _ = wait.recv().is_ok();
        }
    }
}

fn tell(sink: &dyn Sink, step: &Step, verdict: Verdict, wall: Duration) {
    sink.take(Report::Step(Box::new(Told {
        number: step.number,
        parent: step.parent.and_then(|at| u32::try_from(at).ok()),
        title: step.title.clone(),
        verdict,
        notes: step.notes.iter().cloned().collect(),
        began: step.started.1,
        wall_us: micros(wall),
        saved_us: 0,
        cost: step.cost,
        placement: step.placement.clone(),
        held: step.held.clone(),
    })));
}

/// How a job has ended that has no record.
fn unrecorded(step: &Step, status: i32, why: Refusal, world: &World) -> Ended {
    let changed = step.paths.iter();
    let changed = changed.filter(|(_, entry)| entry.wrote.content());
    let mut changed: Vec<PathBuf> = changed
        .map(|(id, _)| world.path(*id).to_path_buf())
        .collect();
    changed.sort_unstable();
    Ended {
        status,
        chunks: step.chunks.clone(),
        record: Err(why),
        changed,
    }
}

struct Store {
    world: Arc<World>,
    cache: Option<Arc<Cache>>,
    jobs: Option<Arc<dyn Jobs>>,
    sink: Arc<dyn Sink>,
    history: Arc<History>,
    warned: bool,
}

impl Store {
    /// Stores what has come meanwhile together: a change of the cache costs as much for many records as for one.
    fn run(mut self, work: &Receiver<Work>) {
        while let Ok(first) = work.recv() {
            let mut jobs = Vec::new();
            for work in std::iter::once(first).chain(work.try_iter().take(QUEUE)) {
                match work {
                    Work::Save(job) => jobs.push(*job),
                    Work::Drain(done) => {
                        self.save(std::mem::take(&mut jobs));
                        let _ = done.send(()).is_ok();
                    }
                }
            }
            self.save(jobs);
        }
    }

    fn save(&mut self, jobs: Vec<Job>) {
        let mut made = Vec::new();
        for mut job in jobs {
            let Some(cache) = self.cache.clone() else {
                self.tell_job(&job, Err(Refusal("there is no cache".to_owned())));
                let miss = Verdict::Ran(job.step.miss.clone());
                tell(&*self.sink, &job.step, miss, job.wall);
                self.history.refused(job.step, job.status, job.wall);
                continue;
            };
            let contents = self.contents(&cache, &mut job);
            match contents.and_then(|()| self.record(&mut job)) {
                Ok(keyed) => made.push((job, keyed)),
                Err(trouble) => self.in_vain(job, trouble),
            }
        }
        let records = made.iter().filter_map(|(_, keyed)| keyed.as_ref());
        let records = records.map(|(key, record)| (*key, record.clone()));
        let added = self
            .cache
            .as_ref()
            .map(|cache| cache.add_all(records.collect()));
        let mut added = added.unwrap_or_default().into_iter();
        for (job, keyed) in made {
            match keyed.as_ref().and_then(|_| added.next()) {
                None | Some(Ok(())) => self.kept(job, keyed),
                Some(Err(error)) => self.in_vain(job, Trouble::Cache(error.to_string())),
            }
        }
    }

    /// A step is stored, under its key, where it has one.
    fn kept(&self, mut job: Job, keyed: Option<(Digest, Record)>) {
        if let Some((key, record)) = keyed {
            if job.step.job.is_some() {
                self.tell_job(&job, Ok(Box::new(record.clone())));
            }
            let why = job.step.miss.to_string();
            self.history.done(Done {
                step: history::went(&job.step, Fate::Ran, why, &record),
                start: std::mem::take(&mut job.step.start),
                key,
                record,
            });
        }
        let verdict = Verdict::Ran(job.step.miss.clone());
        tell(&*self.sink, &job.step, verdict, job.wall);
    }

    /// A step cannot be stored.
    fn in_vain(&mut self, mut job: Job, trouble: Trouble) {
        let verdict = match trouble {
            Trouble::Refuse(why) => {
                self.tell_job(&job, Err(why.clone()));
                job.step.refusal = Some(why.clone());
                Verdict::Refused(why)
            }
            Trouble::Cache(why) => {
                self.tell_job(&job, Err(Refusal(why.clone())));
                self.warn(&why);
                Verdict::Ran(job.step.miss.clone())
            }
        };
        tell(&*self.sink, &job.step, verdict, job.wall);
        self.history.refused(job.step, job.status, job.wall);
    }

    fn tell_job(&self, job: &Job, record: Result<Box<Record>, Refusal>) {
        let (Some(jobs), Some(id)) = (&self.jobs, job.step.job) else {
            return;
        };
        let ended = match record {
            Ok(record) => Ended {
                status: job.status,
                chunks: record.chunks.clone(),
                record: Ok(record),
                changed: Vec::new(),
            },
            Err(why) => unrecorded(&job.step, job.status, why, &self.world),
        };
        jobs.ended(id, ended);
    }

    fn warn(&mut self, why: &str) {
        if !std::mem::replace(&mut self.warned, true) {
            self.sink.take(Report::Warning(format!(
                "{why}; steps are run but not kept: make the cache writable or room in it (`rfs cache gc`), or \
                 choose another with RFS_CACHE_DIR"
            )));
        }
    }

    /// Stores the output files. Every version that was announced gets its digest or an error, so that
    /// nobody waits for ever.
    fn contents(&self, cache: &Cache, job: &mut Job) -> Result<(), Trouble> {
        let mut result = Ok(());
        for (index, file) in job.files.drain(..) {
            let (output, pending) = &job.folded.outputs[index];
            let path = self.world.path(pending.id);
            let stored = if result.is_ok() {
                insert(cache, &file, &pending.seen)
            } else {
                Err(Trouble::Cache(String::new()))
            };
            match stored {
                Ok(digest) => self.world.settle(&path, &pending.seen, Ok(digest)),
                Err(trouble) => {
                    self.world.settle(&path, &pending.seen, Err(libc::ESTALE));
                    if result.is_ok() {
                        result = Err(trouble.of(&output.name.to_string()));
                    }
                }
            }
        }
        result
    }

    /// The record of a step, and what it is to be kept under; none for one that has no key.
    fn record(&self, job: &mut Job) -> Result<Option<(Digest, Record)>, Trouble> {
        let Some(key) = job.step.key else {
            return Ok(None);
        };
        let root = self.world.root();
        let mut deps = Vec::with_capacity(job.folded.deps.len());
        for (mut dep, pending) in std::mem::take(&mut job.folded.deps) {
            if self.is_own(job, &dep) {
                continue;
            }
            let wanted = dep.access.has(Access::REG) && pending.seen.kind == Kind::File;
            if let (true, crate::base::State::File { digest, .. }) = (wanted, &mut dep.state) {
                let found = self.world.digest(&dep.name.at(root), &pending.seen);
                let found = found.map_err(|errno| match errno {
                    libc::ESTALE => Trouble::refuse(&dep.name, "changed while it was used"),
                    libc::EACCES | libc::EPERM => Trouble::refuse(&dep.name, "cannot be read"),
                    errno => Trouble::refuse(&dep.name, &format!("cannot be read (errno {errno})")),
                })?;
                *digest = Some(found);
            }
            deps.push(dep);
        }
        let mut outputs = Vec::with_capacity(job.folded.outputs.len());
        for (mut output, pending) in std::mem::take(&mut job.folded.outputs) {
            if let What::File { digest, .. } = &mut output.what {
                match pending.seen.digest.get() {
                    Some(Ok(found)) => *digest = *found,
                    Some(Err(_)) | None => {
                        return Err(Trouble::refuse(&output.name, "changed while it was stored"));
                    }
                }
            }
            outputs.push(output);
        }
        let changed = job.step.paths.iter();
        let mut changed: Vec<Arc<Path>> = changed
            .filter(|(_, entry)| entry.wrote != Wrote::NOTHING)
            .map(|(id, _)| self.world.path(*id))
            .collect();
        changed.sort_unstable();
        let began = job.step.started.0;
        if let Some((path, why)) = self.world.disturbed(&changed, began.elapsed()) {
            return Err(Trouble::refuse(&Name::of(&path, root), &why));
        }
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        machine::shape().clone_into(&mut job.provenance.topology);
        job.provenance.placement = job.step.placement.clone();
        job.provenance.time = i64::try_from(time).unwrap_or(i64::MAX);
        let record = Record {
            title: job.step.title.clone(),
            deps,
            outputs,
            dirs: std::mem::take(&mut job.folded.dirs),
            chunks: job.step.chunks.clone(),
            stdin: job.step.stdin.clone(),
            status: job.status,
            notes: job.step.notes.iter().cloned().collect(),
            cost: Cost {
                wall_us: micros(job.wall),
                ..job.step.cost
            },
            provenance: job.provenance.clone(),
            command: history::command(&job.step, root),
            inner: job.step.inner.clone(),
            scraps: job.step.scraps.scraps(),
        };
        Ok(Some((key, record)))
    }

    /// What a job finds at the names of its outputs, the engine has put there.
    fn is_own(&self, job: &Job, dep: &Dep) -> bool {
        let (Some(jobs), Some(id)) = (&self.jobs, job.step.job) else {
            return false;
        };
        jobs.owns(id, dep)
    }
}

enum Trouble {
    /// The step may not be cached.
    Refuse(Refusal),
    /// The cache cannot take it.
    Cache(String),
}

impl Trouble {
    fn refuse(name: &crate::base::Name, how: &str) -> Self {
        Self::Refuse(Refusal(format!("{name} {how}")))
    }

    fn of(self, name: &str) -> Self {
        match self {
            Self::Refuse(Refusal(how)) => Self::Refuse(Refusal(format!("{name} {how}"))),
            Self::Cache(why) => Self::Cache(why),
        }
    }
}

/// Stores one file that must be the version that was seen, before and after.
fn insert(cache: &Cache, file: &File, seen: &Seen) -> Result<Digest, Trouble> {
    let is_it = || {
        file.metadata()
            .is_ok_and(|meta| alike(&Identity::of(&meta), &seen.id))
    };
    let changed = || Trouble::Refuse(Refusal("changed while it was stored".to_owned()));
    if !is_it() {
        return Err(changed());
    }
    let (digest, _) = cache
        .insert(file)
        .map_err(|error| Trouble::Cache(error.to_string()))?;
    if is_it() { Ok(digest) } else { Err(changed()) }
}

/// The same content: another name or removal of a name changes only the ctime.
fn alike(a: &Identity, b: &Identity) -> bool {
    Identity { ctime: 0, ..*a } == Identity { ctime: 0, ..*b }
}
