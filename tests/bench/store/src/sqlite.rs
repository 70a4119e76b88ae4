//! SQLite: names and executions by number, deps in a vector by key, readers in a table without row ids.
//! Write-ahead log; builds' commits do not sync.

use crate::Engine;
use crate::lmdb::{pack, unpack};
use crate::work::{Size, Step};
use rusqlite::{Connection, params};
use std::path::Path;

pub struct Sqlite {
    db: Connection,
    n_executions: u32,
}

impl Engine for Sqlite {
    fn open(dir: &Path, _size: Size) -> Self {
        let db = Connection::open(dir.join("sqlite")).unwrap();
        db.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = off; pragma mmap_size = 34359738368;
             create table if not exists names (number integer primary key, name text unique not null);
             create table if not exists executions
                 (number integer primary key, key blob unique not null, deps blob not null);
             create table if not exists readers
                 (name integer, execution integer, primary key (name, execution)) without rowid;",
        )
        .unwrap();
        db.set_prepared_statement_cache_capacity(16);
        let count = "select coalesce(max(number) + 1, 0) from executions";
        let n_executions = db.query_row(count, [], |row| row.get(0)).unwrap();
        Self { db, n_executions }
    }

    fn add_names(&mut self, first: u32, names: &[String]) {
        let txn = self.db.transaction().unwrap();
        {
            let mut insert = txn.prepare_cached("insert into names values (?, ?)").unwrap();
            for (number, name) in (first..).zip(names) {
                insert.execute(params![number, name]).unwrap();
            }
        }
        txn.commit().unwrap();
    }

    fn add(&mut self, steps: &[Step], durable: bool) {
        let mode = if durable { "full" } else { "off" };
        self.db.pragma_update(None, "synchronous", mode).unwrap();
        let txn = self.db.transaction().unwrap();
        {
            let add = "insert into executions values (?, ?, ?)";
            let mut insert = txn.prepare_cached(add).unwrap();
            let mut reader = txn.prepare_cached("insert or ignore into readers values (?, ?)").unwrap();
            for step in steps {
                insert.execute(params![self.n_executions, step.key, pack(step)]).unwrap();
                for (name, _) in &step.deps {
                    reader.execute(params![name, self.n_executions]).unwrap();
                }
                self.n_executions += 1;
            }
        }
        txn.commit().unwrap();
    }

    fn find(&self, name: &str) -> u32 {
        let mut find = self.db.prepare_cached("select number from names where name = ?").unwrap();
        find.query_row([name], |row| row.get(0)).unwrap()
    }

    fn name(&self, number: u32) -> Vec<u8> {
        let mut find = self.db.prepare_cached("select name from names where number = ?").unwrap();
        find.query_row([number], |row| row.get::<_, String>(0)).unwrap().into()
    }

    fn deps(&self, key: &[u8; 32]) -> Vec<(Vec<u8>, bool)> {
        let mut find = self.db.prepare_cached("select deps from executions where key = ?").unwrap();
        let bytes: Vec<u8> = find.query_row([key], |row| row.get(0)).unwrap();
        unpack(&bytes).map(|(name, there)| (self.name(name), there)).collect()
    }

    fn readers(&self, name: &str) -> usize {
        let count = "select execution from readers where name = ?";
        let mut find = self.db.prepare_cached(count).unwrap();
        let number = self.find(name);
        find.query_map([number], |row| row.get::<_, u32>(0)).unwrap().count()
    }

    fn settle(&mut self) {
        let checkpoint = "pragma wal_checkpoint(truncate)";
        self.db.query_row(checkpoint, [], |_| Ok(())).unwrap();
    }
}
