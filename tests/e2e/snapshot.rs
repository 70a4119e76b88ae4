//! Snapshots: a tree under a name, given back as it was.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::mount::Mounted;
use crate::run::{Cmd, Run};
use crate::space::TestSpace;

fn fill(s: &TestSpace) {
    s.write("Makefile", "app: a.c b.c\n\tcat a.c b.c > app\n");
    for name in ["a.c", "b.c"] {
        s.write(name, format!("{name}\n"));
        s.set_mtime(name, 1_000_000_000);
    }
    s.mkdir("sub");
    s.write("sub/data", "data\n");
    s.symlink("a.c", "link");
    s.must("git init -q .");
}

fn edit(s: &TestSpace) {
    s.write("a.c", "edited\n");
    s.remove("sub/data");
    s.write("sub/new", "new\n");
    s.chmod("b.c", 0o600);
    s.symlink("b.c", "link");
}

fn ok(s: &TestSpace, args: &[&str]) -> Run {
    s.tool(args).expect_code(0)
}

/// What a user sees, the time stamps of directories and what is ours aside.
fn tree(s: &TestSpace) -> String {
    let list = "find . \\( -name .rfs -o -name .git \\) -prune -o ! -type d -printf '%p %m %l %T@\\n' | sort; \
                find . \\( -name .rfs -o -name .git \\) -prune -o -type f -exec cat {} +";
    s.bare(Cmd::sh(list)).expect_code(0).out()
}

#[test]
fn a_tree_is_kept_compared_and_given_back() {
    let s = TestSpace::new();
    fill(&s);
    let _built = s.rfs("make").expect_code(0);
    let first = tree(&s);
    let _one = ok(&s, &["snapshot", "feature/one"]);
    edit(&s);
    let second = tree(&s);
    let told = ok(&s, &["diff", "feature/one"]).out();
    let lines: Vec<_> = told
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "changed a.c",
        "mode b.c",
        "changed link",
        "removed sub/data",
        "added sub/new",
    ];
    assert_eq!(lines, expected);

    let untouched = fs::metadata(s.path("Makefile")).unwrap();
    let git = fs::metadata(s.path(".git/HEAD")).unwrap();
    let done = ok(&s, &["restore", "feature/one"]).out();
    assert!(done.contains("before-feature/one"), "{done}");
    assert_eq!(tree(&s), first);
    s.must("make -q");
    let same = |path: &str, was: &fs::Metadata| {
        let now = fs::metadata(s.path(path)).unwrap();
        assert_eq!(
            (now.ino(), now.ctime(), now.ctime_nsec()),
            (was.ino(), was.ctime(), was.ctime_nsec())
        );
    };
    same("Makefile", &untouched);
    same(".git/HEAD", &git);

    // Nothing was lost, and nothing is lost by going back.
    let back = ok(&s, &["restore", "before-feature/one"]).out();
    assert!(!back.contains("before-before"), "{back}");
    assert_eq!(tree(&s), second);
    let json = ok(&s, &["diff", "--json", "feature/one", "before-feature/one"]).out();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["schema"], "rfs.snapshot-diff/1");
    assert_eq!(json["differences"].as_array().unwrap().len(), 5);
    // Runs are still compared by their numbers.
    let _again = s.rfs("make").expect_code(0);
    let _runs = ok(&s, &["diff", "1", "2"]);
}

#[test]
fn parts_of_a_tree_are_given_back() {
    let s = TestSpace::new();
    fill(&s);
    let _one = ok(&s, &["snapshot", "one"]);
    edit(&s);
    s.remove("sub");
    let _part = ok(&s, &["restore", "one", "sub", "link"]);
    assert_eq!(
        (s.read("sub/data"), s.read("a.c")),
        ("data\n".to_owned(), "edited\n".to_owned())
    );
    assert_eq!(
        fs::read_link(s.path("link")).unwrap(),
        std::path::Path::new("a.c")
    );
    let nowhere = s.tool(&["restore", "one", "nowhere"]);
    assert_eq!(nowhere.code(), 125, "{nowhere:#?}");
    let outside = s.tool(&["restore", "one", "../outside"]);
    assert_eq!(outside.code(), 125, "{outside:#?}");
    // What is not wanted need not be kept.
    let done = ok(&s, &["restore", "--force", "one"]).out();
    assert!(!done.contains("before"), "{done}");
    assert_eq!(s.read("a.c"), "a.c\n");
}

/// A snapshot needs nothing of the cache, and two have what they share once.
#[test]
fn a_snapshot_outlives_the_cache() {
    let s = TestSpace::new();
    fill(&s);
    let _built = s.rfs("make").expect_code(0);
    let _one = ok(&s, &["snapshot", "one"]);
    s.write("a.c", "two\n");
    let _built = s.rfs("make").expect_code(0);
    let _two = ok(&s, &["snapshot", "two"]);
    let count = "find .rfs/snapshots/blobs -type f | wc -l";
    // Makefile, b.c, data; a.c and app twice.
    assert_eq!(s.bare(Cmd::sh(count)).out().trim(), "7");
    let _gone = ok(&s, &["cache", "gc", "--max-size", "0"]);
    s.must(Cmd::sh("rm -rf ../cache a.c b.c app; echo x > sub/data"));
    let _back = ok(&s, &["restore", "one"]);
    assert_eq!(s.read("app"), "a.c\nb.c\n");
    let listed = ok(&s, &["snapshots", "--json"]).out();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let names: Vec<_> = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let _less = ok(&s, &["snapshots", "--rm", "two", "--rm", "before-one"]);
    assert_eq!(s.bare(Cmd::sh(count)).out().trim(), "5");
    assert_eq!(ok(&s, &["snapshots"]).out().lines().count(), 1);
}

/// What no snapshot can keep is not destroyed: where it is in the way nothing is touched.
#[test]
fn what_cannot_be_kept_stays() {
    let s = TestSpace::new();
    fill(&s);
    let _one = ok(&s, &["snapshot", "one"]);
    edit(&s);
    s.must(Cmd::sh("rm a.c; mkfifo a.c"));
    let before = s.bare(Cmd::sh("ls -l --time-style=+%s . sub")).out();
    let refused = s.tool(&["restore", "one"]);
    assert_eq!(refused.code(), 125, "{refused:#?}");
    assert!(
        refused
            .err()
            .contains("a.c stands in the way: it is a fifo"),
        "{refused:#?}"
    );
    assert_eq!(
        s.bare(Cmd::sh("ls -l --time-style=+%s . sub")).out(),
        before
    );
    let _rest = ok(&s, &["restore", "one", "sub", "link", "b.c"]);
    s.must(Cmd::sh(
        "test -p a.c; rm a.c; mkdir more; mkfifo more/fifo; echo x > more/x",
    ));
    let left = ok(&s, &["restore", "one"]);
    assert!(
        left.err().contains("more/fifo is left as it is"),
        "{left:#?}"
    );
    s.must(Cmd::sh("test -p more/fifo; test ! -e more/x"));
    for (name, why) in [
        ("12", "numbers"),
        ("-x", "unexpected argument"),
        ("a%b", "`%`"),
        ("one", "already"),
    ] {
        let bad = s.tool(&["snapshot", name]);
        assert_eq!(bad.code(), 125, "{bad:#?}");
        assert!(bad.err().contains(why), "{bad:#?}");
    }
    let unknown = s.tool(&["restore", "none"]);
    assert_eq!(unknown.code(), 125, "{unknown:#?}");
}

#[test]
fn a_mounted_tree_is_kept_and_given_back() {
    let m = Mounted::new(fill);
    let _made = m.sh("make -s");
    let _one = ok(&m.space, &["snapshot", "one"]);
    let _edited = m.sh("echo edited > a.c; rm app; echo new > new");
    let _back = ok(&m.space, &["restore", "one"]);
    assert_eq!(
        m.sh("cat a.c app; test -e new || echo gone"),
        "a.c\na.c\nb.c\ngone\n"
    );
}
