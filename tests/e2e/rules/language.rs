//! Mistakes in an `Rfsfile`, and in what is asked of it.

use super::rules;
use crate::run::Cmd;

#[test]
fn a_mistake_has_a_place() {
    let s = rules(
        "rule('a', targets = 'x', cmd = 'true')\n\nrule('b', targets = '{n}.o', deps = '{m}.c', cmd = 'cc')\n",
    );
    let run = s.bare(Cmd::new([s.program().to_str().unwrap(), "build", "x"]));
    assert_eq!(run.status.code(), Some(125), "{}", run.err());
    assert!(run.err().contains("Rfsfile:3:1"), "{}", run.err());
    assert!(run.err().contains("did you mean \"n\""), "{}", run.err());
}

#[test]
fn what_nobody_makes_is_told_with_what_is_lacking() {
    let s = rules("rule('cc', targets = '{n}.o', deps = '{n}.c', cmd = 'cp {dep} {target}')\n");
    s.build("a.o")
        .failed(&["cannot make a.o", "cc at Rfsfile:1:1 would need a.c"])
        .tried(&[]);
    s.build("b.txt")
        .failed(&["no rule makes b.txt, nor is it there"])
        .tried(&[]);
    s.write("b.txt", "");
    s.build("b.txt").ran(&[]);
}

/// An empty name of a dep: the rule does not match.
#[test]
fn a_dep_without_a_name_rejects_the_rule() {
    let s = rules("rule('r', targets = '{n:.*}.o', deps = '{n}', cmd = 'true')\n");
    s.build(".o").failed(&["a dep without a name"]).tried(&[]);
}

#[test]
fn a_command_after_dashes_is_a_command() {
    let s = rules("rule('r', targets = 'true', cmd = 'echo by rule; touch true')\n");
    let run = s.rfs("echo hello").expect_code(0);
    assert_eq!(run.out(), "hello\n");
    assert!(!s.exists("true"));
}

/// Two sure rules for one file.
#[test]
fn two_rules_for_one_file_are_told_and_nothing_is_run() {
    let s = rules(
        "rule('a', targets = 'x', cmd = 'echo a > x')\nrule('b', targets = '{n}', cmd = 'echo b > x')\n",
    );
    s.build("x")
        .failed(&[
            "several rules make x",
            "a at Rfsfile:1:1",
            "b at Rfsfile:2:1",
        ])
        .tried(&[]);
    s.write(
        "Rfsfile",
        "rule('a', targets = 'x', cmd = 'echo a > x', priority = 1)\nrule('b', targets = '{n}', cmd = 'echo b > x')\n",
    );
    s.build("x").ran(&["a x"]);
}

#[test]
fn static_circles_are_told() {
    let s = rules(
        "rule('a', targets = 'a', deps = 'b', cmd = 'cp b a')\n\
         rule('b', targets = 'b', deps = 'a', cmd = 'cp a b')\n\
         rule('c', targets = 'c', deps = 'c', cmd = 'true')\n",
    );
    s.build("a")
        .failed(&["files need each other: ", "a -> b"])
        .tried(&[]);
    s.build("c")
        .failed(&["files need each other: c -> c"])
        .tried(&[]);
}

#[test]
fn rules_without_end_are_told() {
    let s = rules("rule('r', targets = '{f:.*}', deps = '{f}x', cmd = 'cp {dep} {target}')\n");
    s.build("a")
        .failed(&["without end", "anti_rule"])
        .tried(&[]);
    s.write(
        "Rfsfile",
        "rule('r', targets = '{f:.*}', deps = '{f}x', cmd = 'cp {dep} {target}')\nanti_rule('{f:.*}xxx')\n",
    );
    s.write("axxx", "end\n");
    s.build("a").ran(&["r a", "r ax", "r axx"]);
    assert_eq!(s.read("a"), "end\n");
}

/// A list of words is no shell's business.
#[test]
fn a_command_may_be_words() {
    let s = rules(
        "rule('w', targets = 'out {n}', deps = ['a b', '$c'], cmd = ['./show', '{deps}', '[{deps}]', '{n}*', '{{}}', '{target}'])\n\
         rule('p', targets = 'path', cmd = ['cp', 'a b', '{target}'])\n",
    );
    s.script(
        "show",
        "#!/bin/sh\nfor last; do :; done\nprintf '%s|' \"$@\" > \"$last\"\n",
    );
    s.write("a b", "ab\n");
    s.write("$c", "");
    let program = s.program().to_str().unwrap();
    let run = s.bare(Cmd::new([program, "build", "out x", "path"]));
    assert_eq!(run.code(), 0, "{}", run.err());
    assert_eq!(s.read("out x"), "a b|$c|[a b $c]|x*|{}|out x|");
    assert_eq!(s.read("path"), "ab\n");
    s.write("Rfsfile", "rule('w', targets = 'x', cmd = [])\n");
    s.build("x").run.err().contains("neither a string nor");
}

/// A program that a rule makes is made before the job that runs it.
#[test]
fn a_program_of_words_is_a_dep() {
    let s = rules(
        "rule('tool', targets = 'tool', deps = 'tool.sh', cmd = 'cp tool.sh tool; chmod +x tool')\n\
         rule('use', targets = 'x', cmd = ['./tool', '{target}'])\n",
    );
    s.write("tool.sh", "#!/bin/sh\necho 1 > $1\n");
    s.build("x").ran(&["tool tool", "use x"]);
    s.write("tool.sh", "#!/bin/sh\necho 2 > $1\n");
    s.build("x").ran(&["tool tool", "use x"]);
    assert_eq!(s.read("x"), "2\n");
}

/// Files that a rule says to ignore are neither read nor written as far as anybody knows.
#[test]
fn ignored_files_are_nobodys_business() {
    let s = rules(
        "rule('r', targets = 'x', deps = 'src', ignore = ['*.log', 'tmp/**'], \
         cmd = 'cat src > x; cat old.log >> x || :; echo now > r.log; mkdir -p tmp; echo t > tmp/t')\n",
    );
    s.write("src", "1\n");
    s.build("x").ran(&["r x"]);
    assert_eq!(
        (s.read("r.log"), s.read("tmp/t")),
        ("now\n".into(), "t\n".into())
    );
    s.write("old.log", "other\n");
    s.write("r.log", "changed\n");
    s.build("x").ran(&[]).served(&[]);
    s.write("src", "2\n");
    s.build("x").ran(&["r x"]);
    assert_eq!(s.read("x"), "2\nother\n");
    // What was nobody's business is in no record.
    s.write(
        "Rfsfile",
        "rule('r', targets = 'x', deps = 'src', ignore = ['r.log', 'tmp/**'], \
         cmd = 'cat src > x; cat old.log >> x || :; echo now > r.log; mkdir -p tmp; echo t > tmp/t')\n",
    );
    s.build("x").ran(&["r x"]);
    s.write("old.log", "another\n");
    s.build("x").ran(&["r x"]);
    assert_eq!(s.read("x"), "2\nanother\n");
}
