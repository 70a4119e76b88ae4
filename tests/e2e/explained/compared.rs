//! Runs against each other and as a whole: `rfs diff`, `why-miss`, `graph`, `compdb`, `lint`.

use super::{ask, build, each, json, space};
use crate::run::Cmd;
use crate::space::TestSpace;
use serde_json::Value;

#[test]
fn runs_are_compared() {
    let s = space();
    build(&s);
    s.write("a.c", "other\n");
    s.append("Makefile", "app: more\nmore: seed\n\t./generate seed $@\n");
    build(&s);
    let diff = json(&s, &["diff"]);
    assert_eq!(diff["schema"], "rfs.diff/1");
    assert_eq!((&diff["old"], &diff["new"]), (&1.into(), &2.into()));
    let changed = diff["changed"].as_array().unwrap();
    let compile = changed.iter().find(|one| {
        let command = one["step"]["command"].as_str().unwrap();
        command.ends_with("compile a.c a.o")
    });
    let differences = compile.unwrap()["differences"].to_string();
    assert!(differences.contains("a.c changed (content)"), "{diff:#}");
    assert!(
        differences.contains("writes something else to a.o"),
        "{diff:#}"
    );
    let added = each(&diff["added"], "command");
    assert!(
        added
            .iter()
            .any(|command| command.ends_with("generate seed more")),
        "{diff:#}"
    );
    // What was up to date did not run.
    let lost = each(&diff["lost"], "command");
    assert!(
        lost.iter()
            .any(|command| command.ends_with("compile b.c b.o")),
        "{diff:#}"
    );
    assert!(ask(&s, &["diff", "1", "2"]).contains("a.c changed (content)"));
    let unknown = s.tool(&["diff", "1", "7"]).expect_code(125);
    assert!(unknown.err().contains("run 7 is not known"), "{unknown:?}");
}

#[test]
fn a_miss_against_another_run_or_checkout_is_explained() {
    let s = space();
    let script = "./compile a.c a.o";
    s.write("all.h", "h\n");
    let _first = s.rfs(Cmd::sh(script).env("MODE", "1")).expect_code(0);
    s.write("a.c", "other\n");
    let _second = s
        .rfs(
            Cmd::sh(script)
                .env("MODE", "2")
                .env("TMUX", "x")
                .env("TERM_PROGRAM", "editor"),
        )
        .expect_code(0);
    let miss = json(&s, &["why-miss", "a.o"]);
    assert_eq!(miss["schema"], "rfs.why-miss/1");
    let found: Vec<_> = miss["differences"].as_array().unwrap().iter().collect();
    let mode = found.iter().find(|one| one["name"] == "MODE").unwrap();
    assert_eq!(
        (&mode["other"], &mode["this"]),
        (&"1".into(), &"2".into()),
        "{miss:#}"
    );
    let source = found.iter().find(|one| one["name"] == "a.c").unwrap();
    assert!(
        source["what"] == "input" && source["other"] != source["this"],
        "{miss:#}"
    );
    assert_eq!(found.len(), 2, "what does not count is not told: {miss:#}");

    // Another checkout, which has another path.
    let other = space();
    other.write("all.h", "h\n");
    let _there = other.rfs(Cmd::sh(script).env("MODE", "2")).expect_code(0);
    let path = other.ws().to_str().unwrap();
    let miss = json(&s, &["why-miss", "a.o", "--against", path]);
    let names = each(&miss["differences"], "name");
    assert!(names.contains(&"directory".to_owned()), "{miss:#}");
    assert!(names.contains(&"a.c".to_owned()), "{miss:#}");
    assert!(!names.contains(&"MODE".to_owned()), "{miss:#}");
}

#[test]
fn the_graph_is_drawn() {
    let s = space();
    build(&s);
    let graph = json(&s, &["graph"]);
    assert_eq!(graph["schema"], "rfs.graph/1");
    let steps = graph["steps"].as_array().unwrap();
    let has = |list: &Value, path: &str| list.as_array().unwrap().iter().any(|one| one == path);
    let step = |made: &str| {
        steps
            .iter()
            .find(|step| has(&step["outputs"], made))
            .unwrap()
    };
    assert!(has(&step("a.o")["inputs"], "all.h") && has(&step("a.o")["inputs"], "a.c"));
    assert!(has(&step("app")["inputs"], "b.o"));
    let below = json(&s, &["graph", "--from", "all.in", "--to", "app"]);
    let below = below["steps"].as_array().unwrap();
    assert!(
        below.iter().all(|step| !has(&step["outputs"], "stamp")),
        "{below:#?}"
    );
    assert!(
        below.iter().any(|step| has(&step["outputs"], "a.o")),
        "{below:#?}"
    );
    // dot(1) is not needed to see that it could read this.
    let dot = ask(&s, &["graph", "--dot"]);
    assert!(
        dot.starts_with("digraph run1 {") && dot.trim_end().ends_with('}'),
        "{dot}"
    );
    assert!(dot.contains("\"a.c\" -> step"), "{dot}");
}

fn compiled() -> TestSpace {
    let s = TestSpace::new();
    s.write(
        "Makefile",
        "app: a.o s/b.o\n\tgcc -o $@ a.o s/b.o\na.o: a.c\n\tgcc -DA=1 -c -o $@ a.c\n\
         s/b.o: s/b.c\n\tcd s && gcc -c b.c\n",
    );
    s.write("a.c", "int b(void);\nint main(void) { return b() - A; }\n");
    s.write("s/b.c", "int b(void) { return 1; }\n");
    s
}

#[test]
fn compile_commands_are_told_whatever_was_served() {
    let s = compiled();
    let told = |s: &TestSpace| -> Value { serde_json::from_str(&ask(s, &["compdb"])).unwrap() };
    build(&s);
    let first = told(&s);
    assert_eq!(each(&first, "file"), ["a.c", "b.c"], "{first:#}");
    assert_eq!(first[0]["directory"], s.ws().to_str().unwrap());
    assert_eq!(first[1]["directory"], s.path("s").to_str().unwrap());
    let expected = serde_json::json!(["gcc", "-DA=1", "-c", "-o", "a.o", "a.c"]);
    assert_eq!(first[0]["arguments"], expected);
    for made in ["a.o", "s/b.o", "app"] {
        s.remove(made);
    }
    let _whole = s.rfs(Cmd::new(["make", "-s"])).expect_hit();
    assert_eq!(told(&s), first);
    // In a fresh checkout nothing is known but by the cache.
    for made in ["a.o", "s/b.o", "app", ".rfs"] {
        s.remove(made);
    }
    let _whole = s.rfs(Cmd::new(["make", "-s"])).expect_hit();
    assert_eq!(told(&s), first);
}

#[test]
fn what_may_go_wrong_is_told() {
    let s = space();
    s.script("late", "#!/bin/sh\ncat ../outside/in all.in > late.out\n");
    std::fs::write(s.root().join("outside/in"), "x").unwrap();
    s.append(
        "Makefile",
        "app: late.out\nlate.out:\n\t./late; date >/dev/null\n",
    );
    // It goes on with what the first one wrote.
    s.script(
        "further",
        "#!/bin/sh\nread -r line < $1\necho \"$line!\" > $1\n",
    );
    s.append(
        "Makefile",
        "app: on\non:\n\t./generate seed $@\n\t./further $@\n",
    );
    s.append(
        "Makefile",
        "app: twice\ntwice: late.out\n\t./generate seed late.out; ./generate seed $@\n",
    );
    build(&s);
    let lint = json(&s, &["lint"]);
    assert_eq!(lint["schema"], "rfs.lint/1");
    let found = lint["findings"].as_array().unwrap();
    let of = |kind: &str| found.iter().find(|one| one["kind"] == kind);
    let outside = of("outside").unwrap_or_else(|| panic!("{lint:#}"));
    assert!(
        outside["path"].as_str().unwrap().ends_with("/outside/in"),
        "{lint:#}"
    );
    let twice = of("written-twice").unwrap_or_else(|| panic!("{lint:#}"));
    assert_eq!(twice["path"], "late.out");
    assert!(found.iter().all(|one| one["path"] != "on"), "{lint:#}");
    let refused = of("refused").unwrap_or_else(|| panic!("{lint:#}"));
    assert!(
        refused["note"].as_str().unwrap().contains("never served"),
        "{lint:#}"
    );
    assert!(of("race").is_none(), "{lint:#}");

    // Nobody keeps the two apart, and each waits for the other to have begun.
    let r = TestSpace::new();
    r.script(
        "writer",
        "#!/bin/sh\nuntil test -e begun; do sleep 0.01; done\necho x > shared\n: > done\n",
    );
    r.script(
        "reader",
        "#!/bin/sh\n: > begun\nuntil test -e done; do sleep 0.01; done\ncat shared\n",
    );
    let _ran = r.rfs(Cmd::sh("./writer & ./reader; wait")).expect_code(0);
    let lint = json(&r, &["lint"]);
    let found = lint["findings"].as_array().unwrap();
    let race = found
        .iter()
        .find(|one| one["kind"] == "race" && one["path"] == "shared");
    assert!(race.is_some(), "{lint:#}");
}
