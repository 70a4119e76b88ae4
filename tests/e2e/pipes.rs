//! Pipes whose reader goes away before the writer has finished: a step that holds both ends does not
//! depend on when the writer dies of it, unless the writer leaves something else behind.

use crate::probe::{AtMost, Hit, Probe, Ran, Refused};
use crate::space::{Setting, TestSpace};

fn told(probe: Probe) {
    probe.run(Setting::default());
}

fn one(s: &TestSpace) {
    s.write("in", "one\n");
}

#[test]
fn endless_writer() {
    told(
        Probe::script("yes | head -n 2 > out\ncat in >> out\n", one)
            .first(4)
            .again(Hit)
            .without("out", Hit)
            .with("in", "two\n", Ran(4))
            .with("in", "one\n", Hit),
    );
}

#[test]
fn endless_writer_under_ptrace() {
    Probe::script("yes | head -n 2 > out\n", one)
        .first(3)
        .again(Hit)
        .run(Setting {
            tracer: Some("ptrace"),
            ..Setting::default()
        });
}

#[test]
fn endless_writer_of_an_ordinary_user() {
    Probe::script("yes | head -n 2 > out\n", one)
        .first(3)
        .again(Hit)
        .run(Setting {
            nobody: true,
            ..Setting::default()
        });
}

/// A tool that is no step of its own, and a part of the shell itself.
#[test]
fn writers_that_are_no_steps() {
    let script = "seq 1 1000000 | head -n 3 > out\n\
                  (while echo x; do :; done) 2> /dev/null | head -n 3 >> out\n";
    told(Probe::script(script, one).first(5).again(Hit));
}

/// What the writer reads before it dies is an input.
#[test]
fn input_of_the_writer() {
    let script = "cat in big | head -n 1 > out\n";
    told(
        Probe::script(script, |s| {
            one(s);
            s.write("big", "x\n".repeat(1_000_000));
        })
        .first(3)
        .again(Hit)
        .with("in", "two\n", Ran(3)),
    );
}

/// How much of the file is written depends on when the writer dies.
#[test]
fn writer_that_writes_a_file_too() {
    let script = "(echo one; echo two > log; yes) | head -n 1 > out\n";
    told(Probe::script(script, one).first(5).again(Refused));
}

#[test]
fn child_of_the_writer_that_writes_a_file() {
    let script = "(sh -c 'echo two > log'; while echo x; do :; done) | head -n 1 > out\n";
    told(
        Probe::script(script, one)
            .first(5)
            .again(AtMost(5))
            .again(Refused),
    );
}

/// The same for what it prints.
#[test]
fn writer_that_prints_elsewhere() {
    let script = "(echo said >&2; yes) | head -n 1 > out\n";
    told(Probe::script(script, one).first(5).again(Refused));
}

/// A failure that is a matter of chance is not kept.
#[test]
fn failure_for_want_of_a_reader() {
    let probe = Probe::new(
        |s| s.write("build.sh", "set -o pipefail\nyes | head -n 1 > out\n"),
        "bash build.sh",
    );
    told(probe.first(4).again(Refused));
}

/// The steps between the one that dies and the one that holds both ends go on after it.
#[test]
fn steps_between() {
    let script = "sh gen.sh | head -n 1 > out\n";
    let with = |text: &'static str| Probe::script(script, move |s| s.write("gen.sh", text));
    told(with("yes\nexit 0\n").first(5).again(Hit));
    told(with("yes | cat\n").first(5).again(Hit));
    told(with("yes\necho over > log\n").first(5).again(Refused));
    told(
        with("yes\nsh -c 'echo over > log'\n")
            .first(6)
            .again(Refused),
    );
}

/// Any other signal is one that somebody has sent.
#[test]
fn killed_otherwise() {
    told(
        Probe::script("sh -c 'kill -TERM $$' | cat > out\n", one)
            .first(4)
            .again(Refused),
    );
    told(
        Probe::script("sh -c 'echo x; kill -PIPE $$' | cat > out\n", one)
            .first(4)
            .again(Refused),
    );
}

/// A served step whose reader goes away dies as the step itself would have.
#[test]
fn served_into_a_closed_pipe() {
    let script = "perl -e 'print \"x\" x 70, \"\\n\" for 1..3000; $x = -e \"in\"' | wc -l > all\n\
                  perl -e 'print \"x\" x 70, \"\\n\" for 1..3000; $x = -e \"in\"' | head -n 1 > out\n";
    told(
        Probe::script(script, one)
            .first(6)
            .again(Hit)
            .without("in", AtMost(6)),
    );
}
