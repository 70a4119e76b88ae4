//! What a step can learn from the calls that it makes, beyond what the names of the calls say: a change
//! that hides a look, a call that fails because of something nobody looked at, another process between.

use crate::probe::{AtMost, Hit, Probe, Ran};
use crate::run::Cmd;
use crate::space::{Setting, TestSpace};

const NOBODY: Setting = Setting {
    nobody: true,
    tracer: None,
};

fn told(probe: Probe) {
    probe.run(Setting::default());
}

fn one(s: &TestSpace) {
    s.write("in", "one\n");
}

/// New permissions or time stamps leave the content an input.
#[test]
fn content_read_after_its_attributes_were_set() {
    let script = "chmod 644 in\ncat in > out\ntouch in2\ncat in2 >> out\n";
    told(
        Probe::script(script, |s| {
            one(s);
            s.write("in2", "uno\n");
        })
        .first(5)
        .with("in", "two\n", Ran(5))
        .with("in2", "due\n", Ran(5))
        .with("in", "one\n", Ran(5))
        .with("in2", "uno\n", Hit),
    );
}

#[test]
fn tool_made_executable_then_run() {
    let probe = Probe::new(
        |s| {
            s.write("tool", "#!/bin/sh\necho one\n");
            s.write("build.sh", "chmod 755 tool\n./tool > out\n");
        },
        "sh build.sh",
    );
    told(
        probe
            .first(3)
            .with("tool", "#!/bin/sh\necho two\n", Ran(3))
            .with("tool", "#!/bin/sh\necho one\n", AtMost(3)),
    );
}

/// A new name shows the content of the old one.
#[test]
fn content_read_through_a_new_name() {
    let script = "ln in other\ncat other > out\nrm other\n";
    let put = |text: &'static str| {
        move |s: &TestSpace| {
            s.write("in", text);
            s.set_mtime("in", 1_000_000_000);
        }
    };
    told(
        Probe::script(script, put("one\n"))
            .first(4)
            .after("another content", put("two\n"), Ran(4))
            .after("as at first", put("one\n"), AtMost(4)),
    );
}

/// What fails because the name is taken changes nothing, and what is there is read.
#[test]
fn content_read_after_a_name_was_taken() {
    let script = "ln in taken 2>/dev/null || cat taken > out\n\
                  ln -s in taken2 2>/dev/null || cat taken2 >> out\n\
                  mkdir d 2>/dev/null || stat -c %a d >> out\n";
    told(
        Probe::script(script, |s| {
            one(s);
            s.write("taken", "a\n");
            s.write("taken2", "b\n");
            s.mkdir("d");
        })
        .first(7)
        .with("taken", "A\n", Ran(7))
        .with("taken2", "B\n", Ran(7))
        .after("mode of d", |s| s.chmod("d", 0o700), Ran(7))
        .again(AtMost(7)),
    );
}

/// Only an empty directory can be removed or renamed over.
#[test]
fn directory_in_use() {
    let script = "rmdir d 2>/dev/null || echo in use > out\n\
                  mkdir n\nmv -T n e 2>/dev/null || { rmdir n; echo in use >> out; }\n";
    told(
        Probe::script(script, |s| {
            s.remove("d");
            s.remove("e");
            s.write("d/file", "");
            s.write("e/file", "");
        })
        .first(5)
        .after("d empty", |s| s.remove("d/file"), Ran(5))
        .after(
            "e empty",
            |s| {
                s.remove("e/file");
                s.write("d/file", "");
            },
            Ran(5),
        )
        .after("both in use", |s| s.write("e/file", ""), AtMost(5)),
    );
}

/// A time stamp is set: the permissions are left as they are.
#[test]
fn permissions_of_a_touched_file() {
    told(
        Probe::script("touch in\n", |s| {
            one(s);
            s.chmod("in", 0o644);
        })
        .first(2)
        .after("executable", |s| s.chmod("in", 0o755), AtMost(2))
        .after("read only", |s| s.chmod("in", 0o444), AtMost(2)),
    );
}

/// Children that run at the same time append to one file: none has done what all did.
#[test]
fn appended_by_parallel_children() {
    let script = "for i in 1 2 3 4; do sh -c \"cat in$i >> log; cat in$i > out$i\" & done; wait\n\
                  sort log > sorted; rm log\n";
    told(
        Probe::script(script, |s| {
            for i in 1..5 {
                s.write(format!("in{i}"), format!("{i}\n"));
            }
        })
        .first(12)
        .again(Hit)
        .with("in1", "one\n", Ran(12))
        .with("in3", "three\n", Ran(12))
        .with("in1", "1\n", Ran(12))
        .without("sorted", AtMost(12)),
    );
}

/// A waits for B, which rewrites what A has open: A's output is not that of its input.
#[test]
fn rewritten_by_another_step_while_open() {
    let a = "exec 5< in\n: > ready\nflock lock true\ncat <&5 > out\n";
    let script = "exec 9> lock; flock 9; rm -f ready\n\
                  sh a.sh 9>&- < /dev/null &\nwhile [ ! -e ready ]; do :; done\n\
                  echo rewritten > in; exec 9>&-; wait; rm ready lock\n";
    told(
        Probe::new(
            move |s| {
                one(s);
                s.write("a.sh", a);
                s.write("b.sh", script);
                s.write("alone.sh", "sh a.sh < /dev/null\n");
            },
            "sh b.sh",
        )
        .first(9)
        .command(
            "alone",
            |s| {
                s.remove("out");
                one(s);
            },
            "sh alone.sh",
            AtMost(9),
        ),
    );
}

/// As an ordinary user: what a directory allows decides.
#[test]
fn directory_that_may_not_be_written() {
    let script = "(: > d/new) 2>/dev/null || echo cannot make\n\
                  rm -f d/old 2>/dev/null || echo cannot remove\n\
                  mkdir d/dir 2>/dev/null || echo cannot mkdir\n";
    let probe = Probe::script(script, |s| {
        if s.exists("d") {
            s.chmod("d", 0o755);
            s.remove("d");
        }
        s.write("d/old", "");
        s.chmod("d", 0o555);
    });
    probe
        .first(4)
        .again(AtMost(4))
        .after("allowed", |s| s.chmod("d", 0o755), Ran(4))
        .run(NOBODY);
}

/// As an ordinary user: a file that may not be written is read instead.
#[test]
fn file_that_may_not_be_written() {
    let put = |text: &'static str| {
        move |s: &TestSpace| {
            s.remove("shut");
            s.write("shut", text);
            s.chmod("shut", 0o444);
        }
    };
    Probe::script(
        "(echo x > shut) 2>/dev/null || cat shut > out\n",
        put("a\n"),
    )
    .first(2)
    .after("another content", put("b\n"), Ran(2))
    .after("as at first", put("a\n"), AtMost(2))
    .after("writable", |s| s.chmod("shut", 0o644), Ran(2))
    .run(NOBODY);
}

/// A child that is served must leave an inherited offset where it would have left it.
#[test]
fn offset_of_an_inherited_descriptor() {
    let child = "import os\nprint(os.read(5, 4).decode(), end='')\n";
    told(
        Probe::new(
            move |s| {
                s.write("in", "one\ntwo\nsix\n");
                s.write("child.py", child);
                s.write("other", "a\n");
                s.write(
                    "build.sh",
                    "exec 5< in\ncat other\n/usr/bin/python3 -S -E child.py\ncat <&5\n",
                );
            },
            "sh build.sh",
        )
        .first(4)
        .with("other", "b\n", Ran(4))
        .with("other", "a\n", Hit),
    );
}

/// Whether standard input is a pipe can be seen without reading it.
#[test]
fn kind_of_standard_input() {
    let text = "[ -p /dev/stdin ] && echo pipe > out || echo other > out";
    told(
        Probe::new(|_| {}, Cmd::sh(text))
            .first(1)
            .command("a pipe", |_| {}, Cmd::sh(text).stdin(b""), Ran(1))
            .again(AtMost(1)),
    );
}

/// A writer to a pipe that nobody reads any more dies, or is told.
#[test]
fn ignored_signals() {
    let text = "grep SigIgn /proc/self/status > out";
    told(
        Probe::new(|_| {}, Cmd::sh(text))
            .first(2)
            .command(
                "ignored",
                |_| {},
                Cmd::sh(text).after("trap '' PIPE XFSZ"),
                Ran(2),
            )
            .again(AtMost(2)),
    );
}

#[test]
fn resource_limits() {
    told(
        Probe::new(|_| {}, Cmd::sh("ulimit -n > out; ulimit -c >> out"))
            .first(1)
            .command(
                "fewer files",
                |_| {},
                Cmd::sh("ulimit -n > out; ulimit -c >> out").after("ulimit -n 200; ulimit -c 1"),
                Ran(1),
            ),
    );
}

/// How many names a file has, and which are the same, is kept by an archiver.
#[test]
fn number_of_names() {
    let probe = Probe::script("stat -c %h d/a > out\nrm -rf e\ncp -a d e\n", |s| {
        s.write("d/a", "one\n");
        s.write("d/b", "one\n");
        s.set_mtime("d/a", 1_000_000_000);
        s.set_mtime("d/b", 1_000_000_000);
        s.set_mtime("d", 1_000_000_000);
    });
    let link = |s: &TestSpace| {
        s.must("ln -f d/a d/b");
        s.set_mtime("d", 1_000_000_000);
    };
    told(
        probe
            .first(4)
            .again(AtMost(4))
            .after("linked", link, Ran(4)),
    );
}

/// The time stamp of a link, and one in the future.
#[test]
fn time_stamps_that_are_set() {
    let script = "touch -h -d @1000000000 link\ncat in > out\ntouch -d @1900000000 out\n\
                  [ out -nt in ] && stat -c %Y out\n";
    told(
        Probe::script(script, |s| {
            one(s);
            s.symlink("in", "link");
        })
        .first(5)
        .after(
            "as at first",
            |s| {
                s.remove("out");
                s.symlink("in", "link");
            },
            AtMost(5),
        )
        .command("look", |_| {}, "stat -c %Y out link", AtMost(1)),
    );
}

/// Writes to a descriptor with a large number.
#[test]
fn output_to_a_large_descriptor() {
    let text = "exec 25> log; cat other; /usr/bin/python3 -S -E child.py; exec 25>&-; cat log";
    told(
        Probe::new(
            |s| {
                s.write("other", "a\n");
                s.write("child.py", "import os\nos.write(25, b'said\\n')\n");
            },
            Cmd::new(["bash", "-c", text]),
        )
        .first(3)
        .with("other", "b\n", Ran(3)),
    );
}

/// A program found by trying each directory.
#[test]
fn program_found_by_trying() {
    let cmd = || Cmd::sh("env tool > out").env("PATH", "a:b:/usr/bin:/bin");
    told(
        Probe::new(|s| s.script("b/tool", "#!/bin/sh\necho b\n"), cmd())
            .first(3)
            .again(Hit)
            .after(
                "an earlier one",
                |s| s.script("a/tool", "#!/bin/sh\necho a\n"),
                Ran(3),
            ),
    );
}

/// Root gives its rights away: then permissions decide.
#[test]
fn rights_given_away() {
    let script = "setpriv --reuid 65534 --regid 65534 --clear-groups cat in > out 2>/dev/null || echo no > out\n\
                  /usr/bin/python3 -S -E drop.py >> out\n";
    let drop = "import os\nos.setuid(65534)\ntry: print(open('in2').read())\nexcept OSError: print('no')\n";
    told(
        Probe::script(script, move |s| {
            one(s);
            s.write("in2", "two\n");
            s.write("drop.py", drop);
            s.chmod("in", 0o644);
            s.chmod("in2", 0o644);
        })
        .first(4)
        .after("first shut", |s| s.chmod("in", 0o600), Ran(4))
        .after("both shut", |s| s.chmod("in2", 0o600), Ran(4))
        .after(
            "both open",
            |s| {
                s.chmod("in", 0o644);
                s.chmod("in2", 0o644);
            },
            AtMost(4),
        ),
    );
}

/// Two files change places; then a name and a directory.
#[test]
fn names_exchanged() {
    let source = "import ctypes, os\nlibc = ctypes.CDLL(None)\n\
                  def swap(a, b): assert libc.renameat2(-100, a, -100, b, 2) == 0\n\
                  swap(b'a', b'b'); swap(b'a', b'd')\nopen('out', 'w').write(open('d').read())\n";
    let put = |a: &'static str| {
        move |s: &TestSpace| {
            ["a", "b", "d", "out"]
                .iter()
                .for_each(|name| s.remove(name));
            s.write("a", a);
            s.write("b", "b\n");
            s.write("d/file", "in d\n");
        }
    };
    told(
        Probe::new(
            move |s| {
                s.write("swap.py", source);
                put("a\n")(s);
            },
            "/usr/bin/python3 -E swap.py",
        )
        .first(1)
        .after("as at first", put("a\n"), AtMost(1))
        .after("another", put("A\n"), Ran(1)),
    );
}

/// An archive is made and unpacked; links, modes and time stamps come back.
#[test]
fn archive_and_back() {
    let script = "tar cf a.tar d\nrm -rf e\nmkdir e\ntar xf a.tar -C e\n";
    told(
        Probe::script(script, |s| {
            s.write("d/f", "one\n");
            s.write("d/g", "two\n");
            s.symlink("f", "d/l");
            s.chmod("d/g", 0o751);
            for name in ["d/f", "d/g", "d/l", "d"] {
                s.set_mtime(name, 1_000_000_000);
            }
        })
        .first(6)
        .again(AtMost(6))
        .again(Hit)
        .without("e", AtMost(6))
        .after("other time", |s| s.set_mtime("d/f", 1_000_000_001), Ran(6))
        .after("other mode", |s| s.chmod("d/g", 0o700), Ran(6)),
    );
}

/// `..` through a link goes where the link leads.
#[test]
fn upwards_through_a_link() {
    told(
        Probe::script(
            "cat link/../in > out\ncd link\ncat ../in >> ../out2\n",
            |s| {
                s.write("in", "top\n");
                s.write("x/in", "x\n");
                s.write("y/in", "y\n");
                s.mkdir("x/sub");
                s.mkdir("y/sub");
                s.symlink("x/sub", "link");
            },
        )
        .first(4)
        .after("elsewhere", |s| s.symlink("y/sub", "link"), Ran(4))
        .with("y/in", "Y\n", Ran(4))
        .after("back", |s| s.symlink("x/sub", "link"), AtMost(4)),
    );
}

/// A writer whose reader has gone.
#[test]
fn broken_pipe_inside() {
    told(
        Probe::script("yes | head -n 2 > out\n", |_| {})
            .first(3)
            .again(AtMost(3)),
    );
}

/// The same file by two names; one of them is edited in place.
#[test]
fn edited_through_another_name() {
    told(
        Probe::script(
            "cat a > out\necho x >> b\ncat a >> out\nsh -c 'cat a' >> out\n",
            |s| {
                s.remove("b");
                s.write("a", "one\n");
                s.must("ln a b");
            },
        )
        .first(5)
        .after(
            "as at first",
            |s| {
                s.remove("b");
                s.remove("a");
                s.write("a", "one\n");
                s.must("ln a b");
            },
            AtMost(5),
        )
        .after(
            "not linked",
            |s| {
                s.remove("b");
                s.remove("a");
                s.write("a", "one\n");
                s.write("b", "one\n");
            },
            Ran(5),
        ),
    );
}

/// A repository is made in the build, and asked.
#[test]
fn repository() {
    let script = "git init -q .\ngit add in\n\
                  git -c user.name=a -c user.email=b commit -qm one --date=@1000000000\ngit status --short > st\n\
                  git ls-files -s > out\nrm -rf .git st\n";
    let cmd = || Cmd::new(["sh", "build.sh"]).env("GIT_COMMITTER_DATE", "@1000000000 +0000");
    told(
        Probe::new(
            move |s| {
                one(s);
                s.write("build.sh", script);
            },
            cmd(),
        )
        .first(20)
        .again(AtMost(20))
        .with("in", "two\n", Ran(20)),
    );
}

/// A symbolic link keeps its own time stamp when it is moved.
#[test]
fn link_moved_with_its_time_stamp() {
    let put = |s: &TestSpace| {
        s.remove("new");
        s.remove("old");
        s.symlink("in", "old");
    };
    let probe = Probe::new(put, "mv old new");
    told(probe.first(1).after("a new link", put, Ran(1)));
}

/// The compiler writes assembler text into the file that is there, the assembler makes its object file anew:
/// seen in the time stamp of the directory and in the permissions.
#[test]
fn written_over_or_made_anew() {
    let source = |n: u8| {
        move |s: &TestSpace| {
            s.write("x.c", format!("int f(void) {{ return {n}; }}\n"));
            for dir in ["text", "object"] {
                s.set_mtime(dir, 1_600_000_000);
            }
        }
    };
    let lay = |s: &TestSpace| {
        for dir in ["text", "object"] {
            s.mkdir(dir);
        }
    };
    for (cmd, output, second) in [
        ("cc -S -o text/x.s x.c", "text/x.s", Ran(3)),
        ("cc -c -o object/x.o x.c", "object/x.o", Hit),
    ] {
        let private = move |s: &TestSpace| {
            source(2)(s);
            s.chmod(output, 0o600);
        };
        told(
            Probe::new(lay, cmd)
                .after("first", source(1), Ran(3))
                .after("edited", source(2), Ran(3))
                .after("as before", source(1), Hit)
                .after("into a private file", private, second),
        );
    }
}

/// The assembler writes through a link that leads to nothing, and makes a file in the place of one that does not.
#[test]
fn object_file_in_the_place_of_a_link() {
    let lay = |s: &TestSpace| {
        s.mkdir("o");
        s.write("x.c", "int f(void) { return 1; }\n");
    };
    let link = |s: &TestSpace| s.must(Cmd::sh("rm -f o/*; ln -s d o/x.o"));
    let full = |s: &TestSpace| s.must(Cmd::sh("rm -f o/*; ln -s d o/x.o; echo old > o/d"));
    told(
        Probe::new(lay, "cc -c -o o/x.o x.c")
            .after("to nothing", link, Ran(3))
            .after("to nothing again", link, Hit)
            .after("to a file", full, Ran(3))
            .after("to a file again", full, Hit)
            .after("to nothing once more", link, Hit),
    );
}
