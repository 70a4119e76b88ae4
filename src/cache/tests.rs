//! Opening the cache in every kind of place.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::base::Record;
use crate::cache::sound::tests::{dep, record};
use crate::disk::{FaultyDisk, RealDisk, Temper};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

fn open(dir: &Path) -> Result<Cache, OpenError> {
    Cache::open(dir, Arc::new(RealDisk))
}

#[test]
fn a_new_cache_is_private_and_tagged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/down/cache");
    open(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(
        fs::read_to_string(path.join("VERSION")).unwrap(),
        "rfs-cache 2\n"
    );
    let tag = fs::read_to_string(path.join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
    open(&path).unwrap();
}

#[test]
fn what_is_no_cache_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::NotADirectory(_)), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert!(error.to_string().contains("RFS_CACHE_DIR"));
    }
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[test]
fn a_newer_cache_is_left_alone_and_a_damaged_version_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let digest = open(&path).unwrap().insert_bytes(b"x").unwrap();
    fs::write(path.join("VERSION"), "rfs-cache 3\n").unwrap();
    let error = open(&path).unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found: 3, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("upgrade rfs"));
    for garbage in ["", "rfs-cache ", "rfs-cachE 1\n", "\u{0}"] {
        fs::write(path.join("VERSION"), garbage).unwrap();
        assert!(open(&path).unwrap().contains(&digest, 1));
        assert_eq!(
            fs::read_to_string(path.join("VERSION")).unwrap(),
            "rfs-cache 2\n"
        );
    }
}

#[test]
fn what_an_older_rfs_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let digest = open(dir.path()).unwrap().insert_bytes(b"x").unwrap();
    fs::write(dir.path().join("VERSION"), "rfs-cache 1\n").unwrap();
    fs::create_dir_all(dir.path().join("actions/ab")).unwrap();
    fs::write(dir.path().join("actions/ab/cd"), "record").unwrap();
    fs::write(dir.path().join("memo"), "log").unwrap();
    let cache = open(dir.path()).unwrap();
    assert!(cache.contains(&digest, 1));
    assert!(!dir.path().join("actions").exists() && !dir.path().join("memo").exists());
    let version = fs::read_to_string(dir.path().join("VERSION")).unwrap();
    assert_eq!(version, "rfs-cache 2\n");
}

#[test]
fn only_old_temporary_files_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    let at = |name: &str| dir.path().join("tmp").join(name);
    for name in ["old", "young"] {
        fs::write(at(name), "").unwrap();
    }
    RealDisk.set_mtime(&at("old"), 0).unwrap();
    open(dir.path()).unwrap();
    assert!(!at("old").exists() && at("young").exists());
}

#[test]
fn killed_at_every_operation_of_the_founding() {
    for cut in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/cache");
        let disk = Arc::new(FaultyDisk::new(cut, Temper::Dead));
        let opened = Cache::open(&path, disk);
        if let Err(error) = &opened {
            assert!(
                error
                    .to_string()
                    .contains(path.parent().unwrap().to_str().unwrap())
            );
        }
        open(&path).unwrap().insert_bytes(b"x").unwrap();
        if opened.is_ok() {
            assert!(cut > 10, "the workload shrank");
            break;
        }
    }
}

#[test]
fn many_may_open_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| open(&path).unwrap().insert_bytes(b"same").unwrap());
        }
    });
    assert_eq!(open(&path).unwrap().stats().unwrap().blobs, 1);
    assert_eq!(fs::read_dir(path.join("tmp")).unwrap().count(), 0);
}

/// Says to a copy of this test program which cache to write to, and as which writer.
const WRITER: &str = "RFS_TEST_CACHE_WRITER";

#[test]
fn processes_share_a_cache() {
    let key = |n: u8| Digest::of(&[n]);
    if let Some(writer) = std::env::var_os(WRITER) {
        let writer = writer.into_string().unwrap();
        let (me, path) = writer.split_once(' ').unwrap();
        for n in 0..30 {
            let cache = open(Path::new(path)).unwrap();
            cache.insert_bytes(&[n; 100]).unwrap();
            cache.insert_bytes(format!("{me} {n}").as_bytes()).unwrap();
            let deps = vec![dep("a.c", me.as_bytes())];
            cache.add(&key(n), Record { deps, ..record() }).unwrap();
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let writers = [0, 1, 2].map(|me| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cache::tests::processes_share_a_cache"])
            .env(WRITER, format!("{me} {}", dir.path().to_str().unwrap()))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    });
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let cache = open(dir.path()).unwrap();
    let report = cache.verify(&mut |_| ()).unwrap();
    assert!(report.wrong.is_empty(), "{:?}", report.wrong);
    assert_eq!((report.blobs, report.keys, report.records), (120, 30, 90));
}

#[test]
fn a_cache_that_others_can_change_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    open(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let error = open(&path).unwrap_err();
    assert!(
        error.to_string().contains("written by everybody"),
        "{error}"
    );
    for mode in [0o755, 0o1777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        open(&path).unwrap();
    }
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        let error = open(&path).unwrap_err();
        assert!(
            matches!(error, OpenError::NotYours { owner: 65534, .. }),
            "{error}"
        );
        std::os::unix::fs::chown(&path, Some(0), Some(7)).unwrap();
        for (mode, is_good) in [(0o750, true), (0o2770, false), (0o3770, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let opened = open(&path).map(drop).map_err(|error| error.to_string());
            let wrong = opened
                .as_ref()
                .err()
                .map(String::as_str)
                .unwrap_or_default();
            assert_eq!(opened.is_ok(), is_good, "{mode:o}: {wrong}");
            assert!(is_good || wrong.contains("written by group 7"), "{wrong}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        open(&link).unwrap();
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        let error = open(&link).unwrap_err();
        assert!(
            matches!(error, OpenError::NotYours { owner: 65534, .. }),
            "{error}"
        );
        std::os::unix::fs::chown(path.join("index"), Some(65534), None).unwrap();
        let error = open(&path).unwrap_err();
        assert!(
            error.to_string().contains("cache/index belongs to"),
            "{error}"
        );
    }
}

#[test]
fn a_version_that_is_no_file_is_an_error_and_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let version = dir.path().join("VERSION");
    open(dir.path()).unwrap();
    fs::remove_file(&version).unwrap();
    RealDisk.mkfifo(&version, 0o600).unwrap();
    open(dir.path()).unwrap();
    assert!(fs::metadata(&version).unwrap().is_file(), "it is replaced");
    fs::remove_file(&version).unwrap();
    fs::create_dir(&version).unwrap();
    assert!(open(dir.path()).is_err());
    fs::remove_dir(&version).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &version).unwrap();
    assert!(open(dir.path()).is_err());
}
