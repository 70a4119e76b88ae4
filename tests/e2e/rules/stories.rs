//! Short stories of what people do to a build, each with what must run and what must not.

use super::rules;
use crate::run::Cmd;

/// Two rules share a source; other stems of the same rules run nothing that is shared.
#[test]
fn stems_combine() {
    let s = rules(
        "rule('sh', targets = '{a}+{b}_sh', deps = ['{a}', '{b}'], cmd = 'cat {deps} > {target}')\n\
         rule('py', targets = '{a}+{b}_py', deps = ['{a}', '{b}'], cmd = 'cat {deps} {deps} > {target}')\n",
    );
    s.write("hello", "hello\n");
    s.write("world", "world\n");
    let both = ["py hello+world_py", "sh hello+world_sh"];
    s.build("hello+world_sh hello+world_py").ran(&both);
    s.build("hello+world_sh hello+world_py").ran(&[]);
    s.build("hello+hello_sh world+world_py")
        .ran(&["py world+world_py", "sh hello+hello_sh"]);
    s.build("hello+nobody_sh").failed(&["would need nobody"]);
}

/// A source that was bad for a while, and is good again: nothing runs for that.
#[test]
fn good_again_after_bad() {
    let s = rules(
        "rule('check', targets = 'checked', deps = 'src', cmd = 'grep -v bad src > checked')\n\
         rule('use', targets = 'used', deps = 'checked', cmd = 'cp checked used')\n",
    );
    s.write("src", "good1\n");
    s.build("used").ran(&["check checked", "use used"]);
    s.write("src", "bad\n");
    s.build("used")
        .failed(&["check checked: exit status 1"])
        .tried(&["check checked"]);
    s.write("src", "good1\n");
    s.build("used").ran(&[]);
    assert_eq!(s.read("checked"), "good1\n");
    // The same in the end: who reads it does not run.
    s.write("src", "bad\ngood1\n");
    s.build("used").ran(&["check checked"]);
}

/// An intermediate that somebody removed comes back without a run.
#[test]
fn a_removed_intermediate_comes_back() {
    let s = rules(
        "rule('mid', targets = 'mid', deps = 'src', cmd = 'cp src mid')\n\
         rule('end', targets = 'end', deps = 'mid', cmd = 'cp mid end')\n",
    );
    s.write("src", "1\n");
    s.build("end").ran(&["end end", "mid mid"]);
    s.remove("mid");
    s.build("end").ran(&[]).served(&["mid mid"]);
    s.remove("end");
    s.build("end").ran(&[]).served(&["end end"]);
}

/// An optional target whose job fails is no target that is left out: nobody else is tried, and nothing old
/// stays.
#[test]
fn a_failed_maker_is_not_replaced() {
    let s = rules(
        "rule('may', targets = target('x', optional = True), deps = 'src', cmd = 'cp src x; grep -q yes src')\n\
         rule('else', targets = 'x', cmd = 'echo else > x', priority = -1)\n",
    );
    s.write("src", "yes\n");
    s.build("x").ran(&["may x"]);
    s.write("src", "no\n");
    s.build("x")
        .failed(&["may x: exit status 1"])
        .tried(&["may x"]);
    assert!(!s.exists("x"));
}

/// A star target that its job no longer makes is made by the next rule.
#[test]
fn when_a_star_target_vanishes_the_next_rule_makes_it() {
    let s = rules(
        "rule('split', targets = 'd/{*:.*}', deps = 'list', cmd = 'for n in $(cat list); do echo $n > d/$n; done')\n\
         rule('other', targets = 'd/{n}', cmd = 'echo other > {target}', priority = -1)\n\
         rule('use', targets = 'used', cmd = 'cat d/b > used')\n",
    );
    s.write("list", "a b\n");
    s.build("used").ran(&["split", "use used"]);
    assert_eq!(s.read("used"), "b\n");
    s.write("list", "a c\n");
    s.build("used").ran(&["other d/b", "split", "use used"]);
    assert_eq!(s.read("used"), "other\n");
    assert!(s.exists("d/a") && s.exists("d/c"));
}

/// Ten levels of ten files each of which needs all of the next level.
#[test]
fn wide_graphs_do_not_explode() {
    let deps: Vec<String> = (0..10).map(|n| format!("'l{{next}}_{n}'")).collect();
    let level = |n: usize| {
        let deps = deps.join(", ").replace("{next}", &(n + 1).to_string());
        format!(
            "rule('l{n}', targets = 'l{n}_{{i}}', deps = [{deps}], cmd = ['/bin/touch', '{{target}}'])\n"
        )
    };
    let text: String = (0..9).map(level).collect();
    let end =
        "rule('end', targets = 'l9_{i}', deps = 'src', cmd = ['/bin/cp', 'src', '{target}'])\n";
    let s = rules(&format!("{text}{end}"));
    s.build("l0_0").failed(&["no rule can"]).tried(&[]);
    s.write("src", "");
    let run = s.build("l0_0");
    assert_eq!(run.run.status.code(), Some(0), "{}", run.run.err());
    assert_eq!(run.those("run").len(), 91);
    s.build("l0_0").ran(&[]);
}

/// Where a rule may make a directory on the way, it is asked before what lies below is looked for.
#[test]
fn what_is_on_the_way_is_made_first() {
    let s = rules(
        "rule('unpack', targets = 'a/{*:.*}', cmd = 'mkdir -p a/b/c; echo d > a/b/c/d')\n\
         rule('use', targets = 'used', cmd = 'cat a/b/c/d > used')\n",
    );
    s.build("used").ran(&["unpack", "use used"]);
    s.build("used").ran(&[]);
    assert_eq!(s.read("used"), "d\n");
}

/// `mv` of a scratch file that is not there fails; of one that the job makes it is a target.
#[test]
fn a_scratch_file_is_moved() {
    let s = rules("rule('mv', targets = 'x', deps = 'src', cmd = '. ./src; mv scratch x')\n");
    s.write("src", ":\n");
    s.build("x").failed(&["mv x: exit status 1"]);
    s.write("src", "echo x > scratch\n");
    s.build("x").ran(&["mv x"]);
    s.build("x").ran(&[]);
}

/// What a failed job has left by an undeclared write does not stand in its way later.
#[test]
fn leftovers_of_a_failure_are_no_obstacle() {
    let s = rules("rule('r', targets = 'x', cmd = 'cat side || :; echo 1 > side; echo x > x')\n");
    s.build("x").failed(&["no target of it"]);
    s.write(
        "Rfsfile",
        "rule('r', targets = 'x', cmd = 'cat side || :; echo 1 > side; echo x > x; rm side')\n",
    );
    s.build("x").ran(&["r x"]);
    s.build("x").ran(&[]);
}

/// A file of people's in the place of a target that has failed.
#[test]
fn a_file_over_a_failed_target_is_set_aside() {
    let s = rules("rule('r', targets = 'x', deps = 'src', cmd = '. ./src > x')\n");
    s.write("src", "false\n");
    s.build("x").failed(&["exit status 1"]);
    s.write("x", "by hand\n");
    s.write("src", "echo made\n");
    s.build("x").ran(&["r x"]);
    assert_eq!(
        (s.read("x"), s.read(".rfs/quarantine/x")),
        ("made\n".into(), "by hand\n".into())
    );
}

/// A job that writes or removes a file which is another one's target has failed.
#[test]
fn targets_of_others_are_not_to_be_touched() {
    let s = rules(
        "rule('a', targets = 'a', cmd = 'echo a > a')\n\
         rule('bad', targets = 'b', cmd = 'echo b > b; echo spoilt > a')\n\
         rule('scratch', targets = 'c', cmd = 'echo c > a; mv a c')\n",
    );
    s.build("b").failed(&["no target of it:\n  a"]);
    assert!(!s.exists("b"));
    s.build("c")
        .failed(&["it removes a, which another job has made"]);
    s.build("a").ran(&[]).served(&["a a"]);
    assert_eq!(s.read("a"), "a\n");
}

/// Of two targets of one job one is removed: who reads the other waits for both, and nothing runs.
#[test]
fn a_removed_sibling_comes_back() {
    let s = rules(
        "rule('two', targets = ['a', 'b'], deps = 'src', cmd = 'cp src a; cp src b')\n\
         rule('use', targets = 'c', deps = 'a', cmd = 'cp a c')\n",
    );
    s.write("src", "1\n");
    s.build("c").ran(&["two a", "use c"]);
    s.remove("b");
    s.build("c").ran(&[]).served(&["two a"]);
    assert!(s.exists("b"));
}

/// Where a job puts its files elsewhere, the old ones go.
#[test]
fn an_old_directory_of_outputs_goes() {
    let s = rules(
        "rule('r', targets = 'out/{*:.*}', deps = 'v', cmd = 'mkdir -p out/$(cat v); touch out/$(cat v)/f')\n\
                   rule('use', targets = 'x', cmd = 'ls out/$(cat v)/f > x')\n",
    );
    s.write("v", "v1\n");
    s.build("x").ran(&["r", "use x"]);
    s.write("v", "v2\n");
    s.build("x").ran(&["r", "use x"]);
    assert!(!s.exists("out/v1/f") && s.exists("out/v2/f"));
    assert_eq!(s.read("x"), "out/v2/f\n");
}

/// The names in a directory that a job lists are what it depends on.
#[test]
fn a_listing_is_a_dep() {
    let s = rules("rule('ls', targets = 'names', cmd = 'ls src > names')\n");
    s.write("src/a", "");
    s.build("names").ran(&["ls names"]);
    s.write("src/a", "other\n");
    s.build("names").ran(&[]);
    s.write("src/b", "");
    s.build("names").ran(&["ls names"]);
    assert_eq!(s.read("names"), "a\nb\n");
}

/// A job may go into a directory that holds nothing but what is still to be made.
#[test]
fn a_directory_of_targets_can_be_entered() {
    let s = rules(
        "rule('gen', targets = 'gen/{n}.h', cmd = 'echo {n} > {target}')\n\
         rule('use', targets = 'x', cmd = 'cd gen && cat a.h > ../x')\n",
    );
    s.build("x").ran(&["gen gen/a.h", "use x"]);
}

/// Files outside of the workspace are deps like others; that one is gone is a change.
#[test]
fn files_outside_are_deps() {
    let s = rules("rule('r', targets = 'x', cmd = 'cat ../outside/in > x || echo none > x')\n");
    s.write("../outside/in", "1\n");
    s.build("x").ran(&["r x"]);
    s.write("../outside/in", "2\n");
    s.build("x").ran(&["r x"]);
    s.remove("../outside/in");
    s.build("x").ran(&["r x"]);
    assert_eq!(s.read("x"), "none\n");
    s.build("x").ran(&[]);
}

/// Resources, timeouts and retries are no part of what a job makes.
#[test]
fn resources_are_no_reason_to_run() {
    let text =
        "resource('r', 2)\nrule('r', targets = 'x', cmd = 'echo x > x', resources = {'r': 1})\n";
    let s = rules(text);
    s.build("x").ran(&["r x"]);
    s.write(
        "Rfsfile",
        text.replace("'r': 1}", "'r': 2}, timeout = 9, retries = 3, priority = 2"),
    );
    s.build("x").ran(&[]);
}

/// A source that is edited while a job uses it: what was made of a mixture is not kept.
#[test]
fn a_source_edited_under_a_job_is_read_again() {
    let s = rules(
        "rule('r', targets = 'x', deps = 'src', cmd = 'cat src > x; if [ -s once ]; then echo edited > src; fi; cat src >> x', \
         ignore = ['once'])\n",
    );
    s.write("src", "1\n");
    s.write("once", "yes\n");
    s.build("x").failed(&["no target of it:\n  src"]);
    s.write("src", "2\n");
    s.write("once", "");
    s.build("x").ran(&["r x"]);
    assert_eq!(s.read("x"), "2\n2\n");
}

/// Hard links of the outputs of other jobs stay what they are when one is made anew.
#[test]
fn other_names_of_a_file_are_left_alone() {
    let s = rules("rule('cp', targets = 'x', deps = 'src', cmd = 'cp src x')\n");
    s.write("src", "1\n");
    s.build("x").ran(&["cp x"]);
    s.must(Cmd::sh("ln x ../outside/other"));
    s.write("src", "2\n");
    s.build("x").ran(&["cp x"]);
    assert_eq!(s.bare(Cmd::sh("cat ../outside/other x")).out(), "1\n2\n");
}
