//! What programs rely on: the fields of each schema, answers while a build runs, and files from elsewhere.

use super::{ask, build, each, json, space};
use crate::run::Cmd;
use crate::space::TestSpace;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

/// The fields of an answer, with the types that they have in it.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(list) => {
            list.iter()
                .for_each(|one| fields(one, &format!("{path}[]"), found));
            return;
        }
        Value::Object(entries) => {
            for (name, value) in entries {
                fields(value, &format!("{path}.{name}"), found);
            }
            return;
        }
    };
    let _new = found.insert(format!("{path} {kind}"));
}

/// A project in which every question has an answer with every field.
fn project() -> TestSpace {
    let s = space();
    s.script("fail", "#!/bin/sh\necho wrong >&2\nexit 3\n");
    s.script(
        "configure",
        "#!/bin/sh\nprintf '/* confdefs.h */\\n/* end confdefs.h */\\n#include <odd.h>\\n' > conftest.c\n\
         gcc -c conftest.c 2>/dev/null; rm -f conftest.c\necho '/* #undef HAVE_ODD_H */' > config.h\n\
         printf 'configure:3: checking for odd.h\\nconfigure:3: result: no\\n' > config.log\n",
    );
    s.append(
        "Makefile",
        "app: made\nmade: seed\n\t./configure; ./fail; ./generate seed made; date > /dev/null\n",
    );
    build(&s);
    s.write("all.in", "other\n");
    s.remove("made");
    s.append(
        "Makefile",
        "app: more\nmore: b.o a.o\n\t./generate seed $@; ./generate seed $@\n",
    );
    build(&s);
    s
}

#[test]
fn no_field_of_an_answer_goes_away_or_becomes_something_else() {
    let s = project();
    let database = "make -pn > ../database 2>/dev/null; true";
    let _printed = s.bare(Cmd::sh(database)).expect_code(0);
    let questions: [&[&str]; 19] = [
        &["why", "a.o"],
        &["why", "0"],
        &["why", "a.c"],
        &["why", "--configure", "HAVE_ODD_H", "--run", "1"],
        &["why-miss", "a.o"],
        &["deps", "a.o", "-tao"],
        &["deps", "a.o", "--packages"],
        &["rdeps", "all.h"],
        &["log"],
        &["log", "what-ran"],
        &["log", "failed", "--run", "1"],
        &["log", "slow"],
        &["log", "refused"],
        &["log", "critical-path"],
        &["diff"],
        &["graph"],
        &["graph", "--folded"],
        &["lint", "--make", "../database"],
        &["lint", "--run", "1"],
    ];
    let mut found = BTreeSet::new();
    for question in questions {
        let answer = json(&s, question);
        let schema = answer["schema"].as_str().unwrap();
        fields(&answer, schema, &mut found);
    }
    let mut told = String::new();
    found
        .iter()
        .for_each(|line| writeln!(told, "{line}").unwrap());
    let golden = include_str!("fields.txt");
    assert_eq!(
        told, golden,
        "add what is new to tests/e2e/explained/fields.txt; the rest is a new schema:\n{told}"
    );
}

#[test]
fn questions_are_answered_while_a_build_runs() {
    let s = space();
    build(&s);
    s.write("a.c", "other\n");
    s.script(
        "compile",
        "#!/bin/sh\n: > begun\nuntil test -e go; do sleep 0.01; done\ncat all.h $1 > $2\n",
    );
    let mut running = s.start(Cmd::new(["make", "-s"]), true);
    while !s.exists("begun") {
        assert!(running.child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    // They tell of the last one that has ended.
    let why = json(&s, &["why", "a.o"]);
    assert_eq!(why["steps"][1]["run"], 1, "{why:#}");
    assert_eq!(json(&s, &["log"])["runs"].as_array().unwrap().len(), 1);
    assert!(
        json(&s, &["rdeps", "all.h"])["readers"]
            .as_array()
            .unwrap()
            .len()
            > 1
    );
    let _svg = ask(&s, &["graph", "--svg"]);
    s.write("go", "");
    assert_eq!(running.finish(None).0.code(), Some(0));
    let log = json(&s, &["log"]);
    assert_eq!(log["runs"].as_array().unwrap().len(), 2, "{log:#}");
}

#[test]
fn a_miss_is_explained_against_a_file_from_elsewhere() {
    let script = "./compile a.c a.o";
    let there = space();
    there.write("all.h", "other\n");
    let secret = Cmd::sh(script).env("MODE", "1").env("TOKEN", "hunter22");
    let _built = there.rfs(secret.clone()).expect_code(0);
    let _told = there.tool(&["store", "export", "../whole"]).expect_code(0);
    let _told = there
        .tool(&["store", "export", "--no-environment", "../bare"])
        .expect_code(0);
    let taken = there.tool(&["store", "export", "../bare"]).expect_code(125);
    assert!(taken.err().contains("is there already"), "{taken:?}");

    let s = space();
    s.write("all.h", "h\n");
    let _built = s.rfs(Cmd::sh(script).env("MODE", "2")).expect_code(0);
    for name in ["whole", "bare"] {
        std::fs::copy(there.root().join(name), s.root().join(name)).unwrap();
    }
    drop(there);
    let against = |name: &str| json(&s, &["why-miss", "a.o", "--against", name]);
    let names = each(&against("../whole")["differences"], "name");
    for name in ["all.h", "MODE", "TOKEN", "directory"] {
        assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
    }
    let names = each(&against("../bare")["differences"], "name");
    assert!(
        names.contains(&"all.h".to_owned()) && !names.contains(&"MODE".to_owned()),
        "{names:?}"
    );
    let holds = |name: &str| {
        let bytes = std::fs::read(s.root().join(name)).unwrap();
        bytes.windows(8).any(|window| window == b"hunter22")
    };
    assert!(holds("whole") && !holds("bare"));
}
