//! Which step wrote what, who reads it, how it differs from the last time: over builds of a workspace.

use super::history::{key, name, open, record};
use super::random::Random;
use crate::base::{Difference, Digest, Name, Output, Record, Stamp, Start, What};
use crate::disk::{Disk, RealDisk};
use crate::store::graph::{self, Done, Fate, Noting, Step};
use crate::store::history::{self, Execution};
use crate::store::{Durability, Snapshot, Store, rebuild};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn output(text: &str, content: u64) -> Output {
    Output {
        name: Name::from_bytes(text.as_bytes()),
        what: What::File {
            digest: Digest::of(&content.to_le_bytes()),
            size: content,
            mode: 0o644,
            in_place: false,
        },
        stamp: Stamp::Now(0),
        owner: None,
    }
}

/// A step; its key is that of its title.
fn step(number: u32, parent: Option<u32>, fate: Fate, title: &str, wrote: &[(&str, u64)]) -> Done {
    Done {
        step: Step {
            number,
            parent,
            fate,
            why: format!("because of {number}"),
            cause: None,
            began_us: number.into(),
            wall_us: 5,
            status: 0,
            execution: None,
        },
        start: Start::default(),
        key: Digest::of(title.as_bytes()),
        record: Record {
            title: title.to_owned(),
            outputs: wrote.iter().map(|(name, n)| output(name, *n)).collect(),
            ..record(1, 0, 1)
        },
    }
}

fn build(store: &Store, steps: Vec<Done>) -> Arc<Snapshot> {
    let mut txn = store.begin().unwrap();
    let mut noting = Noting::start(&mut txn, 7, "make").unwrap();
    noting.steps(&mut txn, steps).unwrap();
    noting.end(&mut txn, 0, 99).unwrap();
    txn.commit(Durability::Lazy).unwrap()
}

/// The title of the step that wrote a file.
fn wrote(state: &Snapshot, text: &str) -> String {
    let writer = graph::writer(state, &Name::from_bytes(text.as_bytes())).unwrap();
    history::rest(state, writer.unwrap()).unwrap().title
}

#[test]
fn the_innermost_step_and_of_several_the_last_wrote_it() {
    use Fate::{Ran, Served};
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"));
    let files = [("a.o", 1), ("b.o", 1), ("app", 1)];
    let whole = |fate| step(0, None, fate, "make", &files);
    // Ended in this order: a step ends before who started it.
    let state = build(
        &store,
        vec![
            step(2, Some(1), Ran, "cc a", &[("a.o", 1)]),
            step(1, Some(0), Ran, "sh", &[("a.o", 1)]),
            step(3, Some(0), Ran, "cc b", &[("b.o", 1), ("a.o", 1)]),
            step(4, Some(0), Ran, "strip", &[("b.o", 1)]),
            whole(Ran),
        ],
    );
    let found = |state: &Snapshot| ["a.o", "b.o", "app"].map(|text| wrote(state, text));
    assert_eq!(found(&state), ["cc b", "strip", "make"]);
    // Served as a whole, everything is as those have left it.
    let state = build(&store, vec![whole(Served)]);
    assert_eq!(found(&state), ["cc b", "strip", "make"]);
    // Another content is not what those have left.
    let other = step(0, None, Served, "make", &[("a.o", 2), ("b.o", 1)]);
    let state = build(&store, vec![other]);
    assert_eq!(found(&state), ["make", "strip", "make"]);
    // A part that is served is the part's, whatever is around it.
    let state = build(
        &store,
        vec![step(1, Some(0), Served, "cc a", &[("a.o", 1)]), whole(Ran)],
    );
    assert_eq!(found(&state), ["cc a", "make", "make"]);
    let steps = graph::steps(&*state, 1).unwrap();
    let numbers: Vec<_> = steps
        .iter()
        .map(|step| (step.number, step.parent))
        .collect();
    let expected = [
        (2, Some(1)),
        (1, Some(0)),
        (3, Some(0)),
        (4, Some(0)),
        (0, None),
    ];
    assert_eq!(numbers, expected);
    assert_eq!(steps[0].why, "because of 2");
    let builds = graph::builds(&*state).unwrap();
    let numbers: Vec<_> = builds.iter().map(|build| build.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!((builds[0].n_steps, builds[0].ended), (5, Some((0, 99))));
    assert_eq!((builds[3].began, &*builds[3].title), (7, "make"));
}

#[test]
fn a_step_is_compared_with_itself_the_last_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"));
    let ran = |content| step(0, None, Fate::Ran, "cc", &[("o", content)]);
    let state = build(&store, vec![ran(1)]);
    let o = Name::from_bytes(b"o");
    let now = |state: &Snapshot| graph::writer(state, &o).unwrap().unwrap();
    let first = now(&state);
    assert_eq!(graph::since(&*state, first).unwrap(), None);
    let state = build(&store, vec![ran(2)]);
    let second = now(&state);
    let differs = Some(vec![Difference::Output(o.clone())]);
    assert_eq!(graph::since(&*state, second).unwrap(), differs);
    // Once more the same: what came before is still what was different.
    let state = build(&store, vec![ran(2)]);
    assert_eq!(now(&state), second);
    assert_eq!(graph::before(&*state, second).unwrap(), Some(first));
    // And back.
    let state = build(&store, vec![ran(1)]);
    assert_eq!(now(&state), first);
    assert_eq!(graph::before(&*state, first).unwrap(), Some(second));
    // Another command for the same file is compared with the one that wrote it.
    let state = build(&store, vec![step(0, None, Fate::Ran, "cc -O", &[("o", 1)])]);
    let differs = Some(vec![Difference::Command]);
    assert_eq!(graph::since(&*state, now(&state)).unwrap(), differs);
    assert_eq!(graph::before(&*state, now(&state)).unwrap(), Some(first));
}

#[test]
fn only_present_readers_are_told_unless_old_ones_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"));
    let reads = |n_deps| {
        let mut done = step(0, None, Fate::Ran, "cc", &[]);
        done.record.deps = record(3, n_deps, 200).deps;
        done
    };
    let (many, few) = (reads(60), reads(3));
    let lost = many.record.deps.iter().map(|dep| &dep.name);
    let lost = lost
        .into_iter()
        .find(|name| few.record.deps.iter().all(|dep| dep.name != **name));
    let lost = lost.unwrap().clone();
    build(&store, vec![many]);
    let state = build(&store, vec![few]);
    assert_eq!(graph::readers(&*state, &lost, false).unwrap(), []);
    assert_eq!(graph::readers(&*state, &lost, true).unwrap().len(), 1);
}

/// What can be asked, by names that mean the same in another store.
fn answers(state: &Snapshot) -> BTreeMap<String, String> {
    let title = |one: Execution| history::record(state, one).unwrap();
    let mut all = BTreeMap::new();
    for n in 0..12 {
        if let Some(writer) = graph::writer(state, &name(n)).unwrap() {
            let before = graph::before(state, writer).unwrap().map(title);
            all.insert(format!("{n}"), format!("{:?} {before:?}", title(writer)));
        }
    }
    for n in 0..12 {
        let readers = graph::readers(state, &name(n), true).unwrap();
        let mut readers: Vec<_> = readers.into_iter().map(title).collect();
        readers.sort_by_key(|record| format!("{record:?}"));
        all.insert(format!("readers of {n}"), format!("{readers:?}"));
    }
    for build in graph::builds(state).unwrap() {
        for step in graph::steps(state, build.number).unwrap() {
            let what = (step.fate, step.parent, &step.why, step.execution.map(title));
            all.insert(format!("{build:?} {}", step.number), format!("{what:?}"));
        }
    }
    all
}

#[test]
fn a_compacted_graph_answers_as_before_and_old_builds_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let store = open(&path);
    let mut random = Random(5);
    for _ in 0..40 {
        let steps = (0..3).map(|number| Done {
            key: key(random.below(6)),
            record: record(random.below(30), 20, 12),
            ..step(number, number.checked_sub(1), Fate::Ran, "", &[])
        });
        build(&store, steps.collect());
    }
    let before = answers(&store.snapshot().unwrap());
    assert!(before.len() > 100, "{}", before.len());
    rebuild::compact(&store, &disk).unwrap();
    assert_eq!(answers(&store.snapshot().unwrap()), before);

    let mut txn = store.begin().unwrap();
    graph::forget(&mut txn, 10, 30).unwrap();
    let state = txn.commit(Durability::Lazy).unwrap();
    let after = answers(&state);
    assert_eq!(graph::builds(&*state).unwrap().len(), 10);
    for (what, answer) in &before {
        if what.contains("readers") {
            continue;
        }
        // Who wrote what, and how that was before, stays; so do the newer builds.
        if !what.contains("Build") || after.contains_key(what) {
            assert_eq!(after.get(what), Some(answer), "{what}");
        }
    }
    let kept: BTreeSet<_> = history::all(&*state).unwrap().into_iter().collect();
    assert!(kept.len() < 24 && kept.len() > 5, "{}", kept.len());
    build(&store, vec![step(0, None, Fate::Ran, "next", &[])]);
    let builds = graph::builds(&*store.snapshot().unwrap()).unwrap();
    assert_eq!(builds.last().unwrap().number, 41);
}

/// However many executions there are, and wherever they lie among the others.
#[test]
fn readers_are_those_that_have_the_dep() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"));
    let mut random = Random(9);
    let steps = (0..1500).map(|number| {
        let mut done = step(number, None, Fate::Ran, &number.to_string(), &[]);
        done.record.deps = record(random.below(200), 3, 90).deps;
        // Somebody whom only few others are near.
        if number % 700 == 3 {
            done.record.deps[0].name = Name::from_bytes(b"rare");
        }
        done
    });
    let check = |state: &Snapshot| {
        let mut names = BTreeMap::<Name, Vec<Execution>>::new();
        for one in history::all(state).unwrap() {
            for dep in history::record(state, one).unwrap().deps {
                names.entry(dep.name).or_default().push(one);
            }
        }
        assert_eq!(names[&Name::from_bytes(b"rare")].len(), 3);
        for (name, mut all) in names {
            all.dedup();
            assert_eq!(graph::readers(state, &name, true).unwrap(), all, "{name}");
        }
    };
    check(&build(&store, steps.collect()));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    rebuild::compact(&store, &disk).unwrap();
    check(&store.snapshot().unwrap());
    let other = open(&dir.path().join("other"));
    rebuild::salvage(store.path(), &other, &disk).unwrap();
    check(&other.snapshot().unwrap());
}
