//! A step while it runs: what it looked at first, what it changed, what it printed.

use crate::base::scrap::Collecting;
use crate::base::{
    Access, Chunk, Cost, Digest, Held, JobId, Miss, PathId, Placement, Refusal, Seen, Start, Stdin,
};
use rfs_tracer::event::{Fd, FdTarget};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::BitOrAssign;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// More printed bytes than this are not kept for replaying.
const MAX_PRINTED: usize = 64 << 20;

/// A set of ways in which a path was changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wrote(u16);

impl Wrote {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// Made, or written from the start.
    pub const WHOLE: Self = Self(1);
    /// Written into.
    pub const PART: Self = Self(2);
    /// Removed or renamed away.
    pub const REMOVED: Self = Self(4);
    /// Permissions or owner set.
    pub const ATTRIBUTES: Self = Self(8);
    /// Time stamps set.
    pub const TIMES: Self = Self(16);
    /// Made with a name that must not exist (`O_EXCL`, mkdir(2)), as temporary files are.
    pub const FRESH: Self = Self(32);
    /// Extended attributes set.
    pub const XATTRS: Self = Self(64);
    /// Written over by a process that had not asked what was there, so that it cannot have removed it.
    pub const INTO: Self = Self(128);

    /// A name was made, removed or replaced: its directory has another time stamp.
    pub const NAME: Self = Self(256);

    /// Whether any of `other` is in the set.
    #[must_use]
    pub fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What was set of a file, which it keeps under another name.
    #[must_use]
    pub fn kept(self) -> Self {
        Self(self.0 & (Self::TIMES.0 | Self::XATTRS.0))
    }

    /// Whether the content may differ from what was there before.
    #[must_use]
    pub fn content(self) -> bool {
        self.any(Self(1 | 2 | 4))
    }

    /// What a look no longer tells of the world before these changes.
    #[must_use]
    pub fn hides(self) -> Access {
        if self.content() {
            return Access::ALL;
        }
        let mut hidden = Access::NONE;
        if self.any(Self::ATTRIBUTES) {
            hidden |= Access::MODE;
        }
        if self.any(Self::XATTRS) {
            hidden |= Access::PLAIN;
        }
        if self.any(Self::TIMES) {
            hidden |= Access::MTIME | Access::ORDER;
        }
        hidden
    }
}

impl BitOrAssign for Wrote {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What a step changed directly in a directory.
#[derive(Debug, Clone, Default)]
pub struct Inside {
    /// The paths that it changed.
    pub paths: Vec<PathId>,
    /// How often the build had changed names in it when the step had done so for the last time; 0 if it
    /// has not.
    pub named: u32,
    /// Whether names came and went in it of which nothing is known: a step inside was served.
    pub unknown: bool,
}

/// What a step did with one path.
#[derive(Debug, Clone)]
pub struct Entry {
    /// How it was looked at before the step changed it.
    pub access: Access,
    /// What was there at first.
    pub first: Arc<Seen>,
    /// How often the build had changed it at the first look.
    pub changes: u32,
    /// How often the step itself has changed it since.
    pub own: u32,
    /// Whether another step had it open for writing, perhaps, when this one changed it.
    pub shared: bool,
    /// Digest of the names in a directory, where they were looked at.
    pub listed: Option<Digest>,
    /// How the step changed it.
    pub wrote: Wrote,
    /// For a directory: how often it was statted less how often it was opened, by programs that
    /// compare time stamps. `make` stats a directory that it then lists; any stat beyond that compares.
    pub stats: i32,
}

/// One execution under watch.
#[derive(Debug)]
pub struct Step {
    /// Number in order of start.
    pub number: u32,
    /// Index of the step that started it.
    pub parent: Option<usize>,
    /// Its first process.
    pub pid: i32,
    /// Its command, for people.
    pub title: String,
    /// Its weak key; none for one that may not be looked up.
    pub key: Option<Digest>,
    /// Why it was not served.
    pub miss: Miss,
    /// When it started, and the same as ns since 1970.
    pub started: (Instant, i64),
    /// Descriptors it was started with.
    pub fds: Vec<Fd>,
    /// The program file.
    pub program: PathBuf,
    /// Its argument vector.
    pub argv: Vec<Vec<u8>>,
    /// What else it was given.
    pub start: Start,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Weak keys of the steps that it started.
    pub inner: Vec<Digest>,
    /// Its umask.
    pub umask: u32,
    /// Effective user and group.
    pub owner: (u32, u32),
    /// What it did with paths.
    pub paths: HashMap<PathId, Entry>,
    /// What it changed, by directories.
    pub changed_in: HashMap<PathId, Inside>,
    /// Directories that it made: nothing below them was there before.
    pub made: HashSet<PathId>,
    /// What it printed.
    pub chunks: Vec<Chunk>,
    printed: usize,
    /// Bytes printed by descriptor.
    pub printed_to: HashMap<i32, u64>,
    /// What it read from its standard input.
    pub stdin: Stdin,
    /// Files that it made for the steps that it started, and removed.
    pub scraps: Collecting,
    /// Why it may not be cached.
    pub refusal: Option<Refusal>,
    /// Things worth knowing.
    pub notes: BTreeSet<String>,
    /// Whether a process of it ended early because nobody read any more what it wrote to a pipe of the
    /// step's own.
    pub cut_short: bool,
    /// A pipe that it was started with, from which nobody reads any more.
    pub broken: Option<FdTarget>,
    /// What its processes that have ended have used; not the time from start to end.
    pub cost: Cost,
    /// What its first process had used, in microseconds, when it became this step.
    pub cpu_before: u64,
    /// Where it runs.
    pub placement: Placement,
    /// What it had to wait for before it started.
    pub held: Option<Held>,
    /// Whether it has ended.
    pub closed: bool,
    /// The job of a rule that it is.
    pub job: Option<JobId>,
}

impl Step {
    /// A step that is about to start.
    #[must_use]
    pub fn new(number: u32, parent: Option<usize>, pid: i32, title: String, now: i64) -> Self {
        Self {
            number,
            parent,
            pid,
            title,
            key: None,
            miss: Miss::Unknown,
            started: (Instant::now(), now),
            fds: Vec::new(),
            program: PathBuf::new(),
            argv: Vec::new(),
            start: Start::default(),
            cwd: PathBuf::new(),
            inner: Vec::new(),
            umask: 0o022,
            owner: (0, 0),
            paths: HashMap::new(),
            changed_in: HashMap::new(),
            made: HashSet::new(),
            chunks: Vec::new(),
            printed: 0,
            printed_to: HashMap::new(),
            stdin: Stdin::Unread,
            scraps: Collecting::default(),
            refusal: None,
            notes: BTreeSet::new(),
            cut_short: false,
            broken: None,
            cost: Cost::default(),
            cpu_before: 0,
            placement: Placement::default(),
            held: None,
            closed: false,
            job: None,
        }
    }

    /// Notes a look. Tells whether it says anything new about the world before the step: if not, it does
    /// not for the steps around this one either.
    pub fn read(&mut self, id: PathId, access: Access, seen: &Arc<Seen>, changes: u32) -> bool {
        if let Some(entry) = self.paths.get_mut(&id) {
            let told = access.without(entry.wrote.hides());
            if entry.access.has(told) {
                return false;
            }
            entry.access |= told;
            return true;
        }
        let entry = Entry {
            access,
            first: seen.clone(),
            changes,
            own: 0,
            shared: false,
            listed: None,
            wrote: Wrote::NOTHING,
            stats: 0,
        };
        self.paths.insert(id, entry);
        true
    }

    /// Notes a change that is about to happen in a directory, in which the build has changed names that often,
    /// this one counted in. `access` is what its outcome tells about what was there.
    pub fn write(
        &mut self,
        id: PathId,
        dir: Option<(PathId, u32)>,
        how: Wrote,
        access: Access,
        (before, changes): (&Arc<Seen>, u32),
    ) {
        let entry = self.paths.entry(id).or_insert_with(|| Entry {
            access,
            first: before.clone(),
            changes,
            own: 0,
            shared: false,
            listed: None,
            wrote: Wrote::NOTHING,
            stats: 0,
        });
        if entry.wrote == Wrote::NOTHING {
            entry.access |= access;
            if let Some((dir, _)) = dir {
                self.changed_in.entry(dir).or_default().paths.push(id);
            }
        }
        if let Some((dir, named)) = dir.filter(|_| how.any(Wrote::NAME)) {
            self.changed_in.entry(dir).or_default().named = named;
        }
        entry.wrote |= how;
        entry.changes = entry.changes.min(changes);
        entry.own += 1;
    }

    /// Whether the step has changed the path so far.
    #[must_use]
    pub fn wrote(&self, id: PathId) -> Wrote {
        self.paths
            .get(&id)
            .map_or(Wrote::NOTHING, |entry| entry.wrote)
    }

    /// Keeps printed bytes for descriptor `fd`.
    pub fn print(&mut self, fd: i32, bytes: &[u8]) {
        self.printed += bytes.len();
        *self.printed_to.entry(fd).or_default() += bytes.len() as u64;
        if self.printed > MAX_PRINTED {
            self.refuse("prints more than 64 MiB");
            self.chunks.clear();
            return;
        }
        match self.chunks.last_mut() {
            Some(last) if last.fd == fd => last.bytes.extend_from_slice(bytes),
            _ => self.chunks.push(Chunk {
                fd,
                bytes: bytes.to_vec(),
            }),
        }
    }

    /// Says why it may not be cached. The first reason stays.
    pub fn refuse(&mut self, why: impl Into<String>) {
        if self.refusal.is_none() {
            self.refusal = Some(Refusal(why.into()));
        }
    }
}
