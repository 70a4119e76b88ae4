//! What a step leaves behind: all of it comes back, and nothing else.

use super::{compile, tests};
use crate::probe::{AtMost, Hit, Probe, Ran};
use crate::run::Cmd;

tests! {
    shared_mapping output_by_rename temporary_directory in_place_edit source_appended
    output_edited_by_hand output_mode output_removed_later written_by_two_steps
    written_twice_from_two_programs fifo_inside socket_left unlinked_while_open
    time_stamp_set_on_purpose sparse_file copy_by_the_kernel unnamed_temporary_file
    truncated_to_nothing exclusive_creation outside_the_workspace empty_output lock_file
    extended_by_seek temporary_file_without_a_directory archive_updated_in_place
    umask_and_chmod_zero lock_that_is_there made_and_removed_directory
    object_file_by_a_link
}

pub fn shared_mapping() -> Probe {
    let source = "#include <fcntl.h>\n#include <stdio.h>\n#include <string.h>
#include <sys/mman.h>\n#include <unistd.h>
int main(void) {
    char text[100] = {0};
    FILE *in = fopen(\"in\", \"r\");
    if (!in || !fgets(text, sizeof text, in)) return 1;
    int fd = open(\"out\", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (ftruncate(fd, 10000)) return 1;
    char *map = mmap(0, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    for (int at = 0; at < 9000; at += 1000) strcpy(map + at, text);
    return 0;
}\n";
    Probe::new(
        move |s| {
            compile(s, "map", "", source);
            s.write("in", "one\n");
        },
        "./map",
    )
    .first(1)
    .again(Hit)
    .without("out", Hit)
    .with("in", "two\n", Ran(1))
    .with("in", "one\n", Hit)
}

pub fn output_by_rename() -> Probe {
    Probe::script("cat in > out.tmp\nmv out.tmp out\n", |s| {
        s.write("in", "one\n");
    })
    .first(3)
    .again(AtMost(3))
    .again(Hit)
    .without("out", Hit)
    .with("in", "two\n", Ran(3))
    .with("in", "one\n", AtMost(3))
}

/// The name is another one each time; no trace of it stays.
pub fn temporary_directory() -> Probe {
    let script = "d=$(mktemp -d)\ncat in > $d/x\nsort $d/x > out\nrm -r $d\n\
                  t=$(mktemp ./tmp.XXXXXX)\ncat in > $t\ncat $t >> out\nrm $t\n";
    Probe::script(script, |s| s.write("in", "b\na\n"))
        .first(9)
        .again(Hit)
        .without("out", Hit)
        .with("in", "d\nc\n", Ran(9))
        .with("in", "b\na\n", Hit)
}

pub fn in_place_edit() -> Probe {
    let script = "cp in out\nsed -i s/one/uno/ out\necho tail >> out\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(3)
        .again(AtMost(3))
        .again(Hit)
        .without("out", Hit)
        .with("in", "one and two\n", Ran(3))
        .with("in", "one\n", AtMost(3))
}

/// The input is another one each time, so is the output.
pub fn source_appended() -> Probe {
    Probe::script("echo x >> counter\nwc -l < counter > out\n", |s| {
        s.write("counter", "");
    })
    .first(2)
    .again(Ran(2))
    .again(Ran(2))
    .with("counter", "", Hit)
    .again(Hit)
    .again(Hit)
    .again(Ran(2))
}

pub fn output_edited_by_hand() -> Probe {
    Probe::script("cat in > out\n", |s| s.write("in", "one\n"))
        .first(2)
        .again(Hit)
        .with("out", "edited by hand\n", Hit)
        .again(Hit)
        .with("out", "", Hit)
        .after(
            "turned into a link",
            |s| {
                s.write("elsewhere", "untouched\n");
                s.symlink("elsewhere", "out");
            },
            AtMost(2),
        )
}

pub fn output_mode() -> Probe {
    let script = "cat in > run\nchmod 755 run\ncat in > shut\nchmod 400 shut\nrm -f shut2\n\
                  cat in > shut2\nchmod u=r,g=w,o=x shut2\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(8)
        .again(AtMost(8))
        .again(AtMost(8))
        .after(
            "removed",
            |s| {
                ["run", "shut", "shut2"]
                    .iter()
                    .for_each(|name| s.remove(name));
            },
            Hit,
        )
}

pub fn output_removed_later() -> Probe {
    let script = "sh -c 'cat in > middle'\nsh -c 'sort middle > out'\nsh -c 'rm middle'\n";
    Probe::script(script, |s| s.write("in", "b\na\n"))
        .first(6)
        .again(Hit)
        .without("out", Hit)
        .with("in", "d\nc\n", Ran(6))
        .with("middle", "in the way\n", AtMost(6))
        .with("in", "b\na\n", Hit)
}

pub fn written_by_two_steps() -> Probe {
    let script = "sh -c 'cat a > out'\nsh -c 'cat b >> out'\nsh -c 'cat a >> out'\n";
    Probe::script(script, |s| {
        s.write("a", "a\n");
        s.write("b", "b\n");
    })
    .first(7)
    .again(Hit)
    .without("out", Hit)
    .with("b", "B\n", Ran(7))
    .with("b", "b\n", Hit)
    .with("a", "A\n", Ran(7))
}

/// The later one wins, served or not.
pub fn written_twice_from_two_programs() -> Probe {
    let script = "sh ./first.sh\nsh ./second.sh\n";
    Probe::script(script, |s| {
        s.write("first.sh", "cat a > out\ncat a > only-first\n");
        s.write("second.sh", "cat b > out\n");
        s.write("a", "a\n");
        s.write("b", "b\n");
    })
    .first(5)
    .again(Hit)
    .with("a", "A\n", Ran(4))
    .with("b", "B\n", Ran(4))
    .with("a", "a\n", AtMost(4))
    .without("out", Hit)
}

pub fn fifo_inside() -> Probe {
    let script = "rm -f pipe\nmkfifo pipe\ncat in > pipe & cat pipe > out\nwait\nrm pipe\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(6)
        .again(AtMost(6))
        .without("out", AtMost(6))
        .with("in", "two\n", Ran(6))
}

pub fn socket_left() -> Probe {
    let source = "import os, socket, threading\n\
                  s = socket.socket(socket.AF_UNIX)\n\
                  s.bind('sock')\ns.listen()\n\
                  c = socket.socket(socket.AF_UNIX)\nc.connect('sock')\n\
                  a, _ = s.accept()\nc.sendall(open('in', 'rb').read())\nc.close()\n\
                  open('out', 'wb').write(a.recv(100))\nos.unlink('sock')\n";
    Probe::new(
        move |s| {
            s.write("sock.py", source);
            s.write("in", "one\n");
        },
        "/usr/bin/python3 -S -E sock.py",
    )
    .first(1)
    .again(AtMost(1))
    .without("out", AtMost(1))
    .with("in", "two\n", Ran(1))
}

pub fn unlinked_while_open() -> Probe {
    let script = "exec 5> work 6< work\nrm work\ncat in >&5\nsort <&6 > out\n";
    Probe::script(script, |s| s.write("in", "b\na\n"))
        .first(4)
        .again(Hit)
        .without("out", Hit)
        .with("in", "d\nc\n", Ran(4))
}

/// `touch -d` and `cp -p` say which time a file has.
pub fn time_stamp_set_on_purpose() -> Probe {
    let script = "cat in > out\ntouch -d '2001-02-03 04:05:06.789 UTC' out\ncp -p old kept\n";
    Probe::script(script, |s| {
        s.write("in", "one\n");
        s.write("old", "old\n");
        s.set_mtime("old", 1_000_000_000);
    })
    .first(4)
    .again(AtMost(4))
    .again(Hit)
    .after(
        "removed",
        |s| {
            s.remove("out");
            s.remove("kept");
        },
        Hit,
    )
    .with("in", "two\n", Ran(4))
}

pub fn sparse_file() -> Probe {
    Probe::script("truncate -s 3M out\ncat in >> out\n", |s| {
        s.write("in", "one\n");
    })
    .first(3)
    .without("out", Hit)
    .with("in", "two\n", Ran(3))
}

pub fn extended_by_seek() -> Probe {
    Probe::script("dd if=in of=out bs=1 seek=100 2>/dev/null\n", |s| {
        s.write("in", "one\n");
    })
    .first(2)
    .again(AtMost(2))
    .without("out", Hit)
    .after(
        "longer than before",
        |s| s.write("out", "x".repeat(300)),
        AtMost(2),
    )
    .with("in", "two\n", Ran(2))
}

pub fn copy_by_the_kernel() -> Probe {
    let source = "import os\n\
                  i = os.open('in', os.O_RDONLY)\n\
                  o = os.open('out', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)\n\
                  n = os.fstat(i).st_size\n\
                  while n > 0:\n    n -= os.copy_file_range(i, o, n)\n\
                  os.sendfile(o, i, 0, 2)\n";
    Probe::new(
        move |s| {
            s.write("copy.py", source);
            s.write("in", "one\n");
        },
        "/usr/bin/python3 -S -E copy.py",
    )
    .first(1)
    .again(Hit)
    .without("out", Hit)
    .with("in", "two\n", Ran(1))
    .with("in", "one\n", Hit)
}

/// Where the filesystem has no `O_TMPFILE` the program sees a clean error and has its own way.
pub fn unnamed_temporary_file() -> Probe {
    let source = "import errno, os, tempfile\n\
                  with tempfile.TemporaryFile(dir='.') as t, open('in', 'rb') as f:\n    \
                  t.write(f.read())\n    t.seek(0)\n    open('out', 'wb').write(t.read())\n\
                  assert sorted(os.listdir('.')) == ['in', 'out', 'tmp.py'], os.listdir('.')\n";
    Probe::new(
        move |s| {
            s.write(
                "tmp.py",
                source.replace(
                    "os.listdir('.')",
                    "[n for n in os.listdir('.') if n != '.rfs']",
                ),
            );
            s.write("in", "one\n");
        },
        "/usr/bin/python3 -E tmp.py",
    )
    .first(1)
    .again(AtMost(1))
    .again(Hit)
    .without("out", Hit)
    .with("in", "two\n", Ran(1))
}

/// A temporary file that leaves no trace needs a directory to be made in.
pub fn temporary_file_without_a_directory() -> Probe {
    let script = "t=$(mktemp -p d 2> /dev/null) && { cat in > $t; rm $t; echo made; }\n\
                  (echo x > d/tmp && rm d/tmp) 2> /dev/null && echo written\n";
    Probe::script(script, |s| {
        s.write("in", "one\n");
        s.mkdir("d");
    })
    .first(4)
    .again(Hit)
    .without("d", Ran(4))
    .again(Hit)
    .after("there again", |s| s.mkdir("d"), Hit)
}

pub fn truncated_to_nothing() -> Probe {
    Probe::script(": > log\n[ -s in ] && cat in > log || :\n", |s| {
        s.write("log", "old\n");
        s.write("in", "");
    })
    .first(2)
    .again(Hit)
    .with("log", "older\n", Hit)
    .with("in", "x\n", Ran(2))
    .with("in", "", Hit)
}

pub fn exclusive_creation() -> Probe {
    let script = "set -C\n(cat in > out) 2>/dev/null || echo taken\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(2)
        .again(Ran(2))
        .again(Hit)
        .without("out", Hit)
        .with("in", "two\n", AtMost(2))
}

/// An effect outside of the workspace is not lost when the step is served, or it is not served.
pub fn outside_the_workspace() -> Probe {
    Probe::new(
        |s| {
            s.write("in", "one\n");
            s.write(
                "build.sh",
                "cat in > ../outside/file\ncat ../outside/file > out\n",
            );
        },
        "sh build.sh",
    )
    .first(3)
    .again(AtMost(3))
    .without("../outside/file", AtMost(3))
    .command(
        "is it there?",
        |s| s.remove("../outside/file"),
        "sh build.sh",
        AtMost(3),
    )
    .command("look", |_| {}, "cat ../outside/file", AtMost(1))
    .with("in", "two\n", Ran(3))
    .command("look again", |_| {}, "cat ../outside/file", AtMost(1))
}

pub fn empty_output() -> Probe {
    Probe::script(": > out\n: > out2\n", |_| {})
        .first(1)
        .again(Hit)
        .without("out", Hit)
        .with("out2", "not empty\n", Hit)
}

pub fn lock_file() -> Probe {
    let script = "(flock 9; cat in >> out) 9> lock\nflock lock cat in >> out\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(6)
        .after(
            "as at first",
            |s| {
                s.remove("out");
                s.remove("lock");
            },
            Hit,
        )
        .with("in", "two\n", Ran(6))
}

/// A file that must not be there and is gone at the end is no temporary file if its name is fixed.
pub fn lock_that_is_there() -> Probe {
    let script = "set -C\n(: > lock) 2>/dev/null || exit 7\ncat in > out\nrm lock\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(2)
        .after("clean", |s| s.remove("out"), Hit)
        .with("lock", "", Ran(2))
}

pub fn made_and_removed_directory() -> Probe {
    let script = "mkdir work 2>/dev/null || exit 7\ncat in > work/x\nmv work/x out\nrmdir work\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(2)
        .after("clean", |s| s.remove("out"), Hit)
        .after(
            "it is there",
            |s| {
                s.remove("out");
                s.mkdir("work");
            },
            Ran(2),
        )
}

pub fn archive_updated_in_place() -> Probe {
    Probe::new(
        |s| {
            s.write("a.c", "int a;\n");
            s.write("b.c", "int b;\n");
        },
        Cmd::sh("gcc -c a.c b.c && ar rcD lib.a a.o && ar rcD lib.a b.o && ar t lib.a"),
    )
    .first(12)
    .again(AtMost(12))
    .after(
        "clean",
        |s| {
            ["a.o", "b.o", "lib.a"]
                .iter()
                .for_each(|name| s.remove(name));
        },
        Hit,
    )
    .with("b.c", "int bb;\n", Ran(12))
}

pub fn umask_and_chmod_zero() -> Probe {
    Probe::script(
        "umask 027\nmkdir d\ncat in > d/out\numask 0\n: > open\nchmod 0 d/out\n",
        |s| {
            s.write("in", "one\n");
        },
    )
    .first(4)
    .after(
        "as at first",
        |s| {
            s.remove("d");
            s.remove("open");
        },
        Hit,
    )
}

/// The assembler removes a file or a link to one, but writes through a link that leads nowhere.
pub fn object_file_by_a_link() -> Probe {
    Probe::new(|s| s.write("x.c", "int x;\n"), "cc -c -o x.o x.c")
        .first(9)
        .without("x.o", Hit)
        .after(
            "a link to nothing",
            |s| {
                s.remove("none");
                s.symlink("none", "x.o");
            },
            Ran(9),
        )
        .after(
            "a link to a file",
            |s| {
                s.write("other", "other\n");
                s.symlink("other", "x.o");
            },
            Ran(9),
        )
        .after(
            "a file",
            |s| {
                s.remove("x.o");
                s.write("x.o", "another\n");
            },
            Hit,
        )
}
