//! Records in, out, damaged, and written by many at once.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::base::{Cost, Provenance};
use crate::cache::sound::tests::{dep, file, record};
use crate::disk::{FaultyDisk, RealDisk, Temper};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn open(dir: &Path) -> Cache {
    Cache::open(dir, Arc::new(RealDisk)).unwrap()
}

fn key() -> Digest {
    Digest::of(b"key")
}

/// A record that needs content number `n`.
fn nth(n: u8) -> Record {
    Record {
        deps: vec![dep("a.c", &[n])],
        outputs: vec![file("a.o", &[n])],
        ..record()
    }
}

#[test]
fn records_come_back_newest_first_and_few() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    assert!(cache.load(&key()).records.is_empty());
    for n in 0..70 {
        cache.add(&key(), nth(n)).unwrap();
    }
    let loaded = cache.load(&key());
    assert!(loaded.damaged.is_none());
    assert_eq!(
        loaded.records,
        (6..70).rev().map(nth).map(Arc::new).collect::<Vec<_>>()
    );
    assert!(cache.load(&Digest::of(b"other")).records.is_empty());
}

#[test]
fn of_many_records_the_oldest_are_remembered_in_brief() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let printed = |n: u16| Record {
        deps: vec![dep("conftest.c", &n.to_le_bytes()), dep("/usr/lib/x", b"x")],
        outputs: vec![file("conftest.o", &n.to_le_bytes())],
        status: i32::from(n % 2),
        ..record()
    };
    let n_all = 600 + u16::try_from(MAX_SMALL_RECORDS).unwrap();
    let records: Vec<(Digest, Record)> = (0..n_all).map(|n| (key(), printed(n))).collect();
    for some in records.chunks(100) {
        cache.add_all(some.to_vec());
    }
    // Who looks for something to serve sees none of them.
    assert_eq!(cache.load(&key()).records.len(), MAX_SMALL_RECORDS);
    let state = cache.index().0.unwrap().snapshot().unwrap();
    let brief = history::under(&*state, &history::brief(&key())).unwrap();
    assert_eq!(brief.len(), MAX_BRIEF);
    for (n, one) in (0..600_u16).rev().zip(brief) {
        let record = history::record(&*state, one).unwrap();
        assert_eq!(record.deps, [dep("conftest.c", &n.to_le_bytes())], "{n}");
        assert_eq!(record.status, i32::from(n % 2));
        assert_eq!(record.chunks, printed(n).chunks);
        // So that no content is kept for it.
        assert!(record.outputs.is_empty());
        assert!(sound(&record).is_ok());
    }
}

#[test]
fn records_that_come_together_are_kept_as_one_by_one() {
    let (one, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, many) = (open(one.path()), open(many.path()));
    let other = Digest::of(b"other");
    let unsound = Record {
        outputs: vec![file("../x", &[1])],
        ..nth(1)
    };
    let again = Record {
        status: 3,
        ..nth(2)
    };
    let all = vec![
        (key(), nth(1)),
        (key(), nth(2)),
        (key(), unsound),
        (other, nth(7)),
        (key(), again),
        (key(), nth(1)),
    ];
    let by_one: Vec<bool> = all
        .iter()
        .map(|(key, record)| one.add(key, record.clone()).is_ok())
        .collect();
    let together = many.add_all(all).into_iter();
    let together: Vec<bool> = together.map(|added| added.is_ok()).collect();
    assert_eq!(by_one, [true, true, false, true, true, true]);
    assert_eq!(together, by_one);
    for key in [key(), other] {
        assert_eq!(many.load(&key).records, one.load(&key).records);
    }
    assert_eq!(many.load(&key()).records[1].status, 3);
    assert_eq!(many.load(&key()).records.len(), 2);
    assert!(many.add_all(Vec::new()).is_empty());
}

#[test]
fn few_of_many_inputs_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let large = |n: u8| {
        let more = (0..MAX_DEPS / 4).map(|i| dep(&format!("{i}.h"), &[n]));
        Record {
            deps: nth(n).deps.into_iter().chain(more).collect(),
            ..nth(n)
        }
    };
    for n in 0..12 {
        cache.add(&key(), large(n)).unwrap();
    }
    let n_kept = cache.load(&key()).records.len();
    assert_eq!(n_kept, MAX_RECORDS);
}

#[test]
fn one_record_for_the_same_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.add(&key(), nth(1)).unwrap();
    cache.add(&key(), nth(2)).unwrap();
    let written = || fs::read(dir.path().join("index")).unwrap();
    let before = written();
    let slower = Record {
        cost: Cost {
            wall_us: 99,
            ..Cost::default()
        },
        provenance: Provenance {
            uid: 7,
            ..Provenance::default()
        },
        ..nth(2)
    };
    cache.add(&key(), slower).unwrap();
    assert!(written() == before);
    let other_output = Record {
        outputs: vec![file("a.o", b"other")],
        ..nth(1)
    };
    cache.add(&key(), other_output.clone()).unwrap();
    assert_eq!(
        cache.load(&key()).records,
        [other_output, nth(2)].map(Arc::new)
    );
}

#[test]
fn an_unsound_record_is_neither_stored_nor_believed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let hostile = Record {
        outputs: vec![file("../outside", b"")],
        ..record()
    };
    let error = cache.add(&key(), hostile.clone()).unwrap_err();
    assert!(error.to_string().contains("../outside"));
    // Written by somebody who did not look.
    let (store, _) = cache.index();
    let mut txn = store.as_ref().unwrap().begin().unwrap();
    history::add(&mut txn, &key(), &hostile, 0).unwrap();
    txn.commit(Durability::Lazy).unwrap();
    let loaded = cache.load(&key());
    assert!(loaded.records.is_empty() && loaded.damaged.unwrap().contains("index.damaged"));
    cache.add(&key(), nth(1)).unwrap();
    assert_eq!(cache.load(&key()).records, [Arc::new(nth(1))]);
}

#[test]
fn a_damaged_index_is_told_of_once() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).add(&key(), nth(1)).unwrap();
    let path = dir.path().join("index");
    let whole = fs::read(&path).unwrap();
    let cuts = (0..whole.len())
        .step_by(1000)
        .map(|len| whole[..len].to_vec());
    let zeroed = (0..whole.len() / 4096).map(|page| {
        let mut bytes = whole.clone();
        bytes[page * 4096..][..4096].fill(0);
        bytes
    });
    let mut n_told = 0;
    for bytes in cuts.chain(zeroed) {
        fs::write(&path, &bytes).unwrap();
        let cache = open(dir.path());
        let loaded = cache.load(&key());
        if let Some(told) = loaded.damaged {
            assert!(loaded.records.is_empty());
            assert!(told.contains(path.to_str().unwrap()), "{told}");
            n_told += 1;
            let again = cache.load(&key());
            assert!(again.records.is_empty() && again.damaged.is_none());
        } else {
            assert_eq!(loaded.records, [Arc::new(nth(1))]);
        }
        cache.add(&key(), nth(1)).unwrap();
        assert_eq!(open(dir.path()).load(&key()).records, [Arc::new(nth(1))]);
    }
    assert!(n_told > 20, "{n_told}");
}

#[test]
fn an_index_that_goes_away_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cache");
    let cache = open(&root);
    cache.add(&key(), nth(1)).unwrap();
    fs::remove_file(root.join("index")).unwrap();
    assert!(cache.load(&key()).records.is_empty());
    cache.add(&key(), nth(2)).unwrap();
    assert_eq!(cache.load(&key()).records, [Arc::new(nth(2))]);
    fs::remove_dir_all(&root).unwrap();
    cache.add(&key(), nth(3)).unwrap();
    assert_eq!(cache.load(&key()).records, [Arc::new(nth(3))]);
}

#[test]
fn writers_do_not_lose_each_others_records() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..10_u8 {
        let key = Digest::of(&[round]);
        thread_each(&|n| open(dir.path()).add(&key, nth(n)).unwrap());
        let mut firsts: Vec<_> = open(dir.path())
            .load(&key)
            .records
            .iter()
            .map(|record| format!("{:?}", record.deps))
            .collect();
        firsts.sort();
        let mut expected: Vec<_> = (0..8).map(|n| format!("{:?}", nth(n).deps)).collect();
        expected.sort();
        assert_eq!(firsts, expected);
    }
}

fn thread_each(work: &(dyn Fn(u8) + Sync)) {
    std::thread::scope(|scope| {
        for n in 0..8 {
            scope.spawn(move || work(n));
        }
    });
}

#[test]
fn cut_at_every_operation() {
    let tempers = [
        Temper::Once(libc::ENOSPC),
        Temper::Torn(libc::EIO),
        Temper::Dead,
    ];
    for temper in tempers {
        for cut in 0.. {
            let dir = tempfile::tempdir().unwrap();
            open(dir.path()).add(&key(), nth(1)).unwrap();
            let disk = Arc::new(FaultyDisk::new(cut, temper));
            let Ok(cache) = Cache::open(dir.path(), disk) else {
                continue;
            };
            let other = Digest::of(b"other");
            let added = [
                cache.add(&key(), nth(2)).is_ok(),
                cache.add(&other, nth(3)).is_ok(),
            ];
            let cache = open(dir.path());
            let one = cache.load(&key());
            assert!(one.damaged.is_none());
            let records = |ns: &[u8]| ns.iter().map(|n| Arc::new(nth(*n))).collect::<Vec<_>>();
            let (old, new) = (records(&[1]), records(&[2, 1]));
            // The second copy of a slot may fail when the first is already believed.
            assert!(
                one.records == new || !added[0] && one.records == old,
                "{cut}"
            );
            assert!(cache.load(&other).records.len() >= usize::from(added[1]));
            cache.add(&key(), nth(4)).unwrap();
            assert_eq!(cache.load(&key()).records[0], nth(4).into());
            if added == [true, true] {
                assert!(cut > 8, "the workload shrank");
                break;
            }
        }
    }
}
