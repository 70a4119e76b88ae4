//! What people change between two builds, and while one runs: each with what must run and what must not.

use super::sharing::{begin, end, until};
use super::{Jobs, rules};
use crate::space::TestSpace;

/// A job that failed for a file that it was seen to read keeps its other deps: when that is mended, all that
/// it needs is there again.
#[test]
fn a_failed_job_keeps_its_deps() {
    let s = rules(
        "rule('gen', targets = 'g/{n}', deps = '{n}.src', cmd = 'grep good {dep} > {target}')\n\
         rule('use', targets = 'x', deps = 'g/unread', cmd = 'cat g/hidden > x')\n",
    );
    s.write("unread.src", "good\n");
    s.write("hidden.src", "bad\n");
    s.build("x")
        .failed(&["gen g/hidden: exit status 1"])
        .tried(&["gen g/hidden", "gen g/unread", "use x"]);
    s.remove("g/unread");
    s.write("hidden.src", "good\n");
    s.build("x")
        .ran(&["gen g/hidden", "use x"])
        .served(&["gen g/unread"]);
    s.build("x").ran(&[]).served(&[]);
}

/// What an old record names is made beforehand; that it fails is no failure where it is needed no more.
#[test]
fn what_is_no_longer_needed_may_fail() {
    let s = rules(
        "rule('gen', targets = 'g/{n}', deps = '{n}.src', cmd = 'grep good {dep} > {target}')\n\
         rule('use', targets = 'x', cmd = 'cat $(cat list) > x')\n",
    );
    s.write("a.src", "good a\n");
    s.write("b.src", "good b\n");
    s.write("list", "g/a\n");
    s.build("x").ran(&["gen g/a", "use x"]);
    s.write("a.src", "bad\n");
    s.write("list", "g/b\n");
    let run = s.build("x");
    assert_eq!(run.run.status.code(), Some(0), "{}", run.run.err());
    assert_eq!(s.read("x"), "good b\n");
    s.write("list", "g/a\n");
    s.build("x").failed(&["gen g/a"]);
    s.write("a.src", "good a\n");
    s.build("x").ran(&[]);
    assert_eq!(s.read("x"), "good a\n");
}

/// Rules that ask for longer and longer names end.
#[test]
fn names_without_end_are_told() {
    let s = rules(
        "rule('twice', targets = '{n:a+}', deps = '{n}{n}', cmd = 'cp {dep} {target}')\n\
         rule('more', targets = '{n:b+}', deps = '{n}b', cmd = 'cp {dep} {target}')\n",
    );
    s.build("a")
        .failed(&["without end: aaaa", "too long for a file", "anti_rule"])
        .tried(&[]);
    s.build("b")
        .failed(&["without end: bbbb", "100 files deep"])
        .tried(&[]);
}

/// A job that reads its source in two halves, and asks in between whether it may go on.
const HALVES: &str = "rule('read', targets = 'x', ignore = ['at.*'], \
     cmd = 'head -c 2 src > x; : > at.half; while [ ! -e at.go ]; do sleep 0.02; done; cat src >> x')\n\
     rule('use', targets = 'y', deps = 'x', cmd = 'cp x y')\n";

/// Has `edit` change the workspace while the job is at its half.
fn edited(edit: impl Fn(&TestSpace)) -> (TestSpace, Jobs) {
    let s = rules(HALVES);
    s.write("src", "1\n");
    let begun = begin(&s, "y");
    until("it is never half done", || s.exists("at.half"));
    edit(&s);
    s.write("at.go", "");
    let jobs = end(begun);
    s.remove("at.half");
    (s, jobs)
}

/// A source that is edited after a job has read it: what was made is not kept as made of either version.
#[test]
fn a_source_edited_during_a_build_is_noticed() {
    let (s, jobs) = edited(|s| s.write("src", "2\n"));
    let (told, x) = (jobs.run.err(), s.read("x"));
    assert_eq!(x, "1\n2\n", "{told}");
    assert!(
        told.contains("read x will run again next time") && told.contains("src changed while it"),
        "{told}"
    );
    s.build("y").ran(&["read x", "use y"]);
    assert_eq!(s.read("y"), "2\n2\n");
    s.build("y").ran(&[]);
}

/// The same bytes once more, or a change of what nobody reads, disturb nobody.
#[test]
fn an_edit_that_changes_nothing_disturbs_nobody() {
    let (s, jobs) = edited(|s| s.write("other", "2\n"));
    jobs.ran(&["read x", "use y"]);
    s.build("y").ran(&[]);
    assert_eq!(s.read("y"), "1\n1\n");
}

/// A source that is edited before a job comes to read it, while another one runs, is read as it is then.
#[test]
fn a_source_edited_before_it_is_read_is_new() {
    let s = rules(&format!(
        "{HALVES}rule('late', targets = 'z', deps = 'y', cmd = 'cat later y > z')\n"
    ));
    s.write("src", "1\n");
    s.write("later", "old\n");
    let begun = begin(&s, "z");
    until("it is never half done", || s.exists("at.half"));
    s.write("later", "new\n");
    s.write("at.go", "");
    end(begun).ran(&["late z", "read x", "use y"]);
    assert_eq!(s.read("z"), "new\n1\n1\n");
    s.remove("at.half");
    s.build("z").ran(&[]);
}

/// A file that a job has ignored is not waited for; once it is there, only `-e` has the job run again, and its
/// own job is not disturbed.
#[test]
fn an_ignored_file_is_not_waited_for() {
    let s = rules(
        "rule('gen', targets = 'tmp/{n}', cmd = 'echo {n} > {target}')\n\
         rule('use', targets = 'x', cmd = 'cat tmp/a > x', ignore = ['tmp/**'])\n\
         rule('own', targets = 'out/t', cmd = 'echo t > out/t; echo side > out/side', ignore = ['out/**'])\n",
    );
    s.build("x")
        .failed(&["use x: exit status 1"])
        .tried(&["use x"]);
    s.build("tmp/a").ran(&["gen tmp/a"]);
    s.build("x").failed(&["(as before)"]).tried(&[]);
    s.build("-e x").ran(&["use x"]);
    s.build("x tmp/a").ran(&[]);
    // A target is a target, also where a pattern says that it is ignored.
    s.build("out/t").ran(&["own out/t"]);
    s.remove("out/t");
    s.build("out/t").ran(&[]).served(&["own out/t"]);
}

/// Files beside the workspace and by absolute names decide which rule applies.
#[test]
fn a_source_that_goes_flips_the_choice() {
    let s = TestSpace::new();
    let outside = s.path("../outside/in");
    let dep = outside.display();
    s.write(
        "Rfsfile",
        format!(
            "rule('with', targets = 'x', deps = 'in', cmd = 'cat in {dep} > x')\n\
             rule('without', targets = 'x', cmd = 'echo without > x', priority = -1)\n"
        ),
    );
    s.write("in", "inside\n");
    s.write("../outside/in", "outside\n");
    s.build("x").ran(&["with x"]);
    assert_eq!(s.read("x"), "inside\noutside\n");
    s.remove("in");
    s.build("x").ran(&["without x"]);
    s.write("in", "inside\n");
    s.build("x").ran(&[]).served(&["with x"]);
    s.remove("../outside/in");
    s.build("x").failed(&["with x: exit status 1"]);
}

/// A source that a job writes is a dep like others in the same build.
#[test]
fn a_source_that_a_job_writes_is_used_at_once() {
    let s = rules(
        "source('in', 'src/**')\n\
         rule('write', targets = ['stamp', target('src/gen', source_ok = True)], deps = 'in', \
         cmd = 'cp in src/gen; cp in stamp')\n\
         rule('use', targets = 'x', deps = 'stamp', cmd = 'cat src/gen > x')\n",
    );
    s.write("in", "1\n");
    s.write("src/gen", "0\n");
    s.build("x").ran(&["use x", "write stamp"]);
    assert_eq!(s.read("x"), "1\n");
    s.build("x").ran(&[]);
    s.write("in", "2\n");
    s.build("x").ran(&["use x", "write stamp"]);
    assert_eq!(s.read("x"), "2\n");
}

/// What a job has written over a source comes from the cache with its other targets.
#[test]
fn a_source_that_was_written_over_is_served() {
    let s = rules(
        "source('src')\n\
         rule('bump', targets = ['x', target('src', source_ok = True)], cmd = 'cat src > x; echo 2 > src')\n",
    );
    s.write("src", "1\n");
    s.build("x").ran(&["bump x"]);
    assert_eq!((s.read("x"), s.read("src")), ("1\n".into(), "2\n".into()));
    s.must("rm -rf x .rfs");
    s.write("src", "1\n");
    s.build("x").ran(&[]).served(&["bump x"]);
    assert_eq!((s.read("x"), s.read("src")), ("1\n".into(), "2\n".into()));
}

/// More of a resource, or more time, is no reason to run what was made, nor what has failed: `-e` is.
#[test]
fn a_failed_job_runs_with_other_limits_when_asked() {
    let text = "resource('r', 4)\n\
         rule('good', targets = 'g', cmd = 'echo g > g', resources = {'r': 1})\n\
         rule('bad', targets = 'b', cmd = '. ../outside/how', ignore = [], resources = {'r': 1}, timeout = 60)\n";
    let s = rules(text);
    s.write("../outside/how", "exit 1\n");
    s.build("-k g b")
        .failed(&["bad b"])
        .tried(&["bad b", "good g"]);
    s.write(
        "Rfsfile",
        text.replace("{'r': 1}", "{'r': 3}").replace("60", "90"),
    );
    s.build("-k g b").failed(&["bad b (as before)"]).tried(&[]);
    s.build("-k -e g b").failed(&["bad b"]).tried(&["bad b"]);
    s.build("b").tried(&[]);
    // One that took too long runs again by itself.
    s.write(
        "Rfsfile",
        "rule('slow', targets = 's', cmd = 'sleep 60', timeout = 0.1)\n",
    );
    s.build("s").failed(&["took longer"]).tried(&["slow s"]);
    s.build("s").failed(&["took longer"]).tried(&["slow s"]);
}
