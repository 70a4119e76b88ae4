//! What jobs make: stars, optional and phony targets, and what stands in their places.

use super::rules;
use crate::run::Cmd;

/// One job makes many files; which ones shows when it has ended.
#[test]
fn a_star_target_is_made_with_its_siblings() {
    let s = rules(
        "rule('untar', targets = 'out/{*:.*}', deps = 'in.tar', cmd = 'tar -C out -xf in.tar')\n\
         rule('use', targets = 'sum', cmd = 'cat out/a out/d/b > sum')\n",
    );
    s.must(Cmd::sh(
        "mkdir d; echo a > a; echo b > d/b; echo c > c; tar -cf in.tar a d/b c; rm -r a d c",
    ));
    s.build("sum").ran(&["untar", "use sum"]);
    assert_eq!(s.read("sum"), "a\nb\n");
    s.build("sum out/c").ran(&[]);
    // One of them is gone from the archive: what needed it fails, and it is not there any more.
    s.must(Cmd::sh(
        "mkdir d; echo a > a; echo b > d/b; tar -cf in.tar a d/b; rm -r a d",
    ));
    s.build("sum").ran(&["untar"]);
    assert!(!s.exists("out/c"));
    s.build("out/c").failed(&["no rule makes out/c"]).tried(&[]);
}

/// A job with both kinds of targets knows those that it made itself.
#[test]
fn a_file_beside_a_star_is_no_work_of_people() {
    let s = rules(
        "rule('r', targets = ['x', 'd/{*:.*}'], deps = 'src', cmd = 'cp src x; cp src d/y')\n",
    );
    s.write("src", "1\n");
    s.build("x").ran(&["r x"]);
    s.write("src", "2\n");
    s.build("x").ran(&["r x"]);
    assert!(!s.exists(".rfs/quarantine"));
}

/// What one rule leaves out another may make.
#[test]
fn an_optional_target_that_is_left_out_is_made_by_others() {
    let s = rules(
        "rule('may', targets = target('{n}.x', optional = True), deps = '{n}.src', cmd = 'grep yes {dep} > {target} || rm {target}')\n\
         rule('else', targets = '{n}.x', deps = '{n}.src', cmd = 'echo else > {target}', priority = -1)\n",
    );
    s.write("a.src", "yes\n");
    s.write("b.src", "no\n");
    s.build("a.x b.x").ran(&["may a.x", "may b.x", "else b.x"]);
    assert_eq!(
        (s.read("a.x"), s.read("b.x")),
        ("yes\n".into(), "else\n".into())
    );
    s.build("a.x b.x").ran(&[]);
}

#[test]
fn a_phony_target_need_not_be_there() {
    let s = rules(
        "rule('test', targets = target('check', phony = True), deps = 'x', cmd = 'grep -q x x')\n\
         rule('x', targets = 'x', deps = 'src', cmd = 'cp src x')\n",
    );
    s.write("src", "x\n");
    s.build("check").ran(&["test check", "x x"]);
    s.build("check").ran(&[]);
    s.write("src", "y\n");
    s.build("check")
        .failed(&["test check: exit status 1"])
        .tried(&["test check", "x x"]);
}

#[test]
fn a_target_that_is_not_made_is_told() {
    let s = rules("rule('r', targets = ['x', 'y'], cmd = 'touch x')\n");
    s.build("x")
        .failed(&["it did not make y", "optional = True"])
        .tried(&["r x"]);
    assert!(!s.exists("x"));
}

/// What people put in the place of a target is set aside, never lost; an edit of a made file counts for
/// nobody who reads it.
#[test]
fn the_work_of_people_is_set_aside() {
    let s = rules(
        "rule('x', targets = 'x', deps = 'src', cmd = 'cp src x')\n\
         rule('y', targets = 'y', deps = 'x', cmd = 'cp x y')\n",
    );
    s.write("src", "1\n");
    s.write("x", "mine\n");
    s.build("y").ran(&["x x", "y y"]);
    assert_eq!(s.read(".rfs/quarantine/x"), "mine\n");
    s.write("x", "edited\n");
    s.build("y").ran(&[]).served(&["x x"]);
    assert_eq!(
        (s.read("x"), s.read(".rfs/quarantine/~1~/x")),
        ("1\n".into(), "edited\n".into())
    );
    s.write("src", "2\n");
    s.write("x", "late\n");
    s.build("y").ran(&["x x", "y y"]);
    assert_eq!(
        (s.read("y"), s.read(".rfs/quarantine/~2~/x")),
        ("2\n".into(), "late\n".into())
    );
    assert_eq!(
        s.read(".rfs/quarantine/x"),
        "mine\n",
        "nothing is put over it"
    );
}

/// What was set aside by the name of a directory is no obstacle.
#[test]
fn a_file_is_set_aside_beside_one_of_its_directory_s_name() {
    let s = rules("rule('x', targets = 'a', cmd = 'echo made > a')\n");
    s.write("a", "mine\n");
    s.build("a").ran(&["x a"]);
    s.remove("a");
    s.write(
        "Rfsfile",
        "rule('x', targets = 'a/b', cmd = 'echo made > a/b')\n",
    );
    s.write("a/b", "mine too\n");
    s.build("a/b").ran(&["x a/b"]);
    assert_eq!(s.read(".rfs/quarantine/a"), "mine\n");
    assert_eq!(s.read(".rfs/quarantine/~1~/a/b"), "mine too\n");
}

/// An incremental target is found as it was.
#[test]
fn an_incremental_target_is_kept_for_its_job() {
    let s = rules(
        "rule('log', targets = target('log', incremental = True), deps = 'src', cmd = 'cat src >> log')\n",
    );
    s.write("src", "1\n");
    s.build("log").ran(&["log log"]);
    s.write("src", "2\n");
    s.build("log").ran(&["log log"]);
    assert_eq!(s.read("log"), "1\n2\n");
}

/// From nothing, when that is asked for: those alone that have such targets.
#[test]
fn an_incremental_target_is_made_from_nothing_when_asked() {
    let s = rules(
        "rule('log', targets = target('log', incremental = True), deps = 'src', cmd = 'cat src >> log')\n\
         rule('use', targets = 'use', cmd = 'cat log > use')\n",
    );
    s.write("src", "1\n");
    s.build("use").ran(&["log log", "use use"]);
    s.write("src", "2\n");
    s.build("use").ran(&["log log", "use use"]);
    assert_eq!(s.read("use"), "1\n2\n");
    s.build("-I use").ran(&["log log", "use use"]);
    assert_eq!(s.read("use"), "2\n");
    s.build("use").ran(&[]);
}

/// What a failed job has written is removed, or kept where nobody takes it for a target.
#[test]
fn what_a_failed_job_has_written_can_be_kept() {
    let s = rules(
        "rule('half', targets = 'd/half', cmd = 'echo half > d/half; echo > other; exit 3')\n",
    );
    s.build("d/half").failed(&["exit status 3"]);
    assert!(!s.exists("d/half") && !s.exists(".rfs/failed"));
    let told = "what is left of d/half is .rfs/failed/d/half";
    s.build("-e --keep-failed d/half")
        .failed(&["exit status 3", told]);
    assert_eq!(s.read(".rfs/failed/d/half"), "half\n");
    assert_eq!(s.read(".rfs/failed/other"), "\n");
    assert!(!s.exists("d/half") && !s.exists("other"));
}

/// The name of a file that a job made and that no rule makes any more.
#[test]
fn what_no_rule_makes_any_more_is_removed_when_asked_for() {
    let s = rules(
        "rule('a', targets = 'a', cmd = 'echo a > a')\nrule('b', targets = 'b', cmd = 'cat a > b')\n",
    );
    s.build("b").ran(&["a a", "b b"]);
    s.write("Rfsfile", "rule('b', targets = 'b', cmd = 'cat a > b')\n");
    s.build("b").failed(&["a is removed", "b b: exit status 1"]);
    assert!(!s.exists("a"));
}

/// Commands, rules and sources that come back bring their results back.
#[test]
fn a_way_back_costs_no_run() {
    let first = "rule('x', targets = 'x', deps = 'src', cmd = 'cp src x; echo 1 >> x')\n";
    let s = rules(first);
    s.write("src", "s\n");
    s.build("x").ran(&["x x"]);
    s.write("Rfsfile", first.replace("echo 1", "echo 2"));
    s.build("x").ran(&["x x"]);
    s.write("Rfsfile", first);
    s.build("x").ran(&[]).served(&["x x"]);
    assert_eq!(s.read("x"), "s\n1\n");
    // Another name of the rule is another name only.
    s.write("Rfsfile", first.replace("'x', targets", "'other', targets"));
    s.build("x").ran(&[]);
}

/// Hard links of a dep and of a target are files like others.
#[test]
fn a_hard_link_is_a_target() {
    let s = rules(
        "rule('l', targets = 'l', deps = 'x', cmd = 'ln x l')\nrule('x', targets = 'x', deps = 'src', cmd = 'cp src x')\n",
    );
    s.write("src", "1\n");
    s.build("l").ran(&["l l", "x x"]);
    assert_eq!(s.read("l"), "1\n");
    s.write("src", "2\n");
    s.build("l").ran(&["l l", "x x"]);
    assert_eq!(s.read("l"), "2\n");
}
