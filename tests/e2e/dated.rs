//! Time stamps that were set on purpose: they go with a file to its other names, and their order counts
//! wherever they lie.

use crate::probe::{Hit, Probe, Ran};
use crate::run::Cmd;
use crate::space::{Setting, TestSpace};

/// `b` comes back with the time stamp of `a`, however it got its name.
#[test]
fn a_time_stamp_goes_with_the_file() {
    let lay = |s: &TestSpace| {
        s.write("a", "a\n");
        s.write("dir/deep/a", "deep\n");
        for (n, name) in ["a", "dir/deep/a", "dir/deep", "dir"].iter().enumerate() {
            s.set_mtime(name, 1_600_000_000 + i64::try_from(n).unwrap());
        }
    };
    let ways = [
        "cp -p a t; mv t b",
        "cp -p a t; ln t b; rm t",
        "cp -a dir t; mv t b",
        "mkdir t; cp -p a t/a; mv t b",
        "cp -p a t; mv t u; mv u b",
        "sh -c 'cp -p a t'; sh -c 'mv t b'",
        "perl -e 'system(qw(cp -an a t)); rename(\"t\", \"b\")'",
        "echo new > b; cp -p a t; perl -e 'syscall(316, -100, \"t\", -100, \"b\", 2) and die $!'; rm t",
    ];
    for way in ways {
        let gone = |s: &TestSpace| s.remove("b");
        let probe = Probe::new(lay, Cmd::sh(way)).first(9);
        let probe = probe.after("made again", gone, Hit);
        probe.run(Setting::default());
    }
}

/// An attribute that was set goes with the file as well, so that nothing is served without it.
#[test]
fn an_extended_attribute_goes_with_the_file() {
    let ways = ["os.rename('t', 'b')", "os.link('t', 'b'); os.remove('t')"];
    for way in ways {
        let text =
            format!("import os; open('t', 'w').close(); os.setxattr('t', 'user.x', b'y'); {way}");
        let s = TestSpace::new();
        for _ in 0..2 {
            s.remove("b");
            let run = s
                .rfs(Cmd::new(["/usr/bin/python3", "-SEc", &text]))
                .expect_code(0);
            assert_eq!(run.summary().refused, 1, "{run:#?}");
            s.must(Cmd::new([
                "/usr/bin/python3",
                "-SEc",
                "import os; assert os.getxattr('b', 'user.x') == b'y'",
            ]));
        }
    }
}

/// Two files from a clock that was ahead: which is newer counts, as it does in the past.
#[test]
fn the_order_of_stamps_in_the_future() {
    let lay = |s: &TestSpace| {
        s.write("a", "a\n");
        s.write("b", "b\n");
    };
    let dated = |a: i64, b: i64| {
        move |s: &TestSpace| {
            s.set_mtime("a", a);
            s.set_mtime("b", b);
        }
    };
    let future = 2_500_000_000;
    let script = "if [ a -nt b ]; then echo newer; else echo not newer; fi > out";
    Probe::new(lay, Cmd::sh(script))
        .after("equal", dated(future, future), Ran(1))
        .after("later", dated(future + 5, future + 5), Hit)
        .after("a newer", dated(future + 5, future), Ran(1))
        .after("b newer", dated(future, future + 5), Ran(1))
        .after("a newer by more", dated(future + 5000, future), Hit)
        .after("one in the past", dated(future, 1_600_000_000), Ran(1))
        .run(Setting::default());
}

/// A directory that was there before is no output: it is not younger than what is served into it, as it was when
/// the file was renamed into it long after it was written.
#[test]
fn a_directory_is_as_young_as_what_is_served_into_it() {
    let s = TestSpace::new();
    s.mkdir("dir");
    let cmd = || Cmd::sh("echo a > dir/t; sleep 0.1; mv dir/t dir/f");
    let is_younger = || s.bare("test dir -nt dir/f").code() == 0;
    let _first = s.rfs(cmd()).expect_code(0).expect_ran();
    assert!(is_younger());
    s.remove("dir/f");
    let _served = s.rfs(cmd()).expect_code(0).expect_hit();
    assert!(!is_younger());
}
