//! redb. As LMDB has it.

use crate::Engine;
use crate::lmdb::{pack, unpack};
use crate::work::{Size, Step};
use redb::{
    Database, Durability, MultimapTableDefinition, ReadOnlyTable, ReadableDatabase,
    ReadableTableMetadata, TableDefinition,
};
use std::path::Path;

const NUMBERS: TableDefinition<'_, &str, u32> = TableDefinition::new("numbers");
const NAMES: TableDefinition<'_, u32, &str> = TableDefinition::new("names");
const EXECUTIONS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("executions");
const READERS: MultimapTableDefinition<'_, u32, u32> = MultimapTableDefinition::new("readers");

pub struct Redb {
    look: Option<(ReadOnlyTable<&'static str, u32>, ReadOnlyTable<u32, &'static str>)>,
    db: Database,
    n_executions: u32,
}

impl Engine for Redb {
    fn open(dir: &Path, _size: Size) -> Self {
        let db = Database::create(dir.join("redb")).unwrap();
        let txn = db.begin_read().unwrap();
        let look = match (txn.open_table(NUMBERS), txn.open_table(NAMES)) {
            (Ok(numbers), Ok(names)) => Some((numbers, names)),
            _ => None,
        };
        let n_executions = txn.open_table(EXECUTIONS).map_or(0, |table| table.len().unwrap());
        drop(txn);
        Self { look, db, n_executions: u32::try_from(n_executions).unwrap() }
    }

    fn add_names(&mut self, first: u32, names: &[String]) {
        let mut txn = self.db.begin_write().unwrap();
        txn.set_durability(Durability::None).unwrap();
        {
            let mut numbers = txn.open_table(NUMBERS).unwrap();
            let mut by_number = txn.open_table(NAMES).unwrap();
            for (number, name) in (first..).zip(names) {
                numbers.insert(name.as_str(), number).unwrap();
                by_number.insert(number, name.as_str()).unwrap();
            }
        }
        txn.commit().unwrap();
    }

    fn add(&mut self, steps: &[Step], durable: bool) {
        let mut txn = self.db.begin_write().unwrap();
        let durability = if durable { Durability::Immediate } else { Durability::None };
        txn.set_durability(durability).unwrap();
        {
            let mut executions = txn.open_table(EXECUTIONS).unwrap();
            let mut readers = txn.open_multimap_table(READERS).unwrap();
            for step in steps {
                executions.insert(&step.key, pack(step).as_slice()).unwrap();
                for (name, _) in &step.deps {
                    readers.insert(name, self.n_executions).unwrap();
                }
                self.n_executions += 1;
            }
        }
        txn.commit().unwrap();
    }

    fn find(&self, name: &str) -> u32 {
        let (numbers, _) = self.look.as_ref().unwrap();
        numbers.get(name).unwrap().unwrap().value()
    }

    fn name(&self, number: u32) -> Vec<u8> {
        let (_, names) = self.look.as_ref().unwrap();
        names.get(number).unwrap().unwrap().value().into()
    }

    fn deps(&self, key: &[u8; 32]) -> Vec<(Vec<u8>, bool)> {
        let txn = self.db.begin_read().unwrap();
        let table = txn.open_table(EXECUTIONS).unwrap();
        let bytes = table.get(key).unwrap().unwrap();
        unpack(bytes.value()).map(|(name, there)| (self.name(name), there)).collect()
    }

    fn readers(&self, name: &str) -> usize {
        let txn = self.db.begin_read().unwrap();
        let table = txn.open_multimap_table(READERS).unwrap();
        table.get(self.find(name)).unwrap().map(|one| one.unwrap().value()).count()
    }

    fn settle(&mut self) {
        self.db.begin_write().unwrap().commit().unwrap();
    }
}
