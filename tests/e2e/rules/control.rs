//! How many run at a time, when they are given up, and what the user may ask for.

use super::rules;
use crate::run::Cmd;

const COUNT: &str =
    "mkdir -p ../n; touch ../n/{n}; ls ../n | wc -l > {target}; sleep 0.2; rm ../n/{n}";

fn most(s: &crate::space::TestSpace) -> u32 {
    let read = |n: u32| s.read(format!("t{n}")).trim().parse().unwrap();
    (0..8).map(read).max().unwrap()
}

const ALL: &str = "t0 t1 t2 t3 t4 t5 t6 t7";

#[test]
fn no_more_jobs_run_than_are_allowed() {
    for (jobs, at_most) in [("-j1", 1), ("-j3", 3)] {
        let s = rules(&format!("rule('t', targets = 't{{n}}', cmd = '{COUNT}')\n"));
        let run = s.build(&format!("{jobs} {ALL}"));
        assert_eq!(run.run.status.code(), Some(0), "{}", run.run.err());
        assert!(most(&s) <= at_most, "{jobs}");
    }
}

#[test]
fn resources_are_not_exceeded() {
    let s = rules(&format!(
        "resource('license', 2)\nrule('t', targets = 't{{n}}', cmd = '{COUNT}', resources = {{'license': 1}})\n"
    ));
    let run = s.build(&format!("-j8 {ALL}"));
    assert_eq!(run.run.status.code(), Some(0), "{}", run.run.err());
    assert!(most(&s) <= 2);
    s.write(
        "Rfsfile",
        "rule('t', targets = 't0', cmd = 'touch t0', resources = {'license': 1})\n",
    );
    s.build("t0")
        .failed(&["needs 1 of license, of which there is 0"])
        .tried(&[]);
}

#[test]
fn a_failing_job_is_tried_as_often_as_wished() {
    let s = rules("rule('r', targets = 'x', cmd = 'echo . >> ../tries; false')\n");
    s.build("-r2 x")
        .failed(&["r x: exit status 1"])
        .tried(&["r x", "r x", "r x"]);
    let tries = s.bare(Cmd::sh("wc -l < ../tries"));
    assert_eq!(tries.out(), "3\n");
}

#[test]
fn a_job_that_takes_too_long_fails() {
    let s = rules(
        "rule('slow', targets = 'slow', cmd = 'sleep 1000; touch slow', timeout = 0.3)\n\
         rule('fast', targets = 'fast', cmd = 'touch fast', timeout = 100)\n",
    );
    s.build("-k slow fast")
        .failed(&["slow slow: it took longer than 0.3 s"])
        .tried(&["slow slow", "fast fast"]);
    assert!(s.exists("fast"));
}

#[test]
fn a_dry_run_runs_nothing() {
    let s = rules(
        "rule('a', targets = 'a', deps = 'src', cmd = 'cp src a')\nrule('b', targets = 'b', deps = 'a', cmd = 'cp a b')\n",
    );
    s.write("src", "1\n");
    s.build("-n b").ran(&["a a", "b b"]);
    assert!(!s.exists("a") && !s.exists("b"));
    s.build("b").ran(&["a a", "b b"]);
    s.write("src", "2\n");
    s.build("-n b").ran(&["a a", "b b"]);
    assert_eq!(s.read("b"), "1\n");
    s.build("--rerun b").ran(&["a a", "b b"]);
}

/// What was printed is printed again with a failure that is remembered, and not where nothing is done.
#[test]
fn output_comes_with_the_job() {
    let s = rules(
        "rule('r', targets = 'x', cmd = 'echo out; echo err >&2; touch x')\n\
                   rule('quiet', targets = 'y', cmd = 'echo err >&2; touch y', stderr_ok = False)\n",
    );
    let run = s.build("x");
    assert_eq!(run.run.out(), "out\n");
    assert!(run.run.err().contains("\nerr\n"), "{}", run.run.err());
    assert_eq!(s.build("x").run.out(), "");
    s.build("y")
        .failed(&["stderr_ok = False"])
        .tried(&["quiet y"]);
    s.build("y").failed(&["(as before)", "err\n"]).tried(&[]);
}

/// The environment is what the rules say.
#[test]
fn the_environment_is_the_rules() {
    let s = rules(
        "rule('r', targets = 'x', cmd = 'env | grep -v _= | sort > x', environ = {'A': env('MINE', 'none')})\n",
    );
    let run = |value: &str| {
        let program = s.program().to_str().unwrap();
        s.bare(
            Cmd::new([program, "build", "x"])
                .env("MINE", value)
                .env("OTHER", value),
        )
        .expect_code(0)
    };
    let _first = run("1");
    assert!(
        s.read("x").contains("A=1\n") && !s.read("x").contains("OTHER"),
        "{}",
        s.read("x")
    );
    assert!(run("1").err().contains("0 ran"));
    assert!(run("2").err().contains("1 ran"));
}

/// A job is asked to end in the ways of its rule, one after the other.
#[test]
fn a_job_is_ended_by_the_signals_of_its_rule() {
    let s = rules(
        "rule('deaf', targets = 'x', timeout = 0.5, kill = ['INT', 'SIGUSR1'],\n\
         \x20    cmd = 'trap \"echo int >> ../heard\" INT; trap \"echo usr1 >> ../heard; exit 3\" USR1; \
         touch ../ready; while :; do sleep 0.1 || :; done')\n",
    );
    s.build("x")
        .failed(&["deaf x: it took longer than 0.5 s"])
        .tried(&["deaf x"]);
    assert_eq!(s.bare(Cmd::sh("cat ../heard")).out(), "int\nusr1\n");
    s.write(
        "Rfsfile",
        "rule('r', targets = 'x', cmd = 'true', kill = ['NOSUCH'])\n",
    );
    let told = s.build("x").run;
    assert!(
        told.err().contains("\"NOSUCH\" is no signal"),
        "{}",
        told.err()
    );
}
