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
    assert_eq!(memo.get(&identity(2, 7)), Some(digest(2)));
    memo.sync().unwrap();
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
    for _ in 0..2 {
        assert_eq!(memo.get(&identity(1, 8)), None);
        let grown = Identity {
            size: 4,
            ..identity(1, 7)
        };
        assert_eq!(memo.get(&grown), None);
        memo.flush().unwrap();
    }
}

#[test]
fn what_is_known_already_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let memo = open(dir.path());
    let mut contents = Vec::new();
    for _ in 0..3 {
        memo.put(identity(1, 7), digest(1));
        memo.flush().unwrap();
        contents.push(fs::read(dir.path().join("index")).unwrap());
    }
    assert!(contents.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn writers_do_not_lose_each_others_entries() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let dir = dir.path();
            scope.spawn(move || {
                let memo = open(dir);
                for n in 0..20 {
                    memo.put(identity(writer * 100 + n, 1), digest(n));
                    memo.flush().unwrap();
                }
            });
        }
    });
    let memo = open(dir.path());
    for writer in 0..4 {
        for n in 0..20 {
            let found = memo.get(&identity(writer * 100 + n, 1));
            assert_eq!(found, Some(digest(n)));
        }
    }
}

#[test]
fn damage_is_told_once_and_nothing_of_it_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let memo = open(dir.path());
    for ino in 0..3 {
        memo.put(identity(ino, 1), digest(ino));
    }
    memo.flush().unwrap();
    let path = dir.path().join("index");
    let mut bytes = fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(16) {
        page[77] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let memo = open(dir.path());
    assert_eq!(memo.get(&identity(1, 1)), None);
    memo.put(identity(9, 1), digest(9));
    let told = memo.flush().unwrap_err().to_string();
    assert!(told.contains("index.damaged"), "{told}");
    memo.flush().unwrap();
    let memo = open(dir.path());
    assert_eq!(memo.get(&identity(0, 1)), None);
    memo.put(identity(9, 1), digest(9));
    memo.flush().unwrap();
    assert_eq!(open(dir.path()).get(&identity(9, 1)), Some(digest(9)));
}

#[test]
fn a_place_that_cannot_be_used_is_told_and_forgets() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("index")).unwrap();
    let (memo, warnings) = Memo::open(dir.path(), Arc::new(RealDisk));
    assert_eq!(warnings.len(), 1);
    memo.put(identity(1, 1), digest(1));
    assert_eq!(memo.get(&identity(1, 1)), Some(digest(1)));
    memo.flush().unwrap();
    memo.sync().unwrap();
}

#[test]
fn a_full_disk_forgets_and_says_so() {
    for cut in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let memo = open(dir.path());
        memo.put(identity(1, 1), digest(1));
        memo.flush().unwrap();
        let disk = Arc::new(FaultyDisk::new(cut, Temper::Once(libc::ENOSPC)));
        let (memo, _) = Memo::open(dir.path(), disk);
        memo.put(identity(2, 1), digest(2));
        let kept = memo.flush().is_ok() && memo.sync().is_ok();
        let memo = open(dir.path());
        assert_eq!(memo.get(&identity(1, 1)), Some(digest(1)));
        if kept {
            assert_eq!(memo.get(&identity(2, 1)), Some(digest(2)));
        }
        memo.put(identity(3, 1), digest(3));
        memo.flush().unwrap();
    }
}
