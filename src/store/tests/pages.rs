//! Pages and states, without tables: a model, all crashes, all damage, several readers.

#![allow(clippy::disallowed_methods)] // damages files

use super::crash::History;
use super::random::Random;
use crate::disk::{FaultyDisk, RealDisk, Temper};
use crate::store::layout::{N_SEGMENTS, PAGE};
use crate::store::{Durability, Error, Pages, PagesMut, Segment, Snapshot, Store, Txn};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const SCHEMA: u32 = 7;

/// The first and the last number of each page that is not zero.
type State = BTreeMap<(u8, u32), (u64, u64)>;

fn segment(n: u64) -> Segment {
    Segment(u8::try_from(n).unwrap())
}

fn read(snapshot: &Snapshot) -> Result<State, Error> {
    let mut state = State::new();
    for n in 0..u8::try_from(N_SEGMENTS).unwrap() {
        for no in 0..snapshot.n_pages(Segment(n)) {
            let at = u64::from(no) * PAGE as u64;
            let first = snapshot.u64_at(Segment(n), at)?;
            let last = snapshot.u64_at(Segment(n), at + PAGE as u64 - 8)?;
            if (first, last) != (0, 0) {
                state.insert((n, no), (first, last));
            }
        }
    }
    Ok(state)
}

fn write(txn: &mut Txn<'_>, n: u8, no: u32, value: u64) -> Result<(), Error> {
    let segment = Segment(n);
    txn.grow(segment, no + 1)?;
    let at = u64::from(no) * PAGE as u64;
    txn.put_u64(segment, at, value)?;
    txn.put_u64(segment, at + PAGE as u64 - 8, value)
}

fn open(path: &Path) -> Store {
    Store::open(path, SCHEMA, Arc::new(RealDisk)).unwrap()
}

#[test]
fn what_was_committed_is_read_and_the_rest_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut random = Random(1);
    let mut model = State::new();
    let mut store = open(&path);
    for round in 0..60 {
        let mut txn = store.begin().unwrap();
        let mut next = model.clone();
        for _ in 0..random.below(30) {
            // Few segments, and far places: page tables of every height.
            let n = u8::try_from(random.below(3)).unwrap();
            let reach = [3, 600, 300_000][usize::from(n)];
            let no = u32::try_from(random.below(reach)).unwrap();
            let value = random.below(4);
            write(&mut txn, n, no, value).unwrap();
            next.insert((n, no), (value, value));
        }
        next.retain(|_, value| *value != (0, 0));
        match round % 4 {
            0 => drop(txn),
            1 => {
                txn.commit(Durability::Durable).unwrap();
                model = next;
            }
            _ => {
                txn.commit(Durability::Lazy).unwrap();
                model = next;
            }
        }
        if round % 7 == 0 {
            store = open(&path);
        }
        let snapshot = store.snapshot().unwrap();
        snapshot.check().unwrap();
        for ((n, no), value) in &model {
            let at = u64::from(*no) * PAGE as u64;
            assert_eq!(snapshot.u64_at(Segment(*n), at).unwrap(), value.0);
        }
    }
    // Far less than was ever written: pages are used again.
    assert!(fs::metadata(&path).unwrap().len() < 3000 * PAGE as u64);
}

#[test]
fn every_crash_leaves_a_whole_state() {
    let mut history = History::new(SCHEMA, read);
    let mut random = Random(2);
    for round in 0..24 {
        let durability = match random.below(3) {
            0 => Durability::Durable,
            _ => Durability::Lazy,
        };
        let reopen = random.below(4) == 0;
        history.commit(durability, reopen, |txn| {
            for _ in 0..1 + random.below(6) {
                let n = u8::try_from(random.below(2)).unwrap();
                let first = [0, 510][usize::from(n)];
                write(
                    txn,
                    n,
                    first + u32::try_from(random.below(4)).unwrap(),
                    round,
                )?;
            }
            Ok(())
        });
    }
    let n_crashes = history.cut_everywhere(3);
    assert!(n_crashes > 500, "{n_crashes}");
    history.store().snapshot().unwrap().check().unwrap();
    history.kill_then_lose_power(|txn| {
        for no in 0..4 {
            let _put = write(txn, 0, no, 1 << 40);
        }
    });
}

/// A store with a durable and a lazy state.
fn sample(path: &Path) -> State {
    let store = open(path);
    for (durability, value) in [(Durability::Durable, 1), (Durability::Lazy, 2)] {
        let mut txn = store.begin().unwrap();
        for no in [0, 1, 5, 600] {
            write(&mut txn, 0, no, value + u64::from(no)).unwrap();
        }
        write(&mut txn, 3, 0, value).unwrap();
        txn.commit(durability).unwrap();
    }
    read(&store.snapshot().unwrap()).unwrap()
}

/// Opens and reads a damaged image: an error value, or the right answer.
fn look(path: &Path) -> Result<State, Error> {
    let store = Store::open(path, SCHEMA, Arc::new(RealDisk))?;
    let snapshot = store.snapshot()?;
    let state = read(&snapshot)?;
    snapshot.check()?;
    Ok(state)
}

#[test]
fn no_damaged_page_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let right = sample(&path);
    let whole = fs::read(&path).unwrap();
    let n_pages = whole.len() / PAGE;
    let image = dir.path().join("image");
    let mut n_found = 0;
    let mut try_image = |bytes: &[u8], what: &str| {
        fs::write(&image, bytes).unwrap();
        match look(&image) {
            Ok(state) => assert_eq!(state, right, "{what}"),
            Err(_) => n_found += 1,
        }
    };
    let page = |n: usize| n * PAGE..(n + 1) * PAGE;
    let mut random = Random(5);
    for n in 0..n_pages {
        let mut bytes = whole.clone();
        bytes[page(n)].fill(0);
        try_image(&bytes, &format!("page {n} zeroed"));
        for _ in 0..8 {
            let mut bytes = whole.clone();
            let at = n * PAGE + usize::try_from(random.below(PAGE as u64)).unwrap();
            bytes[at] ^= 1 << random.below(8);
            try_image(&bytes, &format!("byte {at} flipped"));
        }
        for other in n + 1..n_pages {
            let mut bytes = whole.clone();
            bytes[page(n)].copy_from_slice(&whole[page(other)]);
            bytes[page(other)].copy_from_slice(&whole[page(n)]);
            try_image(&bytes, &format!("pages {n} and {other} swapped"));
        }
        try_image(&whole[..n * PAGE], &format!("cut before page {n}"));
        try_image(&whole[..n * PAGE + 100], &format!("cut in page {n}"));
    }
    assert!(n_found > n_pages, "{n_found}");
}

#[test]
fn a_store_is_made_whole_or_not_at_all() {
    let mut n_ops = usize::MAX;
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let disk = Arc::new(FaultyDisk::new(at, Temper::Dead));
        if Store::open(&path, SCHEMA, disk.clone()).is_ok() {
            n_ops = disk.count();
        }
        assert_eq!(look(&path).unwrap(), State::new(), "cut at {at}");
        if at >= n_ops {
            break;
        }
    }
}

#[test]
fn a_failed_write_latches_and_the_last_state_is_still_read() {
    let mut n_failures = 0;
    for at in 0..40 {
        for temper in [
            Temper::Once(libc::ENOSPC),
            Temper::Torn(libc::EIO),
            Temper::Dead,
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store");
            let disk = Arc::new(FaultyDisk::new(usize::MAX, temper));
            let store = Store::open(&path, SCHEMA, disk.clone()).unwrap();
            let mut txn = store.begin().unwrap();
            write(&mut txn, 0, 0, 1).unwrap();
            txn.commit(Durability::Durable).unwrap();
            let old = read(&store.snapshot().unwrap()).unwrap();
            disk.fail_after(at);
            let change = || -> Result<State, Error> {
                let mut txn = store.begin()?;
                write(&mut txn, 0, 0, 2)?;
                write(&mut txn, 1, 600, 2)?;
                read(&*txn.commit(Durability::Durable)?)
            };
            match change() {
                Ok(new) => assert_eq!(look(&path).unwrap(), new),
                Err(Error::Disk(error)) => {
                    n_failures += 1;
                    // One whole state: after the slot was written, its sync may still fail.
                    let found = read(&store.snapshot().unwrap()).unwrap();
                    let new = State::from([((0, 0), (2, 2)), ((1, 600), (2, 2))]);
                    assert!([&old, &new].contains(&&found), "{at}: {found:?}");
                    // What fails before anything was written does no harm.
                    if error.op != "flock" && error.op != "open" {
                        let next = store.begin();
                        assert!(matches!(next, Err(Error::Latched(_))), "{at}: {next:?}");
                    }
                    look(&path).unwrap();
                }
                Err(error) => panic!("{at}: {error}"),
            }
        }
    }
    assert!(n_failures >= 15, "{n_failures}");
}

#[test]
fn a_reader_keeps_its_state_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let right = sample(&path);
    // Its own descriptors, as if it were another process.
    let reader = open(&path);
    let old = reader.snapshot().unwrap();
    let writer = open(&path);
    for round in 0..50 {
        let mut txn = writer.begin().unwrap();
        for no in 0..20 {
            write(&mut txn, 0, no, 100 + round).unwrap();
        }
        let durability = [Durability::Lazy, Durability::Durable][usize::from(round % 5 == 4)];
        txn.commit(durability).unwrap();
        assert_eq!(read(&old).unwrap(), right);
    }
    // Two states in turn, and the one that is being read.
    let len = fs::metadata(&path).unwrap().len();
    assert!(len < 250 * PAGE as u64, "{len}");
    let fresh = open(&path).snapshot().unwrap();
    assert_eq!(fresh.u64_at(segment(0), 0).unwrap(), 149);
    assert_eq!(reader.snapshot().unwrap().generation(), fresh.generation());
    old.check().unwrap();
}

#[test]
fn readers_and_writers_in_threads_see_whole_states() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    open(&path);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let store = open(&path);
            scope.spawn(move || {
                for round in 0..100_u64 {
                    let mut txn = store.begin().unwrap();
                    let value = txn.u64_at(segment(0), 0).unwrap_or(0) + 1;
                    for no in [0, 1, 2, 700] {
                        write(&mut txn, 0, no, value).unwrap();
                    }
                    let durable = (round + writer) % 16 == 0;
                    let durability = [Durability::Lazy, Durability::Durable][usize::from(durable)];
                    txn.commit(durability).unwrap();
                }
            });
        }
        for _ in 0..2 {
            let store = open(&path);
            scope.spawn(move || {
                let mut last = 0;
                while last < 200 {
                    let snapshot = store.snapshot().unwrap();
                    let state = read(&snapshot).unwrap();
                    let values: Vec<_> = state.values().collect();
                    assert!(
                        values.windows(2).all(|pair| pair[0] == pair[1]),
                        "{state:?}"
                    );
                    let value = values.first().map_or(0, |value| value.0);
                    assert!(value >= last);
                    last = value;
                }
            });
        }
    });
}

#[test]
fn a_replaced_file_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    sample(&path);
    let store = open(&path);
    let old = store.snapshot().unwrap();
    drop(store.begin().unwrap());
    Store::set_aside(&path, &RealDisk).unwrap();
    assert!(!path.exists());
    let mut txn = store.begin().unwrap();
    write(&mut txn, 2, 0, 9).unwrap();
    txn.commit(Durability::Lazy).unwrap();
    assert_eq!(look(&path).unwrap(), State::from([((2, 0), (9, 9))]));
    old.check().unwrap();
}

#[test]
fn who_waits_in_vain_is_told_for_whom() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (one, two) = (open(&path), open(&path));
    let txn = one.begin().unwrap();
    let error = two.begin().unwrap_err().to_string();
    let id = std::process::id();
    assert!(error.contains(&format!("process {id} (")), "{error}");
    drop(txn);
    drop(two.begin().unwrap());
}

#[test]
fn other_formats_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    open(&path);
    let newer = Store::open(&path, SCHEMA - 1, Arc::new(RealDisk)).unwrap_err();
    assert!(
        matches!(newer, Error::Newer { found: SCHEMA, .. }),
        "{newer}"
    );
    let older = Store::open(&path, SCHEMA + 1, Arc::new(RealDisk)).unwrap_err();
    assert!(
        matches!(older, Error::Older { found: SCHEMA, .. }),
        "{older}"
    );
    fs::write(&path, "something else").unwrap();
    assert!(matches!(look(&path), Err(Error::Damaged { .. })));
    fs::write(&path, "").unwrap();
    assert!(matches!(look(&path), Err(Error::Damaged { .. })));
}
