//! How long each question about what was built takes to answer, in this process, and with JSON made of it.
//!
//!     cargo bench --bench queries -- [--state FILE] [--nodes N] [--only START]
//!
//! Without a file (a workspace's `.rfs/state`), or in one that is not there, which is kept, a build is made up: one command that starts `N / 5` compilations, each of three
//! files of its own and forty of a thousand shared headers, to one object; 1 000 000 nodes if not said otherwise. `--only` asks the questions whose names start so.
//! Told are the first time, at which pages of the state are read and compared with their sums, and the median of
//! those after it.

#![allow(missing_docs, clippy::print_stdout, reason = "a bench")]

use rfs::base::policy::Policy;
use rfs::base::{Access, Command, Dep, Digest, Name, Output, Record, Stamp, Start, State, What};
use rfs::disk::{Disk, RealDisk};
use rfs::query::{Subject, deps, diff, folded, graph, lint, log, miss, why};
use rfs::store::graph::{self as builds, Done, Fate, Noting, Step};
use rfs::store::{Durability, Snapshot, Store, recover};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const AT_ONCE: u32 = 5_000;
const TIMES: usize = 5;

fn file(name: &str, content: u32, access: Access) -> Dep {
    Dep {
        name: Name::from_bytes(name.as_bytes()),
        access,
        state: State::File {
            mode: [0o644, 0, 0],
            size: u64::from(content % 5_000),
            mtime: 0,
            digest: Some(Digest::of(&content.to_le_bytes())),
        },
        rank: 0,
    }
}

/// What a compilation reads and writes.
fn compiled(number: u32) -> (String, Vec<Dep>, Output) {
    let read = Access::KIND | Access::REG;
    let dir = number / 100;
    let own = ["c", "h", "inc"].map(|own| {
        let name = format!("part{dir:04}/source{number:06}.{own}");
        file(&name, number, read)
    });
    let shared = (0..40).map(|header| {
        let header = (dir * 7 + header) % 1000;
        file(&format!("include/common/header{header:04}.h"), header, read)
    });
    let title =
        format!("cc -c -o part{dir:04}/object{number:06}.o part{dir:04}/source{number:06}.c");
    let output = Output {
        name: Name::from_bytes(format!("part{dir:04}/object{number:06}.o").as_bytes()),
        what: What::File {
            digest: Digest::of(title.as_bytes()),
            size: 4_000,
            mode: 0o644,
            in_place: false,
        },
        stamp: Stamp::Now(0),
        owner: None,
    };
    (title, own.into_iter().chain(shared).collect(), output)
}

/// A compilation, or the command around all of them, which has read and written all that they have.
fn step(number: u32, n_steps: u32) -> Done {
    let (title, deps, outputs) = match number {
        0 => {
            let (mut deps, mut outputs) = (BTreeMap::new(), Vec::new());
            for (_, inner, output) in (1..=n_steps).map(compiled) {
                deps.extend(inner.into_iter().map(|dep| (dep.name.clone(), dep)));
                outputs.push(output);
            }
            ("make".to_owned(), deps.into_values().collect(), outputs)
        }
        _ => {
            let (title, deps, output) = compiled(number);
            (title, deps, vec![output])
        }
    };
    let began_us = i64::from(number) * 1_000;
    let ran = number % 20 == 1;
    Done {
        step: Step {
            number,
            parent: (number > 0).then_some(0),
            fate: if ran { Fate::Ran } else { Fate::Served },
            why: if ran { "not seen before" } else { "" }.to_owned(),
            cause: None,
            began_us: if number == 0 { 0 } else { began_us },
            wall_us: if number == 0 {
                u64::from(n_steps) * 1_000
            } else {
                900
            },
            status: 0,
            execution: None,
        },
        start: Start::default(),
        key: Digest::of(title.as_bytes()),
        record: Record {
            command: Command {
                program: Name::from_bytes(b"/usr/bin/cc"),
                argv: title
                    .split(' ')
                    .map(|word| word.as_bytes().to_vec())
                    .collect(),
                cwd: Name::default(),
            },
            title,
            deps,
            outputs,
            ..Record::default()
        },
    }
}

fn fill(path: &Path, n_nodes: u32) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (store, told) = recover::open(path, &disk);
    let store = store.unwrap_or_else(|| panic!("{told:?}"));
    let n_steps = n_nodes / 5;
    for _run in 0..2 {
        let mut txn = store.begin().expect("a transaction");
        let mut noting = Noting::start(&mut txn, 1, "make").expect("a build");
        txn.commit(Durability::Lazy).expect("a commit");
        for first in (1..=n_steps).step_by(AT_ONCE as usize) {
            let last = (first + AT_ONCE).min(n_steps + 1);
            let mut txn = store.begin().expect("a transaction");
            let done = (first..last).map(|number| step(number, n_steps)).collect();
            noting.steps(&mut txn, done).expect("steps");
            txn.commit(Durability::Lazy).expect("a commit");
        }
        let mut txn = store.begin().expect("a transaction");
        noting
            .steps(&mut txn, vec![step(0, n_steps)])
            .expect("steps");
        noting
            .end(&mut txn, 0, u64::from(n_steps) * 1_000)
            .expect("an end");
        txn.commit(Durability::Lazy).expect("a commit");
    }
}

/// The first time and the median of those after it, and what was answered at last.
fn times(mut ask: impl FnMut() -> usize) -> (Duration, Duration, usize) {
    let mut times = Vec::new();
    let mut n_bytes = 0;
    for _ in 0..=TIMES {
        let begun = Instant::now();
        n_bytes = ask();
        times.push(begun.elapsed());
    }
    let first = times.remove(0);
    times.sort();
    (first, times[TIMES / 2], n_bytes)
}

fn json<A: serde::Serialize, E: std::fmt::Debug>(answer: Result<A, E>) -> usize {
    serde_json::to_string(&answer.expect("an answer"))
        .expect("JSON")
        .len()
}

/// What it is called, and what gives its answer and tells how long that is.
type Question<'a> = (&'static str, Box<dyn Fn() -> usize + 'a>);

fn ask(store: &Arc<Snapshot>, only: &str) {
    let run = builds::builds(&**store).expect("builds");
    let run = run.last().expect("a run");
    let steps = builds::steps(&**store, run.number).expect("steps");
    // The file that the middle one of the steps wrote.
    let written = steps.iter().skip(steps.len() / 2).find_map(|step| {
        let record = rfs::store::history::record(&**store, step.execution?).ok()?;
        let output = record.outputs.first()?.name.clone();
        let input = record
            .deps
            .iter()
            .find(|dep| dep.name.inside())?
            .name
            .clone();
        Some((step.number, output, input))
    });
    let (number, output, input) = written.expect("a step that wrote something");
    println!(
        "run {}: {} steps; {output}, step {number}",
        run.number,
        steps.len()
    );
    let (made, from) = (Subject::Path(output.clone()), Subject::Path(input.clone()));
    let policy = Policy::default();
    let header = Name::from_bytes(b"include/common/header0500.h");
    let wanted = |transitive, outside| deps::Wanted {
        transitive,
        absent: false,
        outside,
    };
    let steps = |what| json(log::steps(store, None, what, 20));
    let questions: Vec<Question<'_>> = vec![
        ("why PATH", Box::new(|| json(why::why(store, None, &made)))),
        (
            "why STEP",
            Box::new(|| json(why::why(store, None, &Subject::Step(None, number)))),
        ),
        (
            "deps PATH",
            Box::new(|| json(deps::deps(store, &made, wanted(false, false)))),
        ),
        (
            "deps --transitive --outside",
            Box::new(|| json(deps::deps(store, &made, wanted(true, true)))),
        ),
        (
            "rdeps PATH",
            Box::new(|| json(deps::rdeps(store, &from, false))),
        ),
        (
            "why-miss PATH",
            Box::new(|| match run.number {
                1 => 0,
                last => {
                    let other = (&**store, Some(last - 1));
                    json(miss::miss(store, None, &made, other, &policy))
                }
            }),
        ),
        ("log", Box::new(|| json(log::runs(store, 20)))),
        ("log what-ran", Box::new(|| steps(log::Wanted::Ran))),
        ("log failed", Box::new(|| steps(log::Wanted::Failed))),
        ("log slow", Box::new(|| steps(log::Wanted::Slow))),
        ("log refused", Box::new(|| steps(log::Wanted::Refused))),
        (
            "log critical-path",
            Box::new(|| steps(log::Wanted::CriticalPath)),
        ),
        (
            "diff",
            Box::new(|| match run.number {
                1 => 0,
                last => json(diff::diff(store, last - 1, last)),
            }),
        ),
        (
            "graph --to PATH",
            Box::new(|| json(graph::graph(store, None, None, Some(&output)))),
        ),
        (
            "graph --from PATH",
            Box::new(|| json(graph::graph(store, None, Some(&input), None))),
        ),
        (
            "graph --from a header",
            Box::new(|| json(graph::graph(store, None, Some(&header), None))),
        ),
        (
            "graph --folded",
            Box::new(|| json(folded::folded(store, None))),
        ),
        (
            "graph --all",
            Box::new(|| json(graph::graph(store, None, None, None))),
        ),
        ("lint", Box::new(|| json(lint::lint(store, None)))),
    ];
    for (name, question) in questions {
        if !name.starts_with(only) {
            continue;
        }
        let (first, time, n_bytes) = times(question);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{name:<30}{:>10.1}{:>10.1} ms{n_bytes:>12} bytes of JSON",
            ms(first),
            ms(time)
        );
    }
}

fn main() {
    let (mut state, mut n_nodes): (Option<PathBuf>, u32) = (None, 1_000_000);
    let mut only = String::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value");
        match word.as_str() {
            "--state" => state = Some(value().into()),
            "--nodes" => n_nodes = value().parse().expect("a number"),
            "--only" => only = value(),
            // What cargo adds.
            "--bench" => (),
            _ => panic!("unknown: {word}"),
        }
    }
    let dir = std::env::temp_dir().join(format!("rfs-bench-queries-{}", std::process::id()));
    let path = state.clone().unwrap_or_else(|| dir.join("state"));
    if !path.exists() {
        std::fs::create_dir_all(&dir).expect("a directory");
        let begun = Instant::now();
        fill(&path, n_nodes);
        println!(
            "{n_nodes} nodes, made in {:.1} s",
            begun.elapsed().as_secs_f64()
        );
    }
    let store = Store::open_existing(&path, Arc::new(RealDisk)).expect("a store");
    ask(&store.snapshot().expect("a state"), &only);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
