//! Serving into real trees, whole and cut at every operation.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::base::{Digest, Name};
use crate::cache::sound::tests::record;
use crate::disk::{FaultyDisk, RealDisk, Temper};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use tempfile::TempDir;

struct Space {
    dir: TempDir,
    cache: Cache,
}

impl Space {
    fn new() -> Self {
        Self::on(Arc::new(RealDisk))
    }

    fn on(disk: Arc<dyn Disk>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Cache::open(&dir.path().join("cache"), Arc::new(RealDisk)).unwrap();
        let cache = Cache::open(&dir.path().join("cache"), disk).unwrap();
        fs::create_dir_all(dir.path().join("w/.rfs")).unwrap();
        Self { dir, cache }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("w")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn name(&self, path: &str) -> Name {
        Name::of(&self.at(path), &self.root())
    }

    fn output(&self, path: &str, what: What) -> Output {
        Output {
            name: self.name(path),
            what,
            stamp: Stamp::Now(0),
            owner: None,
        }
    }

    fn file(&self, path: &str, content: &[u8], mode: u32) -> Output {
        let what = What::File {
            digest: self.cache.insert_bytes(content).unwrap(),
            size: content.len() as u64,
            mode,
            in_place: false,
        };
        self.output(path, what)
    }

    fn serve(&self, outputs: Vec<Output>) -> Result<Vec<PathBuf>, ServeError> {
        self.serve_record(&Record {
            outputs,
            deps: vec![],
            ..record()
        })
    }

    fn serve_record(&self, record: &Record) -> Result<Vec<PathBuf>, ServeError> {
        let stage = self.at(".rfs/stage");
        Staged::prepare(&self.cache, record, &self.root(), &stage)?.commit()
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.at(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs::symlink_metadata(self.at(path)).unwrap().mode() & 0o7777
    }

    fn mtime(&self, path: &str) -> i64 {
        let meta = fs::symlink_metadata(self.at(path)).unwrap();
        meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
    }

    /// No temporary file is left anywhere.
    fn is_tidy(&self) -> bool {
        fn walk(dir: &Path) -> bool {
            fs::read_dir(dir).unwrap().all(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                !name.ends_with(".tmp")
                    && (!entry.file_type().unwrap().is_dir() || walk(&entry.path()))
            })
        }
        walk(&self.root())
    }
}

#[test]
fn every_kind_of_output_is_made() {
    let space = Space::new();
    fs::write(space.at("gone"), "x").unwrap();
    fs::create_dir(space.at("gone_dir")).unwrap();
    fs::write(space.at("chmodded"), "x").unwrap();
    fs::write(space.at("old"), "old").unwrap();
    let outputs = vec![
        space.output("gone", What::Absent),
        space.output("gone_dir", What::Absent),
        space.output("never", What::Absent),
        space.output("no/dir/never", What::Absent),
        space.output("d", What::Dir(0o2755)),
        space.output("d/closed", What::Dir(0o555)),
        space.file("d/closed/tool", b"#!/bin/sh\n", 0o755),
        space.file("old", b"new", 0o600),
        space.output("d/link", What::Link(b"closed/tool".to_vec())),
        space.output("d/fifo", What::Fifo(0o640)),
        space.output("d/hard", What::HardLink(space.name("old"))),
        space.output("chmodded", What::Attributes(0o400)),
        space.file("empty", b"", 0o644),
    ];
    let touched = space.serve(outputs).unwrap();
    assert_eq!(touched.len(), 11, "{touched:?}");
    assert!(!touched.contains(&space.at("never")));
    for gone in ["gone", "gone_dir", "never", "no"] {
        assert!(!space.at(gone).exists());
    }
    assert_eq!(space.mode("d"), 0o2755);
    assert_eq!(space.mode("d/closed"), 0o555);
    assert_eq!(space.mode("d/closed/tool"), 0o755);
    assert_eq!(space.read("d/closed/tool"), b"#!/bin/sh\n");
    assert_eq!(space.read("old"), b"new");
    assert_eq!(space.mode("old"), 0o600);
    assert_eq!(
        fs::read_link(space.at("d/link")).unwrap(),
        Path::new("closed/tool")
    );
    assert_eq!(space.mode("d/fifo"), 0o640);
    assert_eq!(fs::metadata(space.at("old")).unwrap().nlink(), 2);
    assert_eq!(space.mode("chmodded"), 0o400);
    assert_eq!(space.read("empty"), b"");
    assert!(space.is_tidy());
}

#[test]
fn serving_twice_gives_the_same_tree() {
    let space = Space::new();
    let outputs = vec![
        space.output("d", What::Dir(0o555)),
        space.file("d/f", b"content", 0o444),
        space.output("d/link", What::Link(b"f".to_vec())),
        space.output("d/fifo", What::Fifo(0o600)),
        space.output("hard", What::HardLink(space.name("d/f"))),
    ];
    for _ in 0..2 {
        space.serve(outputs.clone()).unwrap();
        assert_eq!(space.read("hard"), b"content");
        assert_eq!(space.mode("d"), 0o555);
        assert!(space.is_tidy());
    }
}

#[test]
fn what_is_of_another_type_is_replaced() {
    let space = Space::new();
    fs::create_dir(space.at("file")).unwrap();
    fs::create_dir(space.at("link")).unwrap();
    fs::write(space.at("dir"), "x").unwrap();
    fs::write(space.at("victim"), "precious").unwrap();
    symlink("victim", space.at("through")).unwrap();
    space
        .serve(vec![
            space.file("file", b"f", 0o644),
            space.output("link", What::Link(b"file".to_vec())),
            space.output("dir", What::Dir(0o755)),
            space.file("through", b"not there", 0o644),
        ])
        .unwrap();
    assert_eq!(space.read("file"), b"f");
    assert!(space.at("dir").is_dir());
    assert_eq!(space.read("through"), b"not there");
    assert_eq!(space.read("victim"), b"precious");
}

#[test]
fn a_full_directory_in_the_place_of_a_file_is_kept_and_named() {
    let space = Space::new();
    fs::create_dir(space.at("taken")).unwrap();
    fs::write(space.at("taken/precious"), "x").unwrap();
    let outputs = [
        space.file("taken", b"f", 0o644),
        space.output("taken", What::Link(b"x".to_vec())),
        space.output("taken", What::Absent),
    ];
    for output in outputs {
        let error = space.serve(vec![output]).unwrap_err().to_string();
        assert!(
            error.contains(space.at("taken").to_str().unwrap()),
            "{error}"
        );
        assert_eq!(space.read("taken/precious"), b"x");
        assert!(space.is_tidy());
    }
}

#[test]
fn attributes_of_a_link_do_not_reach_its_target() {
    let space = Space::new();
    fs::write(space.at("victim"), "x").unwrap();
    fs::set_permissions(space.at("victim"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("victim", space.at("link")).unwrap();
    let mut output = space.output("link", What::Attributes(0o777));
    output.stamp = Stamp::Exact(5);
    space.serve(vec![output]).unwrap();
    assert_eq!(space.mode("victim"), 0o600);
    assert_eq!(space.mtime("link"), 5);
    assert_ne!(space.mtime("victim"), 5);
}

#[test]
fn a_file_written_in_place_shows_under_its_other_names() {
    let space = Space::new();
    let set = |in_place: bool| {
        let mut output = space.file("one", b"new", 0o640);
        if let What::File { in_place: flag, .. } = &mut output.what {
            *flag = in_place;
        }
        drop(fs::remove_file(space.at("one")));
        drop(fs::remove_file(space.at("two")));
        fs::write(space.at("one"), "old content").unwrap();
        fs::hard_link(space.at("one"), space.at("two")).unwrap();
        output
    };
    for (in_place, other_name_shows) in [(true, "new"), (false, "old content")] {
        let outputs = vec![set(in_place)];
        space
            .serve_record(&Record {
                outputs,
                ..record()
            })
            .unwrap();
        assert_eq!(space.read("one"), b"new");
        assert_eq!(space.mode("one"), 0o640);
        assert_eq!(space.read("two"), other_name_shows.as_bytes());
    }
}

#[test]
fn a_file_that_cannot_be_written_in_place_is_found_before_anything_changes() {
    let space = Space::new();
    fs::copy("/bin/cat", space.at("busy")).unwrap();
    let mut child = std::process::Command::new(space.at("busy"))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = space.file("busy", b"new", 0o755);
    if let What::File { in_place, .. } = &mut output.what {
        *in_place = true;
    }
    let first = space.file("first", b"x", 0o644);
    let error = space.serve(vec![first, output]).unwrap_err();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(error.to_string().contains("busy"), "{error}");
    assert!(!space.at("first").exists() && space.is_tidy());
    assert_eq!(space.read("busy"), fs::read("/bin/cat").unwrap());
}

#[test]
fn outputs_outside_the_workspace_are_made_next_to_their_place() {
    let space = Space::new();
    let outside = space.dir.path().join("outside");
    let mut dir = space.output("x", What::Dir(0o755));
    dir.name = Name::of(&outside, &space.root());
    let mut file = space.file("x", b"out", 0o644);
    file.name = Name::of(&outside.join("f"), &space.root());
    space.serve(vec![dir, file]).unwrap();
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"out");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_dir(space.dir.path()).unwrap().count(), 3);
}

#[test]
fn the_root_may_be_given_by_a_descriptor() {
    use std::os::fd::AsRawFd;
    let space = Space::new();
    let fd = File::open(space.root()).unwrap();
    let root = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let record = Record {
        outputs: vec![space.file("f", b"x", 0o644)],
        ..record()
    };
    let stage = root.join(".rfs/stage");
    let touched = Staged::prepare(&space.cache, &record, &root, &stage)
        .unwrap()
        .commit()
        .unwrap();
    assert_eq!(touched, [root.join("f")]);
    assert_eq!(space.read("f"), b"x");
}

#[test]
fn stamps_keep_the_recorded_order() {
    let space = Space::new();
    let stamped = |path: &str, stamp: Stamp| Output {
        stamp,
        ..space.file(path, path.as_bytes(), 0o644)
    };
    fs::write(space.at("input"), "").unwrap();
    space
        .serve(vec![
            stamped("late", Stamp::Now(8)),
            stamped("early", Stamp::Now(1)),
            stamped("early2", Stamp::Now(1)),
            stamped("exact", Stamp::Exact(1_000_000_000_123)),
            Output {
                stamp: Stamp::Exact(-7),
                ..space.output("d", What::Dir(0o755))
            },
            stamped("d/inner", Stamp::Now(5)),
        ])
        .unwrap();
    fs::write(space.at("after"), "").unwrap();
    assert!(space.mtime("input") <= space.mtime("early"));
    assert_eq!(space.mtime("early"), space.mtime("early2"));
    assert!(space.mtime("early") < space.mtime("d/inner"));
    assert!(space.mtime("d/inner") < space.mtime("late"));
    assert!(space.mtime("late") <= space.mtime("after"));
    assert_eq!(space.mtime("exact"), 1_000_000_000_123);
    assert_eq!(space.mtime("d"), -7);
}

#[test]
fn a_damaged_blob_leaves_the_tree_alone_and_is_said_once() {
    let space = Space::new();
    fs::write(space.at("a"), "old").unwrap();
    let outputs = vec![
        space.file("a", b"fine", 0o644),
        space.file("b", b"hurt", 0o644),
    ];
    let blob = space.cache.blob_path(&Digest::of(b"hurt"));
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, "hUrt").unwrap();
    let damaged = space.serve(outputs.clone()).unwrap_err();
    assert!(matches!(damaged, ServeError::Cache(Error::Damaged { .. })));
    let missing = space.serve(outputs).unwrap_err();
    assert!(matches!(missing, ServeError::Cache(Error::Missing(_))));
    assert_eq!(space.read("a"), b"old");
    assert!(!space.at("b").exists() && space.is_tidy());
}

#[test]
fn a_missing_parent_is_named() {
    let space = Space::new();
    fs::write(space.at("file"), "").unwrap();
    for path in ["none/f", "file/f"] {
        let error = space
            .serve(vec![space.file(path, b"x", 0o644)])
            .unwrap_err();
        assert!(matches!(&error, ServeError::Parent(dir) if space.at(path).starts_with(dir)));
        assert!(space.is_tidy());
    }
}

/// Fails every operation of a serving once: the tree has all outputs or is as it was, the error names a path, and the next serving repairs everything.
#[test]
fn cut_at_every_operation() {
    for temper in [Temper::Once(libc::ENOSPC), Temper::Torn(libc::EIO)] {
        for cut in 0.. {
            let disk = Arc::new(FaultyDisk::new(usize::MAX, temper));
            let space = Space::on(disk.clone());
            fs::write(space.at("a"), "old").unwrap();
            fs::write(space.at("gone"), "x").unwrap();
            let outputs = vec![
                space.file("a", b"new", 0o644),
                space.output("gone", What::Absent),
                space.output("d", What::Dir(0o755)),
                space.file("d/b", &[7; 200_000], 0o755),
                space.output("d/link", What::Link(b"b".to_vec())),
            ];
            let before = disk.count();
            disk.fail_after(cut);
            let result = space.serve(outputs.clone());
            let hit = disk.count() > before + cut;
            if result.is_err() {
                assert!(space.read("a") == b"old" && space.read("gone") == b"x");
                assert!(!space.at("d").exists(), "{temper:?} at {cut}");
            } else {
                assert!(space.read("a") == b"new" && !space.at("gone").exists());
            }
            let kept = result.is_ok() && hit;
            let done = !hit;
            disk.fail_after(usize::MAX);
            if let Err(error) = result {
                assert!(
                    error
                        .to_string()
                        .contains(space.dir.path().to_str().unwrap()),
                    "{error}"
                );
                space.serve(outputs).unwrap();
            }
            let tree: BTreeMap<_, _> = ["a", "d/b"].map(|p| (p, space.read(p).len())).into();
            assert_eq!(tree, BTreeMap::from([("a", 3), ("d/b", 200_000)]));
            // What was there before is not in the way.
            assert!(!space.at("gone").exists() && (kept || space.is_tidy()));
            if done {
                assert!(cut > 15, "the workload shrank");
                break;
            }
        }
    }
}

/// A serving that is killed leaves each output whole, as it was or not there, and those that were made last
/// in the step come last: make must not find a stamp file beside what it vouches for, not yet made.
#[test]
fn killed_at_every_operation() {
    for cut in 0.. {
        let disk = Arc::new(FaultyDisk::new(usize::MAX, Temper::Dead));
        let space = Space::on(disk.clone());
        fs::write(space.at("a"), "old").unwrap();
        let mut moved = space.file("moved", b"moved", 0o755);
        moved.stamp = Stamp::Exact(1_000_000_000);
        let outputs = vec![
            space.output("d", What::Dir(0o2755)),
            space.output("d/e", What::Dir(0o711)),
            space.file("a", b"new", 0o640),
            moved,
            space.file("d/e/b", &[7; 200_000], 0o755),
            space.output("d/fifo", What::Fifo(0o644)),
            space.output("d/link", What::Link(b"b".to_vec())),
        ];
        let before = disk.count();
        disk.fail_after(cut);
        let result = space.serve(outputs.clone());
        let modes = [
            ("d", 0o2755),
            ("d/e", 0o711),
            ("moved", 0o755),
            ("d/e/b", 0o755),
            ("d/fifo", 0o644),
        ];
        for (path, mode) in modes {
            if space.at(path).symlink_metadata().is_ok() {
                assert_eq!(space.mode(path), mode, "{path}, killed at {cut}");
            }
        }
        match space.read("a").as_slice() {
            b"new" => assert_eq!(space.mode("a"), 0o640, "killed at {cut}"),
            other => assert_eq!(other, b"old", "killed at {cut}"),
        }
        if space.at("moved").exists() {
            assert_eq!(space.mtime("moved"), 1_000_000_000, "killed at {cut}");
        }
        disk.fail_after(usize::MAX);
        if result.is_ok() && disk.count() <= before + cut {
            assert!(cut > 25, "the workload shrank");
            break;
        }
        space.serve(outputs).unwrap();
        assert_eq!(space.read("d/e/b").len(), 200_000);
    }
}
