//! The content of a file is an input, whatever reads it and however.

use super::{compile, tests};
use crate::probe::{AtMost, Hit, Probe, Ran};

tests! {
    dynamic_tool static_tool busybox raw_system_calls equal_size_and_time interpreted_script
    shared_library swapped_inputs script_of_interpreter own_tool memory_mapped_input
    file_read_by_a_thread input_read_through_an_inherited_descriptor optional_input here_document
}

pub fn dynamic_tool() -> Probe {
    Probe::script("cat in > out\n", |s| s.write("in", "one\n"))
        .first(2)
        .again(Hit)
        .without("out", Hit)
        .with("in", "two\n", Ran(2))
        .again(Hit)
        .with("in", "one\n", Hit)
}

const COPY: &str = "#include <fcntl.h>\n#include <unistd.h>
int main(int argc, char **argv) {
    char buf[4096];
    int in = open(argv[1], O_RDONLY);
    if (in < 0) return 1;
    int out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    for (long n; (n = read(in, buf, sizeof buf)) > 0;) write(out, buf, n);
    return 0;
}\n";

pub fn static_tool() -> Probe {
    copies(|s| compile(s, "copy", "-static", COPY))
}

/// The library knows nothing of these calls.
pub fn raw_system_calls() -> Probe {
    copies(|s| compile(s, "copy", "-include raw.h", &raw_copy(s)))
}

fn raw_copy(s: &crate::space::TestSpace) -> String {
    s.write(
        "raw.h",
        "#if defined(__x86_64__)
#define OPEN(p, f, m) raw(2, (long)(p), f, m)
#define READ 0
#define WRITE 1
static long raw(long n, long a, long b, long c) {
    long r;
    __asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(n), \"D\"(a), \"S\"(b), \"d\"(c)
                     : \"rcx\", \"r11\", \"memory\");
    return r;
}
#elif defined(__aarch64__)
#define OPEN(p, f, m) raw4(56, -100, (long)(p), f, m)
#define READ 63
#define WRITE 64
static long raw4(long n, long a, long b, long c, long d) {
    register long x8 __asm__(\"x8\") = n, x0 __asm__(\"x0\") = a, x1 __asm__(\"x1\") = b;
    register long x2 __asm__(\"x2\") = c, x3 __asm__(\"x3\") = d;
    __asm__ volatile(\"svc 0\" : \"+r\"(x0) : \"r\"(x8), \"r\"(x1), \"r\"(x2), \"r\"(x3)
                     : \"memory\");
    return x0;
}
static long raw(long n, long a, long b, long c) { return raw4(n, a, b, c, 0); }
#endif\n",
    );
    COPY.replace("open(argv[1], O_RDONLY)", "OPEN(argv[1], O_RDONLY, 0)")
        .replace("open(argv[2],", "OPEN(argv[2],")
        .replace("read(in,", "raw(READ, in, (long)")
        .replace("write(out,", "raw(WRITE, out, (long)")
}

fn copies(tool: impl Fn(&crate::space::TestSpace) + 'static) -> Probe {
    let setup = move |s: &crate::space::TestSpace| {
        tool(s);
        s.write("in", "one\n");
    };
    Probe::script("./copy in out\n", setup)
        .first(2)
        .again(Hit)
        .without("out", Hit)
        .with("in", "two\n", Ran(2))
        .with("in", "one\n", Hit)
}

pub fn busybox() -> Probe {
    Probe::new(
        |s| s.write("in", "banana\n"),
        crate::run::Cmd::new([
            "busybox",
            "sh",
            "-c",
            "busybox cat in > out; busybox md5sum in >> out; busybox ls in >> out",
        ]),
    )
    .first(4)
    .again(Hit)
    .without("out", Hit)
    .with("in", "ananas\n", Ran(4))
    .with("in", "banana\n", Hit)
}

/// An edit that keeps size and time stamp is an edit.
pub fn equal_size_and_time() -> Probe {
    Probe::script("cat in > out\n", |s| {
        s.write("in", "one\n");
        s.set_mtime("in", 1_600_000_000);
    })
    .first(2)
    .again(Hit)
    .after(
        "same size, same time",
        |s| {
            s.write("in", "two\n");
            s.set_mtime("in", 1_600_000_000);
        },
        Ran(2),
    )
    .again(Hit)
}

/// The text of a script that is run by its first line is an input, and so is its interpreter.
pub fn interpreted_script() -> Probe {
    Probe::new(|s| s.script("gen", "#!/bin/sh\necho one > out\n"), "./gen")
        .first(1)
        .again(Hit)
        .without("out", Hit)
        .after(
            "edited",
            |s| s.script("gen", "#!/bin/sh\necho two > out\n"),
            Ran(1),
        )
        .after(
            "edited back",
            |s| s.script("gen", "#!/bin/sh\necho one > out\n"),
            Hit,
        )
}

pub fn script_of_interpreter() -> Probe {
    Probe::new(
        |s| {
            s.script(
                "interpreter",
                "#!/bin/sh\n. ./lib.sh\nsay \"$(tail -n 1 \"$1\")\"\n",
            );
            s.write("lib.sh", "say() { echo \"said $1\"; }\n");
            s.script("doc", "#!/usr/bin/env ./interpreter\nhello\n");
        },
        "./doc",
    )
    .first(4)
    .again(Hit)
    .with("lib.sh", "say() { echo \"told $1\"; }\n", Ran(4))
    .again(Hit)
    .after(
        "interpreter edited",
        |s| s.script("interpreter", "#!/bin/sh\necho \"$1\"; cat \"$1\"\n"),
        Ran(4),
    )
}

/// A tool built by an earlier step is an input of the later one by its content.
pub fn own_tool() -> Probe {
    Probe::script("gcc -o tool tool.c\n./tool > out\n", |s| {
        s.write(
            "tool.c",
            "#include <stdio.h>\nint main(void) { puts(\"one\"); }\n",
        );
    })
    .first(8)
    .again(AtMost(8))
    .again(Hit)
    .without("out", AtMost(8))
    .with(
        "tool.c",
        "#include <stdio.h>\nint main(void) { puts(\"two\"); }\n",
        Ran(8),
    )
    .again(Hit)
    .with(
        "tool.c",
        "// Says two.\n#include <stdio.h>\nint main(void) { puts(\"two\"); }\n",
        Ran(8),
    )
}

pub fn shared_library() -> Probe {
    let library = |s: &crate::space::TestSpace, n: u8| {
        s.write("say.c", format!("int say(void) {{ return {n}; }}\n"));
        s.must("gcc -shared -fPIC -o lib/libsay.so say.c");
    };
    Probe::new(
        move |s| {
            s.mkdir("lib");
            library(s, 1);
            s.write(
                "main.c",
                "#include <stdio.h>\nint say(void);\n\
                 int main(void) { printf(\"%d\\n\", say()); }\n",
            );
            s.must("gcc -o main main.c -Llib -lsay -Wl,-rpath,$ORIGIN/lib");
        },
        "./main",
    )
    .first(1)
    .again(Hit)
    .after("upgraded", move |s| library(s, 2), Ran(1))
    .again(Hit)
    .after("downgraded", move |s| library(s, 1), Hit)
}

/// The names stay, the contents change places.
pub fn swapped_inputs() -> Probe {
    let swap = |s: &crate::space::TestSpace| {
        s.rename("a", "tmp");
        s.rename("b", "a");
        s.rename("tmp", "b");
    };
    Probe::script("cat a b > out\n", |s| {
        s.write("a", "first\n");
        s.write("b", "other\n");
    })
    .first(2)
    .again(Hit)
    .after("swapped", swap, Ran(2))
    .again(Hit)
    .after("swapped back", swap, Hit)
}

/// Python lists the directory of its script, and after the first run the output is in it.
pub fn memory_mapped_input() -> Probe {
    let source = "import mmap\n\
                  with open('in') as f, open('out', 'w') as out:\n    \
                  out.write(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:].decode())\n";
    Probe::new(
        move |s| {
            s.write("map.py", source);
            s.write("in", "one\n");
        },
        "/usr/bin/python3 -S -E map.py",
    )
    .first(1)
    .again(AtMost(1))
    .again(Hit)
    .with("in", "two\n", Ran(1))
    .with("in", "one\n", Hit)
}

pub fn file_read_by_a_thread() -> Probe {
    Probe::new(
        |s| {
            s.write(
                "threads.py",
                "import threading\n\
                 def work(n):\n    open(f'out{n}', 'w').write(open(f'in{n}').read() * 2)\n\
                 ts = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n\
                 [t.start() for t in ts]\n[t.join() for t in ts]\n",
            );
            (0..8).for_each(|n| s.write(format!("in{n}"), format!("{n}\n")));
        },
        "/usr/bin/python3 -S -E threads.py",
    )
    .first(1)
    .again(AtMost(1))
    .again(Hit)
    .without("out5", AtMost(1))
    .with("in7", "seven\n", Ran(1))
}

/// The step that reads never opened the file.
pub fn input_read_through_an_inherited_descriptor() -> Probe {
    Probe::script(
        "exec 7< in\nhead -n 1 <&7 > out\nsh -c 'cat <&7' > rest\n",
        |s| {
            s.write("in", "one\ntwo\nthree\n");
        },
    )
    .first(4)
    .again(Hit)
    .without("rest", Hit)
    .with("in", "one\ntwo\nfour\n", Ran(4))
    .again(Hit)
}

pub fn optional_input() -> Probe {
    let script = ": > out\nif [ -f option ]; then cat option > out; fi\n";
    Probe::script(script, |s| s.write("option", "yes\n"))
        .first(2)
        .again(Hit)
        .without("option", Ran(2))
        .again(Hit)
        .with("option", "yes\n", Hit)
        .with("option", "no\n", Ran(2))
}

pub fn here_document() -> Probe {
    let script =
        "x=$(cat in)\ncat > out <<END\nline $x\n$(cat in)\nEND\ncat <<END >> out\nmore\nEND\n";
    Probe::script(script, |s| s.write("in", "one\n"))
        .first(5)
        .again(Hit)
        .without("out", Hit)
        .with("in", "two\n", Ran(5))
}
