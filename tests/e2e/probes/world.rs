//! The environment, the user's settings, the clock and chance.

use super::tests;
use crate::probe::{AtMost, Hit, Probe, Ran};
use crate::run::{Cmd, Run};
use crate::space::TestSpace;

tests! { environment_variable unset_variable umask locale working_directory arguments nice_value }

fn say_foo() -> Cmd {
    Cmd::sh("echo \"${FOO-unset}\" > out")
}

pub fn environment_variable() -> Probe {
    Probe::new(|_| {}, say_foo().env("FOO", "1"))
        .first(1)
        .again(Hit)
        .without("out", Hit)
        .command("FOO=2", |_| {}, say_foo().env("FOO", "2"), Ran(1))
        .command("FOO=1", |_| {}, say_foo().env("FOO", "1"), Hit)
}

pub fn unset_variable() -> Probe {
    Probe::new(|_| {}, say_foo())
        .first(1)
        .command("FOO=", |_| {}, say_foo().env("FOO", ""), Ran(1))
        .again(Hit)
        .command("FOO=", |_| {}, say_foo().env("FOO", ""), Hit)
}

pub fn umask() -> Probe {
    let cmd = |mask: &str| Cmd::sh("rm -f out; echo > out").after(&format!("umask {mask}"));
    Probe::new(|_| {}, cmd("022"))
        .first(2)
        .again(AtMost(2))
        .again(Hit)
        .command("077", |_| {}, cmd("077"), Ran(2))
        .command("077", |_| {}, cmd("077"), AtMost(2))
        .command("077", |_| {}, cmd("077"), Hit)
        .command("022", |_| {}, cmd("022"), AtMost(2))
}

/// The compiler quotes as the locale wants it.
pub fn locale() -> Probe {
    let cmd = |locale: &str| Cmd::from("gcc -fsyntax-only main.c").env("LC_ALL", locale);
    Probe::new(
        |s| s.write("main.c", "int f(void) { return x; }\n"),
        cmd("C.UTF-8"),
    )
    .first(2)
    .again(Hit)
    .command("C", |_| {}, cmd("C"), Ran(2))
    .command("C again", |_| {}, cmd("C"), Hit)
    .again(Hit)
}

pub fn working_directory() -> Probe {
    let cmd = |dir: &str| Cmd::sh("cat in > out; pwd").cwd(dir);
    Probe::new(
        |s| {
            s.write("a/in", "a\n");
            s.write("b/in", "b\n");
            s.mkdir(".git");
        },
        cmd("a"),
    )
    .first(2)
    .again(Hit)
    .command("b", |_| {}, cmd("b"), Ran(2))
    .command("b again", |_| {}, cmd("b"), Hit)
    .again(Hit)
}

/// One argument with a space is not two; an empty one is one.
pub fn arguments() -> Probe {
    let cmd =
        |args: &[&str]| Cmd::new([&["sh", "-c", "printf '<%s>' \"$@\"", "sh"], args].concat());
    Probe::new(|_| {}, cmd(&["a b"]))
        .first(1)
        .again(Hit)
        .command("two", |_| {}, cmd(&["a", "b"]), Ran(1))
        .command("an empty one", |_| {}, cmd(&["a", "b", ""]), Ran(1))
        .command("a line break", |_| {}, cmd(&["a\nb"]), Ran(1))
        .again(Hit)
}

pub fn nice_value() -> Probe {
    Probe::new(|_| {}, Cmd::from("nice"))
        .first(1)
        .again(AtMost(1))
}

/// Runs until the text of `out` of a bare run has changed, to be sure that it can change.
fn told(run: &Run, what: &str) -> bool {
    run.explain
        .iter()
        .any(|line| line.contains("note:") && line.contains(what))
}

/// What `date` says is served, as a user of a cache wants it, but told.
#[test]
fn clock_is_served_but_told() {
    let s = TestSpace::new();
    let date = || Cmd::sh("date +%s.%N > out");
    let first = s.rfs(date()).expect_code(0).expect_ran();
    let text = s.read("out");
    assert!(told(&first, "clock"), "a note on the clock: {first:#?}");
    let second = s.rfs(date()).expect_hit();
    assert!(told(&second, "clock"), "a note on the clock: {second:#?}");
    assert_eq!(s.read("out"), text);
}

#[test]
fn strict_clock_runs_it() {
    let s = TestSpace::new();
    let date = || Cmd::sh("date +%s.%N > out");
    let mut texts = Vec::new();
    for _ in 0..3 {
        let run = s
            .rfs_with(&["--strict-clock"], date())
            .expect_code(0)
            .expect_ran();
        assert!(run.summary().refused > 0, "{run:#?}");
        texts.push(s.read("out"));
    }
    texts.dedup();
    assert_eq!(texts.len(), 3, "{texts:?}");
}

/// A record made without `--strict-clock` is not taken with it.
#[test]
fn strict_clock_after_a_record() {
    let s = TestSpace::new();
    let date = || Cmd::sh("date +%s.%N > out");
    let _first = s.rfs(date()).expect_code(0);
    let text = s.read("out");
    let _ran = s.rfs_with(&["--strict-clock"], date()).expect_ran();
    assert_ne!(s.read("out"), text);
}

#[test]
fn random_numbers_are_served_but_told() {
    let s = TestSpace::new();
    let random = || Cmd::sh("head -c 16 /dev/urandom | od -An -tx1 > out");
    let first = s.rfs(random()).expect_code(0).expect_ran();
    let text = s.read("out");
    assert!(
        told(&first, "random"),
        "a note on random numbers: {first:#?}"
    );
    let second = s.rfs(random()).expect_hit();
    assert!(
        told(&second, "random"),
        "a note on random numbers: {second:#?}"
    );
    assert_eq!(s.read("out"), text);
    let third = s.rfs_with(&["--strict-clock"], random()).expect_ran();
    assert!(third.summary().refused > 0, "{third:#?}");
    assert_ne!(s.read("out"), text);
}

/// The clock that no kernel can see: doc/semantics.md says so. It must at least not be told of
/// programs that only look at it by the way, or every compile would be.
#[test]
fn compilers_are_not_accused() {
    let s = TestSpace::new();
    s.write("main.c", "int main(void) { return 0; }\n");
    let run = s.rfs("gcc -c main.c").expect_code(0).expect_ran();
    assert!(!told(&run, "clock") && !told(&run, "random"), "{run:#?}");
    s.remove("main.o");
    let _hit = s
        .rfs_with(&["--strict-clock"], "gcc -c main.c")
        .expect_hit();
}

/// A compiler reads the clock where no kernel can see it, but the source that makes it do so is seen.
#[test]
fn source_asks_for_the_date() {
    let s = TestSpace::new();
    s.write("a.c", "const char *date = __DATE__ __TIME__;\n");
    let compile = || Cmd::sh("gcc -c a.c");
    let first = s.rfs(compile()).expect_code(0).expect_ran();
    assert!(told(&first, "__DATE__"), "a note on the clock: {first:#?}");
    let second = s.rfs(compile()).expect_hit();
    assert!(
        told(&second, "__DATE__"),
        "a note on the clock: {second:#?}"
    );
    let third = s.rfs_with(&["--strict-clock"], compile()).expect_ran();
    assert!(third.summary().refused > 0, "{third:#?}");
}

/// A source that asks for its own time stamp is not the same when it was touched; any other is.
#[test]
fn source_asks_for_its_time_stamp() {
    for (text, same) in [
        ("const char *t = __TIMESTAMP__;\n", false),
        ("int t;\n", true),
    ] {
        let s = TestSpace::new();
        s.write("a.c", text);
        s.set_mtime("a.c", 1_000_000);
        let compile = || Cmd::sh("gcc -c a.c");
        let _first = s.rfs(compile()).expect_code(0).expect_ran();
        s.set_mtime("a.c", 2_000_000);
        let again = s.rfs(compile()).expect_code(0);
        assert_eq!(again.summary().whole_hit, same, "{again:#?}");
    }
}

/// make -j gives its standard input to one of its children and a broken pipe to the others: what a
/// compiler does not read does not matter.
#[test]
fn standard_input_that_is_not_read() {
    let s = TestSpace::new();
    s.write("a.c", "int a;\n");
    let _first = s
        .rfs(Cmd::sh("gcc -c a.c < /dev/null"))
        .expect_code(0)
        .expect_ran();
    for other in ["true | gcc -c a.c", "gcc -c a.c < a.c"] {
        let run = s.rfs(Cmd::sh(other)).expect_code(0);
        assert!(
            run.explain
                .iter()
                .any(|line| line.starts_with("rfs: hit  gcc")),
            "{run:#?}"
        );
    }
}
