//! Random small projects for make. Each piece of a makefile stands by itself: a goal, what it is made
//! from, and how.

use crate::dice::Dice;

use super::plan::GATE;

pub const FILES: [&str; 13] = [
    "src/u1.c", "src/u2.c", "src/u3.c", "h/a.h", "h/a.h", "h/b.h", "conf.in", "gen.sh", "tool.c",
    "sub/p.c", "o/u1.o", "gen/g.h", "st",
];
pub const DIRS: [&str; 5] = ["src", "h", "o", "gen", "sub"];
/// What no build writes.
pub const SOURCES: [&str; 8] = [
    "src/u1.c", "src/u2.c", "src/u3.c", "h/a.h", "conf.in", "gen.sh", "tool.c", "sub/p.c",
];
pub const CONTENTS: [&str; 10] = [
    "#pragma once\\n#include \"a.h\"\\nstatic int f(void) { return A; }\\nint u(void) { return f(); }\\n",
    "#pragma once\\n#include \"a.h\"\\n#include <g.h>\\nint g = G + A;\\n",
    "#define A 1\\n",
    "#pragma once\\n#define A 2\\n#include \"b.h\"\\n",
    "#define A 1 /* as before */\\n",
    "int x3;\\n",
    "7\\n",
    "8\\n",
    "",
    "broken A\\n",
];

/// Parts of a makefile, most of them with a goal of `all`.
const PARTS: [&str; 19] = [
    "all: lib.a\nlib.a: $(OBJS)\n\trm -f $@\n\tar rcD $@ $^",
    "all: gen/p.h\ngen/p.h: conf.in\n\t@mkdir -p gen\n\tperl -ne 'print qq(#define P $$_)' conf.in > $@",
    "all: sub\n.PHONY: sub\nsub:\n\t$(MAKE) -C sub NAME=$V",
    "all: sub2\n.PHONY: sub2\nsub2: gen/g.h\n\t+cd sub && $(MAKE) --no-print-directory other",
    "all: st\nst: conf.in\n\tcp conf.in conf.mk; sed -i 's/^/NUMBER = /' conf.mk\n\ttouch $@\n-include conf.mk\nall: number\nnumber: st\n\techo $(NUMBER) > $@",
    "all: cur\ncur: conf.in\n\tln -sf src/u$$(cat conf.in).c $@",
    "all: may\nmay: src/u1.c\n\tgrep A src/u1.c > $@.tmp && mv $@.tmp $@",
    "all: opt\nopt:\n\t-test -f h/b.h && cp h/b.h $@",
    "all: nt\n.PHONY: nt\nnt:\n\t@if [ conf.in -nt nt.out ]; then echo newer; cp conf.in nt.out; else echo not newer; fi",
    "all: tm\ntm: src/u2.c h/a.h gen/g.h\n\tt=$$(mktemp -d) && cp $< $$t/u.c && cc $(CFLAGS) -c -o $$t/u.o $$t/u.c 2> /dev/null && mv $$t/u.o $@; s=$$?; rm -r $$t; exit $$s",
    "all: sum\nsum: $(wildcard h/*.h)\n\tcat h/*.h | sort | uniq -c > $@",
    "all: out.txt\ntool: tool.c\n\tcc -o $@ $<\nout.txt: tool conf.in\n\t./tool < conf.in > $@",
    "all: loud\nloud: conf.in\n\t@echo about to shout >&2; cat $< | tr a-z A-Z > $@; echo shouted",
    "all: s/u1.s\ns/%.s: src/%.c gen/g.h | s\n\tcc $(CFLAGS) -S -o $@ $<\ns:\n\tmkdir $@",
    "all: list\nlist: src\n\tls src > $@; for f in src/*; do [ -f $$f ] && echo $$f; done",
    "all: mode\nmode: gen.sh\n\tinstall -m 755 $< $@; [ -x gen.sh ] && ./mode conf.in || echo not executable",
    "all: lst\nlst: src/u1.c src/u2.c\n\t@for f in $?; do echo changed $$f; done; cat $^ > $@",
    "all: keep\n.SECONDARY:\nkeep: mid\n\tcp $< $@\nmid: conf.in\n\tcp $< $@",
    ".DELETE_ON_ERROR:\nall: bad\nbad: src/u3.c\n\tcat $< > $@; grep -q int $<",
];

/// Parts for which the order matters in which things are made.
const IN_ORDER: [&str; 4] = [
    "all: log\nlog: conf.in src/u1.c\n\techo made for $? >> $@",
    "all: edited\n.PHONY: edited\nedited:\n\tsed -i 's/A 1/A 1 /' h/b.h; wc -c h/b.h",
    "all: a2\n.PHONY: a2\na2:\n\techo V is $V >> all.log; tail -n 2 all.log | tee last; rm -f h/tmp*; touch h/tmp$V.h",
    "all: dirs\n.PHONY: dirs\ndirs:\n\trm -rf copy; cp -r h copy; mkdir -p copy/new; rmdir copy/new; mv copy/b.h copy/c.h",
];

const HEADERS: [&str; 3] = [
    "gen/g.h: conf.in gen.sh\n\t@mkdir -p gen\n\tsh gen.sh conf.in > $@.tmp && mv $@.tmp $@",
    "gen/g.h: conf.in gen.sh\n\t@mkdir -p gen\n\t@sh gen.sh conf.in > $@.tmp && { cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@; }",
    "gen/g.h: conf.in gen.sh\n\t@mkdir -p gen\n\tpython3 -SE -c 'import sys; print(\"#define G\", open(sys.argv[1]).read().strip() or 0)' conf.in > $@ || { rm -f $@; exit 1; }",
];

const OBJECTS: [&str; 2] = [
    "o/%.o: src/%.c h/a.h gen/g.h | o\n\tcc $(CFLAGS) -c -o $@ $<\no:\n\tmkdir o",
    "o/%.o: src/%.c | gen/g.h\n\t@mkdir -p o\n\tcc $(CFLAGS) -MMD -c -o $@ $<\n-include $(wildcard o/*.d)",
];

const HEAD: &str = "V = 1\nCFLAGS = -w -Ih -Igen\nOBJS := $(patsubst src/%.c,o/%.o,$(wildcard src/*.c))\n\
     all: $(OBJS)\n.PHONY: all clean\nclean:\n\trm -rf o gen s lib.a out.txt tool sum tm keep mid";

const SUB: &str = "all: p.o name\np.o: p.c ../h/a.h\n\tcc -w -I../h -c $<\n\
     name: FORCE\n\t@echo $(NAME) | cmp -s - $@ || echo $(NAME) > $@\n\
     other:\n\t@cat ../gen/g.h\nFORCE:";

fn file(path: &str, text: &str) -> String {
    format!("mkdir -p $(dirname {path}); cat >> {path} <<'END'\n{text}\nEND")
}

/// The pieces that make a project.
pub fn workspace(dice: &mut Dice, parallel: bool, gated: bool) -> Vec<String> {
    let mut pieces = vec![
        file("gen.sh", "#!/bin/sh\necho \"#define G $(cat $1)\""),
        file("conf.in", "7"),
        file("h/a.h", "#define A 1"),
        file("h/b.h", "#define B A 1"),
        file(
            "tool.c",
            "#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) >= 0) putchar(c ^ 1); return 0; }",
        ),
        file("sub/p.c", "#include <a.h>\nint p = A;"),
        file("sub/Makefile", SUB),
        file("Makefile", HEAD),
        file("Makefile", dice.pick(&HEADERS)),
        file("Makefile", dice.pick(&OBJECTS)),
    ];
    for n in 1..=1 + dice.roll(2) {
        let text = format!("#include \"a.h\"\n#include <g.h>\nint u{n}(void) {{ return A + G; }}");
        pieces.push(file(&format!("src/u{n}.c"), &text));
    }
    let mut parts: Vec<&str> = PARTS.into();
    if !parallel {
        parts.extend(IN_ORDER);
    }
    for _ in 0..2 + dice.roll(5) {
        let part = dice.roll(parts.len() as u64);
        let part = parts.swap_remove(usize::try_from(part).unwrap());
        pieces.push(file("Makefile", part));
    }
    if gated {
        let source = dice.pick(&["src/u1.c", "h/a.h", "conf.in"]);
        let gate = GATE.replace('$', "$$");
        let text = format!(
            "all: gated\n.PHONY: gated\ngated: gen/g.h\n\tcat {source} gen/g.h > seen; {gate}; cat {source} >> seen; ls h"
        );
        pieces.push(file("Makefile", &text));
    }
    pieces
}

/// A command that builds such a project.
pub fn command(dice: &mut Dice, parallel: bool) -> String {
    let sequential = [
        "make",
        "make",
        "make",
        "make -k",
        "make -s",
        "make clean all",
        "make V=2",
        "make -B",
    ];
    let side_by_side = [
        "make -k -O -j2",
        "make -k -O -j3",
        "make -k -O -j2 V=2",
        "make -k",
        "make clean",
    ];
    let all: &[&str] = if parallel { &side_by_side } else { &sequential };
    dice.pick(all).to_owned()
}
