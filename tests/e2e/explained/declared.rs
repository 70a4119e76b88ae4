//! What a Makefile or a ninja file says, against what commands read; and pictures of it all.

use super::{ask, build, json, space};
use crate::run::Cmd;
use crate::space::TestSpace;
use serde_json::Value;

/// Of findings that are about what was said: kind, file, target.
fn said(lint: &Value) -> Vec<(String, String, String)> {
    let findings = lint["findings"].as_array().unwrap().iter();
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = findings
        .map(|one| (text(one, "kind"), text(one, "path"), text(one, "note")))
        .filter(|(kind, ..)| kind == "undeclared" || kind == "unused")
        .collect();
    found.sort();
    found
}

fn triple(kind: &str, path: &str, target: &str) -> (String, String, String) {
    (kind.to_owned(), path.to_owned(), target.to_owned())
}

#[test]
fn what_a_makefile_misses_and_says_in_vain_is_told() {
    let s = space();
    // b.o reads `hidden`, which nothing says; a.o depends on `seed`, which nobody reads for it.
    s.write("hidden", "x\n");
    s.script("special", "#!/bin/sh\ncat all.h $1 hidden > $2\n");
    s.append("Makefile", "b.o: b.c all.h special; ./special b.c $@\na.o: seed compile\nall.h: generate\nstamp: never\n");
    s.mkdir("sub");
    s.write(
        "sub/Makefile",
        "x: y | order\n\tcat y ../hidden > x\norder:\n\t: > order\n",
    );
    s.write("sub/y", "y\n");
    s.append(
        "Makefile",
        "app: sub/x\nsub/x: .FORCE\n\t$(MAKE) -C sub\n.FORCE:\n.PHONY: .FORCE\n",
    );
    build(&s);
    let printed = s.bare(Cmd::sh("make -pnw > ../database")).expect_code(0);
    drop(printed);
    let file = s.root().join("database");
    let lint = json(&s, &["lint", "--make", file.to_str().unwrap()]);
    assert_eq!(
        said(&lint),
        [
            triple("undeclared", "hidden", "b.o"),
            triple("undeclared", "hidden", "sub/x"),
            triple("unused", "seed", "a.o"),
            triple("unused", "stamp", "app"),
            triple("unused", "sub/x", "app"),
        ],
        "{lint:#}"
    );
    let text = ask(&s, &["lint", "--make", file.to_str().unwrap()]);
    assert!(
        text.contains("undeclared: hidden: read, and not said to be needed for b.o\n"),
        "{text}"
    );
    // Without a file nothing is said.
    assert_eq!(said(&json(&s, &["lint"])), []);
}

/// Of a recipe of several lines: what leads to the target by a file on the way, and what writes it first.
#[test]
fn every_line_of_a_recipe_is_asked() {
    let s = TestSpace::new();
    s.write(
        "Makefile",
        "all: moved again plain folded stamp\n\
         moved: in\n\tcat in secret > half\n\tmv half moved && :\n\
         again: in\n\tcat in > again\n\tcat other >> again\n\
         plain: moved\n\tcat moved > plain\n\
         folded: in\n\tcat other in in > part\n\tmv part folded\n\
         stamp: in\n\ttouch stamp\n",
    );
    for name in ["in", "secret", "other"] {
        s.write(name, format!("{name}\n"));
    }
    let _built = s.rfs(Cmd::new(["make", "-s"])).expect_code(0);
    s.must(Cmd::sh("make -pnw > ../database"));
    let file = s.root().join("database");
    let lint = json(&s, &["lint", "--make", file.to_str().unwrap()]);
    assert_eq!(
        said(&lint),
        [
            triple("undeclared", "other", "again"),
            // The last line is a program that make runs as a part of itself.
            triple("undeclared", "other", "folded"),
            triple("undeclared", "secret", "moved"),
        ],
        "{lint:#}"
    );
}

#[test]
fn what_a_ninja_file_misses_and_says_in_vain_is_told() {
    let s = space();
    s.write(
        "build.ninja",
        "rule gen\n command = ./generate $in $out\n\
         rule cc\n command = ./compile $in $out\n depfile = $out.d\n\
         rule join\n command = cat a.o b.o > $out\n\
         build all.h: gen all.in | generate\n\
         build a.o: cc a.c || all.h\n\
         build b.o: cc b.c | seed\n\
         build app: join a.o b.o\n",
    );
    s.script(
        "compile",
        "#!/bin/sh\ncat all.h $1 > $2\necho \"$2: $1\" > $2.d\n",
    );
    let _built = s
        .rfs(Cmd::new(["ninja", "-j1", "all.h", "app"]))
        .expect_code(0);
    let lint = json(&s, &["lint", "--ninja", "build.ninja"]);
    // What a depfile tells needs nobody to say it, but who makes it must come before.
    assert_eq!(
        said(&lint),
        [
            triple("undeclared", "all.h", "b.o"),
            triple("unused", "seed", "b.o")
        ],
        "{lint:#}"
    );
}

#[test]
fn the_graph_is_a_picture_too() {
    let s = space();
    build(&s);
    let svg = ask(&s, &["graph", "--svg", "--to", "app"]);
    assert!(
        svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"),
        "{svg}"
    );
    for label in ["a.c", "all.h", "app"] {
        assert!(
            svg.contains(&format!("<title>{label}</title>")),
            "{label}: {svg}"
        );
    }
    assert!(!svg.contains("<title>stamp</title>"), "{svg}");
    // Well formed, as a parser sees it.
    std::fs::write(s.root().join("graph.svg"), &svg).unwrap();
    let parse = "import sys, xml.dom.minidom as m; m.parse(sys.argv[1])";
    let _parsed = s
        .bare(Cmd::new(["python3", "-c", parse, "../graph.svg"]))
        .expect_code(0);
}
