//! What jobs have made in a workspace, and what they are at: the work of people is told from theirs, and
//! what a killed command left half made from what is whole.
//!
//! A log that all commands of the workspace append to and read, `.rfs/made`. A frame whose guard is wrong
//! ends it.

use super::locks::Locks;
use crate::base::Digest;
use crate::disk::{self, At, Disk};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first bytes of the log; one with others is of another version and tells nothing.
const MAGIC: &[u8] = b"rfs made 2\n";

/// A log with fewer entries is not made shorter.
const SHORT: usize = 1000;

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Thing {
    /// What it contained; none for what is no regular file.
    pub digest: Option<Digest>,
    /// The job that made it, whatever its command was.
    pub job: Digest,
}

/// What a job that runs may be changing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Its targets that are single files.
    pub files: Vec<String>,
    /// Its other targets: a directory, and the expression of names that lie below it.
    pub stars: Vec<(String, String)>,
    /// When it began, in ns since 1970.
    pub since: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Entry {
    Begun {
        job: Digest,
        claim: Claim,
    },
    /// Nothing half made of it is left.
    Ended {
        job: Digest,
    },
    Made {
        name: String,
        thing: Thing,
    },
    Gone {
        name: String,
    },
}

/// What is known of the files that jobs make.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    log: File,
    disk: Arc<dyn Disk>,
    locks: Locks,
    things: BTreeMap<String, Thing>,
    by_job: HashMap<Digest, BTreeSet<String>>,
    /// Jobs that have begun and not ended.
    open: BTreeMap<Digest, Claim>,
    /// Where reading goes on.
    end: u64,
    /// Entries read.
    n_read: usize,
    /// Entries not written yet.
    pending: Vec<Entry>,
}

impl Ledger {
    /// Opens the ledger in `.rfs`, and counts this command among those at work.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> disk::Result<Self> {
        let path = dir.join("made");
        let turn_path = dir.join("turn");
        let turn = disk.open_append(&turn_path)?;
        belong(&turn, &turn_path, dir, &*disk);
        disk::lock(&*disk, &turn, &turn_path)?;
        let locks = Locks::open(&dir.join("jobs"), &*disk)?;
        let alone = locks.alone();
        locks.enter();
        let mut ledger = Self {
            log: disk.open_append(&path)?,
            path,
            disk,
            locks,
            things: BTreeMap::new(),
            by_job: HashMap::new(),
            open: BTreeMap::new(),
            end: MAGIC.len() as u64,
            n_read: 0,
            pending: Vec::new(),
        };
        let mut magic = [0; MAGIC.len()];
        let known = ledger.log.read_exact_at(&mut magic, 0).is_ok() && magic == *MAGIC;
        if known {
            ledger.read()?;
        }
        let disk = &*ledger.disk;
        belong(&ledger.log, &ledger.path, dir, disk);
        belong(ledger.locks.file(), &dir.join("jobs"), dir, disk);
        let whole = known && ledger.end == ledger.size()?;
        let n_live = ledger.things.len() + ledger.open.len();
        if alone && (!whole || ledger.n_read > 2 * n_live + SHORT) {
            ledger.rewrite()?;
        }
        Ok(ledger)
    }

    fn size(&self) -> disk::Result<u64> {
        Ok(self.log.metadata().at("fstat", &self.path)?.size())
    }

    /// Writes a log of what is true now, and no more.
    fn rewrite(&mut self) -> disk::Result<()> {
        let made = self.things.iter().map(|(name, thing)| Entry::Made {
            name: name.clone(),
            thing: thing.clone(),
        });
        let begun = self.open.iter().map(|(job, claim)| Entry::Begun {
            job: *job,
            claim: claim.clone(),
        });
        let entries: Vec<Entry> = made.chain(begun).collect();
        let tmp = self.path.with_extension("new");
        drop(self.disk.unlink(&tmp));
        let file = self.disk.create(&tmp, 0o644)?;
        let bytes = [MAGIC, &frame(&entries)].concat();
        self.disk.write_at(&file, &tmp, &bytes, 0)?;
        self.disk.rename(&tmp, &self.path)?;
        self.log = self.disk.open_append(&self.path)?;
        if let Some(dir) = self.path.parent() {
            belong(&self.log, &self.path, dir, &*self.disk);
        }
        self.end = bytes.len() as u64;
        Ok(())
    }

    /// Takes in what was written since the last time.
    fn read(&mut self) -> disk::Result<()> {
        let size = self.size()?;
        if size <= self.end {
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(size - self.end).unwrap_or(0)];
        let read = self.log.read_exact_at(&mut bytes, self.end);
        read.at("read", &self.path)?;
        let mut rest = bytes.as_slice();
        while let Some((entries, after)) = unframe(rest) {
            self.end += (rest.len() - after.len()) as u64;
            rest = after;
            self.n_read += entries.len();
            for entry in entries {
                self.take_in(entry);
            }
        }
        Ok(())
    }

    fn take_in(&mut self, entry: Entry) {
        match entry {
            Entry::Begun { job, claim } => {
                self.open.insert(job, claim);
            }
            Entry::Ended { job } => {
                self.open.remove(&job);
            }
            Entry::Made { name, thing } => {
                self.forget(&name);
                self.by_job
                    .entry(thing.job)
                    .or_default()
                    .insert(name.clone());
                self.things.insert(name, thing);
            }
            Entry::Gone { name } => self.forget(&name),
        }
    }

    fn forget(&mut self, name: &str) {
        let Some(old) = self.things.remove(name) else {
            return;
        };
        if let Some(names) = self.by_job.get_mut(&old.job) {
            names.remove(name);
        }
    }

    fn add(&mut self, entry: Entry) {
        self.pending.push(entry.clone());
        self.take_in(entry);
    }

    /// Writes what is not written yet.
    ///
    /// # Errors
    /// The system call that failed. It is not tried again.
    pub fn write(&mut self) -> disk::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let before = self.size()?;
        let bytes = frame(&std::mem::take(&mut self.pending));
        let written = self.disk.append(&self.log, &self.path, &bytes);
        if written.is_err() && self.locks.alone() {
            // What is torn would hide all that comes after it. Others may have written behind it already.
            let _cut = self.disk.set_len(&self.log, &self.path, before);
        }
        written
    }

    /// Takes in what other commands have written.
    pub(super) fn refresh(&mut self) -> disk::Result<()> {
        self.write()?;
        self.read()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Thing> {
        self.things.get(name)
    }

    pub(super) fn put(&mut self, name: &str, thing: Thing) {
        if self.things.get(name) != Some(&thing) {
            let name = name.to_owned();
            self.add(Entry::Made { name, thing });
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if self.things.contains_key(name) {
            let name = name.to_owned();
            self.add(Entry::Gone { name });
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.things.keys().map(String::as_str)
    }

    /// The names that a job made, whatever its command was.
    pub(super) fn of(&self, job: Digest) -> Vec<String> {
        let names = self.by_job.get(&job);
        names.map_or(Vec::new(), |names| names.iter().cloned().collect())
    }

    /// A job is about to change what it claims.
    pub(super) fn begin(&mut self, job: Digest, claim: Claim) -> disk::Result<()> {
        self.add(Entry::Begun { job, claim });
        self.write()
    }

    /// A job leaves nothing half made.
    pub(super) fn end(&mut self, job: Digest) -> disk::Result<()> {
        if self.open.contains_key(&job) {
            self.add(Entry::Ended { job });
        }
        self.write()
    }

    /// Jobs that were begun by commands which are no more, locked for this one.
    pub(super) fn abandoned(&self) -> Vec<(Digest, Claim)> {
        let of_nobody = self.open.iter().filter(|(job, _)| self.locks.take(**job));
        of_nobody
            .map(|(job, claim)| (*job, claim.clone()))
            .collect()
    }

    /// Which jobs other commands are at.
    pub(super) fn locks(&self) -> &Locks {
        &self.locks
    }
}

/// The files that jobs have made in a workspace, by what its `.rfs` tells somebody who only reads.
#[must_use]
pub fn made(dir: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(dir.join("made")).unwrap_or_default();
    let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
    let mut names = BTreeSet::new();
    while let Some((entries, after)) = unframe(rest) {
        rest = after;
        for entry in entries {
            match entry {
                Entry::Made { name, .. } => _ = names.insert(name),
                Entry::Gone { name } => _ = names.remove(&name),
                Entry::Begun { .. } | Entry::Ended { .. } => {}
            }
        }
    }
    names
}

/// A file that root made in the workspace of somebody else is his: he must be able to use it later.
fn belong(file: &File, path: &Path, dir: &Path, disk: &dyn Disk) {
    if let (Ok(file_meta), Ok(dir)) = (file.metadata(), dir.metadata()) {
        if file_meta.uid() != dir.uid() {
            let _only_root_can = disk.fchown(file, path, dir.uid(), dir.gid());
        }
    }
}

/// Bytes of a frame before its entries: their length and their guard.
const HEAD: usize = 12;

fn frame(entries: &[Entry]) -> Vec<u8> {
    let body = postcard::to_stdvec(entries).expect("BUG: what was made cannot be encoded");
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&len.to_le_bytes(), guard(&body).as_slice(), &body].concat()
}

fn unframe(bytes: &[u8]) -> Option<(Vec<Entry>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let (body, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    if guard(body) != head[4..] {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, rest))
}

fn guard(body: &[u8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = Digest::of(body).0;
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn open(dir: &tempfile::TempDir) -> Ledger {
        Ledger::open(dir.path(), Arc::new(RealDisk)).unwrap()
    }

    fn thing(job: &[u8]) -> Thing {
        Thing {
            digest: None,
            job: Digest::of(job),
        }
    }

    fn claim() -> Claim {
        Claim {
            files: vec!["x".to_owned()],
            stars: Vec::new(),
            since: 7,
        }
    }

    #[test]
    fn what_is_torn_hides_nothing_that_comes_after() {
        use crate::disk::{FaultyDisk, Temper};
        for fault in 0.. {
            let dir = tempfile::tempdir().unwrap();
            drop(open(&dir));
            let disk = Arc::new(FaultyDisk::new(fault, Temper::Torn(libc::ENOSPC)));
            let Ok(mut ledger) = Ledger::open(dir.path(), disk) else {
                continue;
            };
            ledger.put("lost", thing(b"job"));
            let failed = ledger.write().is_err();
            ledger.put("kept", thing(b"other"));
            if failed {
                ledger.write().unwrap();
            } else {
                let _late = ledger.write();
            }
            drop(ledger);
            let known = open(&dir);
            assert_eq!(known.get("lost").is_some(), !failed, "fault {fault}");
            assert!(known.get("kept").is_some() || !failed, "fault {fault}");
            if !failed && known.get("kept").is_some() {
                break;
            }
        }
    }

    #[test]
    fn what_was_made_is_known_later_and_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (open(&dir), open(&dir));
        one.put("a", thing(b"job"));
        one.put("b", thing(b"other"));
        one.write().unwrap();
        assert_eq!(two.get("a"), None);
        two.put("c", thing(b"job"));
        two.refresh().unwrap();
        assert_eq!(two.of(Digest::of(b"job")), ["a", "c"]);
        two.remove("a");
        two.write().unwrap();
        one.refresh().unwrap();
        assert_eq!(one.names().collect::<Vec<_>>(), ["b", "c"]);
        drop((one, two));
        assert_eq!(open(&dir).of(Digest::of(b"job")), ["c"]);
    }

    #[test]
    fn what_a_dead_command_has_begun_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let job = Digest::of(b"job");
        let mut one = open(&dir);
        assert!(one.locks().take(job));
        one.begin(job, claim()).unwrap();
        let mut two = open(&dir);
        assert_eq!(two.abandoned(), [], "it is at work");
        drop(one);
        assert_eq!(two.abandoned(), [(job, claim())]);
        two.end(job).unwrap();
        assert_eq!(open(&dir).abandoned(), []);
    }

    #[test]
    fn a_torn_end_is_cut_off_and_a_long_log_made_short() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = open(&dir);
        for n in 0..2 * SHORT {
            one.put("a", thing(&n.to_le_bytes()));
            one.write().unwrap();
        }
        let long = one.size().unwrap();
        let torn = &frame(&[Entry::Gone {
            name: "a".to_owned(),
        }])[..9];
        one.disk.append(&one.log, &one.path, torn).unwrap();
        drop(one);
        let two = open(&dir);
        assert!(two.get("a").is_some() && two.size().unwrap() < long / 100);
    }
}
