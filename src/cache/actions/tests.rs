//! Records in, out, damaged, and written by many at once.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::base::{Cost, Provenance};
use crate::cache::sound::tests::{dep, file, record};
use crate::disk::{FaultyDisk, RealDisk, Temper};
use std::fs;
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
    assert_eq!(loaded.records, (6..70).rev().map(nth).collect::<Vec<_>>());
    assert!(cache.load(&Digest::of(b"other")).records.is_empty());
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
    let written = || fs::metadata(cache.action_path(&key())).unwrap();
    let before = written().modified().unwrap();
    let slower = Record {
        cost: Cost { wall_us: 99 },
        provenance: Provenance {
            uid: 7,
            ..Provenance::default()
        },
        ..nth(2)
    };
    cache.add(&key(), slower).unwrap();
    assert_eq!(written().modified().unwrap(), before);
    let other_output = Record {
        outputs: vec![file("a.o", b"other")],
        ..nth(1)
    };
    cache.add(&key(), other_output.clone()).unwrap();
    assert_eq!(cache.load(&key()).records, [other_output, nth(2)]);
}

#[test]
fn a_record_that_was_right_is_tried_first() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    for n in 0..4 {
        cache.add(&key(), nth(n)).unwrap();
    }
    cache.promote(&key(), &nth(1)).unwrap();
    cache.promote(&key(), &nth(9)).unwrap();
    assert_eq!(cache.load(&key()).records, [1, 3, 2, 0].map(nth));
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
    cache.add(&key(), nth(1)).unwrap();
    fs::write(
        cache.action_path(&key()),
        encode(&[nth(1), hostile]).unwrap(),
    )
    .unwrap();
    let loaded = cache.load(&key());
    assert!(loaded.records.is_empty() && loaded.damaged.unwrap().contains("../outside"));
}

#[test]
fn a_flipped_or_cut_file_is_told_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.add(&key(), nth(1)).unwrap();
    let path = cache.action_path(&key());
    let whole = fs::read(&path).unwrap();
    let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
    let flips = (0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    });
    for bytes in cuts.chain(flips) {
        fs::write(&path, &bytes).unwrap();
        let loaded = cache.load(&key());
        assert!(loaded.records.is_empty());
        assert!(loaded.damaged.unwrap().contains(path.to_str().unwrap()));
        let again = cache.load(&key());
        assert!(again.records.is_empty() && again.damaged.is_none());
    }
    cache.add(&key(), nth(1)).unwrap();
    assert_eq!(cache.load(&key()).records, [nth(1)]);
}

/// Bytes that pass the digest but were never written by us.
#[test]
fn hostile_payloads_are_errors() {
    let with_header = |payload: &[u8]| {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&Digest::of(payload).0);
        bytes.extend_from_slice(payload);
        bytes
    };
    let whole = encode(&[nth(1)]).unwrap();
    let payload = &whole[HEADER..];
    assert!(decode(&with_header(payload)).is_ok());
    assert!(decode(&with_header(&[payload, b"x"].concat())).is_err());
    // A vector said to have 2^63 elements.
    assert!(
        decode(&with_header(&[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f
        ]))
        .is_err()
    );
    for at in 0..payload.len() {
        assert!(decode(&with_header(&payload[..at])).is_err());
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = payload.to_vec();
            bytes[at] = value;
            if let Ok(records) = decode(&with_header(&bytes)) {
                assert!(records.iter().all(|record| sound(record).is_ok()));
            }
        }
    }
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
            let cache = Cache::open(dir.path(), disk).unwrap();
            let other = Digest::of(b"other");
            let added = [
                cache.add(&key(), nth(2)).is_ok(),
                cache.add(&other, nth(3)).is_ok(),
            ];
            let cache = open(dir.path());
            let one = cache.load(&key());
            assert!(one.damaged.is_none());
            let expected = if added[0] {
                vec![nth(2), nth(1)]
            } else {
                vec![nth(1)]
            };
            assert_eq!(one.records, expected);
            assert_eq!(cache.load(&other).records.len(), usize::from(added[1]));
            cache.add(&key(), nth(4)).unwrap();
            assert_eq!(cache.load(&key()).records[0], nth(4));
            if added == [true, true] {
                assert!(cut > 8, "the workload shrank");
                break;
            }
        }
    }
}
