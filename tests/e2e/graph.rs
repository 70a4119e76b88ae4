//! After a build the workspace's store tells which step wrote a file, what that read, who reads it and how
//! it differs from the last time.

use crate::run::Cmd;
use crate::space::TestSpace;
use rfs::base::{Change, Difference, Name, Record};
use rfs::disk::RealDisk;
use rfs::store::graph::{self, Build, Fate};
use rfs::store::{Snapshot, Store, history};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MAKEFILE: &str = "\
app: a.o b.o stamp\n\tcat a.o b.o > $@\n\
%.o: %.c all.h\n\t./compile $< $@\n\
stamp: seed\n\t./generate $@\n";

fn space() -> TestSpace {
    let s = TestSpace::new();
    s.write("Makefile", MAKEFILE);
    s.script("compile", "#!/bin/sh\ncat all.h $1 > $2\n");
    s.script("generate", "#!/bin/sh\ncat seed > $1\n");
    // It may not be cached, and what it did is known all the same.
    s.write("rfs.toml", "[tools]\nnever = ['generate']\n");
    for (name, text) in [
        ("all.h", "h\n"),
        ("a.c", "a\n"),
        ("b.c", "b\n"),
        ("seed", "s\n"),
    ] {
        s.write(name, text);
        s.set_mtime(name, 1_000_000_000);
    }
    s
}

fn name(text: &str) -> Name {
    Name::from_bytes(text.as_bytes())
}

/// What is known once the host has written down its build, which nobody waits for but tests.
fn known(s: &TestSpace, n_builds: usize) -> Arc<Snapshot> {
    let begun = Instant::now();
    loop {
        let store = Store::open_existing(&s.path(".rfs/state"), Arc::new(RealDisk)).unwrap();
        let state = store.snapshot().unwrap();
        let builds = graph::builds(&*state).unwrap();
        if builds.len() == n_builds && builds.iter().all(|build| build.ended.is_some()) {
            return state;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{builds:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn build(s: &TestSpace, n_builds: usize) -> Arc<Snapshot> {
    let _built = s.rfs(Cmd::new(["make", "-s"])).expect_code(0);
    known(s, n_builds)
}

fn writer(state: &Snapshot, text: &str) -> Record {
    let writer = graph::writer(state, &name(text)).unwrap().unwrap();
    history::record(state, writer).unwrap()
}

fn since(state: &Snapshot, text: &str) -> Option<Vec<Difference>> {
    let writer = graph::writer(state, &name(text)).unwrap().unwrap();
    graph::since(state, writer).unwrap()
}

fn last(state: &Snapshot) -> Build {
    graph::builds(state).unwrap().pop().unwrap()
}

#[test]
fn the_graph_is_kept() {
    let s = space();
    let first = build(&s, 1);
    let titles = |state: &Snapshot| ["a.o", "b.o", "stamp"].map(|text| writer(state, text).title);
    let expected = ["./compile a.c a.o", "./compile b.c b.o", "./generate stamp"];
    let titles_of = |state: &Snapshot| titles(state).map(|title| title.replace("/bin/sh ", ""));
    assert_eq!(titles_of(&first), expected);
    for (output, input) in [
        ("a.o", "a.c"),
        ("a.o", "all.h"),
        ("stamp", "seed"),
        ("app", "b.o"),
    ] {
        let record = writer(&first, output);
        let reads = record.deps.iter().any(|dep| dep.name == name(input));
        assert!(reads, "{output} from {input}: {:?}", record.deps);
    }
    let one = last(&first);
    assert_eq!((one.number, one.title.as_str()), (1, "make -s"));
    assert_eq!(one.ended.unwrap().0, 0);
    let steps = graph::steps(&*first, 1).unwrap();
    assert_eq!(steps.len(), one.n_steps as usize);
    let root = steps.iter().find(|step| step.parent.is_none()).unwrap();
    assert_eq!((root.number, root.fate), (0, Fate::Refused));
    let refused: Vec<_> = steps
        .iter()
        .filter(|step| step.fate == Fate::Refused)
        .collect();
    assert_eq!(refused.len(), 2, "{steps:?}");
    let why = |step: &&graph::Step| step.why.ends_with("generate stamp is never served");
    assert!(refused.iter().all(why), "{steps:?}");

    // Nothing to do: as it was.
    let second = build(&s, 2);
    assert_eq!(titles_of(&second), expected);
    assert_eq!(since(&second, "a.o"), None);

    s.write("all.h", "other\n");
    let third = build(&s, 3);
    let changed = [
        Difference::Input(name("all.h"), Change::Content),
        Difference::Output(name("a.o")),
    ];
    let told = since(&third, "a.o").unwrap();
    assert!(changed.iter().all(|one| told.contains(one)), "{told:?}");
    let readers = graph::readers(&*third, &name("all.h"), false).unwrap();
    let readers = readers
        .into_iter()
        .map(|one| history::rest(&*third, one).unwrap().title);
    let readers: Vec<_> = readers.filter(|title| title.contains("compile")).collect();
    assert!(
        readers.iter().any(|title| title.contains("a.o")),
        "{readers:?}"
    );
    assert!(
        readers.iter().any(|title| title.contains("b.o")),
        "{readers:?}"
    );

    // Back, by the cache: it is the first execution again, after the third.
    s.write("all.h", "h\n");
    let fourth = build(&s, 4);
    let steps = graph::steps(&*fourth, 4).unwrap();
    let served = steps.iter().filter(|step| step.fate == Fate::Served);
    assert!(served.count() >= 2, "{steps:?}");
    assert_eq!(titles_of(&fourth), expected);
    assert!(since(&fourth, "a.o").unwrap().contains(&changed[0]));
    // The older state is still what it was, whatever was written since.
    assert_eq!(since(&first, "a.o"), None);
}

#[test]
fn a_build_that_fails_is_known_too() {
    let s = space();
    s.script("compile", "#!/bin/sh\necho no >&2; exit 3\n");
    let _failed = s.rfs(Cmd::new(["make", "-s"])).expect_code(2);
    let state = known(&s, 1);
    assert_eq!(last(&state).ended.unwrap().0, 2);
    let steps = graph::steps(&*state, 1).unwrap();
    let ended = steps.iter().filter_map(|step| step.execution);
    let mut ended = ended.map(|one| history::rest(&*state, one).unwrap().status);
    assert!(ended.any(|status| status == 3));
}

#[test]
fn damaged_state_is_set_aside_and_costs_answers_only() {
    let s = space();
    build(&s, 1);
    std::fs::write(s.path(".rfs/state"), "no store").unwrap();
    let run = s.rfs(Cmd::new(["make", "-s"])).expect_code(0);
    assert!(run.err().contains("state.damaged"), "{run:#?}");
    let state = known(&s, 1);
    assert_eq!(last(&state).number, 1);
}
