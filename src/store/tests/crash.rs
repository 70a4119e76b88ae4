//! A disk that writes down what is done to it, and what may be left of that after a crash.

#![allow(clippy::disallowed_methods)] // makes images of what a crash leaves

use super::random::Random;
use crate::disk::{self, At, Disk, Fault};
use crate::store::layout::{Boot, PAGE};
use crate::store::{Durability, Error, Snapshot, Store, Txn};
use std::fmt::Debug;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// One thing done to the store's file.
#[derive(Debug, Clone)]
enum Op {
    Write(u64, Vec<u8>),
    Sync,
}

/// Does what it is asked for, and writes it down.
#[derive(Debug, Default)]
struct Journal(Mutex<Vec<Op>>);

impl Journal {
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Disk for Journal {
    fn fault(&self, _: &'static str, _: usize) -> Option<Fault> {
        None
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> disk::Result<()> {
        let op = Op::Write(offset, bytes.to_vec());
        self.0.lock().unwrap().push(op);
        file.write_all_at(bytes, offset).at("write", path)
    }

    fn sync(&self, _: &File, _: &Path) -> disk::Result<()> {
        self.0.lock().unwrap().push(Op::Sync);
        Ok(())
    }
}

/// A commit: when it began and ended, and what a reader then sees.
#[derive(Debug)]
struct Commit<S> {
    begin: usize,
    end: usize,
    durability: Durability,
    state: S,
}

/// What a crash leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temper {
    /// The process was killed: everything, and a part of the last write.
    Killed,
    /// Power was lost: nothing.
    Dropped,
    /// Power was lost, after everything had reached the disk.
    Kept,
    /// Power was lost: of each sector one cannot know.
    Torn(u64),
}

const BOOTS: [Boot; 2] = [[1; 16], [2; 16]];

/// A history of commits, to be cut everywhere.
pub(in crate::store) struct History<S> {
    dir: tempfile::TempDir,
    journal: Arc<Journal>,
    store: Store,
    schema: u32,
    base: Vec<u8>,
    commits: Vec<Commit<S>>,
    read: fn(&Snapshot) -> Result<S, Error>,
}

impl<S: PartialEq + Debug> History<S> {
    pub(in crate::store) fn new(schema: u32, read: fn(&Snapshot) -> Result<S, Error>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let journal = Arc::new(Journal::default());
        let store = Store::open_at_boot(&path, schema, journal.clone(), BOOTS[0]).unwrap();
        journal.0.lock().unwrap().clear();
        let state = read(&store.snapshot().unwrap()).unwrap();
        let first = Commit {
            begin: 0,
            end: 0,
            durability: Durability::Durable,
            state,
        };
        Self {
            base: fs::read(&path).unwrap(),
            commits: vec![first],
            dir,
            journal,
            store,
            schema,
            read,
        }
    }

    /// Commits a change, and has the store opened anew if `reopen`.
    pub(in crate::store) fn commit(
        &mut self,
        durability: Durability,
        reopen: bool,
        change: impl FnOnce(&mut Txn<'_>) -> Result<(), Error>,
    ) {
        if reopen {
            let path = self.dir.path().join("store");
            self.store =
                Store::open_at_boot(&path, self.schema, self.journal.clone(), BOOTS[0]).unwrap();
        }
        let begin = self.journal.len();
        let mut txn = self.store.begin().unwrap();
        change(&mut txn).unwrap();
        let state = (self.read)(&txn.commit(durability).unwrap()).unwrap();
        self.commits.push(Commit {
            begin,
            end: self.journal.len(),
            durability,
            state,
        });
    }

    pub(in crate::store) fn store(&self) -> &Store {
        &self.store
    }

    /// Cuts the history at every operation in every temper. Gives the number of crashes.
    pub(in crate::store) fn cut_everywhere(&self, seed: u64) -> usize {
        let ops = self.journal.0.lock().unwrap().clone();
        let path = self.dir.path().join("image");
        let mut n_crashes = 0;
        for cut in 0..=ops.len() {
            let seed = seed ^ cut as u64;
            let tempers = [
                Temper::Killed,
                Temper::Dropped,
                Temper::Kept,
                Temper::Torn(seed),
                Temper::Torn(!seed),
            ];
            for temper in tempers {
                let image = image(&self.base, &ops, cut, temper);
                let what = format!("cut {cut} of {}, {temper:?}", ops.len());
                self.crash(&path, &image, cut, temper, &what);
                n_crashes += 1;
            }
        }
        n_crashes
    }

    /// Kills the writer at every operation, lets another one go on, and has the power fail then.
    pub(in crate::store) fn kill_then_lose_power(&self, change: fn(&mut Txn<'_>)) {
        let ops = self.journal.0.lock().unwrap().clone();
        let path = self.dir.path().join("image");
        for cut in 0..=ops.len() {
            fs::write(&path, image(&self.base, &ops, cut, Temper::Kept)).unwrap();
            let journal = Arc::new(Journal::default());
            let next = Store::open_at_boot(&path, self.schema, journal.clone(), BOOTS[0]).unwrap();
            for _ in 0..3 {
                let mut txn = next.begin().unwrap();
                change(&mut txn);
                txn.commit(Durability::Lazy).unwrap();
            }
            let mut all = ops[..cut].to_vec();
            all.extend(journal.0.lock().unwrap().iter().cloned());
            for temper in [Temper::Dropped, Temper::Torn(cut as u64)] {
                let what = format!("killed at {cut}, then {temper:?}");
                fs::write(&path, image(&self.base, &all, all.len(), temper)).unwrap();
                let disk = Arc::new(Journal::default());
                let store = Store::open_at_boot(&path, self.schema, disk, BOOTS[1])
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                let snapshot = store.snapshot().unwrap();
                let found =
                    (self.read)(&snapshot).unwrap_or_else(|error| panic!("{what}: {error}"));
                let durable = |c: &&Commit<S>| c.durability == Durability::Durable;
                let begun = self
                    .commits
                    .iter()
                    .filter(durable)
                    .filter(|c| c.begin <= cut);
                let last = begun.clone().rfind(|c| c.end <= cut);
                let flying = begun.clone().find(|c| cut < c.end);
                let allowed = [last, flying].map(|c| c.map(|c| &c.state));
                assert!(allowed.contains(&Some(&found)), "{what}: found {found:?}");
            }
        }
    }

    fn crash(&self, path: &Path, image: &[u8], cut: usize, temper: Temper, what: &str) {
        fs::write(path, image).unwrap();
        let killed = temper == Temper::Killed;
        let boot = BOOTS[usize::from(!killed)];
        // Which does not really sync.
        let disk = Arc::new(Journal::default());
        let store = Store::open_at_boot(path, self.schema, disk, boot)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let snapshot = store.snapshot().unwrap();
        snapshot
            .check()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = (self.read)(&snapshot).unwrap_or_else(|error| panic!("{what}: {error}"));
        let counts = |c: &&Commit<S>| killed || c.durability == Durability::Durable;
        let last = self.commits.iter().filter(counts).rfind(|c| c.end <= cut);
        let flying = self
            .commits
            .iter()
            .filter(counts)
            .find(|c| c.begin <= cut && cut < c.end);
        let allowed = [last, flying].map(|c| c.map(|c| &c.state));
        assert!(allowed.contains(&Some(&found)), "{what}: found {found:?}");

        // And it goes on from there.
        drop(snapshot);
        for durability in [Durability::Lazy, Durability::Durable] {
            let txn = store.begin().unwrap();
            let snapshot = txn.commit(durability).unwrap();
            snapshot
                .check()
                .unwrap_or_else(|error| panic!("{what}, then: {error}"));
            assert_eq!((self.read)(&snapshot).unwrap(), found, "{what}, then");
        }
    }
}

/// The file after a crash in the middle of operation number `cut`.
fn image(base: &[u8], ops: &[Op], cut: usize, temper: Temper) -> Vec<u8> {
    let mut image = base.to_vec();
    let synced = match temper {
        Temper::Killed | Temper::Kept => cut,
        Temper::Dropped | Temper::Torn(_) => {
            let done = &ops[..cut];
            done.iter()
                .rposition(|op| matches!(op, Op::Sync))
                .unwrap_or(0)
        }
    };
    for op in &ops[..synced] {
        if let Op::Write(offset, bytes) = op {
            put(&mut image, *offset, bytes);
        }
    }
    match temper {
        Temper::Killed => {
            if let Some(Op::Write(offset, bytes)) = ops.get(cut) {
                put(&mut image, *offset, &bytes[..bytes.len() / 2]);
            }
        }
        Temper::Kept | Temper::Dropped => {}
        Temper::Torn(seed) => {
            let mut random = Random(seed);
            for op in &ops[synced..ops.len().min(cut + 1)] {
                let Op::Write(offset, bytes) = op else {
                    continue;
                };
                for (index, sector) in bytes.chunks(512).enumerate() {
                    if random.below(2) == 0 {
                        put(&mut image, offset + index as u64 * 512, sector);
                    }
                }
            }
        }
    }
    // The length of a file is what its last page needs.
    let len = image.len().next_multiple_of(PAGE);
    image.resize(len, 0);
    image
}

fn put(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = usize::try_from(offset).unwrap();
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}
