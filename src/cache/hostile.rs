//! Forged records and damaged files, from fixed seeds: each is an error value or a record that is sound, and
//! what is served stays inside the workspace. `RFS_LONG=1` for many more.

#![allow(clippy::disallowed_methods)] // a test writes where it likes

mod index;

use super::actions::fits;
use super::serve::Staged;
use super::sound::sound;
use super::sound::tests::{dep, file, record};
use super::*;
use crate::base::{Access, Chunk, Name, Output, Record, Stamp, State, Stdin, Touched, What};
use crate::disk::RealDisk;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

/// xorshift64*: the same numbers for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

fn n_rounds(usual: u64) -> u64 {
    match std::env::var_os("RFS_LONG") {
        Some(_) => usual * 100,
        None => usual,
    }
}

/// Records with something of every kind in them.
fn seeds() -> Vec<Record> {
    let mut full = record();
    let states = [
        State::Absent,
        State::Dir {
            mode: [0o755, 0, 0],
            mtime: -1,
            list: Some(Digest::of(b"l")),
        },
        State::Link(b"../x".to_vec(), 0),
        State::Other([0o10644, 1, 2], 3),
        State::Hidden(13),
    ];
    for (n, state) in states.into_iter().enumerate() {
        let mut dep = dep(&format!("in/{n}"), b"");
        (dep.state, dep.access) = (state, Access::KIND | Access::MODE);
        full.deps.push(dep);
    }
    let whats = [
        What::Absent,
        What::Link(b"a.o".to_vec()),
        What::Dir(0o755),
        What::Fifo(0o600),
        What::HardLink(file("a.o", b"").name),
        What::Attributes(0o4755),
    ];
    for (n, what) in whats.into_iter().enumerate() {
        let mut output = file(&format!("out{n}"), b"");
        (output.what, output.stamp) = (what, Stamp::Exact(i64::MIN));
        output.owner = Some((1, 2));
        full.outputs.push(output);
    }
    full.chunks.push(Chunk {
        fd: 1,
        bytes: vec![7; 3000],
    });
    full.stdin = Stdin::File {
        name: full.deps[0].name.clone(),
        pos: 1,
        left: 2,
    };
    full.notes.push("the clock".into());
    vec![record(), full]
}

/// As the index holds them.
fn encode(records: &[Record]) -> Vec<u8> {
    postcard::to_stdvec(records).unwrap()
}

/// As they are looked at when they are loaded.
fn decode(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let records: Vec<Record> = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
    records.iter().try_for_each(sound)?;
    Ok(records)
}

/// Changes some bytes: numbers at the ends of what varints can hold, cuts, repetitions, chance.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len().max(1)).min(bytes.len());
        match dice.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, [0xff; 9].into_iter().chain([1]))),
            2 => drop(bytes.splice(at..at, [0xff; 12])),
            3 => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
            4 => {
                let end = (at + dice.below(60)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            _ if at < bytes.len() => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn forged_files_are_errors_or_sound() {
    let whole = encode(&seeds());
    assert_eq!(decode(&whole).unwrap(), seeds());
    let mut n_sound = 0;
    for seed in 0..n_rounds(5000) {
        let mut dice = Dice::new(seed);
        let mut bytes = match dice.below(10) {
            0 => (0..dice.below(300))
                .map(|_| u8::try_from(dice.below(256)).unwrap())
                .collect(),
            _ => whole.clone(),
        };
        damage(&mut dice, &mut bytes);
        if let Ok(records) = decode(&bytes) {
            n_sound += 1;
            for record in &records {
                assert_eq!(sound(record), Ok(()), "seed {seed}");
                let again = encode(std::slice::from_ref(record));
                assert!(decode(&again).is_ok(), "seed {seed}");
            }
        }
    }
    assert!(n_sound > 250, "the damage is too much: {n_sound}");
}

/// A workspace and, next to it, what is not to be touched.
struct Space {
    dir: tempfile::TempDir,
    cache: Cache,
}

const NAMES: [&[u8]; 20] = [
    b"a",
    b"b",
    b"d",
    b"d/x",
    b"d/e",
    b"d/e/x",
    b"l",
    b"l/x",
    b"l/sub/x",
    b"l/sub",
    b"",
    b"/",
    b"..",
    b"../outside/x",
    b"d/../../outside/x",
    b"a//b",
    b"a\0b",
    b"./a",
    b".rfs/stage/x",
    b".rfs",
];

const TEXTS: [&str; 6] = ["../outside", "..", "d", ".", "../outside/sub", "nowhere"];

impl Space {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache"), Arc::new(RealDisk)).unwrap();
        cache.insert_bytes(b"content").unwrap();
        Self { dir, cache }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("w")
    }

    /// Makes both directories anew, with what `dice` puts into the workspace.
    fn fill(&self, dice: &mut Dice) {
        for name in ["w", "outside"] {
            drop(fs::remove_dir_all(self.dir.path().join(name)));
        }
        fs::create_dir_all(self.root().join(".rfs")).unwrap();
        let outside = self.dir.path().join("outside");
        fs::create_dir_all(outside.join("sub")).unwrap();
        for name in ["x", "sub/x"] {
            fs::write(outside.join(name), "precious").unwrap();
        }
        for name in ["a", "d", "d/e", "d/x", "d/e/x", "l", "l/sub"] {
            let path = self.root().join(name);
            let _as_may_be = match dice.below(5) {
                0 => fs::write(path, "old"),
                1 => symlink(dice.pick(&TEXTS), path),
                2 | 3 => fs::create_dir(path),
                _ => Ok(()),
            };
        }
    }

    fn outputs(&self, dice: &mut Dice) -> Vec<Output> {
        (0..=dice.below(6)).map(|_| self.output(dice)).collect()
    }

    /// Directories whose time stamps are set.
    fn dirs(&self, dice: &mut Dice) -> Vec<Touched> {
        let dir = |dice: &mut Dice| Touched {
            name: self.name(dice),
            rank: u32::try_from(dice.below(9)).unwrap(),
            always: dice.below(2) == 0,
        };
        (0..dice.below(4)).map(|_| dir(dice)).collect()
    }

    fn name(&self, dice: &mut Dice) -> Name {
        if dice.below(20) == 0 {
            // By an absolute name into the workspace, as no record has it.
            let path = self.root().join(".rfs/stage");
            return Name::of(&path, Path::new("/none"));
        }
        // Few of those that are wrong in themselves.
        let names: &[&[u8]] = if dice.below(8) == 0 {
            &NAMES
        } else {
            &NAMES[..10]
        };
        let name: &[u8] = dice.pick::<&[u8]>(names);
        Name::of(Path::new(OsStr::from_bytes(name)), Path::new("/none"))
    }

    fn output(&self, dice: &mut Dice) -> Output {
        let mode = *dice.pick(&[0o644, 0o755, 0o500, 0o7777, 0o17777]);
        let content: &[u8] = dice.pick::<&[u8]>(&[&b"content"[..], b"lost"]);
        let what = match dice.below(9) {
            0 | 1 => What::Absent,
            2 => What::File {
                digest: Digest::of(content),
                size: *dice.pick(&[7, 7, 7, 8, u64::MAX]),
                mode,
                in_place: dice.below(2) == 0,
            },
            3 => What::File {
                digest: Digest::of(b"content"),
                size: 7,
                mode,
                in_place: dice.below(2) == 0,
            },
            4 => What::Link(dice.pick(&TEXTS).as_bytes().to_vec()),
            5 => What::Dir(mode),
            6 => What::Fifo(mode),
            7 => What::HardLink(self.name(dice)),
            _ => What::Attributes(mode),
        };
        Output {
            name: self.name(dice),
            what,
            stamp: *dice.pick(&[Stamp::Now(0), Stamp::Now(9), Stamp::Exact(5), Stamp::Keep]),
            owner: None,
        }
    }

    /// What is not to be touched: content, permissions and time stamp of each name.
    fn outside(&self) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64)> {
        let outside = self.dir.path().join("outside");
        let around = fs::read_dir(self.dir.path()).unwrap();
        let mut seen: BTreeMap<_, _> = around
            .map(|entry| (entry.unwrap().path(), (vec![], 0, 0)))
            .collect();
        let stamp = |meta: &fs::Metadata| meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
        let own = stamp(&fs::symlink_metadata(&outside).unwrap());
        seen.insert(outside.clone(), (vec![], 0, own));
        for dir in [outside.clone(), outside.join("sub")] {
            for path in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
                let meta = fs::symlink_metadata(&path).unwrap();
                let content = fs::read(&path).unwrap_or_default();
                let state = (content, meta.permissions().mode(), stamp(&meta));
                seen.insert(path, state);
            }
        }
        seen
    }
}

#[test]
fn forged_outputs_stay_inside_the_workspace() {
    let space = Space::new();
    let (mut n_served, mut n_cut) = (0, 0);
    for seed in 0..n_rounds(500) {
        let mut dice = Dice::new(seed);
        space.fill(&mut dice);
        let before = space.outside();
        let record = Record {
            outputs: space.outputs(&mut dice),
            dirs: space.dirs(&mut dice),
            deps: vec![],
            ..record()
        };
        let (root, stage) = (space.root(), space.root().join(".rfs/stage"));
        let staged = Staged::prepare(&space.cache, &record, &root, &stage);
        match staged.map(Staged::commit) {
            Ok(Ok(_)) => n_served += 1,
            Ok(Err(_)) => n_cut += 1,
            Err(_) => {}
        }
        assert_eq!(space.outside(), before, "seed {seed}: {:?}", record.outputs);
        let staged = fs::read_dir(&stage).map_or(0, Iterator::count);
        assert_eq!(staged, 0, "seed {seed}: {:?}", record.outputs);
    }
    assert!(
        n_served > 25 && n_cut > 25,
        "{n_served} served, {n_cut} cut"
    );
}

/// The ways out, one by one.
#[test]
fn ways_out_of_the_workspace_are_shut() {
    let space = Space::new();
    let out = |name: &str, what: What| Output {
        name: Name::of(Path::new(name), Path::new("/none")),
        what,
        stamp: Stamp::Exact(5),
        owner: None,
    };
    let content = || file("x", b"content").what;
    let link = |text: &str| What::Link(text.as_bytes().to_vec());
    let alias = space.root().join(".rfs/stage/x");
    let hostile: Vec<(&str, Vec<Output>)> = vec![
        ("dots", vec![out("../outside/x", content())]),
        ("alias", vec![out(alias.to_str().unwrap(), content())]),
        ("planted link", vec![out("planted/x", content())]),
        ("planted link, deep", vec![out("planted/sub/x", content())]),
        ("removal", vec![out("planted/x", What::Absent)]),
        (
            "another name by a planted link",
            vec![out("own", What::HardLink(file("planted/x", b"").name))],
        ),
        (
            "permissions",
            vec![out("planted/x", What::Attributes(0o777))],
        ),
        (
            "own link",
            vec![out("own", link("../outside")), out("own/sub/x", content())],
        ),
        (
            "own link to a link",
            vec![
                out("own", What::HardLink(file("planted", b"").name)),
                out("own/sub/x", content()),
            ],
        ),
        (
            "permissions that come last",
            vec![
                out("own", What::Dir(0o755)),
                out("own/sub", What::Dir(0o555)),
                out("own/sub", What::Absent),
                out("own", What::Absent),
                out("own", link("../outside")),
            ],
        ),
        (
            "time stamps that come last",
            vec![
                out("own", What::Dir(0o755)),
                out("own/x", content()),
                out("own/x", What::Absent),
                out("own", What::Absent),
                out("own", link("../outside")),
            ],
        ),
    ];
    for (what, outputs) in hostile {
        space.fill(&mut Dice::new(1));
        drop(fs::remove_dir_all(space.root()));
        fs::create_dir_all(space.root().join(".rfs")).unwrap();
        symlink("../outside", space.root().join("planted")).unwrap();
        let before = space.outside();
        let record = Record {
            outputs,
            deps: vec![],
            ..record()
        };
        let (root, stage) = (space.root(), space.root().join(".rfs/stage"));
        let staged = Staged::prepare(&space.cache, &record, &root, &stage);
        assert!(staged.is_err(), "{what}: found before anything changes");
        assert_eq!(space.outside(), before, "{what}");
    }
}

/// Temporary files of outputs would lie where it leads.
#[test]
fn a_stage_that_is_a_link_is_refused() {
    let space = Space::new();
    space.fill(&mut Dice::new(1));
    let stage = space.root().join(".rfs/stage");
    symlink("../../outside", &stage).unwrap();
    let error = Staged::prepare(&space.cache, &record(), &space.root(), &stage).unwrap_err();
    assert!(error.to_string().contains("stage"), "{error}");
}

#[test]
fn a_record_that_is_too_large_is_not_kept() {
    let mut large = record();
    large.chunks.push(Chunk {
        fd: 1,
        bytes: vec![7; 10_000],
    });
    assert!(fits(20_000, &large).is_ok());
    let error = fits(10_000, &large).unwrap_err();
    assert!(error.to_string().contains("bytes of inputs"), "{error}");
}
