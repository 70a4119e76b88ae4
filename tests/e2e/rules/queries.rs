//! What rules say of a file before anything is built, and what builds by rules have left to ask about.

use super::rules;
use crate::run::{Cmd, Run};
use crate::space::TestSpace;

fn rfs(s: &TestSpace, args: &str) -> Run {
    let mut argv = vec![s.program().to_str().unwrap()];
    argv.extend(args.split_whitespace());
    s.bare(Cmd::new(argv))
}

const TWO: &str = "resource('r', 3)\n\
    rule('cc', targets = 'obj/{n}.o', deps = ['src/{n}.c', 'gen.h'], cmd = 'cc -o {target} {dep}', \
         environ = {'A': '1'}, timeout = 9, retries = 2, resources = {'r': 2})\n\
    rule('as', targets = '{d}/{n}.o', deps = 'src/{n}.s', cmd = ['as', '-o', '{target}', '{deps}'])\n\
    rule('gen', targets = 'gen.h', cmd = 'echo > gen.h')\n\
    rule('any', targets = 'obj/{*:.*}', cmd = 'touch obj/x', priority = -1)\n";

/// Which rule, where it stands, and why not another one.
#[test]
fn rules_tell_who_makes_a_file() {
    let s = rules(TWO);
    s.write("src/a.c", "");
    s.write("src/b.s", "");
    let told = rfs(&s, "rules show obj/a.o").expect_code(0).out();
    for text in [
        "by rule cc at Rfsfile:2:1",
        "n=a",
        "deps      src/a.c gen.h",
        "cc -o obj/a.o src/a.c",
        "A=1 PATH=",
        "9 s, 2 retries, 2 r",
        "not: as at Rfsfile:3:1, which would need src/a.s",
        "not: any at Rfsfile:5:1, of priority -1",
    ] {
        assert!(told.contains(text), "{text:?} in {told}");
    }
    let told = rfs(&s, "rules show obj/b.o").expect_code(0).out();
    assert!(
        told.contains("by rule as") && told.contains("as -o obj/b.o src/b.s"),
        "{told}"
    );
    assert!(told.contains("not: cc at Rfsfile:2:1, which would need src/b.c"));
    // Nobody else can: the next group is asked.
    let told = rfs(&s, "rules show obj/c").expect_code(0).out();
    assert!(told.contains("by rule any"), "{told}");
    let told = rfs(&s, "rules show src/a.c").expect_code(0).out();
    assert_eq!(told, "src/a.c is there, and no rule makes it\n");
    let run = rfs(&s, "rules show nothing").expect_code(125);
    assert!(run.err().contains("no rule makes nothing"), "{}", run.err());
    assert!(!s.exists(".rfs"), "to ask writes nothing");
}

/// Also what people have said of it, and what the job sees and may do.
#[test]
fn rules_tell_what_is_special_about_a_file() {
    let s = rules(
        "rule('o', targets = 'o', cmd = 'cat cur/x > o', ignore = ['*.log', 'tmp/**'], \
             views = {'cur': 'variants/one'})\n",
    );
    s.write("variants/one/x", "1\n");
    s.write("o", "by hand\n");
    let _frozen = rfs(&s, "freeze o").expect_code(0);
    let _quiet = rfs(&s, "mark o").expect_code(0);
    let told = rfs(&s, "rules show o").expect_code(0).out();
    for text in [
        "frozen: no job makes it until `rfs freeze --off o`",
        "marked: its changes",
        "ignore    *.log tmp/**",
        "views     cur=variants/one",
    ] {
        assert!(told.contains(text), "{text:?} in {told}");
    }
    let told = rfs(&s, "rules show --json o").expect_code(0).out();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["is_frozen"], &told["is_quiet"]),
        (&true.into(), &true.into())
    );
    assert_eq!(
        told["rules"][0]["ignore"],
        serde_json::json!(["*.log", "tmp/**"])
    );
    assert_eq!(told["rules"][0]["views"]["cur"], "variants/one");
    let _thawed = rfs(&s, "freeze --off o").expect_code(0);
    assert!(
        !rfs(&s, "rules show o")
            .expect_code(0)
            .out()
            .contains("frozen")
    );
}

#[test]
fn rules_tell_programs_who_makes_a_file() {
    let s = rules(TWO);
    s.write("src/a.c", "");
    let told = rfs(&s, "rules show --json obj/a.o").expect_code(0).out();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["schema"], "rfs.rules.show/1");
    let first = &told["rules"][0];
    assert_eq!(first["rule"], "cc");
    assert_eq!(first["is_first"], true);
    assert_eq!(first["deps"], serde_json::json!(["src/a.c", "gen.h"]));
    assert_eq!(first["resources"]["r"], 2);
    assert_eq!(told["rules"][1]["lacks"], "src/a.s");
    // Rules that go on for ever, or in a circle, can be asked as well.
    let s = rules(
        "rule('more', targets = '{n:a+}', deps = '{n}{n}', cmd = 'x')\n\
         rule('o', targets = 'o', deps = 'p', cmd = 'x')\nrule('p', targets = 'p', deps = 'o', cmd = 'x')\n",
    );
    let _answer = rfs(&s, "rules show a").expect_code(0);
    let _answer = rfs(&s, "rules show o").expect_code(0);
}

/// The questions about builds answer for builds by rules as for others, also where nothing can be written.
#[test]
fn builds_by_rules_can_be_asked() {
    let s = rules(
        "rule('mid', targets = 'mid', deps = 'src', cmd = 'cat src hidden > mid')\n\
         rule('end', targets = 'end', deps = 'mid', cmd = 'cp mid end; echo said')\n",
    );
    s.write("src", "1\n");
    s.write("hidden", "h\n");
    s.build("end").ran(&["end end", "mid mid"]);
    s.write("hidden", "i\n");
    s.build("end").ran(&["end end", "mid mid"]);
    let deps = rfs(&s, "deps mid").expect_code(0).out();
    assert!(deps.contains("src") && deps.contains("hidden"), "{deps}");
    let rdeps = rfs(&s, "rdeps hidden").expect_code(0).out();
    assert!(rdeps.contains("mid"), "{rdeps}");
    let why = rfs(&s, "why mid").expect_code(0).out();
    assert!(why.contains("hidden"), "{why}");
    let log = rfs(&s, "log what-ran").expect_code(0).out();
    assert!(log.contains("cat src hidden"), "{log}");
    s.write("src", "2\n");
    s.write(
        "Rfsfile",
        "rule('mid', targets = 'mid', deps = 'src', cmd = 'echo sorry >&2; exit 3')\n",
    );
    s.build("mid").failed(&["exit status 3"]);
    let log = rfs(&s, "log failed").expect_code(0).out();
    assert!(log.contains("sorry"), "{log}");
}

/// What rules no longer make is removed on request, and nothing else.
#[test]
fn what_is_obsolete_is_collected() {
    let s = rules(
        "rule('r', targets = 'out/{n}', deps = 'src', cmd = 'cp src {target}')\n\
         rule('l', targets = 'link', cmd = 'ln -s src link')\n\
         rule('k', targets = 'kept', cmd = 'echo k > kept')\n",
    );
    s.write("src", "1\n");
    s.build("out/a out/b out/c link kept")
        .ran(&["k kept", "l link", "r out/a", "r out/b", "r out/c"]);
    assert_eq!(rfs(&s, "rules collect").expect_code(0).out(), "");
    s.write(
        "Rfsfile",
        "rule('k', targets = 'kept', cmd = 'echo k > kept')\nanti_rule('out/{n}')\n",
    );
    s.write("out/b", "mine by now\n");
    s.write("out/mine", "mine\n");
    let run = rfs(&s, "rules collect -n").expect_code(0);
    assert_eq!(run.out(), "link\nout/a\nout/c\n");
    assert!(run.err().contains("out/b stays"), "{}", run.err());
    assert!(s.exists("out/a"));
    assert_eq!(rfs(&s, "rules collect out").out(), "out/a\nout/c\n");
    assert_eq!(rfs(&s, "rules collect").out(), "link\n");
    for (name, there) in [
        ("out/a", false),
        ("out/c", false),
        ("link", false),
        ("out/b", true),
        ("out/mine", true),
        ("kept", true),
        ("src", true),
    ] {
        let is_there = s.path(name).symlink_metadata().is_ok();
        assert_eq!(is_there, there, "{name}");
    }
    s.build("kept").ran(&[]);
}
