//! The memo within one process and from one to the next.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::disk::{FaultyDisk, RealDisk, Temper};
use std::fs;

fn identity(ino: u64, mtime: i64) -> Identity {
    Identity {
        dev: 1,
        ino,
        size: 3,
        mtime,
        ctime: -mtime,
    }
}

fn digest(n: u64) -> Digest {
    Digest::of(&n.to_le_bytes())
}

fn open(dir: &Path) -> Memo {
    let (memo, warnings) = Memo::open(dir, Arc::new(RealDisk));
    assert!(warnings.is_empty(), "{warnings:?}");
    memo
}

#[test]
fn what_was_flushed_is_recalled() {
    let dir = tempfile::tempdir().unwrap();
    let memo = open(dir.path());
    memo.put(identity(1, i64::MIN + 1), digest(1));
    memo.put(identity(2, 7), digest(2));
    assert_eq!(memo.get(&identity(2, 7)), Some(digest(2)));
    memo.flush().unwrap();
    memo.put(identity(3, 7), digest(3));
    let memo = open(dir.path());
    assert_eq!(memo.get(&identity(1, i64::MIN + 1)), Some(digest(1)));
    assert_eq!(memo.get(&identity(2, 7)), Some(digest(2)));
    assert_eq!(memo.get(&identity(3, 7)), None);
}

#[test]
fn a_changed_file_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let memo = open(dir.path());
    memo.put(identity(1, 7), digest(1));
    assert_eq!(memo.get(&identity(1, 8)), None);
    let grown = Identity {
        size: 4,
        ..identity(1, 7)
    };
    assert_eq!(memo.get(&grown), None);
}

#[test]
fn what_is_known_already_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let memo = open(dir.path());
    for _ in 0..3 {
        memo.put(identity(1, 7), digest(1));
        memo.flush().unwrap();
    }
    let len = fs::metadata(dir.path().join("memo")).unwrap().len();
    assert_eq!(len, 16 + 8 + ENTRY as u64);
}

#[test]
fn superseded_entries_are_dropped_by_a_rewrite_of_all_writers_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (memo, other) = (open(dir.path()), open(dir.path()));
    other.put(identity(1 << 40, 1), digest(0));
    other.flush().unwrap();
    for round in 0..5 {
        for ino in 0..1000 {
            memo.put(identity(ino, round), digest(ino));
        }
        memo.flush().unwrap();
    }
    let len = fs::metadata(dir.path().join("memo")).unwrap().len();
    assert!(len < 2000 * ENTRY as u64, "{len}");
    let memo = open(dir.path());
    assert_eq!(memo.len(), 1001);
    assert_eq!(memo.get(&identity(1 << 40, 1)), Some(digest(0)));
    assert_eq!(memo.get(&identity(999, 4)), Some(digest(999)));
}

#[test]
fn damage_is_told_and_costs_only_what_was_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let memo = open(dir.path());
    for ino in 0..3 {
        memo.put(identity(ino, 1), digest(ino));
        memo.flush().unwrap();
    }
    let path = dir.path().join("memo");
    let mut bytes = fs::read(&path).unwrap();
    bytes[16 + 8 + ENTRY + 8 + 5] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (memo, warnings) = Memo::open(dir.path(), Arc::new(RealDisk));
    assert_eq!(warnings.len(), 1);
    assert_eq!(memo.get(&identity(0, 1)), Some(digest(0)));
    assert_eq!(memo.get(&identity(1, 1)), None);
    assert_eq!(memo.get(&identity(2, 1)), Some(digest(2)));
}

#[test]
fn a_place_that_cannot_be_used_is_told_and_forgets() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("memo")).unwrap();
    let (memo, warnings) = Memo::open(dir.path(), Arc::new(RealDisk));
    assert_eq!(warnings.len(), 1);
    memo.put(identity(1, 1), digest(1));
    memo.flush().unwrap();
    assert_eq!(memo.get(&identity(1, 1)), Some(digest(1)));
}

#[test]
fn a_full_disk_forgets_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for cut in 0.. {
        let disk = Arc::new(FaultyDisk::new(cut, Temper::Torn(libc::ENOSPC)));
        let (memo, _) = Memo::open(dir.path(), disk);
        memo.put(identity(7, i64::try_from(cut).unwrap()), digest(7));
        let flushed = memo.flush().is_ok();
        let memo = open(dir.path());
        assert_eq!(
            memo.get(&identity(7, i64::try_from(cut).unwrap()))
                .is_some(),
            flushed
        );
        if flushed {
            assert!(cut > 1);
            break;
        }
    }
}
