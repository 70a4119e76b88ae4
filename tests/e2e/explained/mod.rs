//! The questions about what was built: `rfs why`, `deps`, `rdeps`, `log`. By the face only.

mod attested;
mod between;
mod compared;
mod configured;
mod counted;
mod declared;
mod documented;
mod drawn;
mod outside;
mod reproduced;
mod stable;
mod wrong;

use crate::run::Cmd;
use crate::space::TestSpace;
use serde_json::Value;

const MAKEFILE: &str = "\
app: a.o b.o stamp\n\tcat a.o b.o > $@\n\
%.o: %.c all.h\n\t./compile $< $@\n\
all.h: all.in\n\t./generate all.in $@\n\
stamp: seed\n\t./never $@\n";

fn space() -> TestSpace {
    let s = TestSpace::new();
    s.write("Makefile", MAKEFILE);
    s.script(
        "compile",
        "#!/bin/sh\ntest -e all.ovr && cat all.ovr\ncat all.h $1 > $2\n",
    );
    s.script("generate", "#!/bin/sh\ncat $1 > $2\n");
    s.script("never", "#!/bin/sh\ncat seed > $1\n");
    s.write("rfs.toml", "[tools]\nnever = ['never']\n");
    for (name, text) in [
        ("all.in", "h\n"),
        ("a.c", "a\n"),
        ("b.c", "b\n"),
        ("seed", "s\n"),
    ] {
        s.write(name, text);
        s.set_mtime(name, 1_000_000_000);
    }
    s
}

fn build(s: &TestSpace) {
    let _built = s.rfs(Cmd::new(["make", "-s"])).expect_code(0);
}

fn ask(s: &TestSpace, args: &[&str]) -> String {
    s.tool(args).expect_code(0).out()
}

fn json(s: &TestSpace, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.push("--json");
    serde_json::from_str(&ask(s, &args)).unwrap()
}

/// A text of each member of a list.
fn each(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one[field].as_str().unwrap_or("-").to_owned())
        .collect()
}

#[test]
fn why_follows_a_change_back_to_what_no_step_wrote() {
    let s = space();
    build(&s);
    s.write("all.in", "other\n");
    build(&s);
    let why = json(&s, &["why", "a.o"]);
    assert_eq!(why["schema"], "rfs.why/1");
    assert_eq!(each(&why["steps"], "verdict"), ["ran", "ran"], "{why:#}");
    let commands = each(&why["steps"], "command");
    assert!(commands[1].ends_with("compile a.c a.o"), "{why:#}");
    let because = &why["because"];
    assert_eq!(each(because, "path"), ["all.h", "all.in"], "{why:#}");
    let writer = &because[0]["writer"];
    assert!(
        writer["command"]
            .as_str()
            .unwrap()
            .ends_with("generate all.in all.h"),
        "{why:#}"
    );
    assert_eq!(because[1]["writer"], Value::Null);
    for link in because.as_array().unwrap() {
        let (was, is) = (&link["was"]["content"], &link["is"]["content"]);
        assert!(was.is_string() && is.is_string() && was != is, "{why:#}");
    }
    // The digests are those of the files.
    let deps = json(&s, &["deps", "a.o"]);
    let inputs = deps["inputs"].as_array().unwrap();
    let all_h = inputs
        .iter()
        .find(|input| input["path"] == "all.h")
        .unwrap();
    assert_eq!(all_h["state"]["content"], because[0]["is"]["content"]);

    let text = ask(&s, &["why", "a.o"]);
    assert!(text.contains("because all.h changed (content)"), "{text}");
    assert!(text.contains("no step of this run wrote it"), "{text}");

    // By number, also from another directory.
    let step = why["steps"][1]["step"].to_string();
    assert_eq!(json(&s, &["why", &step])["because"], *because);
    assert_eq!(
        json(&s, &["why", &format!("2:{step}")])["because"],
        *because
    );
    let first = json(&s, &["why", "a.o", "--run", "1"]);
    assert_eq!(first["steps"][1]["why"], "not seen before");
}

#[test]
fn why_tells_what_was_served_and_what_was_refused() {
    let s = space();
    build(&s);
    s.write("b.c", "other\n");
    build(&s);
    // Nothing of a.o was touched by the second run.
    let why = json(&s, &["why", "a.o"]);
    assert_eq!(why["steps"][1]["run"], 1, "{why:#}");
    for made in ["a.o", "b.o", "all.h", "app", "stamp"] {
        s.remove(made);
    }
    build(&s);
    let why = json(&s, &["why", "a.o"]);
    assert_eq!(
        each(&why["steps"], "verdict"),
        ["refused", "hit"],
        "{why:#}"
    );
    assert!(why["held"].as_u64().unwrap() > 3, "{why:#}");
    let why = json(&s, &["why", "0"]);
    let culprit = why["culprit"]["command"].as_str().unwrap();
    assert!(culprit.ends_with("never stamp"), "{why:#}");
    // What it read is known all the same.
    let deps = json(&s, &["deps", "stamp"]);
    let inputs = deps["inputs"].as_array().unwrap();
    let seed = inputs.iter().find(|input| input["path"] == "seed").unwrap();
    assert!(seed["state"]["content"].is_string(), "{deps:#}");
}

#[test]
fn what_was_served_as_a_whole_is_known_from_when_it_was_made() {
    let s = space();
    s.remove("rfs.toml");
    build(&s);
    let _hit = s.rfs(Cmd::new(["make", "-s"])).expect_ran();
    for made in ["a.o", "b.o", "all.h", "app", "stamp"] {
        s.remove(made);
    }
    let _hit = s.rfs(Cmd::new(["make", "-s"])).expect_hit();
    let why = json(&s, &["why", "a.o"]);
    assert_eq!(why["within"]["run"], 3, "{why:#}");
    assert_eq!(why["steps"][1]["run"], 1, "{why:#}");
    let deps = json(&s, &["deps", "a.o"]);
    assert!(
        deps["command"]
            .as_str()
            .unwrap()
            .ends_with("compile a.c a.o"),
        "{deps:#}"
    );
}

#[test]
fn deps_are_told_both_ways() {
    let s = space();
    build(&s);
    let deps = json(&s, &["deps", "a.o"]);
    assert_eq!(deps["schema"], "rfs.deps/1");
    let paths = each(&deps["inputs"], "path");
    for input in ["a.c", "all.h", "compile"] {
        assert!(paths.contains(&input.to_owned()), "{deps:#}");
    }
    assert!(
        !paths
            .iter()
            .any(|path| path.starts_with('/') || path == "all.ovr"),
        "{deps:#}"
    );
    let inputs = deps["inputs"].as_array().unwrap();
    let all_h = inputs
        .iter()
        .find(|input| input["path"] == "all.h")
        .unwrap();
    assert!(
        all_h["writer"].as_str().unwrap().contains("generate"),
        "{deps:#}"
    );

    let more = json(&s, &["deps", "app", "-tao"]);
    let paths = each(&more["inputs"], "path");
    for input in ["all.in", "all.ovr", "generate"] {
        assert!(paths.contains(&input.to_owned()), "{input}: {paths:?}");
    }
    assert!(
        paths.iter().any(|path| path.ends_with("/libc.so.6")),
        "{paths:?}"
    );

    let readers = json(&s, &["rdeps", "all.h"]);
    assert_eq!(readers["schema"], "rfs.rdeps/1");
    let mut commands = each(&readers["readers"], "command");
    commands.retain(|command| command.contains("compile"));
    assert_eq!(commands.len(), 2, "{readers:#}");
    let readers = json(&s, &["rdeps", "-t", "all.in"]);
    let outputs = readers["readers"].as_array().unwrap().iter();
    let outputs: Vec<String> = outputs.map(|one| one["outputs"].to_string()).collect();
    assert!(
        outputs.iter().any(|names| names.contains("a.o")),
        "{readers:#}"
    );
    assert!(
        outputs.iter().any(|names| names.contains("app")),
        "{readers:#}"
    );

    let unknown = s.tool(&["deps", "nowhere"]).expect_code(125);
    assert!(
        unknown.err().contains("nothing that was built here"),
        "{unknown:?}"
    );
}

#[test]
fn logs_tell_of_runs_and_steps() {
    let s = space();
    assert!(
        s.tool(&["log"])
            .expect_code(125)
            .err()
            .contains("no build is known")
    );
    build(&s);
    s.script("compile", "#!/bin/sh\necho wrong >&2; exit 3\n");
    let _failed = s.rfs(Cmd::new(["make", "-sk"])).expect_code(0);
    s.write("a.c", "other\n");
    let _failed = s.rfs(Cmd::new(["make", "-sk"])).expect_code(2);
    let log = json(&s, &["log"]);
    assert_eq!(log["schema"], "rfs.log/1");
    let statuses: Vec<_> = log["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["status"].clone())
        .collect();
    assert_eq!(statuses, [2, 0, 0], "{log:#}");

    let failed = json(&s, &["log", "failed"]);
    assert_eq!(failed["steps"].as_array().unwrap().len(), 1, "{failed:#}");
    assert_eq!(failed["steps"][0]["status"], 3);
    assert_eq!(failed["steps"][0]["printed"], "wrong\n");

    let refused = json(&s, &["log", "refused", "--run", "1"]);
    assert_eq!(refused["steps"].as_array().unwrap().len(), 1, "{refused:#}");
    let ran = each(
        &json(&s, &["log", "what-ran", "--run", "1"])["steps"],
        "command",
    );
    assert_eq!(ran[0], "make -s");
    assert!(
        ran.iter()
            .filter(|command| command.contains("compile"))
            .count()
            == 2,
        "{ran:?}"
    );

    // What the path to app had to wait for: it was generated, compiled and put together.
    let path = each(
        &json(&s, &["log", "critical-path", "--run", "1"])["steps"],
        "command",
    );
    let place = |word: &str| path.iter().position(|command| command.contains(word));
    assert!(
        place("generate").unwrap() < place("compile").unwrap(),
        "{path:?}"
    );
    let slow = json(&s, &["log", "slow", "--run", "1", "-n", "3"]);
    let own: Vec<f64> = slow["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["own_s"].as_f64().unwrap())
        .collect();
    assert!(own.len() == 3 && own.is_sorted_by(|a, b| a >= b), "{own:?}");
    assert!(ask(&s, &["log"]).contains("make -s"));
}
