//! What a command that went well has seen, kept for the next one with the same targets: it looks once at
//! every file of it, and whatever stands on files that are as they were need not be looked into.
//!
//! `.rfs/standing/KEY`, one file for a list of targets. It can be removed at any time, and one that is torn
//! or of another version tells nothing. Knows nothing of records, nor of what makes a job run.

use crate::base::{Digest, Identity, Kind, Seen};
use crate::disk::{self, Disk};
use crate::rules::Asked;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstatat};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The first bytes of a file; one with others is of another version.
const MAGIC: &[u8] = b"rfs standing 1\n";
/// Files kept; before one more is written, all are removed.
const MOST: usize = 100;
/// So many looks are worth a thread of their own.
const MANY: usize = 2000;
/// Threads that look, at most.
const THREADS: usize = 8;

/// What was found at a path, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Found {
    /// What is there does not count.
    Whatever,
    /// Something is there; what, does not count.
    Something,
    /// Nothing is there.
    Nothing,
    /// A directory with this mode, owner and group. What is in it does not count.
    Dir([u32; 3]),
    /// This very object: type, mode, owner and group, identity.
    Exactly(u32, [u32; 3], Identity),
}

impl Found {
    /// What a look found; `whole` if of a directory its content counts. None: it cannot be told again.
    pub(super) fn of(seen: &Seen, whole: bool) -> Option<Self> {
        let kind = match seen.kind {
            Kind::Absent => return Some(Self::Nothing),
            Kind::Unknown(_) => return None,
            Kind::Dir if !whole => return Some(Self::Dir(seen.mode)),
            Kind::Dir => libc::S_IFDIR,
            Kind::File => libc::S_IFREG,
            Kind::Link => libc::S_IFLNK,
            Kind::Fifo => libc::S_IFIFO,
            Kind::Socket => libc::S_IFSOCK,
            Kind::Device => return None,
        };
        Some(Self::Exactly(kind, seen.mode, seen.id))
    }

    /// Both, where one path was looked at for two reasons. None: it has changed in between.
    pub(super) fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (one, other) if one == other => Some(one),
            (Self::Whatever, found) | (found, Self::Whatever) => Some(found),
            (Self::Something, Self::Nothing) | (Self::Nothing, Self::Something) => None,
            (Self::Something, found) | (found, Self::Something) => Some(found),
            (Self::Dir(mode), Self::Exactly(libc::S_IFDIR, whole, id))
            | (Self::Exactly(libc::S_IFDIR, whole, id), Self::Dir(mode)) => {
                (mode == whole).then_some(Self::Exactly(libc::S_IFDIR, whole, id))
            }
            _ => None,
        }
    }

    fn change(self, now: Option<&FileStat>) -> Change {
        let was_there = match self {
            Self::Whatever => return Change::None,
            Self::Nothing => false,
            Self::Something | Self::Dir(_) | Self::Exactly(..) => true,
        };
        let Some(now) = now else {
            return match was_there {
                true => Change::Existence,
                false => Change::None,
            };
        };
        let mode = [now.st_mode & 0o7777, now.st_uid, now.st_gid];
        let kind = now.st_mode & libc::S_IFMT;
        let same = match self {
            Self::Whatever | Self::Something => true,
            Self::Nothing => return Change::Existence,
            Self::Dir(was) => kind == libc::S_IFDIR && mode == was,
            Self::Exactly(of, was, id) => kind == of && mode == was && id == identity(now),
        };
        if same { Change::None } else { Change::Other }
    }
}

fn identity(stat: &FileStat) -> Identity {
    let ns = |s: i64, n: i64| s.saturating_mul(1_000_000_000).saturating_add(n);
    Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: ns(stat.st_mtime, stat.st_mtime_nsec),
        ctime: ns(stat.st_ctime, stat.st_ctime_nsec),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Existence,
    Other,
}

/// A path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its last component.
    pub name: Vec<u8>,
    pub found: Found,
    /// Whether it decides, by being there or not, which rules apply.
    pub decides: bool,
}

/// A job, by the numbers of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Stood {
    /// What it stands on, and what it makes.
    pub on: Vec<u32>,
    /// What it makes, or might have made.
    pub makes: Vec<u32>,
    /// Those of them that were asked for and made.
    pub asked_for: Vec<u32>,
}

/// What was seen, and which jobs stand on it. Paths are numbered through all directories.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Standing {
    pub rules: Asked,
    pub dirs: Vec<(Vec<u8>, Vec<Entry>)>,
    pub jobs: Vec<Stood>,
}

impl Standing {
    /// Where that of a key lies, below `.rfs`.
    pub(super) fn path(dir: &Path, key: Digest) -> PathBuf {
        dir.join("standing").join(&key.hex()[..32])
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?;
        let (guard, body) = rest.split_at_checked(32)?;
        if Digest::of(body).0 != *guard {
            return None;
        }
        postcard::from_bytes(body).ok()
    }

    pub(super) fn write(&self, path: &Path, disk: &dyn Disk) -> disk::Result<()> {
        let body = postcard::to_stdvec(self).expect("BUG: what was seen cannot be encoded");
        let bytes = [MAGIC, &Digest::of(&body).0, &body].concat();
        if let Some(dir) = path.parent() {
            let full = std::fs::read_dir(dir).map_or(0, Iterator::count) >= MOST;
            if full {
                drop(disk.remove_all(dir));
            }
            if !dir.is_dir() {
                disk.mkdir(dir, 0o755)?;
            }
        }
        disk.replace(path, &bytes, 0o644)
    }

    /// Looks at everything. None: it is not known any more which rules apply.
    pub(super) fn check(self, root: &Path, env: &BTreeMap<String, String>) -> Option<Clean> {
        if !self.rules.holds(env) {
            return None;
        }
        let mut changed = Vec::new();
        for (number, (entry, change)) in self.entries().zip(self.look()).enumerate() {
            if change == Change::None {
                continue;
            }
            if entry.decides && change == Change::Existence {
                return None;
            }
            changed.push(u32::try_from(number).ok()?);
        }
        let dirty = self.dirty(changed);
        // Where nothing has changed nobody asks for them.
        let names = match dirty.contains(&true) {
            true => self.names(root, &dirty),
            false => HashSet::new(),
        };
        Some(Clean {
            standing: self,
            dirty,
            names,
        })
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.dirs.iter().flat_map(|(_, entries)| entries)
    }

    /// What has become of each path.
    fn look(&self) -> Vec<Change> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let n_entries = self.entries().count();
        let n_threads = cpus.min(n_entries / MANY + 1).min(THREADS);
        let share = n_entries.div_ceil(n_threads).max(1);
        let mut parts: Vec<&[(Vec<u8>, Vec<Entry>)]> = Vec::new();
        let mut rest = self.dirs.as_slice();
        while !rest.is_empty() {
            let mut n = 0;
            let full = |(_, entries): &(Vec<u8>, Vec<Entry>)| {
                n += entries.len();
                n >= share
            };
            let at = rest.iter().position(full).map_or(rest.len(), |at| at + 1);
            let (part, after) = rest.split_at(at);
            parts.push(part);
            rest = after;
        }
        let look = |part: &[(Vec<u8>, Vec<Entry>)]| -> Vec<Change> {
            part.iter().flat_map(|(dir, all)| look(dir, all)).collect()
        };
        if let [part] = parts.as_slice() {
            return look(part);
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = parts
                .iter()
                .map(|part| scope.spawn(|| look(part)))
                .collect();
            let found = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_default());
            found.flatten().collect()
        })
    }

    /// The jobs that stand on what has changed, or on what such jobs make.
    fn dirty(&self, mut changed: Vec<u32>) -> Vec<bool> {
        let mut dirty = vec![false; self.jobs.len()];
        if changed.is_empty() {
            return dirty;
        }
        let mut standing_on: Vec<Vec<usize>> = vec![Vec::new(); self.entries().count()];
        for (number, job) in self.jobs.iter().enumerate() {
            for path in job.on.iter().chain(&job.makes) {
                if let Some(jobs) = standing_on.get_mut(*path as usize) {
                    jobs.push(number);
                }
            }
        }
        while let Some(path) = changed.pop() {
            for job in standing_on
                .get_mut(path as usize)
                .map(std::mem::take)
                .unwrap_or_default()
            {
                if !std::mem::replace(&mut dirty[job], true) {
                    changed.extend(&self.jobs[job].makes);
                }
            }
        }
        dirty
    }

    /// What clean jobs have made, by the names in the workspace.
    fn names(&self, root: &Path, dirty: &[bool]) -> HashSet<String> {
        let mut wanted = vec![false; self.entries().count()];
        let clean = self.jobs.iter().zip(dirty).filter(|(_, dirty)| !**dirty);
        for path in clean.flat_map(|(job, _)| &job.asked_for) {
            if let Some(wanted) = wanted.get_mut(*path as usize) {
                *wanted = true;
            }
        }
        let named = self.dirs.iter().flat_map(|(dir, entries)| {
            let dir = Path::new(OsStr::from_bytes(dir)).strip_prefix(root).ok();
            entries.iter().map(move |entry| (dir, entry))
        });
        let wanted = named.zip(wanted).filter(|(_, wanted)| *wanted);
        let names = wanted.filter_map(|((dir, entry), _)| {
            let path = dir?.join(OsStr::from_bytes(&entry.name));
            path.into_os_string().into_string().ok()
        });
        names.collect()
    }
}

/// Looks at all of a directory.
fn look(dir: &[u8], entries: &[Entry]) -> Vec<Change> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(OsStr::from_bytes(dir), flags, Mode::empty());
    let found = entries.iter().map(|entry| {
        if entry.found == Found::Whatever {
            return Change::None;
        }
        let dir = opened.as_ref().ok();
        let name = OsStr::from_bytes(&entry.name);
        let now = dir.and_then(|dir| fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok());
        entry.found.change(now.as_ref())
    });
    found.collect()
}

/// What still stands.
#[derive(Debug)]
pub struct Clean {
    pub(super) standing: Standing,
    /// The jobs that have to be looked into.
    pub(super) dirty: Vec<bool>,
    /// Files that are as they shall be.
    pub(super) names: HashSet<String>,
}

impl Clean {
    /// What still stands of what a command with this key has seen.
    #[must_use]
    pub fn read(
        dir: &Path,
        key: Digest,
        root: &Path,
        env: &BTreeMap<String, String>,
    ) -> Option<Self> {
        Standing::read(&Standing::path(dir, key))?.check(root, env)
    }

    /// Whether there is nothing to be done.
    #[must_use]
    pub fn is_all(&self) -> bool {
        !self.dirty.contains(&true)
    }

    /// How many jobs need not be looked into.
    #[must_use]
    pub fn n_jobs(&self) -> usize {
        self.dirty.iter().filter(|dirty| !**dirty).count()
    }
}
