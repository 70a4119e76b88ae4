//! What jobs look at: files that are still to be made, that fail, that need each other.

use super::rules;
use crate::run::Cmd;

/// A command that swallows the error of a missing file gets the file, and runs once.
#[test]
fn a_read_that_may_fail_waits_too() {
    let s = rules(
        "rule('dut', targets = 'dut', cmd = 'cat hidden 2> /dev/null > dut || :')\n\
         rule('hidden', targets = 'hidden', deps = 'src', cmd = 'cp src hidden')\n",
    );
    s.write("src", "made\n");
    s.build("dut").ran(&["dut dut", "hidden hidden"]);
    assert_eq!(s.read("dut"), "made\n");
    s.build("dut").ran(&[]);
    s.write("src", "again\n");
    s.build("dut").ran(&["dut dut", "hidden hidden"]);
}

/// A file that names the next one; when the name changes only the new one is made.
#[test]
fn a_pointer_is_followed_to_what_it_says_now() {
    let s = rules(
        "rule('dut', targets = 'dut', cmd = 'cat $(cat ptr) > dut')\n\
         rule('ptr', targets = 'ptr', deps = 'list', cmd = 'cp list ptr')\n\
         rule('good', targets = 'good{n}', cmd = 'echo {n} > {target}')\n\
         rule('bad', targets = 'bad{n}', cmd = 'false')\n",
    );
    s.write("list", "good1\n");
    s.build("dut").ran(&["dut dut", "ptr ptr", "good good1"]);
    s.write("list", "bad2\n");
    s.build("dut")
        .failed(&["bad bad2: exit status 1"])
        .tried(&["dut dut", "ptr ptr", "bad bad2"]);
    assert!(!s.exists("dut"), "a job that failed leaves nothing");
    s.write("list", "good3\n");
    s.build("dut").ran(&["dut dut", "ptr ptr", "good good3"]);
    s.write("list", "good1\n");
    s.build("dut").ran(&[]).served(&["dut dut", "ptr ptr"]);
    assert_eq!(s.read("dut"), "1\n");
}

/// Jobs that wait give their slots back, however few there are.
#[test]
fn waiting_takes_no_slot() {
    let s = rules(
        "rule('chain', targets = 'c{n:[0-9]+}', cmd = 'if [ {n} = 9 ]; then echo end; else cat c$(({n} + 1)); fi > {target}')\n\
         rule('all', targets = 'all', cmd = 'cat c0 c1 c5 > all')\n",
    );
    let chain: Vec<String> = (0..10).map(|n| format!("chain c{n}")).collect();
    let mut all: Vec<&str> = chain.iter().map(String::as_str).collect();
    all.push("all all");
    s.build("-j1 all").ran(&all);
    assert_eq!(s.read("all"), "end\nend\nend\n");
    s.build("all").ran(&[]);
}

/// Static deps that failed: what needs them is not run, and what does not mind is.
#[test]
fn who_needs_what_failed_does_not_run() {
    let s = rules(
        "rule('bad', targets = 'bad', cmd = 'echo no > bad; exit 3')\n\
         rule('needs', targets = 'needs', deps = 'bad', cmd = 'touch needs')\n\
         rule('minds', targets = 'over', deps = 'needs', cmd = 'touch over')\n\
         rule('dares', targets = 'dares', deps = dep('bad', ignore_error = True), cmd = 'cat bad > dares 2>&1 || :')\n",
    );
    s.build("-k over dares")
        .failed(&["bad bad: exit status 3"])
        .tried(&["bad bad", "dares dares"]);
    assert!(!s.exists("bad") && !s.exists("over") && s.exists("dares"));
    s.build("over")
        .failed(&["bad bad (as before): exit status 3"])
        .tried(&[]);
    s.build("-e over")
        .failed(&["bad bad: exit status 3"])
        .tried(&["bad bad"]);
}

#[test]
fn circles_of_reads_are_told_with_the_chain() {
    let s = rules(
        "rule('a', targets = 'a', cmd = 'cat b > a')\n\
         rule('b', targets = 'b', cmd = 'cat c > b')\n\
         rule('c', targets = 'c', cmd = 'if [ -e stop ]; then cat stop; else cat a; fi > c')\n",
    );
    s.build("a").failed(&[
        "files need each other",
        "c c reads a, which needs b, which needs c",
    ]);
    s.write("stop", "stop\n");
    s.build("a").ran(&["a a", "b b", "c c"]);
    assert_eq!(s.read("a"), "stop\n");
}

/// A link to a directory, made by a rule: what is read through it depends on both.
#[test]
fn what_lies_behind_a_made_link_is_found() {
    let s = rules(
        "rule('link', targets = 'b', deps = 'which', cmd = 'ln -s $(cat which) b')\n\
         rule('dut', targets = 'dut', cmd = 'cat b/src > dut')\n",
    );
    s.write("which", "d1\n");
    s.write("d1/src", "one\n");
    s.write("d2/src", "two\n");
    s.build("dut").ran(&["dut dut", "link b"]);
    assert_eq!(s.read("dut"), "one\n");
    s.build("dut").ran(&[]);
    s.write("d1/src", "uno\n");
    s.build("dut").ran(&["dut dut"]);
    s.write("which", "d2\n");
    s.build("dut").ran(&["dut dut", "link b"]);
    assert_eq!(s.read("dut"), "two\n");
}

/// A temporary name that is moved to the target, and scratch files, are a job's own affair.
#[test]
fn scratch_files_are_nobodys_business() {
    let s = rules(
        "rule('mv', targets = 'x', cmd = 'stat x.tmp > /dev/null 2>&1 || :; echo x > x.tmp; mv x.tmp x')\n\
         rule('scratch', targets = 'y', cmd = 'mkdir tmp; echo y > tmp/f; cp tmp/f y; rm -r tmp')\n",
    );
    s.build("x y").ran(&["mv x", "scratch y"]);
    s.build("x y").ran(&[]);
    assert!(!s.exists("x.tmp") && !s.exists("tmp"));
}

#[test]
fn an_undeclared_write_fails_with_a_remedy() {
    let s = rules("rule('r', targets = 'x', cmd = 'echo x > x; echo more > side')\n");
    s.build("x")
        .failed(&["no target of it:\n  side", "Rfsfile:1:1: \"side\""])
        .tried(&["r x"]);
    assert!(!s.exists("x") && !s.exists("side"));
    s.write(
        "Rfsfile",
        "rule('r', targets = ['x', 'side'], cmd = 'echo x > x; echo more > side')\n",
    );
    s.build("x").ran(&["r x"]);
    assert_eq!(s.read("side"), "more\n");
    s.build("side").ran(&[]);
}

/// Where sources are named, nothing else may be read.
#[test]
fn a_file_that_nobody_vouches_for_dangles() {
    let s = rules(
        "source('*.src', 'Rfsfile')\nrule('r', targets = 'x', deps = 'a.src', cmd = 'cat a.src stray > x')\n",
    );
    s.write("a.src", "a\n");
    s.write("stray", "s\n");
    s.build("x")
        .failed(&["it reads stray, which is no source", "source(\"stray\")"]);
    s.must(Cmd::sh("rm stray; sed -i 's/a.src stray/a.src/' Rfsfile"));
    s.build("x").ran(&["r x"]);
}
