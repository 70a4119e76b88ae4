//! A command whose like went well before: it looks at what has changed, and only there.

use super::rules;
use crate::run::Cmd;
use crate::space::TestSpace;

/// `{c}.out` of `{c}.in` and a header that it reads, and `all` of them.
fn project() -> TestSpace {
    let s = rules(
        "rule('out', targets = '{c:[a-z]}.out', deps = '{c}.in', cmd = 'cat {dep} head > {target}; cat extra >> {target} || true')\n\
         rule('head', targets = 'head', deps = 'head.in', cmd = 'cp head.in head')\n\
         rule('all', targets = 'all', deps = [f.replace('.in', '.out') for f in glob('?.in')], \
              cmd = 'cat {deps} > all; echo gen')\n",
    );
    for name in ["a.in", "b.in", "head.in"] {
        s.write(name, format!("{name}\n"));
    }
    s.build_plainly("all")
        .ran(&["out a.out", "out b.out", "head head", "all all"]);
    settle(&s, "all");
    s
}

/// Whether a command looks no further than at what stands.
fn stands(s: &TestSpace, target: &str) -> bool {
    s.must(Cmd::sh("rm -f .rfs/turn"));
    s.build_plainly(target).ran(&[]);
    !s.exists(".rfs/turn")
}

/// What was written a moment ago may be written again at the same time, and is not relied on.
fn settle(s: &TestSpace, target: &str) {
    assert!((0..1000).any(|_| stands(s, target)), "nothing stands");
}

#[test]
fn who_finds_all_as_it_was_looks_no_further() {
    let s = project();
    assert!(stands(&s, "all") && stands(&s, "all"));
    let told = s.build_plainly("all").run.err();
    assert!(told.contains("0 ran, 0 served, 4 up to date"), "{told}");
    // A name of a file is none of what counts of a directory.
    s.write("stranger", "");
    assert!(stands(&s, "all"));
    // What is torn tells nothing.
    s.must(Cmd::sh(
        "for f in .rfs/standing/*; do head -c 300 $f > cut; cat cut > $f; done; rm cut",
    ));
    assert!(!stands(&s, "all"));
    assert!(stands(&s, "all"), "it is written anew");
}

/// Every way in which something can be another one than before.
#[test]
fn whatever_has_changed_is_found() {
    let s = project();
    let changes: [(&str, &[&str]); 12] = [
        ("echo A.in > a.in", &["out a.out", "all all"]),
        (
            "touch -r a.in ref; echo B.in > a.in; touch -r ref a.in; rm ref",
            &["out a.out", "all all"],
        ),
        (
            "echo c > new; mv new head.in",
            &["head head", "out a.out", "out b.out", "all all"],
        ),
        ("echo more > extra", &["out a.out", "out b.out", "all all"]),
        ("rm extra", &[]),
        ("rm b.out", &[]),
        ("echo by hand > b.out", &[]),
        ("chmod 600 head", &[]),
        ("echo c.in > c.in", &["out c.out", "all all"]),
        ("rm c.in", &[]),
        ("sed -i s/gen/gen2/ Rfsfile", &["all all"]),
        ("ln -sf b.in l; mv l a.in", &["out a.out", "all all"]),
    ];
    for (change, ran) in changes {
        s.must(Cmd::sh(change));
        s.build_plainly("all").ran(ran);
        let wanted = s.bare(Cmd::sh(
            "for f in ?.in; do cat $f head.in; [ -e extra ] && cat extra; done; true",
        ));
        assert_eq!(s.read("all"), wanted.out(), "after {change}");
        settle(&s, "all");
    }
}

/// What a rule could not make before decides which rule makes it now.
#[test]
fn a_file_that_appears_decides_anew() {
    let s = rules(
        "rule('best', targets = 'x', deps = 'best.in', cmd = 'cp best.in x', priority = 1)\n\
         rule('else', targets = 'x', deps = 'else.in', cmd = 'cp else.in x')\n",
    );
    s.write("else.in", "else\n");
    s.build_plainly("x").ran(&["else x"]);
    settle(&s, "x");
    s.write("best.in", "best\n");
    s.build_plainly("x").ran(&["best x"]);
    s.must(Cmd::sh("rm best.in"));
    s.build_plainly("x").served(&["else x"]);
    assert_eq!(s.read("x"), "else\n");
}
