//! Jobs that see directories in the place of others.

use super::rules;
use crate::space::{Setting, TestSpace};

const RULES: &str = "rule('gen', targets = 'v/{n}/made', deps = 'in', cmd = 'cat in > {target}')\n\
    rule('use', targets = 'out/{n}', views = {'cur': 'v/{n}', 'o': 'out'}, \
         cmd = 'cd cur; cat f made > ../o/{n}; ls >> ../o/{n}; test ! -e no || echo no >> ../o/{n}')\n";

fn furnish(s: &TestSpace) {
    s.write("Rfsfile", RULES);
    s.write("in", "made\n");
    s.write("v/one/f", "1\n");
    s.write("v/two/f", "2\n");
}

/// What a job reads there is made before and counts as what it is; what it writes there is what it makes.
fn directories_in_the_place_of_others(s: &TestSpace) {
    furnish(s);
    s.build("out/one out/two").ran(&[
        "gen v/one/made",
        "gen v/two/made",
        "use out/one",
        "use out/two",
    ]);
    assert_eq!(s.read("out/one"), "1\nmade\nf\nmade\n");
    assert_eq!(s.read("out/two"), "2\nmade\nf\nmade\n");
    assert!(!s.exists("cur/f"), "only the job sees it");
    s.build("out/one out/two").ran(&[]);
    s.build_plainly("out/one out/two").ran(&[]);
    s.write("v/one/f", "11\n");
    s.build("out/one out/two").ran(&["use out/one"]);
    assert_eq!(s.read("out/one"), "11\nmade\nf\nmade\n");
    // A file that is not there, and the list of those that are.
    s.write("v/two/no", "");
    s.build_plainly("out/one out/two").ran(&["use out/two"]);
    assert_eq!(s.read("out/two"), "2\nmade\nf\nmade\nno\nno\n");
    s.remove("v/two/no");
    s.remove("out/two");
    s.build("out/one out/two").ran(&[]).served(&["use out/two"]);
    s.write("in", "anew\n");
    s.build("out/two").ran(&["gen v/two/made", "use out/two"]);
    assert_eq!(s.read("out/two"), "2\nanew\nf\nmade\n");
}

#[test]
fn directories_are_seen_in_the_place_of_others() {
    directories_in_the_place_of_others(&TestSpace::new());
}

#[test]
fn an_ordinary_user_has_views() {
    directories_in_the_place_of_others(&TestSpace::with(Setting {
        nobody: true,
        ..Setting::default()
    }));
}

/// Another directory in the same place is another job; the first one is known when it is back.
#[test]
fn views_are_part_of_the_job() {
    let s = rules("");
    furnish(&s);
    let with = |dir: &str| {
        let rule = "rule('use', targets = 'x', cmd = 'cat cur/f > x', views = ";
        s.write("Rfsfile", format!("{rule}{{'cur': 'v/{dir}'}})\n"));
        s.build("x")
    };
    with("one").ran(&["use x"]);
    assert_eq!(s.read("x"), "1\n");
    with("two").ran(&["use x"]);
    assert_eq!(s.read("x"), "2\n");
    with("one").ran(&[]).served(&["use x"]);
    assert_eq!(s.read("x"), "1\n");
}

/// A program that a link leads to in a view is not the one that was looked at: no record is kept.
#[test]
fn a_program_in_a_view_is_run_each_time() {
    let s = rules("rule('use', targets = 'x', views = {'cur': 'v/one'}, cmd = ['tools/tool'])\n");
    s.script("cur/tool", "#!/bin/sh\necho plain > x\n");
    s.script("v/one/tool", "#!/bin/sh\necho seen > x\n");
    s.mkdir("tools");
    s.symlink("../cur/tool", "tools/tool");
    for _ in 0..2 {
        s.build("x").ran(&["use x"]);
        assert_eq!(s.read("x"), "seen\n");
    }
}

#[test]
fn what_is_wrong_with_views_is_told() {
    let s = rules("");
    furnish(&s);
    let failed = |views: &str, cmd: &str, told: &[&str]| {
        let rule = format!("rule('use', targets = 'x', views = {{{views}}}, cmd = {cmd})\n");
        s.write("Rfsfile", rule);
        s.build("x").failed(told);
    };
    let cmd = "'cat cur/f > x'";
    failed(
        "'cur': '../v'",
        cmd,
        &["\"../v\" is no directory of the workspace"],
    );
    failed(
        "'cur': '/usr'",
        cmd,
        &["\"/usr\" is no directory of the workspace"],
    );
    failed("'v/one': 'v'", cmd, &["\"v/one\" and \"v\" are not apart"]);
    failed(
        "'a': 'v/one', 'v/one': 'b'",
        cmd,
        &["\"v/one\" and \"v/one\" are not apart"],
    );
    s.write("cur/tool", "");
    failed(
        "'cur': 'v/one'",
        "['cur/tool']",
        &["\"cur/tool\" would lie in \"cur\""],
    );
    s.remove("cur");
    // By the names of the files themselves.
    let writes = "'cat cur/f > x; echo > cur/other'";
    failed("'cur': 'v/one'", writes, &["v/one/other"]);
    assert!(!s.exists("v/one/other"));
    s.symlink("v", "link");
    failed(
        "'cur': 'link/one'",
        cmd,
        &["link/one is reached through a symbolic link"],
    );
    s.write("file", "");
    failed("'file': 'v/one'", cmd, &["file"]);
}
