//! Links on the way, links as targets, and what a star target may put on the way.

use super::rules;
use crate::run::Cmd;
use std::os::unix::fs::MetadataExt;

/// A star target may be a directory's name on the way: its job runs before anybody looks below.
#[test]
fn a_star_target_on_the_way_is_made_first() {
    let s = rules(
        "rule('links', targets = 'a/{*:[a-z]+}', deps = 'list', cmd = 'for n in $(cat list); do ln -s ../real a/$n; done')\n\
         rule('use', targets = 'x', cmd = 'cat a/b/f > x || echo none > x')\n",
    );
    s.write("real/f", "1\n");
    s.write("list", "b c\n");
    s.build("x").ran(&["links", "use x"]);
    assert_eq!(s.read("x"), "1\n");
    s.build("x").ran(&[]);
    // What lies behind the link counts.
    s.write("real/f", "2\n");
    s.build("x").ran(&["use x"]);
    assert_eq!(s.read("x"), "2\n");
    // It is no longer on the way.
    s.write("list", "c\n");
    s.build("x").ran(&["links", "use x"]);
    assert_eq!(s.read("x"), "none\n");
    s.write("list", "b\n");
    s.build("x").ran(&["links"]).served(&["use x"]);
    assert_eq!(s.read("x"), "2\n");
}

/// A file where a directory was expected: below it there is nothing, until it is a directory.
#[test]
fn a_target_on_the_way_may_be_a_file() {
    let s = rules(
        "rule('mk', targets = 'a/{*:.*}', deps = 'how', cmd = '. ./how')\n\
         rule('use', targets = 'x', cmd = 'cat a/b/c > x || echo none > x')\n",
    );
    s.write("how", "echo file > a/b\n");
    s.build("x").ran(&["mk", "use x"]);
    assert_eq!(s.read("x"), "none\n");
    s.write("how", "mkdir a/b; echo c > a/b/c\n");
    s.build("x").ran(&["mk", "use x"]);
    assert_eq!(s.read("x"), "c\n");
}

/// A job that writes through a link depends on where it leads; when it is removed only its maker is asked.
#[test]
fn a_link_that_is_written_through_is_a_dep() {
    let s = rules(
        "rule('link', targets = 'dir', deps = 'where', cmd = 'ln -s $(cat where) dir')\n\
         rule('write', targets = 'one/out', cmd = 'mkdir -p one; echo 1 > dir/out')\n",
    );
    s.write("where", "one\n");
    s.build("one/out").ran(&["link dir", "write one/out"]);
    s.remove("dir");
    s.build("one/out").ran(&[]).served(&["link dir"]);
    s.must(Cmd::sh("mkdir two"));
    s.write("where", "two\n");
    s.build("one/out")
        .failed(&["no target of it:\n  two/out"])
        .tried(&["link dir", "write one/out"]);
    assert!(!s.exists("two/out"));
}

/// A made link to a directory, and a link that is not there, are told apart.
#[test]
fn that_a_link_is_there_counts() {
    let s = rules(
        "rule('link', targets = target('b', optional = True), deps = 'how', cmd = '. ./how')\n\
         rule('use', targets = 'x', cmd = 'if [ -h b ]; then cat b/src > x; else echo no > x; fi')\n",
    );
    s.write("dir/src", "1\n");
    s.write("how", ":\n");
    s.build("x").ran(&["link b", "use x"]);
    assert_eq!(s.read("x"), "no\n");
    s.write("how", "ln -s dir b\n");
    s.build("x").ran(&["link b", "use x"]);
    assert_eq!(s.read("x"), "1\n");
    s.write("dir/src", "2\n");
    s.build("x").ran(&["use x"]);
    s.write("how", ":\n");
    s.build("x").ran(&[]).served(&["use x"]);
    assert_eq!(s.read("x"), "no\n");
}

/// Hard links between targets and sources: what is made anew has one name less, and the others keep theirs.
#[test]
fn hard_links_keep_their_names() {
    let s = rules(
        "rule('two', targets = ['a', 'b'], deps = 'src', cmd = 'cp src a; ln a b')\n\
         rule('three', targets = 'c', deps = 'a', cmd = 'ln a c')\n",
    );
    let names = |name: &str| s.path(name).metadata().unwrap().nlink();
    s.write("src", "1\n");
    s.build("c").ran(&["three c", "two a"]);
    assert_eq!((names("a"), names("c"), names("src")), (3, 3, 1));
    s.must(Cmd::sh("ln c ../outside/keep"));
    s.write("src", "2\n");
    s.build("c").ran(&["three c", "two a"]);
    assert_eq!((names("a"), names("b"), names("c")), (3, 3, 3));
    assert_eq!(names("../outside/keep"), 1);
    assert_eq!(s.read("../outside/keep"), "1\n");
    // What has names that its job does not know of cannot be recorded: it is right, and made each time.
    s.build("c").ran(&["three c"]);
    assert_eq!((names("a"), names("c")), (3, 3));
}
