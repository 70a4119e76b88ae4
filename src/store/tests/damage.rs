//! A store of executions whose pages were damaged, or made on purpose: errors or right answers.

#![allow(clippy::disallowed_methods)] // damages files

use super::history::{Contents, file, key, name, open, read, record, sample};
use super::random::Random;
use crate::disk::{Disk, RealDisk};
use crate::store::history;
use crate::store::layout::PAGE;
use crate::store::schema::SCHEMA;
use crate::store::{Durability, Error, Pages, PagesMut, Segment, Store};
use crate::store::{digests, graph, rebuild};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Asks everything that can be asked.
fn ask(path: &Path) -> Result<Contents, Error> {
    let store = Store::open(path, SCHEMA, Arc::new(RealDisk))?;
    let snapshot = store.snapshot()?;
    let state = read(&snapshot)?;
    for n in 0..20 {
        graph::readers(&*snapshot, &name(n), true)?;
        if let Some(writer) = graph::writer(&*snapshot, &name(n))? {
            graph::since(&*snapshot, writer)?;
        }
    }
    for build in graph::builds(&*snapshot)? {
        graph::steps(&*snapshot, build.number)?;
    }
    Ok(state)
}

#[test]
fn no_damaged_page_changes_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let right = sample(&path);
    let whole = fs::read(&path).unwrap();
    let n_pages = (whole.len() / PAGE) as u64;
    let image = dir.path().join("image");
    let mut random = Random(11);
    let mut n_found = 0;
    for round in 0..600 {
        let mut bytes = whole.clone();
        let page = |n: u64| usize::try_from(n).unwrap() * PAGE;
        let (one, two) = (page(random.below(n_pages)), page(random.below(n_pages)));
        match round % 4 {
            0 => bytes[one..one + PAGE].fill(0),
            1 => {
                bytes.copy_within(one..one + PAGE, two);
                bytes[one..one + PAGE].copy_from_slice(&whole[two..two + PAGE]);
            }
            2 => bytes.truncate(one + usize::try_from(random.below(PAGE as u64)).unwrap()),
            _ => {
                for _ in 0..1 + random.below(4) {
                    let at = usize::try_from(random.below(whole.len() as u64)).unwrap();
                    bytes[at] ^= 1 << random.below(8);
                }
            }
        }
        fs::write(&image, &bytes).unwrap();
        match ask(&image) {
            Ok(state) => assert_eq!(state, right, "round {round}"),
            Err(_) => n_found += 1,
        }
    }
    assert!(n_found > 200, "{n_found}");
}

/// Pages with right crcs and wrong content: what a fault of ours, or somebody on purpose, would leave.
#[test]
fn pages_made_on_purpose_give_errors_or_answers_but_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    sample(&path);
    let whole = fs::read(&path).unwrap();
    let image = dir.path().join("image");
    let mut n_errors = 0;
    for seed in 0..250 {
        let mut random = Random(seed);
        fs::write(&image, &whole).unwrap();
        let store = open(&image);
        let mut txn = store.begin().unwrap();
        let n_changes = 1 + random.below(3);
        for _ in 0..n_changes {
            let segment = Segment(u8::try_from(random.below(15)).unwrap());
            let n_pages = u64::from(txn.n_pages(segment));
            if n_pages == 0 {
                continue;
            }
            let no = u32::try_from(random.below(n_pages)).unwrap();
            let page = txn.page_mut(segment, no).unwrap();
            for _ in 0..1 + random.below(3) {
                // Near the start there is more that matters.
                let at = usize::try_from(random.below(200) * 4 % PAGE as u64).unwrap();
                let value = [0, 1, u64::MAX, 0x7fff_ffff, random.next()]
                    [usize::try_from(random.below(5)).unwrap()];
                let value = u32::try_from(value & 0xffff_ffff).unwrap();
                page[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        txn.commit(Durability::Lazy).unwrap();
        n_errors += usize::from(ask(&image).is_err());
        // Writing on such ground may fail, and may not panic or hang either.
        let mut txn = store.begin().unwrap();
        let mut change = || -> Result<(), Error> {
            history::add(&mut txn, &key(1), &record(seed, 20, 200), 1)?;
            for execution in history::all(&txn)?.into_iter().take(3) {
                history::remove(&mut txn, execution)?;
            }
            digests::put(&mut txn, &file(1), &key(2))
        };
        n_errors += usize::from(change().is_err());
    }
    assert!(n_errors > 25, "{n_errors}");
}

#[test]
fn what_is_whole_in_a_damaged_store_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let right = sample(&path);
    let whole = fs::read(&path).unwrap();
    let image = dir.path().join("image");
    let (mut n_all, mut n_some) = (0, 0);
    for page in 0..whole.len() / PAGE {
        let mut bytes = whole.clone();
        bytes[page * PAGE..][..PAGE].fill(0);
        fs::write(&image, &bytes).unwrap();
        let fresh = dir.path().join(format!("fresh-{page}"));
        let store = open(&fresh);
        let copied = rebuild::salvage(&image, &store, &disk);
        let found = read(&store.snapshot().unwrap()).unwrap();
        for (key, records) in &found.records {
            let old = &right.records[key];
            assert!(
                records.iter().all(|record| old.contains(record)),
                "page {page}"
            );
        }
        for (ino, digest) in &found.memo {
            assert_eq!(right.memo[ino], *digest);
        }
        match copied {
            Ok(copied) if copied.lost == 0 => {
                assert_eq!(found.memo, right.memo);
                n_all += 1;
            }
            Ok(_) => n_some += 1,
            Err(error) => assert!(error.is_loss(), "{error}"),
        }
    }
    assert!(n_all > 0 && n_some > 5, "{n_all} {n_some}");
}
