//! The store of rfs.

use crate::Engine;
use crate::work::{Size, Step};
use rfs::base::{
    Access, Cost, Dep, Digest, Name, Output, Provenance, Record, Stamp, State, Stdin, What,
};
use rfs::disk::RealDisk;
use rfs::store::{Durability, Snapshot, Store, graph, history, nodes, recover};
use std::path::Path;
use std::sync::Arc;

pub struct Ours {
    store: Arc<Store>,
    state: Arc<Snapshot>,
    size: Size,
}

fn record(step: &Step, size: Size) -> Record {
    let name = |number: u32| Name::from_bytes(size.name(number).as_bytes());
    let deps = step.deps.iter().map(|(number, content)| Dep {
        name: name(*number),
        access: Access::KIND | Access::REG,
        state: match content {
            None => State::Absent,
            Some(content) => State::File {
                mode: [0o644, 1000, 1000],
                size: u64::from(*content),
                mtime: 0,
                digest: Some(Digest::of(&content.to_le_bytes())),
            },
        },
        rank: 0,
    });
    Record {
        title: format!("c++ -c -o {}", size.name(step.output)),
        deps: deps.collect(),
        outputs: vec![Output {
            name: name(step.output),
            what: What::File {
                digest: Digest::of(&step.key),
                size: 1000,
                mode: 0o644,
                in_place: false,
            },
            stamp: Stamp::Now(0),
            owner: None,
        }],
        chunks: vec![],
        stdin: Stdin::Unread,
        status: 0,
        notes: vec![],
        cost: Cost { wall_us: 1_000_000, ..Cost::default() },
        provenance: Provenance::default(),
        ..Record::default()
    }
}

impl Engine for Ours {
    fn open(dir: &Path, size: Size) -> Self {
        let disk: Arc<dyn rfs::disk::Disk> = Arc::new(RealDisk);
        let store = recover::open(&dir.join("store"), &disk).0.unwrap();
        let state = store.snapshot().unwrap();
        Self { store, state, size }
    }

    fn add_names(&mut self, _first: u32, names: &[String]) {
        let mut txn = self.store.begin().unwrap();
        for name in names {
            nodes::add(&mut txn, &Name::from_bytes(name.as_bytes())).unwrap();
        }
        self.state = txn.commit(Durability::Lazy).unwrap();
    }

    fn add(&mut self, steps: &[Step], durable: bool) {
        let mut txn = self.store.begin().unwrap();
        for step in steps {
            let record = record(step, self.size);
            let added = history::add(&mut txn, &Digest(step.key), &record, 0).unwrap();
            graph::note_readers(&mut txn, added).unwrap();
        }
        let durability = if durable { Durability::Durable } else { Durability::Lazy };
        self.state = txn.commit(durability).unwrap();
    }

    fn find(&self, name: &str) -> u32 {
        let found = nodes::find(&*self.state, name.as_bytes()).unwrap();
        found.expect("a name that was added").0
    }

    fn name(&self, number: u32) -> Vec<u8> {
        nodes::name(&*self.state, nodes::Node(number)).unwrap().bytes().to_vec()
    }

    fn deps(&self, key: &[u8; 32]) -> Vec<(Vec<u8>, bool)> {
        let found = history::under(&*self.state, &Digest(*key)).unwrap();
        let record = history::record(&*self.state, found[0]).unwrap();
        let deps = record.deps.iter();
        deps.map(|dep| (dep.name.bytes().to_vec(), dep.state != State::Absent)).collect()
    }

    fn readers(&self, name: &str) -> usize {
        let name = Name::from_bytes(name.as_bytes());
        graph::readers(&*self.state, &name, true).unwrap().len()
    }
}
