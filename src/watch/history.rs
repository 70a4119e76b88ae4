//! Writes down in the workspace's store what became of each step, in the background: nobody waits for it.
//! What fails here costs answers about this build, nothing else.

use super::close::micros;
use crate::base::{Access, Chunk, Command, Cost, Digest, Kind, Name, Record};
use crate::disk::Disk;
use crate::record::{Step, Wrote, seen};
use crate::store::graph::{Done, Fate, Noting, Step as Went};
use crate::store::pending::{self, Pending};
use crate::store::{Durability, Error, Store, recover};
use crate::world::World;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Deps of steps that wait to be written, at most: they are in memory.
const MANY: usize = 200_000;

/// Bytes of one file, and of all files of a build, that are hashed only to be known here.
const LARGEST: u64 = 4 << 20;
const ALL: u64 = 256 << 20;

/// Where a build is written down.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The workspace's store.
    pub store: Arc<Store>,
    /// What sets it aside.
    pub disk: Arc<dyn Disk>,
    /// The command, for people.
    pub title: String,
}

enum Work {
    Done(Box<Done>),
    Refused(Box<Step>, i32, Duration),
    Write(Option<(i32, u64)>, SyncSender<()>),
}

/// So many ended steps may wait to be written; then whoever ends the next one waits.
const QUEUE: usize = 1024;

/// The background thread; none without a store.
pub(super) struct History {
    queue: Option<SyncSender<Work>>,
    /// Where it is written.
    path: Option<PathBuf>,
    /// That something is about to be written.
    pending: Mutex<Option<Pending>>,
}

impl History {
    pub(super) fn new(to: Option<Destination>, world: Arc<World>) -> Self {
        let path = to.as_ref().map(|to| to.store.path().to_owned());
        let queue = to.map(|to| {
            let (queue, work) = sync_channel(QUEUE);
            let writer = Writer {
                to: Some(to),
                world,
                began: SystemTime::now(),
                noting: None,
                done: Vec::new(),
                n_deps: 0,
                n_hashed: 0,
            };
            let _detached = std::thread::spawn(move || writer.run(&work));
            queue
        });
        Self {
            queue,
            path,
            pending: Mutex::default(),
        }
    }

    /// A step has ended.
    pub(super) fn done(&self, done: Done) {
        self.send(Work::Done(Box::new(done)));
    }

    /// A step has ended that may not be cached, with this exit status.
    pub(super) fn refused(&self, step: Step, status: i32, wall: Duration) {
        self.send(Work::Refused(Box::new(step), status, wall));
    }

    /// Waits until all is written; `ended` tells how the command did.
    pub(super) fn write(&self, ended: Option<(i32, u64)>) {
        let (written, wait) = sync_channel(1);
        self.send(Work::Write(ended, written));
        // Without a thread the sender is gone.
        let _ = wait.recv().is_ok();
        *self.pending() = None;
    }

    /// The command has ended: whoever asks about it from now on waits until it is written.
    pub(super) fn ended(&self) {
        *self.pending() = self.path.as_deref().and_then(pending::announce);
    }

    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, work: Work) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(work).is_ok();
        }
    }
}

struct Writer {
    /// None after it could not be written.
    to: Option<Destination>,
    world: Arc<World>,
    began: SystemTime,
    noting: Option<Noting>,
    done: Vec<Done>,
    n_deps: usize,
    n_hashed: u64,
}

impl Writer {
    fn run(mut self, work: &Receiver<Work>) {
        while let Ok(work) = work.recv() {
            match work {
                Work::Done(done) => self.take(*done),
                Work::Refused(step, status, wall) => {
                    let done = self.unfolded(&step, status, wall);
                    self.take(done);
                }
                Work::Write(ended, written) => {
                    self.write(ended);
                    let _ = written.send(()).is_ok();
                }
            }
        }
    }

    fn take(&mut self, done: Done) {
        self.n_deps += done.record.deps.len();
        self.done.push(done);
        if self.n_deps > MANY {
            self.write(None);
        }
    }

    fn write(&mut self, ended: Option<(i32, u64)>) {
        let done = std::mem::take(&mut self.done);
        self.n_deps = 0;
        let Some(to) = self.to.clone() else {
            return;
        };
        if (done.is_empty() && ended.is_none()) || !to.store.path().exists() {
            // The workspace may be about to be removed.
            return;
        }
        if let Err(error) = self.commit(&to, done, ended) {
            log::warn!("{error}");
            self.to = None;
            if error.is_loss() {
                let told = recover::set_aside(to.store.path(), &*to.disk, error);
                log::warn!("{}", told.unwrap_or_else(|error| error));
            }
        }
    }

    fn commit(
        &mut self,
        to: &Destination,
        done: Vec<Done>,
        ended: Option<(i32, u64)>,
    ) -> Result<(), Error> {
        let mut txn = to.store.begin()?;
        let noting = match &mut self.noting {
            Some(noting) => noting,
            None => {
                let began = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
                let began = i64::try_from(began.as_secs()).unwrap_or(i64::MAX);
                let noting = Noting::start(&mut txn, began, &to.title)?;
                self.noting.insert(noting)
            }
        };
        noting.steps(&mut txn, done)?;
        if let Some((status, wall_us)) = ended {
            noting.end(&mut txn, status, wall_us)?;
        }
        txn.commit(Durability::Lazy)?;
        Ok(())
    }

    /// What is known of a step that was not folded: names, what stat(2) told of them, and the contents of small
    /// files that are still as they were.
    fn unfolded(&mut self, step: &Step, status: i32, wall: Duration) -> Done {
        let world = self.world.clone();
        let root = world.root();
        let mut paths: Vec<_> = step.paths.iter().collect();
        paths.sort_unstable_by_key(|(id, _)| **id);
        let (mut deps, mut outputs) = (Vec::new(), Vec::new());
        for (id, entry) in paths {
            let path = world.path(*id);
            let name = Name::of(&path, root);
            let size = entry.first.id.size;
            let is_wanted = entry.access.has(Access::REG) && entry.first.kind == Kind::File;
            if is_wanted && size <= LARGEST && self.n_hashed < ALL {
                self.n_hashed += size;
                // Failing that, it is not known.
                let _known = world.digest(&path, &entry.first);
            }
            if let Some(dep) = seen::dep(&name, entry.access, &entry.first) {
                deps.push(dep);
            }
            if entry.wrote != Wrote::NOTHING {
                outputs.extend(seen::output(name, &world.last(&path).seen));
            }
        }
        let chunks = step.chunks.iter().map(|chunk| Chunk {
            fd: chunk.fd,
            bytes: chunk.bytes.clone(),
        });
        let record = Record {
            title: step.title.clone(),
            deps,
            outputs,
            chunks: chunks.collect(),
            stdin: step.stdin.clone(),
            status,
            notes: step.notes.iter().cloned().collect(),
            cost: Cost {
                wall_us: micros(wall),
                ..Cost::default()
            },
            command: command(step, root),
            inner: step.inner.clone(),
            scraps: step.scraps.scraps(),
            ..Record::default()
        };
        let why = step.refusal.as_ref();
        let fate = match why {
            Some(_) => Fate::Refused,
            None => Fate::Ran,
        };
        let why = why.map_or_else(String::new, |why| why.0.clone());
        Done {
            step: went(step, fate, why, &record),
            start: step.start.clone(),
            key: step
                .key
                .unwrap_or_else(|| Digest::of(step.title.as_bytes())),
            record,
        }
    }
}

/// How a step that was not served went.
pub(super) fn went(step: &Step, fate: Fate, why: String, record: &Record) -> Went {
    Went {
        number: step.number,
        parent: step.parent.and_then(|at| u32::try_from(at).ok()),
        fate,
        why,
        cause: step.miss.cause().cloned().map(Box::new),
        began_us: step.started.1 / 1000,
        wall_us: record.cost.wall_us,
        status: record.status,
        execution: None,
    }
}

/// What a step is a run of.
pub(super) fn command(step: &Step, root: &Path) -> Command {
    Command {
        program: Name::of(&step.program, root),
        argv: step.argv.clone(),
        cwd: Name::of(&step.cwd, root),
    }
}
