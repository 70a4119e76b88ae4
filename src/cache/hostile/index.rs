//! An index whose pages were made on purpose, with right checksums: records that are missing, sound ones, or
//! values that say what is wrong. What comes out of it is served, and stays inside the workspace.

use super::*;
use crate::store::tests::forge;

const N_KEYS: u64 = 12;
/// Bytes that the whole test may take: a length that is believed would ask for gigabytes.
const MEMORY: u64 = 1 << 30;

fn key(n: u64) -> Digest {
    Digest::of(&n.to_le_bytes())
}

/// Bytes of memory that this process had at most (proc_pid_status(5)).
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() << 10
}

#[test]
fn forged_pages_of_the_index_serve_nothing_outside() {
    let mut space = Space::new();
    let mut dice = Dice::new(1);
    let cache = space.cache.path().to_owned();
    for n in 0..N_KEYS {
        let mut record = seeds().swap_remove(1);
        record.deps.truncate(usize::try_from(n).unwrap());
        record.outputs = space.outputs(&mut dice);
        // A record that is wrong in itself is not taken; another one is.
        while space.cache.add(&key(n), record.clone()).is_err() {
            record.outputs = space.outputs(&mut dice);
        }
    }
    let index = cache.join("index");
    let whole = fs::read(&index).unwrap();
    let before_all = peak();
    let (mut n_right, mut n_other, mut n_missing, mut n_damaged, mut n_served) = (0, 0, 0, 0, 0);
    let right: Vec<_> = (0..N_KEYS)
        .map(|n| space.cache.load(&key(n)).records)
        .collect();
    for seed in 0..n_rounds(100) {
        let mut dice = Dice::new(seed);
        fs::write(&index, &whole).unwrap();
        forge(&index, seed);
        let forged = Cache::open(&cache, Arc::new(RealDisk)).unwrap();
        let mut found = Vec::new();
        for n in 0..N_KEYS {
            let loaded = forged.load(&key(n));
            n_damaged += usize::from(loaded.damaged.is_some());
            match &loaded.records {
                same if *same == right[usize::try_from(n).unwrap()] => n_right += 1,
                none if none.is_empty() => n_missing += 1,
                _ => n_other += 1,
            }
            found.extend(loaded.records);
        }
        // Whoever asks in other ways gets an answer or an error as well.
        let _all = (forged.keys(), forged.stats(), forged.verify(&mut |_| ()));
        // Verifying may have dropped it.
        let _anew = forged.insert_bytes(b"content");
        space.cache = forged;
        for record in found {
            assert_eq!(sound(&record), Ok(()), "seed {seed}");
            space.fill(&mut dice);
            let before = space.outside();
            let (root, stage) = (space.root(), space.root().join(".rfs/stage"));
            let staged = Staged::prepare(&space.cache, &record, &root, &stage);
            n_served += usize::from(staged.map(Staged::commit).is_ok_and(|put| put.is_ok()));
            assert_eq!(space.outside(), before, "seed {seed}: {:?}", record.outputs);
        }
    }
    let counts = format!(
        "{n_right} as stored, {n_other} others, {n_missing} missing, {n_damaged} damaged, {n_served} served"
    );
    assert!(
        n_right > 100 && n_other > 20 && n_missing > 100 && n_damaged > 20 && n_served > 20,
        "{counts}"
    );
    assert!(peak() < before_all + MEMORY, "{} bytes at most", peak());
}
