//! Tables, heap, index and names against what the standard library has.

use super::random::Random;
use crate::disk::RealDisk;
use crate::store::heap::Heap;
use crate::store::index::Index;
use crate::store::names::Names;
use crate::store::table::Table;
use crate::store::{Durability, Error, Pages, Store, Txn};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

const NAMES: Names = Names {
    tree: Heap::new(0),
    nodes: Table::new(1, 4),
};
const TABLE: Table = Table::new(2, 24);
const HEAP: Heap = Heap::new(3);
const INDEX: Index = Index::new(4);

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path, 1, Arc::new(RealDisk)).unwrap();
    (dir, store)
}

/// Every name has its id, every id its name, and what was never put in is not found.
fn check_names(pages: &impl Pages, model: &HashMap<Vec<u8>, u32>) {
    assert_eq!(NAMES.nodes.count(pages).unwrap() as usize, model.len());
    let names: BTreeMap<_, _> = model.iter().collect();
    for (name, id) in names {
        assert_eq!(NAMES.find(pages, name).unwrap(), Some(*id), "{name:?}");
        assert_eq!(&NAMES.name(pages, *id).unwrap(), name);
        for len in (0..name.len()).step_by(1 + name.len() / 16) {
            let found = NAMES.find(pages, &name[..len]).unwrap();
            assert_eq!(found, model.get(&name[..len]).copied());
        }
        let mut longer = name.clone();
        longer.push(b'x');
        let found = NAMES.find(pages, &longer).unwrap();
        assert_eq!(found, model.get(&longer).copied());
        for start in [&name[..name.len() / 2], name, &longer] {
            let found: BTreeMap<_, _> = (NAMES.beginning(pages, start).unwrap().into_iter())
                .map(|(id, name)| (name, id))
                .collect();
            let there = model.iter().filter(|(name, _)| name.starts_with(start));
            let there: BTreeMap<_, _> = there.map(|(name, id)| (name.clone(), *id)).collect();
            assert_eq!(found, there, "{start:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_are_as_in_a_map(
        names in vec(
            prop_oneof![
                // Few letters, so that prefixes are shared; and long ones.
                vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'/')], 0..12),
                vec(any::<u8>(), 0..3),
                (0..700_usize).prop_map(|n| vec![b'l'; n]),
            ],
            0..60,
        ),
        commit_every in 1..20_usize,
    ) {
        let (_dir, store) = store();
        let mut model = HashMap::new();
        for names in names.chunks(commit_every) {
            let mut txn = store.begin().unwrap();
            for name in names {
                let id = NAMES.intern(&mut txn, name).unwrap();
                let next = u32::try_from(model.len()).unwrap() + 1;
                let expected = *model.entry(name.clone()).or_insert(next);
                prop_assert_eq!(id, expected);
            }
            check_names(&txn, &model);
            let snapshot = txn.commit(Durability::Lazy).unwrap();
            check_names(&*snapshot, &model);
        }
    }

    #[test]
    fn blocks_do_not_meet(
        ops in vec((any::<bool>(), prop_oneof![0..200_usize, 3000..5000_usize, 8000..70_000_usize], any::<prop::sample::Index>()), 0..80),
    ) {
        let (_dir, store) = store();
        let mut txn = store.begin().unwrap();
        let mut live: Vec<(u32, Vec<u8>)> = Vec::new();
        for (round, (add, len, which)) in ops.into_iter().enumerate() {
            if add || live.is_empty() {
                let bytes = vec![u8::try_from(round % 251).unwrap(); len];
                live.push((HEAP.add(&mut txn, &bytes).unwrap(), bytes));
            } else {
                let (address, _) = live.swap_remove(which.index(live.len()));
                HEAP.remove(&mut txn, address).unwrap();
            }
            for (address, bytes) in &live {
                let found = HEAP.read(&txn, *address).unwrap();
                prop_assert!(found == *bytes);
            }
        }
        // What was given back is given out again: as many blocks as before need no new page.
        let n_pages = txn.n_pages(HEAP.segment);
        for (address, _) in &live {
            HEAP.remove(&mut txn, *address).unwrap();
        }
        for (_, bytes) in &live {
            HEAP.add(&mut txn, bytes).unwrap();
        }
        prop_assert_eq!(txn.n_pages(HEAP.segment), n_pages);
    }

    #[test]
    fn an_index_finds_what_is_in_it(
        // Few hashes, so that they meet; ids tell which of them it is.
        ops in vec((any::<bool>(), 0..40_u32, any::<prop::sample::Index>()), 0..2000),
        far in any::<u32>(),
    ) {
        let (_dir, store) = store();
        let mut txn = store.begin().unwrap();
        let mut model: Vec<(u32, u32)> = Vec::new();
        for (id, (add, hash, which)) in (1..).zip(ops) {
            let hash = far.wrapping_add(hash * 13);
            if add || model.is_empty() {
                INDEX.insert(&mut txn, hash, id).unwrap();
                model.push((hash, id));
            } else {
                let (hash, id) = model.swap_remove(which.index(model.len()));
                INDEX.remove(&mut txn, hash, id).unwrap();
                prop_assert_eq!(INDEX.find(&txn, hash, |found| Ok(found == id)).unwrap(), None);
            }
        }
        prop_assert_eq!(INDEX.count(&txn).unwrap() as usize, model.len());
        for (hash, id) in model {
            let found = INDEX.find(&txn, hash, |found| Ok(found == id)).unwrap();
            prop_assert_eq!(found, Some(id));
        }
    }
}

#[test]
fn ids_given_back_are_given_out_again() {
    let (_dir, store) = store();
    let mut txn = store.begin().unwrap();
    let record = |n: u32| n.to_le_bytes().repeat(6);
    let ids: Vec<u32> = (1..=1000)
        .map(|n| TABLE.add(&mut txn, &record(n)).unwrap())
        .collect();
    assert_eq!(ids, (1..=1000).collect::<Vec<_>>());
    for id in [7, 500, 1000] {
        TABLE.remove(&mut txn, id).unwrap();
    }
    let again: BTreeSet<u32> = (0..3)
        .map(|_| TABLE.add(&mut txn, &record(9)).unwrap())
        .collect();
    assert_eq!(again, [7, 500, 1000].into());
    assert_eq!(TABLE.add(&mut txn, &record(1001)).unwrap(), 1001);
    assert_eq!(TABLE.get(&txn, 8).unwrap(), record(8));
    let missing = TABLE.get(&txn, 1002);
    assert!(matches!(missing, Err(Error::Unsound { .. })));
    assert!(TABLE.get(&txn, 0).is_err());
}

fn fill(txn: &mut Txn<'_>, n: u32) -> usize {
    let mut bytes = 0;
    for dir in 0..n / 100 {
        for file in 0..100 {
            let name =
                format!("src/component-{dir:03}/internal/generated/module_{file:02}_impl.cc");
            NAMES.intern(txn, name.as_bytes()).unwrap();
            bytes += name.len();
        }
    }
    bytes
}

#[test]
fn a_name_costs_few_bytes_whatever_its_length() {
    let (_dir, store) = store();
    let mut txn = store.begin().unwrap();
    let bytes = fill(&mut txn, 10_000);
    assert!(bytes / 10_000 > 50);
    let n_pages = txn.n_pages(NAMES.tree.segment) + 10_000 * 4 / 4096;
    let each = n_pages as usize * 4096 / 10_000;
    assert!(each <= 40, "{each} bytes a name");
}

#[test]
fn a_large_index_grows_and_keeps_everything() {
    let (_dir, store) = store();
    let mut txn = store.begin().unwrap();
    let mut random = Random(4);
    let hashes: Vec<u32> = (0..20_000)
        .map(|_| u32::try_from(random.next() >> 32).unwrap())
        .collect();
    for (id, hash) in (1..).zip(&hashes) {
        INDEX.insert(&mut txn, *hash, id).unwrap();
    }
    let snapshot = txn.commit(Durability::Lazy).unwrap();
    for (id, hash) in (1..).zip(&hashes) {
        let found = INDEX.find(&*snapshot, *hash, |found| Ok(found == id));
        assert_eq!(found.unwrap(), Some(id));
    }
}
