//! Blobs in, out, damaged, and cut at every operation.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::disk::{FaultyDisk, RealDisk, Temper};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::thread;

/// Sizes on both sides of every boundary in the code.
const SIZES: [usize; 9] = [0, 1, 511, 65_535, 65_536, 65_537, 131_072, 131_073, 400_000];

fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|n| u8::try_from(n * 7 % 251).unwrap())
        .collect()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, bytes).unwrap();
    file
}

fn open(dir: &Path) -> Cache {
    Cache::open(dir, Arc::new(RealDisk)).unwrap()
}

fn fetched(cache: &Cache, digest: &Digest, size: u64) -> Result<Vec<u8>, Error> {
    let mut to = tempfile::tempfile().unwrap();
    cache.fetch(digest, size, &to)?;
    to.rewind().unwrap();
    let mut bytes = vec![];
    to.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

fn damage(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_goes_in_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    for size in SIZES {
        let bytes = content(size);
        let mut file = file_of(&bytes);
        file.seek(io::SeekFrom::Start(3)).unwrap();
        let (digest, n) = cache.insert(&file).unwrap();
        assert_eq!(file.stream_position().unwrap(), 3);
        assert_eq!((digest, n), (Digest::of(&bytes), size as u64));
        assert!(fetched(&cache, &digest, n).unwrap() == bytes);
        assert_eq!(cache.check(&digest).unwrap(), n);
        assert_eq!(
            hash(&cache.open_checked(&digest, n).unwrap()).unwrap(),
            (digest, n)
        );
        let meta = fs::metadata(cache.blob_path(&digest)).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o444);
    }
    assert_eq!(cache.stats().unwrap().blobs, SIZES.len() as u64);
}

#[test]
fn a_known_content_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    for size in [10, 200_000] {
        let file = file_of(&content(size));
        let (digest, _) = cache.insert(&file).unwrap();
        let ino = fs::metadata(cache.blob_path(&digest)).unwrap().ino();
        cache.insert(&file).unwrap();
        cache.insert_bytes(&content(size)).unwrap();
        assert_eq!(fs::metadata(cache.blob_path(&digest)).unwrap().ino(), ino);
    }
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn damaged_blobs_are_never_given_out_and_are_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let bytes = content(1000);
    let digest = Digest::of(&bytes);
    let path = cache.blob_path(&digest);
    let mut flipped = bytes.clone();
    flipped[500] ^= 1;
    let grown = [&bytes[..], b"x"].concat();
    for bad in [&flipped[..], &bytes[..999], &grown, b""] {
        for how in 0..3 {
            cache.insert_bytes(&bytes).unwrap();
            damage(&path, bad);
            let error = match how {
                0 => fetched(&cache, &digest, 1000).unwrap_err(),
                1 => cache.check(&digest).unwrap_err(),
                _ => cache.open_checked(&digest, 1000).unwrap_err(),
            };
            assert!(matches!(&error, Error::Damaged { path: p, .. } if *p == path));
            assert!(!path.exists());
            assert!(matches!(
                fetched(&cache, &digest, 1000),
                Err(Error::Missing(d)) if d == digest
            ));
        }
    }
    // A torn one is repaired by the next insertion already.
    cache.insert_bytes(&bytes).unwrap();
    damage(&path, &bytes[..10]);
    cache.insert_bytes(&bytes).unwrap();
    assert!(fetched(&cache, &digest, 1000).unwrap() == bytes);
}

#[test]
fn what_is_no_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let digest = cache.insert_bytes(b"x").unwrap();
    let path = cache.blob_path(&digest);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert!(fetched(&cache, &digest, 1).is_err());
    assert!(!cache.contains(&digest, 1));
}

#[test]
fn sparse_files_stay_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let file = file_of(b"head");
    file.set_len(16 << 20).unwrap();
    let (digest, size) = cache.insert(&file).unwrap();
    assert_eq!(size, 16 << 20);
    let used = |file: &File| file.metadata().unwrap().blocks() * 512;
    assert!(used(&File::open(cache.blob_path(&digest)).unwrap()) < 1 << 20);
    let to = tempfile::tempfile().unwrap();
    cache.fetch(&digest, size, &to).unwrap();
    assert!(used(&to) < 1 << 20);
    assert_eq!(hash(&to).unwrap(), (digest, size));
}

#[test]
fn writers_of_the_same_and_of_different_contents_agree() {
    let dir = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cache = open(dir.path());
                for size in (0..40).map(|n| n * 5000) {
                    let bytes = content(size);
                    let (digest, n) = cache.insert(&file_of(&bytes)).unwrap();
                    assert!(fetched(&cache, &digest, n).unwrap() == bytes);
                }
            });
        }
    });
    let report = open(dir.path()).verify(&mut |_| ()).unwrap();
    assert_eq!((report.blobs, report.wrong.len()), (40, 0));
}

#[test]
fn cut_at_every_operation() {
    let tempers = [
        Temper::Once(libc::ENOSPC),
        Temper::Torn(libc::EIO),
        Temper::Dead,
    ];
    for temper in tempers {
        for size in [100, 300_000] {
            let bytes = content(size);
            let digest = Digest::of(&bytes);
            for cut in 0.. {
                let dir = tempfile::tempdir().unwrap();
                open(dir.path());
                let disk = Arc::new(FaultyDisk::new(cut, temper));
                let cache = Cache::open(dir.path(), disk).unwrap();
                let inserted = cache.insert(&file_of(&bytes));
                let fetched_now = fetched(&cache, &digest, size as u64);
                if let Ok(fetched) = &fetched_now {
                    assert!(*fetched == bytes);
                }
                // Whatever became of it, nobody sees wrong bytes and the next one can store it.
                let cache = open(dir.path());
                if let Ok(fetched) = fetched(&cache, &digest, size as u64) {
                    assert!(fetched == bytes);
                }
                cache.insert(&file_of(&bytes)).unwrap();
                assert!(fetched(&cache, &digest, size as u64).unwrap() == bytes);
                if inserted.is_ok() && fetched_now.is_ok() {
                    break;
                }
            }
        }
    }
}
