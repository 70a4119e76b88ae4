//! Random operations in a view and in a plain directory: the same answers, the same tree.
//! `RFS_LONG=1` for many more.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use rustix::fs::{CWD, FallocateFlags, RenameFlags, SeekFrom, XattrFlags};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use view::mapping::Mapping;
use view::{Host, Inside, Mode, modes, with_host};

const N_OPERATIONS: u32 = 6000;
const N_THREADS: u64 = 4;

/// Bytes of a file that are mapped.
const MAPPED: NonZeroUsize = NonZeroUsize::new(40_000).unwrap();

/// What else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Some operations are made behind the kernel's back, which is then told.
    Outside,
    /// Files are mapped as well. Not together with the former: without passthrough, pages written to are the
    /// kernel's until it writes them back, over what was written behind its back.
    Mapped,
    /// As the former, by several threads, each in a directory of its own.
    Threads,
}

/// xorshift64*: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    /// A path of one to three components out of few, so that operations meet.
    fn path(&mut self) -> PathBuf {
        let depth = [1, 1, 2, 2, 3][self.below(5) as usize];
        (0..depth)
            .map(|_| ["a", "b", "c", "d", "e"][self.below(5) as usize])
            .collect()
    }
}

#[derive(Debug)]
enum Step {
    Write(PathBuf, u8, usize),
    Append(PathBuf, u8),
    Truncate(PathBuf, u64),
    Mkdir(PathBuf),
    Rmdir(PathBuf),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, RenameFlags),
    Link(PathBuf, PathBuf),
    Symlink(PathBuf, PathBuf),
    Chmod(PathBuf, u32),
    Read(PathBuf),
    List(PathBuf),
    Stat(PathBuf),
    Hold(PathBuf, usize, bool),
    WriteHeld(usize, u64, u8),
    PunchHeld(usize, u64),
    ReadHeld(usize),
    TruncateHeld(usize, u64),
    StatHeld(usize),
    Allocate(usize, FallocateFlags, u64, u64),
    Extents(usize),
    Sync(usize),
    CopyRange(usize, usize, u64, u64, usize),
    ReadLink(PathBuf),
    Times(PathBuf, u64),
    SetAttribute(PathBuf, &'static str, u8, usize, XattrFlags),
    GetAttribute(PathBuf, &'static str),
    RemoveAttribute(PathBuf, &'static str),
    Map(usize),
    WriteMapped(usize, u64, u8, usize),
    ReadMapped(usize),
    SyncMapped(usize),
    Unmap(usize),
}

/// An open file, and a mapping of it.
struct Held {
    file: File,
    mapping: Option<Mapping>,
}

type AllHeld = BTreeMap<usize, Held>;

const N_HELD: u64 = 6;

impl Step {
    fn random(r: &mut Random, plan: Plan) -> Self {
        let byte = r.below(256) as u8;
        let held = r.below(N_HELD) as usize;
        let name = ["user.a", "user.b", "trusted.c", "none"][r.below(4) as usize];
        let sides = if plan == Plan::Outside { 46 } else { 53 };
        match r.below(sides) {
            0..=3 => Self::Write(r.path(), byte, r.below(10_000) as usize),
            4 => Self::Append(r.path(), byte),
            5 => Self::Truncate(r.path(), r.below(10_000)),
            6 | 7 | 35 | 36 => Self::Mkdir(r.path()),
            8 | 37 => Self::Rmdir(r.path()),
            9 | 38 => Self::Unlink(r.path()),
            10 | 11 => Self::Rename(r.path(), r.path(), RenameFlags::empty()),
            12 => Self::Rename(r.path(), r.path(), RenameFlags::EXCHANGE),
            13 => Self::Rename(r.path(), r.path(), RenameFlags::NOREPLACE),
            14 | 39..=41 => Self::Link(r.path(), r.path()),
            15 | 42 => Self::Symlink(r.path(), r.path()),
            16 => {
                // Writing back what was written by mapping takes setgid bits away, see tests/data.rs.
                let last = if plan == Plan::Outside { 0o2711 } else { 0o711 };
                Self::Chmod(r.path(), [0o700, 0o755, 0o770, last][r.below(4) as usize])
            }
            17 => Self::Read(r.path()),
            18 => Self::List(r.path()),
            19 => Self::Stat(r.path()),
            20 | 24 => Self::Hold(r.path(), held, r.below(4) == 0),
            21 => Self::WriteHeld(held, r.below(20_000), byte),
            22 => match r.below(3) {
                0 => Self::PunchHeld(held, r.below(10_000)),
                1 => Self::TruncateHeld(held, r.below(10_000)),
                _ => Self::StatHeld(held),
            },
            23 => Self::ReadHeld(held),
            25 => {
                let (zero, keep) = (FallocateFlags::ZERO_RANGE, FallocateFlags::KEEP_SIZE);
                let flags = [FallocateFlags::empty(), keep, zero, zero | keep];
                let flags = flags[r.below(4) as usize];
                Self::Allocate(held, flags, r.below(20_000), r.below(9000) + 1)
            }
            // Where the kernel holds written pages, the backing file does not know of them yet.
            26 if plan == Plan::Outside => Self::Extents(held),
            26 | 27 => Self::Sync(held),
            28 | 29 => {
                let other = r.below(N_HELD) as usize;
                let len = r.below(12_000) as usize;
                Self::CopyRange(held, other, r.below(10_000), r.below(20_000), len)
            }
            30 | 43..=45 => Self::ReadLink(r.path()),
            31 => Self::Times(r.path(), r.below(2_000_000_000)),
            32 => {
                let flags = [XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE];
                let flags = flags[r.below(3) as usize];
                Self::SetAttribute(r.path(), name, byte, r.below(300) as usize, flags)
            }
            33 => Self::GetAttribute(r.path(), name),
            34 => Self::RemoveAttribute(r.path(), name),
            46 | 47 => Self::Map(held),
            48 | 49 => Self::WriteMapped(held, r.below(20_000), byte, r.below(6000) as usize),
            50 => Self::ReadMapped(held),
            51 => Self::SyncMapped(held),
            _ => Self::Unmap(held),
        }
    }

    /// The names whose objects it changes, if it can be made from outside.
    fn changes(&self) -> Vec<&Path> {
        match self {
            Self::Write(p, ..) | Self::Append(p, _) | Self::Truncate(p, _) => vec![p],
            Self::Mkdir(p) | Self::Rmdir(p) | Self::Unlink(p) | Self::Chmod(p, _) => vec![p],
            Self::Rename(p, q, _) | Self::Link(p, q) => vec![p, q],
            Self::Symlink(_, q) => vec![q],
            Self::Read(_) | Self::List(_) | Self::Stat(_) | Self::Hold(..) => vec![],
            Self::WriteHeld(..) | Self::PunchHeld(..) | Self::ReadHeld(_) => vec![],
            Self::TruncateHeld(..) | Self::StatHeld(_) | Self::Allocate(..) => vec![],
            Self::Extents(_) | Self::Sync(_) | Self::CopyRange(..) | Self::ReadLink(_) => vec![],
            Self::Times(p, _) | Self::SetAttribute(p, ..) | Self::RemoveAttribute(p, _) => vec![p],
            Self::GetAttribute(..) | Self::Map(_) | Self::WriteMapped(..) => vec![],
            Self::ReadMapped(_) | Self::SyncMapped(_) | Self::Unmap(_) => vec![],
        }
    }

    /// What a program would see of it.
    fn run(&self, root: &Path, held: &mut AllHeld) -> Result<String, i32> {
        let at = |p: &PathBuf| root.join(p);
        let errno = |e: io::Error| e.raw_os_error().unwrap();
        let none = |()| String::new();
        let with = |i: &usize, act: &dyn Fn(&File) -> io::Result<String>| match held.get(i) {
            Some(held) => act(&held.file).map_err(errno),
            None => Ok("nothing held".into()),
        };
        // With the bytes that may be touched.
        let mapped = |i: &usize, act: &dyn Fn(&Mapping, usize) -> io::Result<String>| {
            let Some(mapping) = held.get(i).and_then(|held| held.mapping.as_ref()) else {
                return Ok("nothing mapped".into());
            };
            let len = held[i].file.metadata().unwrap().len();
            act(mapping, (len as usize).min(MAPPED.get())).map_err(errno)
        };
        match self {
            Self::Write(p, byte, len) => {
                fs::write(at(p), vec![*byte; *len]).map(none).map_err(errno)
            }
            Self::Append(p, byte) => OpenOptions::new()
                .append(true)
                .open(at(p))
                .and_then(|mut f| io::Write::write_all(&mut f, &[*byte; 100]))
                .map(none)
                .map_err(errno),
            Self::Truncate(p, len) => OpenOptions::new()
                .write(true)
                .open(at(p))
                .and_then(|f| f.set_len(*len))
                .map(none)
                .map_err(errno),
            Self::Mkdir(p) => fs::create_dir(at(p)).map(none).map_err(errno),
            Self::Rmdir(p) => fs::remove_dir(at(p)).map(none).map_err(errno),
            Self::Unlink(p) => fs::remove_file(at(p)).map(none).map_err(errno),
            Self::Rename(p, q, flags) => rustix::fs::renameat_with(CWD, at(p), CWD, at(q), *flags)
                .map(none)
                .map_err(|e| e.raw_os_error()),
            Self::Link(p, q) => fs::hard_link(at(p), at(q)).map(none).map_err(errno),
            Self::Symlink(p, q) => std::os::unix::fs::symlink(p, at(q))
                .map(none)
                .map_err(errno),
            Self::Chmod(p, mode) => fs::set_permissions(at(p), fs::Permissions::from_mode(*mode))
                .map(none)
                .map_err(errno),
            Self::Read(p) => fs::read(at(p)).map(|bytes| summary(&bytes)).map_err(errno),
            Self::List(p) => list(&at(p)).map_err(errno),
            Self::Stat(p) => fs::symlink_metadata(at(p)).map(|m| stat(&m)).map_err(errno),
            Self::Hold(p, i, append) => {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .append(*append)
                    .open(at(p))
                    .map_err(errno)?;
                held.insert(
                    *i,
                    Held {
                        file,
                        mapping: None,
                    },
                );
                Ok(String::new())
            }
            Self::WriteHeld(i, offset, byte) => {
                with(i, &|f| f.write_all_at(&[*byte; 50], *offset).map(none))
            }
            Self::PunchHeld(i, offset) => with(i, &|f| {
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(f, punch, *offset, 777)?;
                Ok(String::new())
            }),
            Self::ReadHeld(i) => with(i, &|f| {
                let mut bytes = vec![0; 30_000];
                let n = f.read_at(&mut bytes, 0)?;
                Ok(summary(&bytes[..n]))
            }),
            Self::TruncateHeld(i, len) => with(i, &|f| f.set_len(*len).map(none)),
            Self::StatHeld(i) => with(i, &|f| f.metadata().map(|m| stat(&m))),
            Self::Allocate(i, flags, offset, len) => with(i, &|f| {
                rustix::fs::fallocate(f, *flags, *offset, *len)?;
                Ok(String::new())
            }),
            Self::Extents(i) => with(i, &|f| extents(f)),
            Self::Sync(i) => with(i, &|f| f.sync_all().map(none)),
            Self::CopyRange(i, j, from, to, len) => {
                let (Some(one), Some(two)) = (held.get(i), held.get(j)) else {
                    return Ok("nothing held".into());
                };
                copy_range((&one.file, *from), (&two.file, *to), *len).map_err(errno)
            }
            Self::ReadLink(p) => fs::read_link(at(p))
                .map(|text| text.display().to_string())
                .map_err(errno),
            Self::Times(p, seconds) => {
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
                File::open(at(p))
                    .and_then(|f| f.set_modified(time).and_then(|()| f.metadata()))
                    .map(|m| m.mtime().to_string())
                    .map_err(errno)
            }
            Self::SetAttribute(p, name, byte, len, flags) => {
                rustix::fs::lsetxattr(at(p), *name, &vec![*byte; *len], *flags)
                    .map(none)
                    .map_err(|e| e.raw_os_error())
            }
            Self::GetAttribute(p, name) => attributes(&at(p), name).map_err(errno),
            Self::RemoveAttribute(p, name) => rustix::fs::lremovexattr(at(p), *name)
                .map(none)
                .map_err(|e| e.raw_os_error()),
            Self::Map(i) => match held.get_mut(i) {
                Some(held) => {
                    held.mapping = Some(Mapping::new(&held.file, MAPPED).map_err(errno)?);
                    Ok(String::new())
                }
                None => Ok("nothing held".into()),
            },
            Self::WriteMapped(i, offset, byte, len) => mapped(i, &|mapping, end| {
                let start = (*offset as usize).min(end);
                let len = (*len).min(end - start);
                mapping.write(start, &vec![*byte; len]);
                Ok(len.to_string())
            }),
            Self::ReadMapped(i) => mapped(i, &|mapping, end| Ok(summary(&mapping.read(end)))),
            Self::SyncMapped(i) => mapped(i, &|mapping, end| {
                mapping.sync()?;
                mapping.forget()?;
                Ok(summary(&mapping.read(end)))
            }),
            Self::Unmap(i) => {
                if let Some(held) = held.get_mut(i) {
                    held.mapping = None;
                }
                Ok(String::new())
            }
        }
    }
}

/// Where its data begin and end.
fn extents(file: &File) -> io::Result<String> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => {
                at = rustix::fs::seek(file, SeekFrom::Hole(start))?;
                found.push((start, at));
            }
            Err(rustix::io::Errno::NXIO) => return Ok(format!("{found:?}")),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// copy_file_range(2) until it is done or there is nothing more to copy.
fn copy_range(from: (&File, u64), to: (&File, u64), len: usize) -> io::Result<String> {
    let ((from, mut at), (to, mut to_at)) = (from, to);
    let mut left = len;
    while left > 0 {
        let n = rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut to_at), left)?;
        if n == 0 {
            break;
        }
        left -= n;
    }
    Ok((len - left).to_string())
}

/// The value of an extended attribute and the names of all of them.
fn attributes(path: &Path, name: &str) -> io::Result<String> {
    let (mut value, mut names) = ([0; 400], [0; 400]);
    let n_names = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut names: Vec<_> = names[..n_names].split(|b| *b == 0).collect();
    names.sort_unstable();
    let names: Vec<_> = names.iter().map(|n| String::from_utf8_lossy(n)).collect();
    let value = rustix::fs::lgetxattr(path, name, &mut value[..]).map(|n| summary(&value[..n]));
    Ok(format!("{value:?} of {names:?}"))
}

/// Length and a checksum.
fn summary(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0_u64, |sum, b| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*b))
    });
    format!("{} {sum}", bytes.len())
}

fn stat(m: &fs::Metadata) -> String {
    // Sizes of directories depend on their past.
    let len = if m.is_dir() { 0 } else { m.len() };
    format!("{:o} {} {len}", m.mode(), m.nlink())
}

fn list(dir: &Path) -> io::Result<String> {
    let mut names: Vec<_> = fs::read_dir(dir)?
        .map(|e| e.map(|e| e.file_name()))
        .collect::<Result<_, _>>()?;
    names.sort();
    Ok(format!("{names:?}"))
}

/// The whole tree: every name with its attributes and content.
fn tree(dir: &Path, prefix: &Path, into: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), prefix.join(entry.file_name()));
        let m = fs::symlink_metadata(&path).unwrap();
        let content = if m.is_dir() {
            tree(&path, &name, into);
            String::new()
        } else if m.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            summary(&fs::read(&path).unwrap())
        };
        into.insert(name, format!("{} {content}", stat(&m)));
    }
}

fn whole(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut names = BTreeMap::new();
    tree(dir, Path::new(""), &mut names);
    names
}

/// One operation in ten is made behind the kernel's back, which is then told.
fn is_outside(i: u32) -> bool {
    i % 10 == 7
}

/// Makes the operations that are to be made outside, each when it is its turn.
fn make_outside(seed: u64, host: &Host<'_>) {
    let mut random = Random(seed);
    for i in 0..N_OPERATIONS {
        let step = Step::random(&mut random, Plan::Outside);
        if is_outside(i) && !step.changes().is_empty() {
            host.talk.hear();
            let paths = || {
                step.changes()
                    .into_iter()
                    .flat_map(|p| names_of(&host.root.join(p)))
            };
            let mut changed: Vec<PathBuf> = paths().collect();
            step.run(host.root, &mut BTreeMap::new()).ok();
            changed.extend(paths());
            for path in changed {
                host.mounted.invalidate(&path);
            }
            host.talk.say();
        }
    }
}

/// Where a path leads, with the links in it followed, and the name itself when it is a link.
fn names_of(path: &Path) -> Vec<PathBuf> {
    let parent = path.parent().and_then(|p| fs::canonicalize(p).ok());
    let name = parent
        .zip(path.file_name())
        .map(|(parent, name)| parent.join(name));
    name.into_iter().chain(fs::canonicalize(path)).collect()
}

fn compare(seed: u64, plan: Plan, inside: &Inside<'_>, view: &Path, plain: &Path) {
    let mut random = Random(seed);
    let (mut held_view, mut held_plain) = (BTreeMap::new(), BTreeMap::new());
    let mut n_done: BTreeMap<String, u32> = BTreeMap::new();
    for i in 0..N_OPERATIONS {
        let step = Step::random(&mut random, plan);
        let expected = step.run(plain, &mut held_plain);
        let done = expected
            .as_ref()
            .is_ok_and(|said| !said.starts_with("nothing"));
        let name = format!("{step:?}");
        let name = name.split('(').next().unwrap_or_default().to_owned();
        *n_done.entry(name).or_default() += u32::from(done);
        if plan == Plan::Outside && is_outside(i) && !step.changes().is_empty() {
            inside.talk.say();
            inside.talk.hear();
            // The kernel cannot find out in the midst of a rename that a busy directory has moved, see
            // d_splice_alias() in it: it answers ESTALE.
            for path in step.changes() {
                fs::symlink_metadata(view.join(path)).ok();
            }
            continue;
        }
        let seen = step.run(view, &mut held_view);
        assert_eq!(
            seen, expected,
            "{plan:?}, seed {seed}, operation {i}: {step:?}"
        );
        if i % 400 == 399 {
            let when = format!("{plan:?}, seed {seed}, after operation {i}: {step:?}");
            assert_eq!(whole(view), whole(plain), "{when}");
        }
    }
    let never: Vec<_> = n_done.iter().filter(|(_, n)| **n == 0).collect();
    assert!(
        never.is_empty(),
        "seed {seed}: never done: {never:?} of {n_done:?}"
    );
}

fn run(mode: Mode, plan: Plan, seed: u64) {
    let plain = tempfile::tempdir().unwrap();
    if nix::unistd::geteuid().is_root() && mode == Mode::Unprivileged {
        std::os::unix::fs::chown(plain.path(), Some(view::NOBODY), Some(view::NOBODY)).unwrap();
    }
    with_host(
        mode,
        |_| {},
        |host| {
            if plan == Plan::Outside {
                make_outside(seed, host);
            }
            host.talk.hear();
            assert_eq!(whole(host.root), whole(plain.path()), "backing tree");
            host.talk.say();
        },
        |inside| {
            let (view, plain) = (inside.root, plain.path());
            match plan {
                Plan::Outside | Plan::Mapped => compare(seed, plan, inside, view, plain),
                Plan::Threads => std::thread::scope(|scope| {
                    for n in 0..N_THREADS {
                        let (view, plain) = (view.join(n.to_string()), plain.join(n.to_string()));
                        fs::create_dir(&view).unwrap();
                        fs::create_dir(&plain).unwrap();
                        let seed = seed * N_THREADS + n;
                        scope.spawn(move || compare(seed, plan, inside, &view, &plain));
                    }
                }),
            }
            inside.talk.say();
            inside.talk.hear();
        },
    );
}

fn everywhere(plan: Plan, seeds: &[u64]) {
    for mode in modes() {
        for seed in seeds {
            run(mode, plan, *seed);
        }
        if std::env::var_os("RFS_LONG").is_some() {
            (1000..1050).for_each(|seed| run(mode, plan, seed));
        }
    }
}

#[test]
fn the_view_answers_as_a_plain_directory_does() {
    everywhere(Plan::Outside, &[1, 0x5eed, 0xdead_beef]);
}

#[test]
fn mapped_files_are_those_that_are_read_and_written() {
    everywhere(Plan::Mapped, &[2, 0x5eed]);
}

#[test]
fn threads_get_the_answers_that_each_would_get_alone() {
    everywhere(Plan::Threads, &[3]);
}
