//! Time stamps that were set on purpose: they go with a file to its other names, and their order counts
//! wherever they lie.

use crate::probe::{Hit, Probe, Ran};
use crate::run::Cmd;
use crate::space::{Setting, TestSpace};
use std::os::unix::fs::MetadataExt;

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

/// Who passes time stamps on in seconds has seen them, too: here the order of all is what it was.
#[test]
fn a_time_stamp_is_passed_on_without_its_fraction() {
    let s = TestSpace::new();
    s.write("a", "a\n");
    s.write("copy.cmake", "file(COPY a DESTINATION d)\n");
    for second in [1_600_000_000, 1_600_000_007] {
        s.must(Cmd::sh(&format!("touch -d @{second}.5 a; rm -rf d")));
        let _ran = s.rfs("cmake -P copy.cmake").expect_code(0).expect_ran();
        let copy = std::fs::metadata(s.path("d/a")).unwrap();
        assert_eq!((copy.mtime(), copy.mtime_nsec()), (second, 0));
    }
    s.remove("d");
    let _served = s.rfs("cmake -P copy.cmake").expect_code(0).expect_hit();
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

/// A directory that was there before and in which a step makes or removes names is as old among all else as
/// the bare command makes it; one in which it only writes keeps its time stamp.
#[test]
fn a_directory_is_as_young_as_what_is_served_into_it() {
    const NAMES: [&str; 6] = ["dir", "dir/f", "dir/sub", "other", "mark", "in/f"];
    let moved = "echo a > dir/t; sleep 0.03; mv dir/t dir/f";
    let written = "echo b > other; sleep 0.03; echo a > dir/f; sleep 0.03; echo b > in/f";
    let both = "echo a > dir/f; sleep 0.03; echo b > other; sleep 0.03; : > dir/t; rm dir/t; echo b > in/f";
    // What is there at first, the command, and what is done before it is served.
    let cases = [
        ("", moved, "rm dir/f"),
        (
            "",
            "echo a > dir/t; sleep 0.03; mv dir/t dir/f; sleep 0.03; echo b > other",
            "rm dir/f",
        ),
        (
            "",
            "echo a > other; sleep 0.03; : > dir/t; rm dir/t; sleep 0.03; echo a > in/f",
            "rm other",
        ),
        (
            "",
            "echo a > in/f; sleep 0.03; rm dir/sub; sleep 0.03; echo a > other",
            ": > dir/sub",
        ),
        (
            "",
            "echo a > other; sleep 0.03; sh -c 'echo a > dir/t; sleep 0.03; mv dir/t dir/f'",
            "rm other dir/f",
        ),
        (
            "",
            "echo a > other; sleep 0.03; mkdir dir/d; sleep 0.03; : > dir/d/x; rm -r dir/d",
            ": > other",
        ),
        (
            "",
            "chmod 700 dir; echo a > dir/t; sleep 0.03; mv dir/t dir/f",
            "chmod 755 dir; rm dir/f",
        ),
        (
            "",
            "echo a > dir/t; sleep 0.03; mv dir/t dir/f; touch -d 2001-02-03 dir",
            "rm dir/f",
        ),
        // Of a file that is written over the first name touches the directory, the second one does not.
        ("", written, ":"),
        ("", written, "rm dir/f"),
        ("", written, "rm dir/f in/f other"),
        ("echo old > dir/f", written, ":"),
        ("echo old > dir/f", written, "rm dir/f"),
        ("echo old > dir/f", written, "rm dir/f in/f"),
        // A move that fails touches nothing.
        (
            "",
            "echo a > dir/f; ! mv dir dir 2> /dev/null; sleep 0.03; echo b > other",
            ":",
        ),
        ("", both, ":"),
        ("", both, "rm dir/f"),
        ("echo old > dir/f", both, "rm dir/f"),
    ];
    let tell = |case: &(&str, &str, &str)| {
        let (first, command, before) = case;
        let told = |wrapped: bool| {
            let s = TestSpace::new();
            let lay = "mkdir dir in; : > dir/sub; sleep 0.03";
            s.must(Cmd::sh(&format!("{lay}; {first}")));
            for (n, lay) in ["sleep 0.03", *before].into_iter().enumerate() {
                s.must(Cmd::sh(&format!("{lay}; sleep 0.03; : > mark; sleep 0.03")));
                let run = match wrapped {
                    true => s.rfs(Cmd::sh(command)),
                    false => s.bare(Cmd::sh(command)),
                };
                let run = run.expect_code(0);
                if wrapped && n == 1 {
                    let _hit = run.expect_hit();
                }
            }
            NAMES.map(|name| {
                s.path(name).symlink_metadata().ok().map(|meta| {
                    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
                })
            })
        };
        let (bare, wrapped) = (told(false), told(true));
        for (i, j) in (0..NAMES.len()).flat_map(|i| (0..NAMES.len()).map(move |j| (i, j))) {
            let apart = bare[j]
                .zip(bare[i])
                .is_some_and(|(j, i)| j - i > 15_000_000);
            assert!(
                !apart || wrapped[i] < wrapped[j],
                "{case:?}: {} is not older than {}",
                NAMES[i],
                NAMES[j],
            );
            let turned = bare[i] < bare[j] && wrapped[i] > wrapped[j];
            assert!(!turned, "{case:?}: {} and {}", NAMES[i], NAMES[j]);
        }
    };
    // Most of the time they sleep.
    std::thread::scope(|scope| {
        for some in cases.chunks(cases.len().div_ceil(4)) {
            scope.spawn(move || some.iter().for_each(tell));
        }
    });
}

/// A record knows when names of a directory changed last, and not when they would have without the file that is
/// there by now.
#[test]
fn a_directory_has_the_place_of_another_run() {
    let command = ": > dir/t; rm dir/t; sleep 0.03; echo b > other; sleep 0.03; echo a > dir/f";
    for wrapped in [false, true] {
        let s = TestSpace::new();
        s.must(Cmd::sh("mkdir dir"));
        for n in 0..2 {
            s.must(Cmd::sh("sleep 0.03"));
            let cmd = Cmd::sh(command);
            let run = if wrapped { s.rfs(cmd) } else { s.bare(cmd) };
            let run = run.expect_code(0);
            if wrapped && n == 1 {
                let _hit = run.expect_hit();
            }
            let of = |name: &str| {
                let meta = s.path(name).symlink_metadata().unwrap();
                (meta.mtime(), meta.mtime_nsec())
            };
            // At first `dir/f` is not there, and made last.
            let younger = of("dir") > of("other");
            assert_eq!(younger, n == 0 || wrapped, "wrapped {wrapped}, run {n}");
        }
    }
}
