//! Attributes that are functions, and flags that say what to make of targets and deps.

use super::rules;
use crate::run::Cmd;

/// What is run and what it needs come from functions of the job.
#[test]
fn attributes_may_be_functions_of_the_job() {
    let s = rules(
        "def needs(job):\n\
         \x20   return {'SRC': job.n + '.in', 'MORE': 'more.in'} if job.n == 'a' else [job.n + '.in']\n\
         def command(job):\n\
         \x20   if job.n == 'b':\n\
         \x20       return 'cat %s > %s; echo {braces} $LEVEL >> %s' % (job.dep, job.target, job.target)\n\
         \x20   return ['cp', job.MORE, job.target]\n\
         rule('r', targets = '{n}.out', deps = needs, cmd = command,\n\
         \x20    environ = lambda job: {'LEVEL': read('level.' + job.n).strip()} if job.n == 'b' else {},\n\
         \x20    timeout = lambda job: 60.5, retries = lambda job: 0, resources = lambda job: {'r': len(job.deps)})\n\
         resource('r', 2)\n",
    );
    for (name, text) in [
        ("a.in", "a\n"),
        ("b.in", "b\n"),
        ("more.in", "more\n"),
        ("level.b", "3\n"),
    ] {
        s.write(name, text);
    }
    s.build("a.out b.out").ran(&["r a.out", "r b.out"]);
    assert_eq!(
        (s.read("a.out"), s.read("b.out")),
        ("more\n".into(), "b\n{braces} 3\n".into())
    );
    s.build("a.out b.out").ran(&[]);
    // What a function has read counts as far as it changes what is run.
    s.write("level.b", "4\n");
    s.build("a.out b.out").ran(&["r b.out"]);
    s.write("level.b", "4 \n");
    s.build_plainly("a.out b.out").ran(&[]);
    s.write("level.b", "5\n");
    s.build_plainly("a.out b.out").ran(&["r b.out"]);
    // A rule that needs what there is not does not apply.
    s.build("c.out").failed(&["would need c.in"]);
}

#[test]
fn mistakes_of_functions_are_told() {
    let s = rules(
        "def bad(job):\n\
         \x20   return 1 / 0\n\
         rule('a', targets = 'a', cmd = bad)\n\
         rule('b', targets = 'b', cmd = lambda job: 7)\n\
         rule('c', targets = 'c', cmd = lambda job: read('a'))\n\
         rule('d', targets = 'd', cmd = lambda job: rule('e', targets = 'e', cmd = 'x'))\n\
         rule('f', targets = 'f', deps = lambda job: [job.nothing], cmd = 'x')\n",
    );
    s.write("a", "by hand\n");
    s.build("-k a b c d f").failed(&[
        "Rfsfile:2",
        "failed a a",
        "cmd: 7 is neither a string nor a list of words",
        "a function reads a, which a rule makes",
        "can only ask",
        "nothing",
    ]);
}

/// A job may write over a source where its target says so, and then the source is an input as any other.
#[test]
fn a_source_may_be_a_target() {
    let s = rules(
        "source('*.in', 'order')\n\
         rule('sort', targets = ['done', target('{*:.*[.]in}', source_ok = True)], \
              cmd = 'sort -o a.in a.in; echo > done')\n",
    );
    s.write("a.in", "2\n1\n");
    s.build("done").ran(&["sort done"]);
    assert_eq!(s.read("a.in"), "1\n2\n");
    // It read something else before.
    s.build("done").ran(&["sort done"]);
    s.build("done").ran(&[]);
    s.write("a.in", "3\n1\n");
    s.build("done").ran(&["sort done"]);
    assert_eq!(s.read("a.in"), "1\n3\n");
    assert!(!s.exists(".rfs/quarantine"));
}

#[test]
fn without_the_flag_a_source_is_not_written_over() {
    let s = rules(
        "source('*.in')\n\
         rule('sort', targets = ['done', '{*:.*[.]in}'], cmd = 'echo 1 > a.in; echo > done')\n",
    );
    s.write("a.in", "2\n");
    s.build("done")
        .failed(&["it wrote a.in, which is a source", "source_ok = True"]);
    assert!(s.exists("a.in"), "nobody takes a source away");
}

/// Every file that a phony star target names is as good absent once its job has run.
#[test]
fn a_phony_star_target_need_not_be_there() {
    let s = rules(
        "rule('test', targets = target('check/{*:.*}', phony = True), deps = 'src', cmd = 'cp src check/some')\n\
         rule('use', targets = 'use', deps = ['check/some', 'check/other'], cmd = 'cat check/some > use; ls check >> use')\n",
    );
    s.write("src", "1\n");
    s.build("use").ran(&["test", "use use"]);
    assert_eq!(s.read("use"), "1\nsome\n");
    s.build("use check/third").ran(&[]);
    s.write("src", "2\n");
    s.build("use").ran(&["test", "use use"]);
}

/// What is named after a critical dep is not begun before that one is there.
#[test]
fn a_critical_dep_comes_first() {
    let s = rules(
        "rule('list', targets = 'list', deps = 'src', cmd = 'grep -v bad src > list')\n\
         rule('part', targets = '{n}.part', deps = '{n}.in', cmd = 'echo {n} > {target}; ls list >> log', ignore = ['log', 'list'])\n\
         rule('all', targets = 'all', deps = [dep('list', critical = True), 'a.part', 'b.part'], cmd = 'cat {deps} > all')\n",
    );
    for name in ["src", "a.in", "b.in"] {
        s.write(name, "1\n");
    }
    s.build("all")
        .ran(&["list list", "part a.part", "part b.part", "all all"]);
    assert_eq!(s.read("log"), "list\nlist\n");
    // If it cannot be made, the others are not even tried.
    s.write("src", "bad\n");
    s.must(Cmd::sh("rm a.part b.part; echo 2 > a.in"));
    s.build("-k all")
        .failed(&["list list"])
        .tried(&["list list"]);
    assert!(!s.exists("a.part"));
}

/// A rule that requires a dep applies without it, and says so.
#[test]
fn a_required_dep_must_be_there() {
    let s = rules(
        "rule('r', targets = 'x', deps = dep('must', required = True), cmd = 'cp must x', priority = 1)\n\
         rule('else', targets = 'x', cmd = 'echo else > x')\n",
    );
    s.build("x")
        .failed(&["failed r x", "no rule makes must"])
        .tried(&[]);
    s.write("must", "here\n");
    s.build("x").ran(&["r x"]);
}
