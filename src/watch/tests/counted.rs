//! What a key and a look-up cost, in instructions of the unoptimised program: a guard against work that grows.

use super::*;
use crate::base::{Access, Dep, Digest, Name, Record, State, Stdin};
use crate::cache::lookup::lookup;

#[path = "../../../tests/instructions/mod.rs"]
mod instructions;

use instructions::{assert_each, times};

fn asking(build: &Build, env: Vec<Vec<u8>>) -> Exec {
    Exec {
        pid: SHELL + 1,
        program: build.walk("tool"),
        interpreters: vec![],
        argv: vec![b"tool".to_vec()],
        env,
        cwd: build.path(""),
        fds: vec![],
        umask: 0o022,
        ids: [0; 4],
        ignored: 0,
        children: vec![],
    }
}

#[inline(never)]
fn counted_key(build: &Build, exec: &Exec) -> Digest {
    build.watch.key(exec, "tool", None).unwrap()
}

#[test]
fn key() {
    let build = Build::new();
    let env = (0..times())
        .map(|n| format!("SOME_VARIABLE_{n:04}=some value of usual length").into_bytes());
    let exec = asking(&build, env.collect());
    assert_eq!(counted_key(&build, &exec), counted_key(&build, &exec));
}

#[test]
fn each_variable_of_a_key_takes_so_many_instructions() {
    assert_each("watch::tests::counted::key", 50, 50_000);
}

#[inline(never)]
fn counted_lookup(world: &World, record: &Arc<Record>) -> usize {
    let is_there = |_: &Stdin| true;
    lookup(vec![Arc::clone(record)], world, is_there)
        .unwrap()
        .looks
        .len()
}

/// As compilers have them: names that are not there.
#[test]
fn verify() {
    let build = Build::new();
    let deps = (0..times()).map(|n| Dep {
        name: Name::of(
            &build.path(&format!("dir/absent-{n:04}.h")),
            build.watch.world.root(),
        ),
        access: Access::KIND,
        state: State::Absent,
        rank: 0,
    });
    let record = Arc::new(Record {
        deps: deps.collect(),
        ..Record::default()
    });
    // The first time their names are learned.
    assert_eq!(counted_lookup(&build.watch.world, &record), times());
}

#[test]
fn each_dep_that_is_verified_takes_so_many_instructions() {
    assert_each("watch::tests::counted::verify", 100, 66_000);
}
