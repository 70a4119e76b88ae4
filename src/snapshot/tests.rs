//! What a snapshot keeps, whatever happens to who takes or restores it.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::disk::{Disk, FaultyDisk, RealDisk, Temper};
use crate::store::Memo;
use crate::world::World;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn world(root: &Path) -> World {
    World::new(
        root.to_owned(),
        Memo::volatile(),
        Memo::volatile(),
        Arc::new(RealDisk),
    )
}

fn shelf(root: &Path, disk: Arc<dyn Disk>) -> Result<Shelf, Error> {
    Shelf::lock(root, disk).map(|(shelf, _)| shelf)
}

fn take(root: &Path, name: &str, disk: Arc<dyn Disk>) -> Result<Snapshot, Error> {
    shelf(root, disk)?.keep(name, &look(&world(root))?, root, None)
}

fn give_back(root: &Path, name: &str, disk: Arc<dyn Disk>) -> Result<Restored, Error> {
    restore(&shelf(root, disk)?, &world(root), None, name, &[], false)
}

fn entries(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let tree = look(&world(root)).unwrap();
    tree.entries
        .into_iter()
        .map(|(path, (entry, _))| (path, entry))
        .collect()
}

fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// A tree, a snapshot `one` of it, and then another tree in its place.
fn edited() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in [".rfs", "d", "gone"] {
        fs::create_dir(at(name)).unwrap();
    }
    for name in ["a", "same", "d/b", "gone/c", "turns"] {
        fs::write(at(name), name).unwrap();
    }
    symlink("a", at("link")).unwrap();
    let _one = take(dir.path(), "one", real()).unwrap();
    fs::write(at("a"), "edited").unwrap();
    fs::remove_file(at("d/b")).unwrap();
    fs::remove_dir_all(at("gone")).unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("same", at("link")).unwrap();
    fs::remove_file(at("turns")).unwrap();
    fs::create_dir(at("turns")).unwrap();
    fs::write(at("turns/new"), "new").unwrap();
    dir
}

/// Whether each name has what it has now, or one snapshot knows it.
fn is_kept(root: &Path, before: &BTreeMap<PathBuf, Entry>) -> bool {
    let now = entries(root);
    let shelf = Shelf::of(root, real());
    let known: Vec<_> = shelf
        .names()
        .unwrap()
        .iter()
        .map(|name| shelf.load(name).unwrap())
        .collect();
    let files = before.iter().filter(|(_, entry)| entry.what != What::Dir);
    files.into_iter().all(|(path, entry)| {
        let is_it = |there: Option<&Entry>| there.is_some_and(|there| there.what == entry.what);
        is_it(now.get(path)) || known.iter().any(|one| is_it(one.entries.get(path)))
    })
}

#[test]
fn a_tree_is_given_back_and_nothing_is_lost() {
    let dir = edited();
    let root = dir.path();
    let one = Shelf::of(root, real()).load("one").unwrap();
    let before = entries(root);
    let untouched = fs::metadata(root.join("same")).unwrap();
    let done = give_back(root, "one", real()).unwrap();
    assert_eq!(entries(root), one.entries);
    assert_eq!(done.before.as_deref(), Some("before-one"));
    let same = fs::metadata(root.join("same")).unwrap();
    assert_eq!(
        (same.ino(), same.ctime_nsec()),
        (untouched.ino(), untouched.ctime_nsec())
    );
    let back = give_back(root, "before-one", real()).unwrap();
    assert_eq!(entries(root), before);
    // All that was there is in `one`.
    assert_eq!(back.before, None);
    let nothing = give_back(root, "before-one", real()).unwrap();
    assert_eq!(nothing.touched, 0);
}

/// Killed, a full disk, a bad one.
const ALL: [Temper; 3] = [
    Temper::Dead,
    Temper::Once(libc::ENOSPC),
    Temper::Torn(libc::EIO),
];

/// Killed at any write, or with a write that fails: all is there, and doing it again completes it.
#[test]
fn every_write_of_a_restore_may_fail() {
    for temper in ALL {
        for k in 0.. {
            let dir = edited();
            let root = dir.path();
            let one = Shelf::of(root, real()).load("one").unwrap();
            let before = entries(root);
            let disk = Arc::new(FaultyDisk::new(k, temper));
            let done = give_back(root, "one", disk.clone());
            assert!(is_kept(root, &before), "{temper:?} {k}: {done:?}");
            if disk.count() <= k {
                assert_eq!(entries(root), one.entries);
                assert!(k > 20, "only {k} writes");
                break;
            }
            let _again = give_back(root, "one", real()).unwrap();
            assert!(is_kept(root, &before), "{temper:?} {k}, again");
            assert_eq!(entries(root), one.entries, "{temper:?} {k}");
        }
    }
}

#[test]
fn every_write_of_a_snapshot_may_fail() {
    for temper in ALL {
        for k in 0.. {
            let dir = edited();
            let root = dir.path();
            let disk = Arc::new(FaultyDisk::new(k, temper));
            let taken = take(root, "two", disk.clone());
            let shelf = Shelf::of(root, real());
            let _one = shelf.load("one").unwrap();
            if shelf.has("two") {
                assert_eq!(shelf.load("two").unwrap().entries, entries(root));
            } else {
                assert!(taken.is_err(), "{temper:?} {k}");
                let _now = take(root, "two", real()).unwrap();
            }
            let _back = give_back(root, "one", real()).unwrap();
            let two = give_back(root, "two", real()).unwrap();
            assert!(two.touched > 0, "{temper:?} {k}");
            if disk.count() <= k {
                assert!(k > 5, "only {k} writes");
                break;
            }
        }
    }
}

/// What somebody writes between the look and the change is set aside, not lost.
#[test]
fn what_is_written_meanwhile_is_set_aside() {
    #[derive(Debug)]
    struct Meddler(PathBuf, AtomicBool);
    impl Disk for Meddler {
        fn fault(&self, op: &'static str, _: usize) -> Option<crate::disk::Fault> {
            // The names are looked at; the first file goes to its place.
            if op == "link" && !self.1.swap(true, Ordering::Relaxed) {
                fs::write(&self.0, "meanwhile").unwrap();
            }
            None
        }
    }
    let dir = edited();
    let root = dir.path();
    let done = give_back(
        root,
        "one",
        Arc::new(Meddler(root.join("a"), AtomicBool::new(false))),
    )
    .unwrap();
    let [(path, aside)] = &done.aside[..] else {
        panic!("{done:?}");
    };
    assert_eq!(path, Path::new("a"));
    assert_eq!(fs::read_to_string(aside).unwrap(), "meanwhile");
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "a");
}

#[test]
fn contents_go_with_the_last_snapshot_that_has_them() {
    let dir = edited();
    let root = dir.path();
    let _two = take(root, "two", real()).unwrap();
    let blobs = || {
        let dirs = fs::read_dir(root.join(".rfs/snapshots/blobs")).unwrap();
        dirs.map(|dir| fs::read_dir(dir.unwrap().path()).unwrap().count())
            .sum::<usize>()
    };
    // a, same, d/b, gone/c, turns; edited, new.
    assert_eq!(blobs(), 7);
    shelf(root, real()).unwrap().remove("one").unwrap();
    assert_eq!(blobs(), 3);
    shelf(root, real()).unwrap().remove("two").unwrap();
    assert_eq!(blobs(), 0);
}

#[test]
fn damage_is_told() {
    let dir = edited();
    let root = dir.path();
    let name = root.join(".rfs/snapshots/names/one");
    let whole = fs::read(&name).unwrap();
    for len in [0, 5, 20, whole.len() - 1] {
        fs::remove_file(&name).unwrap();
        fs::write(&name, &whole[..len]).unwrap();
        let error = Shelf::of(root, real()).load("one").unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{len}: {error}");
    }
    fs::remove_file(&name).unwrap();
    fs::write(&name, &whole).unwrap();
    // A content that is not what it was: nothing is touched.
    let before = entries(root);
    for dir in fs::read_dir(root.join(".rfs/snapshots/blobs")).unwrap() {
        for blob in fs::read_dir(dir.unwrap().path()).unwrap() {
            let blob = blob.unwrap().path();
            fs::remove_file(&blob).unwrap();
            fs::write(&blob, "x").unwrap();
        }
    }
    let error = restore(
        &shelf(root, real()).unwrap(),
        &world(root),
        None,
        "one",
        &[],
        true,
    )
    .unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(entries(root), before);
}
