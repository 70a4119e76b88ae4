//! What a name leads to is an input: absence, links, lists, modes, sizes, order of time stamps.

use super::tests;
use crate::probe::{AtMost, Hit, Probe, Ran};
use crate::run::Cmd;
use crate::space::TestSpace;

tests! {
    list_of_a_directory glob find python_listdir absent_then_there header_in_an_earlier_directory
    header_beside_the_source path_gains_an_earlier_program executable_bit link_is_retargeted
    text_of_a_link dangling_link link_to_a_directory newer_than size_of_a_file
    file_becomes_a_directory directory_is_renamed_over proc_self permission_denied
    library_in_an_earlier_directory long_chain_of_links dot_dot_behind_a_link
    program_in_the_path_loses_its_bit
}

fn three_files(s: &TestSpace) {
    for name in ["b", "a", "c"] {
        s.write(format!("src/{name}.txt"), format!("{name}\n"));
    }
}

/// `ls` has a use for the time stamp of the directory, which is another one after the removal.
pub fn list_of_a_directory() -> Probe {
    Probe::script("ls src > out\n", three_files)
        .first(2)
        .again(Hit)
        .without("out", Hit)
        .with("src/d.txt", "d\n", Ran(2))
        .without("src/d.txt", AtMost(2))
        .with("src/a.txt", "A\n", Hit)
        .without("src/a.txt", Ran(2))
        .after("renamed", |s| s.rename("src/b.txt", "src/a.txt"), Ran(2))
}

pub fn glob() -> Probe {
    Probe::script("cat src/*.txt > out\n", three_files)
        .first(2)
        .again(Hit)
        .without("out", Hit)
        .with("src/d.txt", "d\n", Ran(2))
        .without("src/d.txt", Hit)
        .with("src/d.c", "d\n", AtMost(2))
        .with("src/a.txt", "A\n", Ran(2))
}

pub fn find() -> Probe {
    Probe::script("find src -name '*.txt' | sort > out\n", |s| {
        three_files(s);
        s.write("src/deep/er/d.txt", "d\n");
    })
    .first(3)
    .again(Hit)
    .without("out", Hit)
    .with("src/deep/er/e.txt", "e\n", Ran(3))
    .again(Hit)
    .without("src/deep/er/e.txt", AtMost(3))
    .without("src/deep", Ran(3))
}

pub fn python_listdir() -> Probe {
    let source = "import os\nopen('out', 'w').write(' '.join(sorted(os.listdir('src'))))\n";
    Probe::new(
        move |s| {
            three_files(s);
            s.write("list.py", source);
        },
        "/usr/bin/python3 -S -E list.py",
    )
    .first(1)
    .again(Hit)
    .without("out", Hit)
    .with("src/d.txt", "d\n", Ran(1))
    .without("src/d.txt", Hit)
}

pub fn absent_then_there() -> Probe {
    let script = "if [ -f config.h ]; then echo configured; else echo plain; fi > out\n";
    Probe::script(script, |_| {})
        .first(1)
        .again(Hit)
        .without("out", Hit)
        .with("config.h", "", Ran(1))
        .again(Hit)
        .without("config.h", Hit)
        .after("a directory", |s| s.mkdir("config.h"), Ran(1))
}

fn header(s: &TestSpace, path: &str, n: u8) {
    s.write(path, format!("#define N {n}\n"));
}

/// One `gcc -c` is a driver, a compiler and an assembler; the assembler looks whether its output is
/// there, so the second run is not the first.
pub fn header_in_an_earlier_directory() -> Probe {
    Probe::new(
        |s| {
            s.write("main.c", "#include <n.h>\nint n = N;\n");
            s.mkdir("a");
            header(s, "b/n.h", 1);
        },
        "gcc -c main.c -Ia -Ib",
    )
    .first(3)
    .again(AtMost(3))
    .again(Hit)
    .without("main.o", Hit)
    .after("shadowed", |s| header(s, "a/n.h", 2), Ran(3))
    .after("as before", |s| s.remove("a/n.h"), AtMost(3))
    .after("directory gone", |s| s.remove("a"), AtMost(3))
}

pub fn header_beside_the_source() -> Probe {
    Probe::new(
        |s| {
            s.write("src/main.c", "#include \"n.h\"\nint n = N;\n");
            header(s, "include/n.h", 1);
        },
        "gcc -E src/main.c -Iinclude",
    )
    .first(2)
    .again(Hit)
    .after("shadowed", |s| header(s, "src/n.h", 2), Ran(2))
    .again(Hit)
    .after("as before", |s| s.remove("src/n.h"), Hit)
}

pub fn library_in_an_earlier_directory() -> Probe {
    let library = |s: &TestSpace, dir: &str, n: u8| {
        s.write("say.c", format!("int say(void) {{ return {n}; }}\n"));
        s.must("gcc -c -o say.o say.c");
        s.must(format!("ar crD {dir}/libsay.a say.o").as_str());
    };
    Probe::new(
        move |s| {
            s.mkdir("l1");
            s.mkdir("l2");
            library(s, "l2", 2);
            s.write(
                "main.c",
                "int say(void);\nint main(void) { return say(); }\n",
            );
            s.must("gcc -c main.c");
        },
        Cmd::sh("gcc -o main main.o -Ll1 -Ll2 -lsay; ./main; echo $?"),
    )
    .first(6)
    .again(AtMost(6))
    .again(Hit)
    .after("shadowed", move |s| library(s, "l1", 1), Ran(6))
    .again(Hit)
}

fn tools(s: &TestSpace) {
    s.mkdir("bin1");
    s.mkdir("bin2");
    s.script("bin2/tool", "#!/bin/sh\necho second\n");
    s.write("build.sh", "PATH=$PWD/bin1:$PWD/bin2:$PATH\ntool > out\n");
}

pub fn path_gains_an_earlier_program() -> Probe {
    Probe::new(tools, "sh build.sh")
        .first(2)
        .again(Hit)
        .without("out", Hit)
        .after(
            "gained",
            |s| s.script("bin1/tool", "#!/bin/sh\necho first\n"),
            Ran(2),
        )
        .again(Hit)
        .without("bin1/tool", Hit)
}

pub fn program_in_the_path_loses_its_bit() -> Probe {
    Probe::new(
        |s| {
            tools(s);
            s.script("bin1/tool", "#!/bin/sh\necho first\n");
        },
        "sh build.sh",
    )
    .first(2)
    .again(Hit)
    .after("not executable", |s| s.chmod("bin1/tool", 0o644), Ran(2))
    .after("executable", |s| s.chmod("bin1/tool", 0o755), Hit)
}

pub fn executable_bit() -> Probe {
    let script = "if [ -x in ]; then echo runs; else echo rests; fi > out\n";
    Probe::script(script, |s| s.write("in", ""))
        .first(1)
        .again(Hit)
        .without("out", Hit)
        .after("chmod +x", |s| s.chmod("in", 0o755), Ran(1))
        .again(Hit)
        .after("chmod -x", |s| s.chmod("in", 0o644), Hit)
}

pub fn link_is_retargeted() -> Probe {
    Probe::script("cat in > out\n", |s| {
        s.write("one", "one\n");
        s.write("two", "two\n");
        s.symlink("one", "in");
    })
    .first(2)
    .again(Hit)
    .without("out", Hit)
    .after("retargeted", |s| s.symlink("two", "in"), Ran(2))
    .after("retargeted back", |s| s.symlink("one", "in"), Hit)
    .with("one", "uno\n", Ran(2))
}

/// The file behind the link has the same content: only the text differs.
pub fn text_of_a_link() -> Probe {
    Probe::script("readlink in > out\n", |s| {
        s.write("one", "same\n");
        s.write("two", "same\n");
        s.symlink("one", "in");
    })
    .first(2)
    .again(Hit)
    .after("retargeted", |s| s.symlink("two", "in"), Ran(2))
    .after("retargeted back", |s| s.symlink("one", "in"), Hit)
    .with("one", "not read\n", Hit)
}

pub fn dangling_link() -> Probe {
    Probe::script("cat in 2>/dev/null > out || echo none > out\n", |s| {
        s.symlink("one", "in");
    })
    .first(2)
    .again(Hit)
    .with("one", "one\n", Ran(2))
    .without("one", Hit)
}

pub fn link_to_a_directory() -> Probe {
    Probe::script(
        "cat current/in > out; pwd -P >> out; (cd current; pwd -P) >> out\n",
        |s| {
            s.write("v1/in", "one\n");
            s.write("v2/in", "two\n");
            s.symlink("v1", "current");
        },
    )
    .first(2)
    .again(Hit)
    .after("retargeted", |s| s.symlink("v2", "current"), Ran(2))
    .after("retargeted back", |s| s.symlink("v1", "current"), Hit)
}

pub fn long_chain_of_links() -> Probe {
    Probe::script("cat l0 > out\n", |s| {
        (0..10).for_each(|n| s.symlink(format!("d/../l{}", n + 1), format!("l{n}")));
        s.mkdir("d");
        s.write("l10", "one\n");
        s.write("other", "two\n");
    })
    .first(2)
    .again(Hit)
    .after("in the midst", |s| s.symlink("other", "l5"), Ran(2))
    .after("back", |s| s.symlink("d/../l6", "l5"), Hit)
}

/// `link/..` is the parent of what the link leads to.
pub fn dot_dot_behind_a_link() -> Probe {
    Probe::script("cat link/../in > out\n", |s| {
        s.write("in", "top\n");
        s.write("deep/in", "deep\n");
        s.mkdir("deep/dir");
        s.symlink("deep/dir", "link");
    })
    .first(2)
    .again(Hit)
    .with("in", "not read\n", Hit)
    .with("deep/in", "read\n", Ran(2))
}

/// Only the order of the time stamps is looked at.
pub fn newer_than() -> Probe {
    let times = |s: &TestSpace, a: i64, b: i64| {
        s.set_mtime("a", 1_600_000_000 + a);
        s.set_mtime("b", 1_600_000_000 + b);
    };
    let script = "if [ a -nt b ]; then echo newer; else echo older; fi > out\n";
    Probe::script(script, move |s| {
        s.write("a", "");
        s.write("b", "");
        times(s, 1, 2);
    })
    .first(1)
    .again(Hit)
    .after("a is newer", move |s| times(s, 3, 2), Ran(1))
    .again(Hit)
    .after(
        "both are older, in the same order",
        move |s| times(s, 2, 1),
        AtMost(1),
    )
    .after("b is newer", move |s| times(s, 1, 2), AtMost(1))
}

pub fn size_of_a_file() -> Probe {
    Probe::script("stat -c %s in > out\n", |s| s.write("in", "one\n"))
        .first(2)
        .again(Hit)
        .without("out", Hit)
        .with("in", "longer\n", Ran(2))
        .with("in", "two\n", AtMost(2))
}

pub fn file_becomes_a_directory() -> Probe {
    let setup = |s: &TestSpace| {
        s.remove("x");
        s.write("x", "a file\n");
    };
    Probe::script("cat x/y 2>/dev/null > out || echo none > out\n", setup)
        .first(2)
        .again(Hit)
        .after(
            "a directory",
            |s| {
                s.remove("x");
                s.write("x/y", "there\n");
            },
            Ran(2),
        )
        .after("a file", setup, Hit)
}

/// Every name in it is the same, every file another.
pub fn directory_is_renamed_over() -> Probe {
    let swap = |s: &TestSpace| {
        s.rename("d", "old");
        s.rename("new", "d");
        s.rename("old", "new");
    };
    Probe::script("cat d/e/in > out\n", |s| {
        s.write("d/e/in", "one\n");
        s.write("new/e/in", "two\n");
    })
    .first(2)
    .again(Hit)
    .after("renamed over", swap, Ran(2))
    .again(Hit)
    .after("renamed back", swap, Hit)
}

/// The step sees itself, neither rfs nor the mount.
pub fn proc_self() -> Probe {
    let script = "readlink /proc/self/exe /proc/self/cwd > out\ncat /proc/self/comm >> out\n";
    Probe::script(script, |_| {})
        .first(3)
        .again(Hit)
        .without("out", Hit)
}

pub fn permission_denied() -> Probe {
    Probe::script("cat in > out 2> err; echo $? >> out\n", |s| {
        s.write("in", "secret\n");
        s.chmod("in", 0o000);
    })
    .first(2)
    .again(Hit)
    .after("readable", |s| s.chmod("in", 0o644), AtMost(2))
}
