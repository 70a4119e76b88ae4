//! Executions, digests and names in a store against what the standard library has; crashes.

#![allow(clippy::disallowed_methods)] // damages files

use super::crash::History;
use super::random::Random;
use crate::base::{Access, Chunk, Cost, Dep, Digest, Identity, Name, Output, Provenance};
use crate::base::{Record, Stamp, State, Stdin, What};
use crate::disk::{Disk, RealDisk};
use crate::store::history::{self, Execution};
use crate::store::layout::PAGE;
use crate::store::schema::SCHEMA;
use crate::store::{Durability, Error, Pages, Segment, Snapshot, Store, Txn};
use crate::store::{canonical, census, digests, graph, rebuild};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

pub(super) fn name(n: u64) -> Name {
    match n % 5 {
        0 => Name::from_bytes(format!("/usr/include/sys/header-{n}.h").as_bytes()),
        1 => Name::from_bytes(b""),
        _ => Name::from_bytes(format!("src/part-{}/file-{n}.c", n % 3).as_bytes()),
    }
}

/// A dep in one of all the ways that there are.
fn dep(random: &mut Random, n_names: u64) -> Dep {
    let mode = [0o644, 0, u32::try_from(random.below(2)).unwrap()];
    let digest = Digest::of(&random.below(6).to_le_bytes());
    let state = match random.below(9) {
        0..3 => State::Absent,
        3..5 => State::File {
            mode,
            size: random.below(3),
            mtime: 5,
            digest: Some(digest),
        },
        5 => State::File {
            mode,
            size: 1 << 40,
            mtime: -7,
            digest: None,
        },
        6 => State::Dir {
            mode,
            mtime: 6,
            list: (random.below(2) == 0).then_some(digest),
        },
        7 => State::Link(b"../elsewhere".to_vec(), 0),
        _ if random.below(2) == 0 => State::Other(mode, 0x103),
        _ => State::Hidden(-13),
    };
    let rank = [0, 0, 0, 3, u32::MAX][usize::try_from(random.below(5)).unwrap()];
    Dep {
        name: name(random.below(n_names)),
        access: Access::from_bits(u16::try_from(random.next() & 0xfff).unwrap()),
        state,
        rank,
    }
}

pub(super) fn record(seed: u64, n_deps: u64, n_names: u64) -> Record {
    let mut random = Random(seed);
    let output = |random: &mut Random| Output {
        name: name(random.below(n_names)),
        what: match random.below(3) {
            0 => What::Absent,
            _ => What::File {
                digest: Digest::of(&random.below(6).to_le_bytes()),
                size: random.below(100),
                mode: 0o755,
                in_place: false,
            },
        },
        stamp: Stamp::Now(1),
        owner: None,
    };
    Record {
        title: format!("cc -c {seed}"),
        deps: (0..n_deps).map(|_| dep(&mut random, n_names)).collect(),
        outputs: (0..random.below(4)).map(|_| output(&mut random)).collect(),
        chunks: vec![Chunk {
            fd: 2,
            bytes: vec![b'w'; usize::try_from(random.below(9000)).unwrap()],
        }],
        stdin: Stdin::Null,
        status: i32::try_from(seed % 3).unwrap(),
        notes: vec![],
        cost: Cost {
            wall_us: seed,
            ..Cost::default()
        },
        provenance: Provenance::default(),
        ..Record::default()
    }
}

/// As it comes out of the store.
fn stored(record: &Record) -> Record {
    Record {
        deps: record.deps.iter().map(canonical).collect(),
        ..record.clone()
    }
}

pub(super) fn key(n: u64) -> Digest {
    Digest::of(&n.to_le_bytes())
}

/// Everything: records by key in their order, who wrote, who reads, digests of files.
#[derive(Debug, PartialEq, Default)]
pub(super) struct Contents {
    pub(super) records: BTreeMap<Digest, Vec<Record>>,
    pub(super) memo: BTreeMap<u64, Digest>,
}

const N_FILES: u64 = 40;

pub(super) fn file(ino: u64) -> Identity {
    Identity {
        dev: 1,
        ino,
        size: 3,
        mtime: 1,
        ctime: 2,
    }
}

pub(super) fn read(pages: &Snapshot) -> Result<Contents, Error> {
    let mut state = Contents::default();
    for execution in history::all(pages)? {
        let key = history::facts(pages, execution)?.key;
        if state.records.contains_key(&key) {
            continue;
        }
        let records = history::under(pages, &key)?;
        let records = records.into_iter().map(|one| history::record(pages, one));
        state
            .records
            .insert(key, records.collect::<Result<_, _>>()?);
    }
    for ino in 0..N_FILES {
        if let Some(digest) = digests::get(pages, &file(ino))? {
            state.memo.insert(ino, digest);
        }
    }
    Ok(state)
}

pub(super) fn open(path: &Path) -> Store {
    Store::open(path, SCHEMA, Arc::new(RealDisk)).unwrap()
}

#[derive(Debug, Clone)]
enum Op {
    Add(u64, u64, u64),
    Remove(prop::sample::Index),
    Promote(prop::sample::Index),
    Memo(u64, u64),
    Commit,
    Abort,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_u64, 0..40_u64, prop_oneof![0..6_u64, Just(300)]).prop_map(|(k, s, n)| Op::Add(k, s, n)),
        3 => any::<prop::sample::Index>().prop_map(Op::Remove),
        2 => any::<prop::sample::Index>().prop_map(Op::Promote),
        2 => (0..N_FILES, any::<u64>()).prop_map(|(f, n)| Op::Memo(f, n)),
        2 => Just(Op::Commit),
        1 => Just(Op::Abort),
        1 => Just(Op::Reopen),
    ]
}

/// What the standard library makes of it. Executions by serial number.
#[derive(Debug, Clone, Default)]
struct Model {
    chains: BTreeMap<u64, Vec<(u32, Execution, Record)>>,
    memo: BTreeMap<u64, Digest>,
    serial: u32,
}

impl Model {
    fn nth(&self, index: &prop::sample::Index) -> Option<(u64, usize)> {
        let all: Vec<_> = self
            .chains
            .iter()
            .flat_map(|(key, chain)| (0..chain.len()).map(|place| (*key, place)))
            .collect();
        (!all.is_empty()).then(|| all[index.index(all.len())])
    }

    fn check(&self, pages: &impl Pages) -> Result<(), TestCaseError> {
        for (n, chain) in &self.chains {
            let found = history::under(pages, &key(*n)).unwrap();
            let ids: Vec<_> = chain.iter().map(|(_, id, _)| *id).collect();
            prop_assert_eq!(&found, &ids);
            for (serial, id, record) in chain {
                let found = history::record(pages, *id).unwrap();
                prop_assert_eq!(&found, &stored(record));
                let facts = history::facts(pages, *id).unwrap();
                prop_assert_eq!((facts.serial, facts.key), (*serial, key(*n)));
            }
        }
        let all: Vec<_> = self.chains.values().flatten().collect();
        prop_assert_eq!(history::all(pages).unwrap().len(), all.len());
        for n in 0..12 {
            let name = name(n);
            let mut readers: Vec<_> = all
                .iter()
                .filter(|(_, _, record)| record.deps.iter().any(|dep| dep.name == name))
                .map(|(_, id, _)| *id)
                .collect();
            readers.sort();
            prop_assert_eq!(graph::readers(pages, &name, true).unwrap(), readers);
        }
        for ino in 0..N_FILES {
            let found = digests::get(pages, &file(ino)).unwrap();
            prop_assert_eq!(found, self.memo.get(&ino).copied());
        }
        Ok(())
    }
}

fn apply(txn: &mut Txn<'_>, model: &mut Model, op: &Op) {
    match op {
        Op::Add(n, seed, n_deps) => {
            let record = record(*seed, *n_deps, 12);
            let id = history::add(txn, &key(*n), &record, 1).unwrap();
            graph::note_readers(txn, id).unwrap();
            model.serial += 1;
            let one = (model.serial, id, record);
            model.chains.entry(*n).or_default().insert(0, one);
        }
        Op::Remove(index) => {
            if let Some((n, place)) = model.nth(index) {
                let chain = model.chains.get_mut(&n).unwrap();
                let (_, id, _) = chain.remove(place);
                history::remove(txn, id).unwrap();
            }
        }
        Op::Promote(index) => {
            if let Some((n, place)) = model.nth(index) {
                let chain = model.chains.get_mut(&n).unwrap();
                chain[..=place].rotate_right(1);
                history::promote(txn, chain[0].1, 2).unwrap();
            }
        }
        Op::Memo(ino, n) => {
            let digest = Digest::of(&n.to_le_bytes());
            digests::put(txn, &file(*ino), &digest).unwrap();
            model.memo.insert(*ino, digest);
        }
        Op::Commit | Op::Abort | Op::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_as_in_a_map(ops in vec(op(), 0..60)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let mut store = open(&path);
        let mut model = Model::default();
        for ops in ops.split_inclusive(|op| matches!(op, Op::Commit | Op::Abort | Op::Reopen)) {
            let mut next = model.clone();
            let mut txn = store.begin().unwrap();
            for op in ops {
                apply(&mut txn, &mut next, op);
            }
            next.check(&txn)?;
            match ops.last() {
                Some(Op::Abort) => drop(txn),
                Some(Op::Reopen) => {
                    txn.commit(Durability::Lazy).unwrap();
                    model = next;
                    store = open(&path);
                }
                _ => {
                    txn.commit(Durability::Lazy).unwrap();
                    model = next;
                }
            }
            model.check(&*store.snapshot().unwrap())?;
        }
        // Once all is forgotten, its room is used again.
        let snapshot = store.snapshot().unwrap();
        snapshot.check().unwrap();
        let heap = snapshot.n_pages(Segment(9));
        let mut txn = store.begin().unwrap();
        let all: Vec<_> = model.chains.values().flatten().cloned().collect();
        for (_, id, _) in &all {
            history::remove(&mut txn, *id).unwrap();
        }
        for (_, _, record) in &all {
            history::add(&mut txn, &key(0), record, 1).unwrap();
        }
        prop_assert!(txn.n_pages(Segment(9)) <= heap + 1);
    }
}

/// A store with a few executions.
pub(super) fn sample(path: &Path) -> Contents {
    let store = open(path);
    for round in 0..4 {
        let mut txn = store.begin().unwrap();
        for seed in 0..6 {
            history::add(&mut txn, &key(seed), &record(seed + round, 60, 200), 1).unwrap();
            digests::put(&mut txn, &file(seed), &key(round)).unwrap();
        }
        txn.commit(Durability::Lazy).unwrap();
    }
    read(&store.snapshot().unwrap()).unwrap()
}

#[test]
fn every_crash_leaves_a_whole_history() {
    let mut random = Random(8);
    let mut history = History::new(SCHEMA, read);
    for round in 0..10 {
        let durability = [Durability::Lazy, Durability::Durable][usize::from(round % 3 == 2)];
        history.commit(durability, random.below(3) == 0, |txn| {
            for _ in 0..1 + random.below(3) {
                let record = record(random.below(20), random.below(40), 30);
                history::add(txn, &key(random.below(3)), &record, 1)?;
            }
            if random.below(2) == 0 {
                let all = history::all(txn)?;
                history::remove(
                    txn,
                    all[usize::try_from(random.below(all.len() as u64)).unwrap()],
                )?;
            }
            let digest = Digest::of(&random.next().to_le_bytes());
            digests::put(txn, &file(random.below(N_FILES)), &digest)
        });
    }
    let n_crashes = history.cut_everywhere(9);
    assert!(n_crashes > 300, "{n_crashes}");
}

#[test]
fn deps_cost_few_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let header = |n: u64| Dep {
        name: Name::from_bytes(format!("/usr/include/c++/12/bits/header_{n}.h").as_bytes()),
        access: Access::REG | Access::KIND,
        state: State::File {
            mode: [0o644, 0, 0],
            size: n,
            mtime: 1_700_000_000_000_000_000,
            digest: Some(Digest::of(&n.to_le_bytes())),
        },
        rank: 0,
    };
    let negative = |n: u64| Dep {
        name: Name::from_bytes(format!("/usr/local/include/header_{n}.h").as_bytes()),
        access: Access::KIND,
        state: State::Absent,
        rank: 0,
    };
    let mut bare = record(0, 0, 5);
    bare.chunks.clear();
    let mut txn = store.begin().unwrap();
    // All names and contents first, so that what follows is the cost of the deps alone.
    bare.deps = (0..20_000).map(header).collect();
    bare.deps.extend((0..20_000).map(negative));
    history::add(&mut txn, &key(0), &bare, 1).unwrap();
    let mut random = Random(1);
    let mut measure = |make: &dyn Fn(u64) -> Dep, shared: bool| {
        let before = txn.n_pages(Segment(9)) + txn.n_pages(Segment(10));
        let mut n_deps = 0;
        for n in 0..200 {
            let first = if shared { 0 } else { random.below(19_000) };
            bare.deps = (first..first + 500).map(make).collect();
            if shared {
                bare.deps.insert(250, make(500 + n));
            }
            n_deps += bare.deps.len();
            history::add(&mut txn, &key(n), &bare, 1).unwrap();
        }
        let after = txn.n_pages(Segment(9)) + txn.n_pages(Segment(10));
        let bytes = (after - before) as usize * PAGE;
        bytes as f64 / n_deps as f64
    };
    let (one, other) = (measure(&header, false), measure(&negative, false));
    assert!(one <= 20.0, "{one} bytes a dep");
    assert!(other <= 4.0, "{other} bytes a negative dep");
    let (one, other) = (measure(&header, true), measure(&negative, true));
    assert!(
        one <= 2.0 && other <= 2.0,
        "{one}, {other} bytes a shared dep"
    );
}

#[test]
fn a_compacted_store_says_the_same_in_less_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    sample(&path);
    let store = open(&path);
    let mut txn = store.begin().unwrap();
    let all = history::all(&txn).unwrap();
    for execution in all.iter().step_by(2) {
        history::remove(&mut txn, *execution).unwrap();
    }
    let last = *all.last().unwrap();
    history::promote(&mut txn, last, 3).unwrap();
    let before = read(&txn.commit(Durability::Lazy).unwrap()).unwrap();
    let len = fs::metadata(&path).unwrap().len();
    // Somebody else has it open.
    let other = open(&path);
    let old = other.snapshot().unwrap();
    let copied = rebuild::compact(&store, &disk).unwrap();
    assert_eq!(copied.executions as usize, all.len() / 2);
    assert_eq!((copied.files, copied.lost), (6, 0));
    assert!(fs::metadata(&path).unwrap().len() < len);
    assert_eq!(read(&old).unwrap(), before);
    assert_eq!(read(&store.snapshot().unwrap()).unwrap(), before);
    for store in [&store, &other] {
        let snapshot = store.snapshot().unwrap();
        assert_eq!(read(&snapshot).unwrap().records, before.records);
        assert!(census::census(&snapshot).unwrap().deps > 0);
        let mut txn = store.begin().unwrap();
        digests::put(&mut txn, &file(9), &key(9)).unwrap();
        txn.commit(Durability::Lazy).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
