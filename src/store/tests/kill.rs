//! Processes that write to one store and are killed.

#![allow(clippy::disallowed_methods)] // the tests' own processes read the environment

use super::random::Random;
use crate::base::{Access, Dep, Digest, Identity, Name, Provenance, Record, State, Stdin};
use crate::disk::RealDisk;
use crate::store::schema::SCHEMA;
use crate::store::{Durability, Pages, Snapshot, Store, digests, history};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// The store that a process of a test writes to.
const STORE: &str = "RFS_TEST_STORE";
/// The number of that process.
const WRITER: &str = "RFS_TEST_WRITER";

fn open(path: &Path) -> Store {
    Store::open(path, SCHEMA, Arc::new(RealDisk)).unwrap()
}

fn key(writer: u64) -> Digest {
    Digest::of(&writer.to_le_bytes())
}

fn file(writer: u64) -> Identity {
    Identity {
        dev: writer,
        ino: 1,
        ..Identity::default()
    }
}

/// What a writer writes in a round: many sizes, so that pages are used again in new places.
fn record(writer: u64, round: u64) -> Record {
    let mut random = Random(writer << 32 | round);
    let title = "t".repeat(usize::try_from(random.below(6000)).unwrap());
    let deps = (0..random.below(120)).map(|_| Dep {
        name: Name::from_bytes(format!("dir-{}/file", random.below(300)).as_bytes()),
        access: Access::KIND,
        state: State::Absent,
        rank: 0,
    });
    Record {
        title: format!("{writer} {round} {title}"),
        deps: deps.collect(),
        outputs: vec![],
        chunks: vec![],
        stdin: Stdin::Unread,
        status: 0,
        notes: vec![],
        cost: crate::base::Cost {
            wall_us: round,
            ..crate::base::Cost::default()
        },
        provenance: Provenance::default(),
        ..Record::default()
    }
}

/// The last round of a writer, all of whose traces are as they should be.
fn last_round(snapshot: &Snapshot, writer: u64) -> u64 {
    let executions = history::under(snapshot, &key(writer)).unwrap();
    let Some(newest) = executions.first() else {
        return 0;
    };
    let round = history::facts(snapshot, *newest).unwrap().saves_us;
    for (execution, round) in executions.iter().zip((1..=round).rev()) {
        let found = history::record(snapshot, *execution).unwrap();
        assert_eq!(found, record(writer, round));
    }
    assert_eq!(executions.len() as u64, round.min(8));
    let digest = digests::get(snapshot, &file(writer)).unwrap();
    assert_eq!(digest, Some(key(round)));
    round
}

/// Writes rounds, and tells each when it is committed.
fn write_rounds(path: &Path, writer: u64, n_rounds: u64, out: &mut dyn Write) {
    let store = open(path);
    let mut round = last_round(&store.snapshot().unwrap(), writer);
    for _ in 0..n_rounds {
        round += 1;
        let mut txn = store.begin().unwrap();
        history::add(&mut txn, &key(writer), &record(writer, round), 0).unwrap();
        for old in history::under(&txn, &key(writer))
            .unwrap()
            .into_iter()
            .skip(8)
        {
            history::remove(&mut txn, old).unwrap();
        }
        digests::put(&mut txn, &file(writer), &key(round)).unwrap();
        let durable = round % 16 == 0;
        txn.commit([Durability::Lazy, Durability::Durable][usize::from(durable)])
            .unwrap();
        writeln!(out, "committed {round}").unwrap();
    }
}

/// With a store in its environment this is one of the processes that the other tests kill.
#[test]
fn a_writer_goes_on_where_it_was() {
    if let Some(path) = env::var_os(STORE) {
        let writer = env::var(WRITER).unwrap().parse().unwrap();
        let mut out = std::io::stdout();
        return write_rounds(&PathBuf::from(path), writer, u64::MAX, &mut out);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    for times in 1..4 {
        write_rounds(&path, 1, 10, &mut Vec::new());
        assert_eq!(last_round(&open(&path).snapshot().unwrap(), 1), times * 10);
    }
}

fn spawn(path: &Path, writer: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "store::tests::kill::a_writer_goes_on_where_it_was",
        ])
        .env(STORE, path)
        .env(WRITER, writer.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a writer when it has told of so many rounds; gives the last that it told of.
fn kill_after(mut child: Child, n_rounds: u64, spin: u64) -> u64 {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let round = |line: &str| -> Option<u64> { line.split("committed ").nth(1)?.parse().ok() };
    let mut last = 0;
    let mut n_told = 0;
    while n_told < n_rounds {
        let line = lines.next().expect("a writer that goes on").unwrap();
        if let Some(round) = round(&line) {
            (last, n_told) = (round, n_told + 1);
        }
    }
    // Somewhere within a later round.
    for n in 0..spin {
        std::hint::black_box(n);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had told before it was killed, its last line perhaps cut.
    for line in lines {
        last = line
            .ok()
            .and_then(|line| round(&line))
            .unwrap_or(last)
            .max(last);
    }
    last
}

#[test]
fn killed_at_any_moment_nothing_committed_is_lost() {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let n_kills = match (env::var_os("RFS_LONG"), number("RFS_LONG")) {
        (_, Some(n_kills @ 2..)) => n_kills,
        (Some(_), _) => 10_000,
        (None, _) => 500,
    };
    let seed = number("RFS_SEED").unwrap_or(21);
    println!("{n_kills} kills, RFS_SEED={seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut told = 0;
    for kill in 0..n_kills {
        let (n_rounds, spin) = (1 + random.below(3), random.below(400_000));
        told = kill_after(spawn(&path, 1), n_rounds, spin).max(told);
        // Not refused, however shortly after: nobody holds the lock any more.
        let store = open(&path);
        drop(store.begin().unwrap());
        let snapshot = store.snapshot().unwrap();
        snapshot.check().unwrap();
        let found = last_round(&snapshot, 1);
        assert!(
            found == told || found == told + 1,
            "kill {kill}: {found}, told {told}"
        );
        told = found;
    }
    let len = fs::metadata(&path).unwrap().len();
    assert!(len < 8 << 20, "{len} bytes: pages are lost at kills");
}

#[test]
fn two_processes_write_to_one_store_and_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut random = Random(22);
    let mut told = [0, 0];
    for _ in 0..20 {
        let children = [spawn(&path, 0), spawn(&path, 1)];
        // This one reads meanwhile.
        let reader = open(&path);
        for _ in 0..20 {
            let snapshot = reader.snapshot().unwrap();
            for writer in 0..2 {
                last_round(&snapshot, writer);
            }
        }
        for (writer, child) in (0..).zip(children) {
            let last = kill_after(child, 1 + random.below(4), random.below(100_000));
            told[writer] = last.max(told[writer]);
        }
        let snapshot = reader.snapshot().unwrap();
        snapshot.check().unwrap();
        for (writer, told) in (0..).zip(&mut told) {
            let found = last_round(&snapshot, writer);
            assert!(found == *told || found == *told + 1, "{found}, told {told}");
            *told = found;
        }
    }
    assert!(told.iter().all(|rounds| *rounds >= 20), "{told:?}");
    assert!(
        open(&path)
            .snapshot()
            .unwrap()
            .n_pages(super::super::Segment(0))
            > 0
    );
}
