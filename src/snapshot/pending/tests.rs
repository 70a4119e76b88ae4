//! A restore by and by ends as one at once, whoever looks when and whatever ends it in between.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::super::tests::{edited, entries, real, take, world};
use super::super::{Entry, What};
use super::*;
use crate::disk::{FaultyDisk, RealDisk, Temper};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

fn begin(root: &Path, name: &str, disk: Arc<dyn Disk>) -> Result<Pending, Error> {
    let (shelf, _) = Shelf::lock(root, disk)?;
    Pending::begin(shelf, world(root), name, false)
}

fn go_on(root: &Path, disk: Arc<dyn Disk>) -> Result<Option<Pending>, Error> {
    let (shelf, _) = Shelf::lock(root, disk)?;
    Ok(Pending::open(shelf, world(root))?.ok())
}

#[test]
fn a_directory_is_settled_when_it_is_looked_at() {
    let dir = edited();
    let root = dir.path();
    let one = Shelf::of(root, real()).load("one").unwrap();
    let before = entries(root);
    let pending = begin(root, "one", real()).unwrap();
    assert_eq!(entries(root), before, "nothing is touched");
    assert_eq!(
        (pending.progress().settled, pending.progress().waiting),
        (0, 1)
    );
    pending.settle(root, false).unwrap();
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "a");
    assert!(root.join("gone").is_dir() && !root.join("gone/c").exists());
    assert!(!root.join("d/b").exists());
    // What its users do from now on is theirs.
    fs::write(root.join("a"), "after").unwrap();
    fs::remove_file(root.join("same")).unwrap();
    pending.settle(&root.join("d"), false).unwrap();
    assert!(root.join("d/b").exists() && !root.join("gone/c").exists());
    let done = pending.finish(None).unwrap();
    assert_eq!(done.before.as_deref(), Some("before-one"));
    let mut expected = one.entries;
    expected.remove(Path::new("same"));
    let now = entries(root);
    let names = |all: &BTreeMap<PathBuf, Entry>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&now), names(&expected));
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "after");
    assert_eq!(
        now[Path::new("d")],
        expected[Path::new("d")],
        "its time too"
    );
    drop(pending);
    assert!(!Pending::is_there(root));
    assert_eq!(
        Shelf::of(root, real()).load("before-one").unwrap().entries,
        before
    );
}

/// What it costs to begin does not depend on the size of the tree.
#[test]
fn to_begin_costs_the_same_whatever_there_is() {
    let costs = [1, 40].map(|n| {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join(".rfs")).unwrap();
        for n in 0..n {
            fs::create_dir(root.join(format!("d{n}"))).unwrap();
            fs::write(root.join(format!("d{n}/f")), n.to_string()).unwrap();
        }
        let _one = take(root, "one", real()).unwrap();
        let (shelf, _) = Shelf::lock(root, real()).unwrap();
        let _made = shelf.disk().mkdir(&shelf.dir().join("trees"), 0o755);
        drop(shelf);
        let disk = Arc::new(FaultyDisk::new(usize::MAX, Temper::Dead));
        let pending = begin(root, "one", disk.clone()).unwrap();
        let begun = disk.count();
        pending.settle(&root.join("d0"), false).unwrap();
        (begun, disk.count() - begun)
    });
    assert_eq!(costs[0], costs[1]);
}

/// Killed at any write, or with a write that fails: going on completes it, and what was done in directories that
/// were settled stays.
#[test]
fn every_write_may_fail() {
    for temper in [Temper::Dead, Temper::Torn(libc::ENOSPC)] {
        for k in 0.. {
            let dir = edited();
            let root = dir.path();
            let one = Shelf::of(root, real()).load("one").unwrap();
            let before = entries(root);
            let disk = Arc::new(FaultyDisk::new(k, temper));
            let mut edits = Vec::new();
            let begun = begin(root, "one", disk.clone());
            if let Ok(pending) = &begun {
                for (at, name) in [("gone", "gone/mine"), ("", "mine"), ("turns", "turns")] {
                    if pending.settle(&root.join(at), false).is_ok() && at != "turns" {
                        fs::write(root.join(name), "mine").unwrap();
                        edits.push(PathBuf::from(name));
                    }
                }
                let _done = pending.finish(None);
            }
            let is_begun = begun.is_ok() || root.join(".rfs/snapshots/pending").is_dir();
            drop(begun);
            let is_over = disk.count() <= k;
            if let Some(pending) = go_on(root, real()).unwrap() {
                let _done = pending.finish(None).unwrap();
            }
            let mut now = entries(root);
            if is_begun {
                for edit in &edits {
                    assert!(
                        now.remove(edit).is_some(),
                        "{temper:?} {k}: {edit:?} is lost"
                    );
                }
                // Which has another time by what was made in it.
                let mut then = one.entries;
                for entries in [&mut now, &mut then] {
                    let gone = entries.get_mut(Path::new("gone"));
                    gone.unwrap().mtime = 0;
                }
                assert_eq!(now, then, "{temper:?} {k}");
                let kept = Shelf::of(root, real()).load("before-one").unwrap();
                assert_eq!(kept.entries, before, "{temper:?} {k}");
            } else {
                assert_eq!(now, before, "{temper:?} {k}");
            }
            assert!(!Pending::is_there(root));
            if is_over {
                assert!(k > 40, "only {k} writes");
                break;
            }
        }
    }
}

/// Numbers that look like chance, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % 1_000_003).unwrap() % n
    }
}

/// Fills or changes a directory at random.
fn stir(dice: &mut Dice, dir: &Path, depth: usize) {
    for name in ["a", "b", "c", "d", "e"] {
        let at = dir.join(name);
        let is_dir = at.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        let what = dice.roll(9);
        if is_dir && what < 6 {
            stir(dice, &at, depth);
            continue;
        }
        if what < 3 {
            continue;
        }
        if is_dir {
            fs::remove_dir_all(&at).unwrap();
        } else if at.symlink_metadata().is_ok() {
            fs::remove_file(&at).unwrap();
        }
        match what {
            3 | 4 => fs::write(&at, format!("{}", dice.roll(3))).unwrap(),
            5 => symlink(["x", "y"][dice.roll(2)], &at).unwrap(),
            6 => {
                fs::write(&at, "1").unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(0o600)).unwrap();
            }
            7 if depth < 3 => {
                fs::create_dir(&at).unwrap();
                stir(dice, &at, depth + 1);
            }
            _ => {}
        }
    }
}

fn dirs(root: &Path) -> Vec<PathBuf> {
    let all = entries(root).into_iter();
    let dirs = all.filter(|(_, entry)| entry.what == What::Dir);
    std::iter::once(PathBuf::new())
        .chain(dirs.map(|(path, _)| path))
        .collect()
}

/// Random trees, random looks, edits and deaths.
#[test]
fn whoever_looks_when() {
    for seed in 1..60 {
        let dice = &mut Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join(".rfs")).unwrap();
        stir(dice, root, 0);
        let one = take(root, "one", real()).unwrap();
        stir(dice, root, 0);
        let before = entries(root);
        let mut pending = begin(root, "one", real()).unwrap();
        let mut edits = BTreeMap::new();
        for n in 0..12 {
            let looked = dirs(root);
            let at = looked[dice.roll(looked.len())].clone();
            pending.settle(&root.join(&at), dice.roll(8) == 0).unwrap();
            if dice.roll(3) == 0 && root.join(&at).is_dir() {
                let edit = at.join(format!("edit{n}"));
                fs::write(root.join(&edit), "edit").unwrap();
                edits.insert(edit, at);
            }
            if dice.roll(3) == 0 {
                let k = dice.roll(25);
                drop(pending);
                let disk = Arc::new(FaultyDisk::new(k, Temper::Dead));
                if let Ok(Some(dying)) = go_on(root, disk) {
                    let looked = dirs(root);
                    let at = &looked[dice.roll(looked.len())];
                    let _died = dying.settle(&root.join(at), dice.roll(2) == 0);
                }
                pending = go_on(root, Arc::new(RealDisk)).unwrap().unwrap();
            }
        }
        let done = pending.finish(None).unwrap();
        let mut now = entries(root);
        let mut then = one.entries.clone();
        for (edit, at) in edits {
            assert!(now.remove(&edit).is_some(), "seed {seed}: {edit:?}");
            for all in [&mut now, &mut then] {
                if let Some(entry) = all.get_mut(&at) {
                    entry.mtime = 0;
                }
            }
        }
        assert_eq!(now, then, "seed {seed}");
        match done.before {
            Some(name) => {
                let kept = Shelf::of(root, real()).load(&name).unwrap();
                assert_eq!(kept.entries, before, "seed {seed}");
            }
            None => assert!(before.iter().all(|(path, entry)| {
                let same = one.entries.get(path).map(|then| then.what == entry.what);
                entry.what == What::Dir || same == Some(true)
            })),
        }
    }
}

/// What no snapshot can keep stays, or is set aside where something is put in its place.
#[test]
fn what_cannot_be_kept_is_not_lost() {
    let dir = edited();
    let root = dir.path();
    let fifo = |path: &str| {
        drop(fs::remove_file(root.join(path)));
        nix::unistd::mkfifo(&root.join(path), nix::sys::stat::Mode::S_IRWXU).unwrap();
    };
    fs::create_dir_all(root.join("more/.git")).unwrap();
    fs::write(root.join("more/x"), "x").unwrap();
    fifo("a");
    fifo("turns/fifo");
    let pending = begin(root, "one", real()).unwrap();
    let done = pending.finish(None).unwrap();
    assert!(root.join("more/.git").is_dir() && !root.join("more/x").exists());
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "a");
    let aside = done.aside.unwrap();
    let is_fifo = |path: &PathBuf| crate::world::see(path).kind == crate::base::Kind::Fifo;
    let found: Vec<_> = walk(&aside).into_iter().filter(is_fifo).collect();
    assert_eq!(found.len(), 2, "{found:?}");
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

/// A damaged content keeps one directory from being settled, and nothing of it is touched.
#[test]
fn a_damaged_content_is_told() {
    let dir = edited();
    let root = dir.path();
    let before = entries(root);
    let pending = begin(root, "one", real()).unwrap();
    for blob in walk(&root.join(".rfs/snapshots/blobs")) {
        if blob.is_file() {
            fs::remove_file(&blob).unwrap();
            fs::write(&blob, "x").unwrap();
        }
    }
    let error = pending.settle(root, false).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(entries(root), before);
    assert!(pending.finish(None).is_err());
    let aside = pending.give_up().unwrap();
    assert!(aside.is_dir() && !Pending::is_there(root));
}
