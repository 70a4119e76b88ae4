//! A step is run again where only its recorded inputs are.

use super::{json, space};
use crate::run::{Cmd, Run};
use crate::space::{Setting, TestSpace};

fn reproduce(s: &TestSpace, args: &[&str]) -> Run {
    let mut all = vec!["reproduce"];
    all.extend(args);
    s.tool(&all)
}

#[test]
fn a_step_is_run_again_with_its_inputs_and_nothing_else() {
    let s = space();
    s.write("secret", "x\n");
    s.script(
        "compile",
        "#!/bin/sh\necho $MODE; umask; pwd; test -e secret && cat secret\ncat all.h $1 > $2\n",
    );
    let _built = s
        .rfs(Cmd::sh("umask 027; ./generate all.in all.h; ./compile a.c a.o").env("MODE", "odd"))
        .expect_code(0);
    // Nobody has looked at what is there: an absent name was looked for.
    s.remove("secret");
    s.write("a.c", "a\n");
    let _again = s
        .rfs(Cmd::sh("umask 027; ./generate all.in all.h; ./compile a.c a.o").env("MODE", "odd"))
        .expect_code(0);
    s.write("secret", "y\n");
    s.write("unknown", "u\n");
    let before = s.read("a.o");
    s.write("a.o", "by hand\n");
    let run = reproduce(&s, &["a.o", "--exec"]).expect_code(0);
    let pwd = s.ws().to_str().unwrap().to_owned();
    assert_eq!(run.out(), format!("odd\n0027\n{pwd}\n"));
    assert!(
        run.err().contains("1 of 1 outputs are as recorded"),
        "{run:?}"
    );
    assert_eq!(s.read("a.o"), "by hand\n", "the workspace is not touched");

    // What was looked at is there, as it was, and nothing beside it.
    let look = |script: &str| {
        let command = ["a.o", "--", "/bin/sh", "-c", script];
        reproduce(&s, &command)
    };
    assert_eq!(look("cat all.h a.c").expect_code(0).out(), before);
    let names = look("echo *; test -e /etc/passwd || echo none")
        .expect_code(0)
        .out();
    assert_eq!(names, "a.c a.o all.h compile\nnone\n");
    assert_eq!(look("exit 7").expect_code(7).out(), "");
    // What the machine lends is not written to.
    let written = look("echo x >/usr/bin/cat; test $? != 0 && echo kept")
        .expect_code(0)
        .out();
    assert_eq!(written, "kept\n");

    // A generated file as it was, from the cache; a source that is gone is named.
    s.write("all.h", "another one\n");
    assert_eq!(look("cat all.h").expect_code(0).out(), "h\n");
    s.write("a.c", "edited\n");
    let gone = reproduce(&s, &["a.o", "--exec"]).expect_code(125);
    assert!(
        gone.err().contains("what a.c had as content is gone"),
        "{gone:?}"
    );
    let without = reproduce(
        &s,
        &["a.o", "--incomplete", "--", "/bin/sh", "-c", "echo *"],
    );
    assert_eq!(without.expect_code(0).out(), "a.o all.h compile\n");
}

#[test]
fn a_compiler_runs_again_with_what_it_was_given() {
    compiler(&TestSpace::new());
}

#[test]
fn it_does_so_for_an_ordinary_user() {
    compiler(&TestSpace::with(Setting {
        nobody: true,
        tracer: None,
    }));
}

fn compiler(s: &TestSpace) {
    s.write("a.h", "#define N 3\n");
    s.write(
        "a.c",
        "#include <stdio.h>\n#include \"a.h\"\nint main(void) { return N; }\n",
    );
    let _built = s.rfs(Cmd::new(["gcc", "-g", "-c", "a.c"])).expect_code(0);
    let run = reproduce(s, &["a.o", "-x"]).expect_code(0);
    assert!(
        run.err().contains("1 of 1 outputs are as recorded"),
        "{run:?}"
    );
    // By number, and a shell for people.
    let step = json(s, &["why", "a.o"])["steps"][0]["step"].to_string();
    let shell = format!(
        "echo 'ls a.*; cat a.h' | {} reproduce {step}",
        s.program().display()
    );
    let mut shell = s.command(&Cmd::sh(&shell), Vec::new());
    let told = shell.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&told.stdout),
        "a.c\na.h\n#define N 3\n",
        "{told:?}"
    );
}

#[test]
fn its_own_command_reads_what_it_read_and_has_the_descriptors_that_it_had() {
    let s = space();
    s.write("lines", "one\ntwo\nthree\n");
    s.script(
        "second",
        "#!/bin/sh\ncat >rest; echo x >&7 && echo y >&3 && echo open >>rest\nstat -c %u:%g:%a lines >>rest\n",
    );
    s.write("taken", "#!/bin/sh\nread first; ./second\n");
    let root = nix::unistd::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(s.ws().join("lines"), Some(12), Some(34)).unwrap();
    }
    let owner = s.bare(Cmd::new(["stat", "-c", "%u:%g:%a", "lines"])).out();
    let _built = s
        .rfs(Cmd::sh("sh taken <lines 7>log 3>three"))
        .expect_code(0);
    let rest = format!("two\nthree\nopen\n{owner}");
    assert_eq!(s.read("rest"), rest);
    s.write("rest", "by hand\n");
    let run = reproduce(&s, &["rest", "-x"]).expect_code(0);
    assert!(
        run.err().contains("1 of 1 outputs are as recorded"),
        "{run:?}"
    );
    // Who looks around by himself is told.
    let run = reproduce(&s, &["rest", "--", "/bin/sh", "-c", "cat lines"]).expect_code(0);
    assert!(
        run.err()
            .contains("its standard input was lines, from byte 4 on"),
        "{run:?}"
    );
}
