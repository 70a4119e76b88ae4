//! The sessions in doc/queries.md are what the commands print.

use crate::run::Cmd;
use crate::space::TestSpace;

/// A project with a generated header, built twice: before and after a line was added to what it is made from.
fn project() -> TestSpace {
    let s = TestSpace::new();
    s.write(
        "Makefile",
        "app: main.o list.o\n\tgcc -o app main.o list.o\n%.o: %.c list.h\n\tgcc -c -o $@ $<\n\
         list.h: names gen\n\t./gen names list.h\n",
    );
    s.script(
        "gen",
        "#!/bin/sh\nwhile read n; do echo \"#define $n\"; done < $1 > $2\n",
    );
    s.write("names", "ONE\n");
    s.write(
        "main.c",
        "#include \"list.h\"\nint list(void);\nint main(void) { return list(); }\n",
    );
    s.write(
        "list.c",
        "#include \"list.h\"\nint list(void) { return 0; }\n",
    );
    for source in ["gen", "names", "main.c", "list.c"] {
        s.set_mtime(source, 1_000_000_000);
    }
    let _first = s.rfs(Cmd::new(["make"])).expect_code(0);
    s.write("names", "ONE\nTWO\n");
    let _second = s.rfs(Cmd::new(["make"])).expect_code(0);
    s
}

#[test]
fn sessions_are_as_documented() {
    let text = include_str!("../../../doc/queries.md");
    let s = project();
    let mut n_sessions = 0;
    for block in text.split("```\n$ rfs ").skip(1) {
        let (command, rest) = block.split_once('\n').unwrap();
        let printed = rest.split("```").next().unwrap();
        let args: Vec<&str> = command.split(' ').collect();
        let run = s.tool(&args).expect_code(0);
        assert_eq!(run.out(), printed, "rfs {command}");
        n_sessions += 1;
    }
    assert_eq!(n_sessions, 3);
}
