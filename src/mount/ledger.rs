//! Writes down in the workspace's store what commands did in the mount, in the form in which a build under watch
//! is written down. In the background: nobody waits for it but who asks for what is written.

use super::trail::{Act, Acts, Command, Image, Trail};
use crate::base::{
    Access, Cost, Dep, Digest, Kind, Name, Output, Provenance, Record, Seen, Start, State,
};
use crate::disk::Disk;
use crate::record::seen;
use crate::store::graph::{Done, Fate, Noting, Step};
use crate::store::{Durability, Error, Memo, Store, recover};
use crate::world::{hash, same, see};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often is looked for what can be written.
const TICK: Duration = Duration::from_secs(1);
/// For how long a step that goes on has changed nothing when what it did is written.
const QUIET: Duration = Duration::from_secs(2);
/// Larger files are not read to know their contents.
const LARGE: u64 = 256 << 20;
/// For how long a file has not changed when its digest can be kept: its time stamps then tell any change.
const SETTLED: Duration = Duration::from_secs(2);

/// The background thread.
#[derive(Debug)]
pub(super) struct Ledger {
    trail: Arc<Trail>,
    settle: Sender<SyncSender<()>>,
}

impl Ledger {
    /// Starts it. `warn` hears what goes wrong.
    pub(super) fn start(
        trail: Arc<Trail>,
        state: &Path,
        disk: Arc<dyn Disk>,
        warn: impl Fn(String) + Send + 'static,
    ) -> Self {
        let (store, told) = recover::open(state, &disk);
        if let Some(error) = told {
            warn(error.to_string());
        }
        let (settle, wishes) = channel();
        let writer = Writer {
            trail: trail.clone(),
            memo: Memo::on(store.clone(), disk.clone()),
            store,
            disk,
            open: HashMap::new(),
            busy: Duration::ZERO,
            warn: Box::new(warn),
        };
        let _detached = std::thread::spawn(move || writer.run(&wishes));
        Self { trail, settle }
    }

    /// Waits until all that was done so far is written.
    pub(super) fn settle(&self) {
        let (written, wait) = sync_channel(1);
        if self.settle.send(written).is_ok() {
            self.trail.ring();
            // Where the thread has died nothing will be written.
            let _ = wait.recv().is_ok();
        }
    }
}

struct Writer {
    trail: Arc<Trail>,
    store: Option<Arc<Store>>,
    disk: Arc<dyn Disk>,
    memo: Memo,
    /// Commands that were begun in the store.
    open: HashMap<u64, Noting>,
    /// How long the last writing took.
    busy: Duration,
    warn: Box<dyn Fn(String) + Send>,
}

/// What is to be written of a command.
struct Part {
    title: String,
    began: SystemTime,
    wall: Duration,
    /// Steps with the number under which this part of them goes.
    steps: Vec<(Arc<Image>, u32)>,
    is_over: bool,
}

impl Writer {
    fn run(mut self, wishes: &Receiver<SyncSender<()>>) {
        let mut last = Instant::now();
        loop {
            self.trail.wait(TICK);
            let wish = match wishes.try_recv() {
                Ok(wish) => Some(wish),
                Err(std::sync::mpsc::TryRecvError::Empty) => None,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            };
            if wish.is_some() {
                // Ends that have not been told yet.
                self.trail.wait(Duration::ZERO);
            }
            let long = last.elapsed() > QUIET.max(self.busy * 10);
            let begun = Instant::now();
            for id in self.trail.commands() {
                self.write(id, wish.is_some(), long);
            }
            if let Err(error) = self.memo.flush() {
                log::warn!("{error}");
            }
            if long {
                last = Instant::now();
                self.busy = begun.elapsed();
            }
            if let Some(wish) = wish {
                let _gone = wish.send(()).is_ok();
            }
        }
    }

    /// Writes what is to be written of a command: when it is over, when somebody wants to know, and else now
    /// and then.
    fn write(&mut self, id: u64, now: bool, long: bool) {
        let part = self.trail.with(id, |command| part(command, now, long));
        let Some(part) = part.flatten() else {
            return;
        };
        let done: Vec<_> = part
            .steps
            .iter()
            .filter_map(|(image, number)| self.done(image, *number))
            .collect();
        let matters = |done: &Done| {
            let read = |dep: &Dep| dep.access.any(Access::REG);
            !done.record.outputs.is_empty() || done.record.deps.iter().any(read)
        };
        let noting = self.open.remove(&id);
        // Whoever only looks around has done nothing.
        if noting.is_none() && !done.iter().any(matters) {
            return;
        }
        let Some(store) = self.store.clone().filter(|store| store.path().exists()) else {
            return;
        };
        match commit(&store, noting, &part, done) {
            Ok(noting) if !part.is_over => {
                self.open.insert(id, noting);
            }
            Ok(_) => {}
            Err(error) => self.lose(&store, error),
        }
    }

    fn lose(&mut self, store: &Store, error: Error) {
        let text = error.to_string();
        if error.is_loss() {
            let told = recover::set_aside(store.path(), &*self.disk, error);
            (self.warn)(told.unwrap_or_else(|error| error).to_string());
            self.open.clear();
            let (store, _) = recover::open(store.path(), &self.disk);
            self.memo = Memo::on(store.clone(), self.disk.clone());
            self.store = store;
        } else {
            (self.warn)(format!("what commands did is not written down: {text}"));
        }
    }

    /// What a step did, as far as it is not written down yet. None where that is nothing.
    fn done(&self, image: &Image, number: u32) -> Option<Done> {
        let acts = std::mem::take(&mut *image.acts());
        let again = image.noted.swap(true, Ordering::Relaxed);
        if image.is_part() || (again && acts.paths.is_empty()) {
            return None;
        }
        let wall_us = u64::try_from(image.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (deps, outputs) = self.fold(acts);
        Some(Done {
            step: Step {
                number,
                parent: if again {
                    Some(image.number)
                } else {
                    image.parent
                },
                fate: Fate::Ran,
                why: String::new(),
                cause: None,
                began_us: image.began_us,
                wall_us,
                status: 0,
                execution: None,
            },
            start: Start::default(),
            key: image.key,
            record: Record {
                title: image.title.clone(),
                deps,
                outputs,
                cost: Cost {
                    wall_us,
                    ..Cost::default()
                },
                provenance: Provenance {
                    tracer: "mount".to_owned(),
                    rfs: env!("CARGO_PKG_VERSION").to_owned(),
                    ..Provenance::default()
                },
                command: image.run.clone(),
                ..Record::default()
            },
        })
    }

    fn fold(&self, acts: Acts) -> (Vec<Dep>, Vec<Output>) {
        let mut paths: Vec<(PathBuf, Act)> = acts.paths.into_iter().collect();
        paths.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let (mut deps, mut outputs) = (Vec::new(), Vec::new());
        for (path, act) in paths {
            let name = Name::of(&path, self.trail.root());
            let last = act.wrote.then(|| see(&path));
            if let Some(last) = last.filter(|last| !same(&act.first, last)) {
                self.read(&path, &last);
                outputs.extend(seen::output(name.clone(), &last));
            } else if act.wrote && act.first.is_absent() {
                // Made and removed.
                continue;
            }
            if act.access.any(Access::REG) && !act.wrote {
                self.read(&path, &act.first);
            }
            deps.extend(seen::dep(&name, act.access, &act.first));
        }
        rank(&mut deps);
        (deps, outputs)
    }

    /// Has the digest of what was seen be known, if that is still what is there.
    fn read(&self, path: &Path, seen: &Seen) {
        if seen.kind != Kind::File || seen.id.size > LARGE {
            return;
        }
        let known = self.memo.get(&seen.id).map(Ok);
        let digest: Result<Digest, i32> = known.unwrap_or_else(|| {
            let read = hash(path, seen);
            if let (Ok(digest), true) = (read, is_settled(seen)) {
                self.memo.put(seen.id, digest);
            }
            read
        });
        let _known = seen.digest.set(digest).is_ok();
    }
}

fn part(command: &mut Command, now: bool, long: bool) -> (Option<Part>, bool) {
    let is_over = command.alive == 0;
    if !(is_over || now || long) {
        return (None, false);
    }
    let mut steps = Vec::new();
    for image in std::mem::take(&mut command.ended) {
        let number = match image.noted.load(Ordering::Relaxed) {
            true => Trail::number(command),
            false => image.number,
        };
        steps.push((image, number));
    }
    for image in command.running.clone() {
        let wrote = image.acts().wrote;
        if wrote.is_some_and(|wrote| now || wrote.elapsed() > QUIET) {
            let number = match image.noted.load(Ordering::Relaxed) {
                true => Trail::number(command),
                false => image.number,
            };
            steps.push((image, number));
        }
    }
    if steps.is_empty() && !is_over {
        return (None, false);
    }
    let part = Part {
        title: command.title.clone(),
        began: command.began,
        wall: command.since.elapsed(),
        steps,
        is_over,
    };
    (Some(part), is_over)
}

fn commit(
    store: &Store,
    noting: Option<Noting>,
    part: &Part,
    done: Vec<Done>,
) -> Result<Noting, Error> {
    let mut txn = store.begin()?;
    let mut noting = match noting {
        Some(noting) => noting,
        None => {
            let began = part.began.duration_since(UNIX_EPOCH).unwrap_or_default();
            let began = i64::try_from(began.as_secs()).unwrap_or(i64::MAX);
            Noting::start(&mut txn, began, &part.title)?
        }
    };
    noting.steps(&mut txn, done)?;
    if part.is_over {
        // How it ended only its parent is told.
        let wall_us = u64::try_from(part.wall.as_micros()).unwrap_or(u64::MAX);
        noting.end(&mut txn, 0, wall_us)?;
    }
    txn.commit(Durability::Lazy)?;
    Ok(noting)
}

/// Gives those whose time stamps are compared their places.
fn rank(deps: &mut [Dep]) {
    let time = |dep: &Dep| {
        let State::File { mtime, .. } = &dep.state else {
            return None;
        };
        dep.access.any(Access::ORDER).then_some(*mtime)
    };
    let mut times: Vec<_> = deps.iter().filter_map(time).collect();
    times.sort_unstable();
    times.dedup();
    for dep in deps {
        if let Some(place) = time(dep).and_then(|time| times.binary_search(&time).ok()) {
            dep.rank = u32::try_from(place).unwrap_or(u32::MAX);
        }
    }
}

fn is_settled(seen: &Seen) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let changed = seen.id.mtime.max(seen.id.ctime);
    i64::try_from((now.saturating_sub(SETTLED)).as_nanos()).is_ok_and(|limit| changed < limit)
}
