//! What lies between two files of a graph is what following names through the whole of it finds, in builds that
//! are made up. Knows nothing of how the answer is found.

use rfs::base::{Access, Dep, Digest, Name, Output, Record, Stamp, Start, State, What};
use rfs::disk::{Disk, RealDisk};
use rfs::query::Error;
use rfs::query::folded::folded;
use rfs::query::graph::{Graph, graph};
use rfs::store::graph::{Done, Fate, Noting, Step};
use rfs::store::{Durability, Snapshot, recover};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn some(&mut self, most: u64, end: u64) -> BTreeSet<u64> {
        (0..self.below(most)).map(|_| self.below(end)).collect()
    }
}

/// A step: who started it, what it read and wrote by itself.
type Made = (Option<u32>, BTreeSet<u64>, BTreeSet<u64>);

/// Some directories have names that begin alike.
const DIRECTORIES: [&str; 4] = ["", "d/", "d/e/", "dx/"];

fn file(number: u64) -> Name {
    let directory = DIRECTORIES[(number % 4) as usize];
    Name::from_bytes(format!("{directory}f{number}").as_bytes())
}

fn read(number: u64) -> Dep {
    Dep {
        name: file(number),
        access: Access::KIND | Access::REG,
        state: State::File {
            mode: [0o644, 0, 0],
            size: 1,
            mtime: 0,
            digest: Some(Digest::of(b"x")),
        },
        rank: 0,
    }
}

fn written(number: u64) -> Output {
    Output {
        name: file(number),
        what: What::File {
            digest: Digest::of(b"x"),
            size: 1,
            mode: 0o644,
            in_place: false,
        },
        stamp: Stamp::Now(0),
        owner: None,
    }
}

/// A build of these steps, each of which has also read and written what those did that it started.
fn build(dir: &Path, mut all: Vec<Made>) -> Arc<Snapshot> {
    for number in (1..all.len()).rev() {
        let (parent, reads, writes) = all[number].clone();
        let outer = &mut all[parent.unwrap() as usize];
        outer.1.extend(reads);
        outer.2.extend(writes);
    }
    let done = all.into_iter().zip(0_u32..);
    let done = done.map(|((parent, reads, writes), number)| Done {
        step: Step {
            number,
            parent,
            fate: Fate::Ran,
            why: String::new(),
            cause: None,
            began_us: number.into(),
            wall_us: 1,
            status: 0,
            execution: None,
        },
        start: Start::default(),
        key: Digest::of(&number.to_le_bytes()),
        record: Record {
            title: format!("step {number}"),
            deps: reads.into_iter().map(read).collect(),
            outputs: writes.into_iter().map(written).collect(),
            ..Record::default()
        },
    });
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (store, told) = recover::open(&dir.join("state"), &disk);
    let store = store.unwrap_or_else(|| panic!("{told:?}"));
    let mut txn = store.begin().unwrap();
    let mut noting = Noting::start(&mut txn, 1, "make").unwrap();
    noting.steps(&mut txn, done.collect()).unwrap();
    noting.end(&mut txn, 0, 1).unwrap();
    txn.commit(Durability::Lazy).unwrap()
}

/// Steps on the way from or to a file, found by following names until nothing is added.
fn followed(all: &Graph, end: &Name, forward: bool) -> BTreeSet<u32> {
    let mut names: BTreeSet<Arc<str>> = BTreeSet::from([end.to_string().into()]);
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for step in &all.steps {
            let (enters, leaves) = match forward {
                true => (&step.inputs, &step.outputs),
                false => (&step.outputs, &step.inputs),
            };
            if enters.iter().any(|name| names.contains(name)) {
                found.insert(step.step);
                names.extend(leaves.iter().cloned());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn numbers(graph: &Graph) -> BTreeSet<u32> {
    graph.steps.iter().map(|step| step.step).collect()
}

/// By directory: the steps that wrote in it, and the directories of what these read.
fn folded_by_names(all: &Graph) -> BTreeMap<String, (usize, BTreeSet<String>)> {
    let directories = |names: &[Arc<str>]| -> BTreeSet<String> {
        let directory = |name: &Arc<str>| match name.rsplit_once('/') {
            Some((directory, _)) => directory.to_owned(),
            None => ".".to_owned(),
        };
        names.iter().map(directory).collect()
    };
    let mut found: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
    for step in &all.steps {
        for to in directories(&step.outputs) {
            let (n_steps, from) = found.entry(to).or_default();
            *n_steps += 1;
            from.extend(directories(&step.inputs));
        }
    }
    found
}

/// Asks of these files; how many steps were found.
fn check(state: &Snapshot, files: impl Iterator<Item = (u64, u64)>, what: &str) -> usize {
    let all = graph(state, None, None, None).unwrap();
    let told = folded(state, None).unwrap().directories.into_iter();
    let told = told.map(|one| (one.directory, (one.steps, one.from.into_iter().collect())));
    assert_eq!(
        told.collect::<BTreeMap<_, _>>(),
        folded_by_names(&all),
        "{what}"
    );
    let mut n_found = 0;
    for (number, other) in files {
        let (name, other) = (file(number), file(other));
        let after = followed(&all, &name, true);
        let from = match graph(state, None, Some(&name), None) {
            Err(Error::Unknown(unknown)) => {
                assert!(unknown == name && after.is_empty(), "{what}: {unknown}");
                continue;
            }
            from => from.unwrap(),
        };
        assert_eq!(numbers(&from), after, "{what}: from {name}");
        let to = graph(state, None, None, Some(&name)).unwrap();
        assert_eq!(
            numbers(&to),
            followed(&all, &name, false),
            "{what}: to {name}"
        );
        for part in from.steps.iter().chain(&to.steps) {
            assert!(all.steps.contains(part), "{what}: {part:?}");
        }
        let between = match graph(state, None, Some(&name), Some(&other)) {
            Err(Error::Unknown(unknown)) if unknown == other => continue,
            between => between.unwrap(),
        };
        let leading = followed(&all, &other, false);
        let both: BTreeSet<u32> = after.intersection(&leading).copied().collect();
        assert_eq!(numbers(&between), both, "{what}: {name} to {other}");
        n_found += after.len();
    }
    n_found
}

#[test]
fn what_lies_between_is_what_following_names_finds() {
    const FILES: u64 = 20;
    let mut n_found = 0;
    for seed in 1..=20 {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random(seed);
        let steps = (0..40_u32).map(|number| {
            let parent = number.checked_sub(1).map(|last| match random.below(3) {
                0 => last,
                _ => u32::try_from(random.below(number.into())).unwrap(),
            });
            (parent, random.some(5, FILES), random.some(3, FILES))
        });
        let state = build(dir.path(), steps.collect());
        let files = (0..FILES).map(|number| (number, (number + 7) % FILES));
        n_found += check(&state, files, &format!("seed {seed}"));
    }
    assert!(n_found > 1000, "{n_found}");
}

/// In a build of thousands of steps only those are looked at that may have read what was found.
#[test]
fn it_is_so_in_a_build_of_many_steps() {
    let steps = (0..6_000_u32).map(|number| {
        let before = |n: u64| u64::from(number).checked_sub(n).filter(|_| number < 4_000);
        let reads = [before(1_000), before(1_300)].into_iter().flatten();
        let reads = reads.filter(|read| *read > 0).collect();
        match number {
            0 => (None, BTreeSet::new(), BTreeSet::new()),
            _ => (Some(0), reads, BTreeSet::from([number.into()])),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let state = build(dir.path(), steps.collect());
    let files = [(1, 3_301), (17, 2_317), (5_000, 1)];
    assert_eq!(check(&state, files.into_iter(), "many"), 18);
}

/// Nobody looks at more steps than that, and hundreds of megabytes are not what was asked for by accident.
#[test]
fn a_build_of_very_many_steps_is_told_by_directories() {
    let steps = (0..10_001_u32).map(|number| match number {
        0 => (None, BTreeSet::new(), BTreeSet::new()),
        _ => {
            let own = u64::from(number) * 4 + 1;
            (Some(0), BTreeSet::from([2]), BTreeSet::from([own]))
        }
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".rfs")).unwrap();
    drop(build(&dir.path().join(".rfs"), steps.collect()));
    let ask = |options: &[&str]| {
        let mut rfs = Command::new(env!("CARGO_BIN_EXE_rfs"));
        let done = rfs.arg("graph").args(options).current_dir(dir.path());
        let done = done.output().unwrap();
        assert!(done.status.success(), "{options:?}: {done:?}");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(done.stdout), text(done.stderr))
    };
    let (told, said) = ask(&[]);
    let lines: Vec<&str> = told.lines().skip(3).collect();
    let expected = "  \"d\" [label=\"d\\n10000 steps\"];\n  \"d/e\" -> \"d\";\n}";
    assert_eq!(lines.join("\n"), expected);
    assert_eq!(
        said,
        "rfs: 10001 steps: told by directories; --from, --to or --all tell single steps\n"
    );
    let (told, _) = ask(&["--svg"]);
    assert!(told.starts_with("<svg") && told.contains(">10000 steps<"));
    let (told, _) = ask(&["--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["schema"], "rfs.graph-folded/1");
    let wanted: [(&[&str], usize); 3] = [
        (&["--all"], 10_000),
        (&["--from", "d/e/f2"], 10_000),
        (&["--to", "d/f5"], 1),
    ];
    for (options, n_steps) in wanted {
        let (told, said) = ask(&[options, &["--json"]].concat());
        assert_eq!(said, "", "{options:?}");
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["steps"].as_array().unwrap().len(), n_steps);
    }
}
