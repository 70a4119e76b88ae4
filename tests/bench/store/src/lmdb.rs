//! LMDB by heed. A dep is 9 bytes in a vector by key; readers are duplicates by name.

use crate::Engine;
use crate::work::{Size, Step};
use heed::types::{Bytes, Str, U32};
use heed::byteorder::BE;
use heed::{Database, DatabaseFlags, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls};
use std::path::Path;

type Number = U32<BE>;

pub struct Lmdb {
    /// Before the environment.
    reader: Option<RoTxn<'static, WithTls>>,
    env: Env,
    numbers: Database<Str, Number>,
    names: Database<Number, Str>,
    executions: Database<Bytes, Bytes>,
    readers: Database<Number, Number>,
    n_executions: u32,
}

impl Engine for Lmdb {
    fn open(dir: &Path, _size: Size) -> Self {
        let mut options = EnvOpenOptions::new();
        options.map_size(64 << 30).max_dbs(4);
        // Without syncs but where one is asked for, as builds want it.
        #[allow(unsafe_code)]
        // SAFETY: nobody else opens or writes the file.
        let env = unsafe {
            options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC);
            options.open(dir).unwrap()
        };
        let mut txn = env.write_txn().unwrap();
        let numbers = env.create_database(&mut txn, Some("numbers")).unwrap();
        let names = env.create_database(&mut txn, Some("names")).unwrap();
        let executions: Database<Bytes, Bytes> =
            env.create_database(&mut txn, Some("executions")).unwrap();
        let mut options = env.database_options().types::<Number, Number>();
        options.name("readers");
        options.flags(DatabaseFlags::DUP_SORT | DatabaseFlags::DUP_FIXED);
        let readers = options.create(&mut txn).unwrap();
        let n_executions = u32::try_from(executions.len(&txn).unwrap()).unwrap();
        txn.commit().unwrap();
        let reader = Some(env.clone().static_read_txn().unwrap());
        Self { reader, env, numbers, names, executions, readers, n_executions }
    }

    fn add_names(&mut self, first: u32, names: &[String]) {
        self.reader = None;
        let mut txn = self.env.write_txn().unwrap();
        for (number, name) in (first..).zip(names) {
            self.numbers.put(&mut txn, name, &number).unwrap();
            self.names.put(&mut txn, &number, name).unwrap();
        }
        txn.commit().unwrap();
    }

    fn add(&mut self, steps: &[Step], durable: bool) {
        let mut txn = self.env.write_txn().unwrap();
        for step in steps {
            self.executions.put(&mut txn, &step.key, &crate::lmdb::pack(step)).unwrap();
            for (name, _) in &step.deps {
                self.readers.put(&mut txn, name, &self.n_executions).unwrap();
            }
            self.n_executions += 1;
        }
        txn.commit().unwrap();
        if durable {
            self.env.force_sync().unwrap();
        }
    }

    fn find(&self, name: &str) -> u32 {
        self.numbers.get(self.txn(), name).unwrap().unwrap()
    }

    fn name(&self, number: u32) -> Vec<u8> {
        self.names.get(self.txn(), &number).unwrap().unwrap().into()
    }

    fn deps(&self, key: &[u8; 32]) -> Vec<(Vec<u8>, bool)> {
        let bytes = self.executions.get(self.txn(), key).unwrap().unwrap();
        unpack(bytes).map(|(name, there)| (self.name(name), there)).collect()
    }

    fn readers(&self, name: &str) -> usize {
        let number = self.find(name);
        let found = self.readers.get_duplicates(self.txn(), &number).unwrap();
        found.map_or(0, |found| found.map(|one| one.unwrap().1).count())
    }

    fn settle(&mut self) {
        self.env.force_sync().unwrap();
    }
}

impl Lmdb {
    fn txn(&self) -> &RoTxn<'static, WithTls> {
        self.reader.as_ref().expect("it was opened to look")
    }
}

/// Output, then for each dep: name, kind, content.
pub fn pack(step: &Step) -> Vec<u8> {
    let mut bytes = step.output.to_le_bytes().to_vec();
    for (name, content) in &step.deps {
        bytes.extend(name.to_le_bytes());
        bytes.push(u8::from(content.is_some()));
        bytes.extend(content.unwrap_or(0).to_le_bytes());
    }
    bytes
}

/// Names of deps, and whether they are there.
pub fn unpack(bytes: &[u8]) -> impl Iterator<Item = (u32, bool)> {
    bytes[4..].chunks_exact(9).map(|dep| {
        let name = u32::from_le_bytes(*dep.first_chunk().unwrap());
        (name, dep[4] != 0)
    })
}
