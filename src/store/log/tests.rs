//! The log against every cut, every flipped byte, and other writers.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

use super::*;
use crate::disk::{FaultyDisk, RealDisk, Temper};
use std::thread;

const FORMAT: Format = Format {
    magic: *b"rfs-test",
    version: 3,
};

type Opened = (Log, Vec<Vec<u8>>, Vec<Error>);

fn open_on(path: &Path, disk: Arc<dyn Disk>) -> Result<Opened, Error> {
    let (mut payloads, mut damage) = (vec![], vec![]);
    let log = Log::open(path, FORMAT, disk, &mut damage, |payload| {
        payloads.push(payload.to_vec());
    })?;
    Ok((log, payloads, damage))
}

fn open(path: &Path) -> Opened {
    open_on(path, Arc::new(RealDisk)).unwrap()
}

fn payload(n: usize) -> Vec<u8> {
    vec![u8::try_from(n).unwrap(); n * 7]
}

fn write(path: &Path, n: usize) {
    let (mut log, ..) = open(path);
    for n in 0..n {
        log.append(&payload(n)).unwrap();
    }
}

#[test]
fn what_was_appended_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    assert!(open(&path).1.is_empty() && !path.exists());
    write(&path, 5);
    let (_, payloads, damage) = open(&path);
    assert_eq!(payloads, (0..5).map(payload).collect::<Vec<_>>());
    assert!(damage.is_empty());
}

#[test]
fn a_torn_tail_is_no_damage_and_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write(&path, 3);
    let whole = fs::read(&path).unwrap();
    let starts = [16, 24, 39];
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (mut log, payloads, damage) = open(&path);
        assert!(damage.is_empty(), "{cut}: {damage:?}");
        let n = starts.iter().skip(1).filter(|start| **start <= cut).count();
        assert_eq!(payloads, (0..n).map(payload).collect::<Vec<_>>(), "{cut}");
        log.append(b"next").unwrap();
        let (_, payloads, damage) = open(&path);
        assert_eq!(payloads.len(), n + 1);
        assert_eq!(payloads[n], b"next");
        assert!(damage.is_empty());
    }
}

#[test]
fn a_flipped_byte_is_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write(&path, 5);
    let whole = fs::read(&path).unwrap();
    let right: Vec<_> = (0..5).map(payload).collect();
    for at in 0..whole.len() {
        for bit in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            fs::write(&path, &bytes).unwrap();
            let (mut log, payloads, _) = open(&path);
            assert!(payloads.len() < 5);
            assert!(payloads.iter().all(|payload| right.contains(payload)));
            log.append(b"next").unwrap();
            assert_eq!(open(&path).1.last().unwrap(), b"next");
        }
    }
}

#[test]
fn a_damaged_payload_in_the_middle_costs_that_frame_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write(&path, 5);
    let mut bytes = fs::read(&path).unwrap();
    bytes[16 + 8 + 8] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (_, payloads, damage) = open(&path);
    assert_eq!(payloads, [0, 2, 3, 4].map(payload));
    assert!(matches!(damage[..], [Error::Damaged { at: 24, .. }]));
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let newer = Format {
        version: 4,
        ..FORMAT
    };
    let mut damage = vec![];
    let mut log = Log::open(&path, newer, Arc::new(RealDisk), &mut damage, |_| ()).unwrap();
    log.append(b"x").unwrap();
    let before = fs::read(&path).unwrap();
    let error = open_on(&path, Arc::new(RealDisk)).unwrap_err();
    assert!(error.to_string().contains("newer rfs"));
    assert!(error.to_string().contains(path.to_str().unwrap()));
    let (mut stale, ..) = open(&dir.path().join("other"));
    stale.path.clone_from(&path);
    assert!(matches!(
        stale.append(b"y"),
        Err(Error::Newer { found: 4, .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn writers_do_not_lose_each_others_frames() {
    const EACH: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    thread::scope(|scope| {
        for writer in 0..4_u8 {
            let path = &path;
            scope.spawn(move || {
                let (mut log, ..) = open(path);
                for n in 0..EACH {
                    log.append(&[writer, u8::try_from(n).unwrap()]).unwrap();
                    if n % 10 == 9 {
                        log.rewrite(|all| all.map(<[u8]>::to_vec).collect())
                            .unwrap();
                    }
                }
            });
        }
    });
    let (_, mut payloads, damage) = open(&path);
    payloads.sort();
    payloads.dedup();
    assert_eq!(payloads.len(), 4 * EACH);
    assert!(damage.is_empty());
}

#[test]
fn killed_at_every_operation() {
    for cut in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write(&path, 2);
        let disk = Arc::new(FaultyDisk::new(cut, Temper::Dead));
        let (mut log, ..) = open_on(&path, disk.clone()).unwrap();
        let appended = log.append(&payload(2)).is_ok();
        let rewritten = log
            .rewrite(|all| all.skip(1).map(<[u8]>::to_vec).collect())
            .is_ok();
        let (mut log, payloads, damage) = open(&path);
        assert!(damage.is_empty());
        let first = usize::from(rewritten);
        let last = if appended { 3 } else { 2 };
        assert_eq!(payloads, (first..last).map(payload).collect::<Vec<_>>());
        log.append(b"next").unwrap();
        log.rewrite(|all| all.map(<[u8]>::to_vec).collect())
            .unwrap();
        assert_eq!(open(&path).1.last().unwrap(), b"next");
        if rewritten {
            assert!(cut >= 8, "the workload shrank");
            break;
        }
    }
}
