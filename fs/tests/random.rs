//! Random operations in a view and in a plain directory: the same answers, the same tree.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of plain file operations"
)]

mod view;

use rustix::fs::{CWD, FallocateFlags, RenameFlags};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use view::{Host, Inside, Mode, modes, with_host};

const N_OPERATIONS: u32 = 4000;

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
        let depth = self.below(3) + 1;
        (0..depth)
            .map(|_| ["a", "b", "c", "d"][self.below(4) as usize])
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
    Hold(PathBuf, usize),
    WriteHeld(usize, u64, u8),
    PunchHeld(usize, u64),
    ReadHeld(usize),
    TruncateHeld(usize, u64),
    StatHeld(usize),
}

const N_HELD: u64 = 6;

impl Step {
    fn random(r: &mut Random) -> Self {
        let byte = r.below(256) as u8;
        let held = r.below(N_HELD) as usize;
        match r.below(24) {
            0..=3 => Self::Write(r.path(), byte, r.below(10_000) as usize),
            4 => Self::Append(r.path(), byte),
            5 => Self::Truncate(r.path(), r.below(10_000)),
            6 | 7 => Self::Mkdir(r.path()),
            8 => Self::Rmdir(r.path()),
            9 => Self::Unlink(r.path()),
            10 | 11 => Self::Rename(r.path(), r.path(), RenameFlags::empty()),
            12 => Self::Rename(r.path(), r.path(), RenameFlags::EXCHANGE),
            13 => Self::Rename(r.path(), r.path(), RenameFlags::NOREPLACE),
            14 => Self::Link(r.path(), r.path()),
            15 => Self::Symlink(r.path(), r.path()),
            16 => Self::Chmod(r.path(), [0o700, 0o755, 0o770, 0o2711][r.below(4) as usize]),
            17 => Self::Read(r.path()),
            18 => Self::List(r.path()),
            19 => Self::Stat(r.path()),
            20 => Self::Hold(r.path(), held),
            21 => Self::WriteHeld(held, r.below(20_000), byte),
            22 => match r.below(3) {
                0 => Self::PunchHeld(held, r.below(10_000)),
                1 => Self::TruncateHeld(held, r.below(10_000)),
                _ => Self::StatHeld(held),
            },
            _ => Self::ReadHeld(held),
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
            Self::TruncateHeld(..) | Self::StatHeld(_) => vec![],
        }
    }

    /// What a program would see of it.
    fn run(&self, root: &Path, held: &mut BTreeMap<usize, File>) -> Result<String, i32> {
        let at = |p: &PathBuf| root.join(p);
        let errno = |e: io::Error| e.raw_os_error().unwrap();
        let none = |()| String::new();
        let with = |i: &usize, act: &dyn Fn(&File) -> io::Result<String>| match held.get(i) {
            Some(file) => act(file).map_err(errno),
            None => Ok("nothing held".into()),
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
            Self::Hold(p, i) => {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(at(p))
                    .map_err(errno)?;
                held.insert(*i, file);
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
        }
    }
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
        let step = Step::random(&mut random);
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

fn compare(seed: u64, inside: &Inside<'_>, plain: &Path) {
    let view = inside.root;
    let mut random = Random(seed);
    let (mut held_view, mut held_plain) = (BTreeMap::new(), BTreeMap::new());
    for i in 0..N_OPERATIONS {
        let step = Step::random(&mut random);
        let expected = step.run(plain, &mut held_plain);
        if is_outside(i) && !step.changes().is_empty() {
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
        assert_eq!(seen, expected, "seed {seed}, operation {i}: {step:?}");
        if i % 400 == 399 {
            assert_eq!(
                whole(view),
                whole(plain),
                "seed {seed}, after operation {i}"
            );
        }
    }
}

fn run(mode: Mode, seed: u64) {
    let plain = tempfile::tempdir().unwrap();
    if nix::unistd::geteuid().is_root() && mode == Mode::Unprivileged {
        std::os::unix::fs::chown(plain.path(), Some(view::NOBODY), Some(view::NOBODY)).unwrap();
    }
    with_host(
        mode,
        |_| {},
        |host| {
            make_outside(seed, host);
            host.talk.hear();
            assert_eq!(whole(host.root), whole(plain.path()), "backing tree");
            host.talk.say();
        },
        |inside| {
            compare(seed, inside, plain.path());
            inside.talk.say();
            inside.talk.hear();
        },
    );
}

#[test]
fn the_view_answers_as_a_plain_directory_does() {
    for mode in modes() {
        for seed in [1, 0x5eed, 0xdead_beef] {
            run(mode, seed);
        }
    }
}
