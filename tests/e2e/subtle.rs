//! Ways of looking and writing that few programs use: extended attributes, descriptors with high numbers,
//! another user's rights for a moment, sticky directories.

use std::os::unix::fs::lchown;

use crate::probe::{AtMost, Hit, Probe, Ran, Refused};
use crate::run::Cmd;
use crate::space::{Setting, TestSpace};

fn told(probe: Probe) {
    probe.run(Setting::default());
}

fn one(s: &TestSpace) {
    s.write("in", "one\n");
}

fn python(text: &str) -> Cmd {
    Cmd::new(["/usr/bin/python3", "-S", "-E", "-c", text])
}

fn mark(s: &TestSpace) {
    s.must(python("import os; os.setxattr('in', 'user.mark', b'1')"));
}

/// That there are none is an input like any other; values cannot be recorded.
#[test]
fn extended_attributes_that_are_read() {
    for how in ["os.listxattr('in')", "os.listxattr(os.open('in', 0))"] {
        let text = format!("import os; open('out', 'w').write(str({how}))");
        told(
            Probe::new(one, python(&text))
                .first(1)
                .again(AtMost(1))
                .again(Hit)
                .after("marked", mark, Refused)
                .after(
                    "as before",
                    |s| {
                        s.remove("in");
                        one(s);
                    },
                    AtMost(1),
                ),
        );
    }
    let value = "import os\ntry: text = os.getxattr('in', 'user.mark').decode()\n\
                 except OSError as e: text = str(e)\nopen('out', 'w').write(text)";
    told(
        Probe::new(one, python(value))
            .first(1)
            .again(AtMost(1))
            .again(Hit)
            .after("marked", mark, Refused),
    );
}

/// A look at the attributes does not keep anything from being served.
#[test]
fn tools_that_ask_for_attributes() {
    let script = "cp -a in copy\nls -l copy | cut -c 1-10 > out\ntar -cf - copy | wc -c > size\n";
    told(
        Probe::script(script, |s| {
            one(s);
            s.set_mtime("in", 1_000_000_000);
        })
        .first(6)
        .again(AtMost(6))
        .again(Hit),
    );
}

fn attributes(s: &TestSpace, path: &str) -> String {
    let text = format!("import os; print(os.listxattr('{path}'))");
    s.bare(python(&text)).expect_code(0).out()
}

/// A file with attributes that moves, and attributes that are taken away.
#[test]
fn attributes_of_outputs() {
    let s = TestSpace::new();
    for _ in 0..3 {
        one(&s);
        mark(&s);
        let _ran = s.rfs(Cmd::sh("mv in out")).expect_ran();
        assert_eq!(attributes(&s, "out"), "['user.mark']\n");
        s.remove("out");
    }
    let take = "import os; os.removexattr('in', 'user.mark')";
    for _ in 0..3 {
        one(&s);
        mark(&s);
        let _ran = s.rfs(python(take)).expect_ran();
        assert_eq!(attributes(&s, "in"), "[]\n");
    }
}

fn saying(script: &'static str) -> Probe {
    let setup = move |s: &TestSpace| {
        s.write(
            "say.py",
            "import os, sys; os.write(int(sys.argv[1]), b'said\\n')\n",
        );
        s.write("build.sh", script);
    };
    Probe::new(setup, "bash build.sh")
}

/// Output does not need a low number.
#[test]
fn output_under_another_number() {
    let script = "exec 112>&1\npython3 -S -E say.py 112\necho over > out\n";
    told(saying(script).first(2).again(AtMost(2)).again(Hit));
    // The highest are not watched.
    let script = "exec 412>&1\npython3 -S -E say.py 412\necho over > out\n";
    told(saying(script).first(2).again(Refused).again(Refused));
    // A pipe of the script's own may have any number.
    let script = "python3 -S -E say.py 412 412>&1 > /dev/null | cat > out\n";
    told(saying(script).first(3).again(AtMost(3)).again(AtMost(3)));
}

/// Root looks at a file with the rights of somebody else, and is root again.
#[test]
fn rights_given_away_for_a_moment() {
    let text = "import os\nos.seteuid(65534)\ntry: text = open('in').read()\n\
                except OSError: text = 'no'\nos.seteuid(0)\nopen('out', 'w').write(text)";
    let probe = Probe::new(
        |s| {
            one(s);
            s.chmod("in", 0o600);
            s.chmod(".", 0o755);
        },
        python(text),
    );
    told(
        probe
            .first(1)
            .after("readable", |s| s.chmod("in", 0o644), Ran(1))
            .after("not", |s| s.chmod("in", 0o600), Ran(1)),
    );
}

/// In `/tmp` only the owner removes a file.
#[test]
fn sticky_directory() {
    let give = |s: &TestSpace, to: u32| {
        s.remove("d");
        s.mkdir("d");
        s.write("d/old", "");
        s.write("new", "");
        for path in ["d", "d/old"] {
            lchown(s.path(path), Some(0), Some(0)).unwrap();
        }
        s.chmod("d", 0o1777);
        lchown(s.path("d/old"), Some(to), Some(to)).unwrap();
    };
    let script = "rm -f d/old 2> /dev/null || echo cannot remove\n\
                  mv new d/old 2> /dev/null || echo cannot replace\n";
    Probe::script(script, move |s| give(s, 0))
        .first(3)
        .after("again", move |s| give(s, 0), AtMost(3))
        .after("own", move |s| give(s, 65534), Ran(3))
        .after("another's", move |s| give(s, 0), AtMost(3))
        .run(Setting {
            nobody: true,
            ..Setting::default()
        });
}

/// What is read from a file that has lost its name cannot be told by its name.
#[test]
fn removed_file_that_is_read() {
    let script = "cp in f\nexec 3< f\nrm f\nsh inner.sh <&3\n";
    told(
        Probe::script(script, |s| {
            one(s);
            s.write("inner.sh", "cat > out\n");
        })
        .first(5)
        .with("in", "two\n", Ran(5))
        .with("in", "one\n", AtMost(5)),
    );
}

/// The kernel marks the names of removed files so; some file may be called that.
#[test]
fn file_called_deleted() {
    let tool = "#!/bin/sh\ncat 'in (deleted)' > out\ncd 'd (deleted)'\ncat in >> ../out\n";
    told(
        Probe::new(
            move |s| {
                s.write("in (deleted)", "one\n");
                s.write("d (deleted)/in", "uno\n");
                s.script("tool (deleted)", tool);
            },
            Cmd::new(["./tool (deleted)"]),
        )
        .first(3)
        .again(Hit)
        .with("in (deleted)", "two\n", Ran(3))
        .with("d (deleted)/in", "due\n", Ran(3))
        .again(Hit),
    );
}

/// What killed builds left behind goes with the next build, but what others are making stays.
#[test]
fn abandoned_stage_files() {
    let s = TestSpace::new();
    one(&s);
    let _ran = s.rfs(Cmd::sh("cat in > out")).expect_ran();
    for name in ["old", "young"] {
        s.write(format!(".rfs/stage/{name}"), "");
    }
    s.set_mtime(".rfs/stage/old", 1_000_000_000);
    let _served = s.rfs(Cmd::sh("cat in > out")).expect_hit();
    assert!(!s.exists(".rfs/stage/old") && s.exists(".rfs/stage/young"));
}
