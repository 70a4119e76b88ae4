//! What a command says and how it ends is part of what comes back.

use super::tests;
use crate::probe::{AtMost, Hit, Probe, Ran, Refused};
use crate::run::Cmd;

tests! {
    failing_command compiler_error_then_fixed compiler_warning pipeline standard_input_is_a_pipe
    no_newline_at_the_end binary_output nothing_printed standard_input_is_not_read
    output_to_a_copy_of_the_descriptor failing_tool_inside status_of_a_pipeline
    signal_inside_the_script standard_input_is_a_file
}

pub fn failing_command() -> Probe {
    Probe::script("cat in > out\necho said\necho wrong >&2\nexit 3\n", |s| {
        s.write("in", "one\n");
    })
    .first(2)
    .again(Hit)
    .without("out", Hit)
    .with("in", "two\n", Ran(2))
    .with("in", "one\n", Hit)
}

pub fn compiler_error_then_fixed() -> Probe {
    Probe::new(
        |s| s.write("main.c", "int main(void) { return x; }\n"),
        "gcc -c main.c",
    )
    .first(3)
    .again(Hit)
    .with("main.c", "int main(void) { return 0; }\n", Ran(3))
    .again(AtMost(3))
    .again(Hit)
    .with("main.c", "int main(void) { return x; }\n", AtMost(3))
    .with("main.c", "int main(void) { return 0; }\n", AtMost(3))
}

pub fn compiler_warning() -> Probe {
    Probe::new(
        |s| s.write("main.c", "int main(void) { int unused; return 0; }\n"),
        "gcc -Wall -c main.c",
    )
    .first(3)
    .again(AtMost(3))
    .again(Hit)
    .without("main.o", Hit)
    .with(
        "main.c",
        "int main(void) { int other; return 0; }\n",
        Ran(3),
    )
}

pub fn pipeline() -> Probe {
    Probe::script("cat in | tr a-z A-Z | sort > out\n", |s| {
        s.write("in", "b\na\n");
    })
    .first(4)
    .again(Hit)
    .without("out", Hit)
    .with("in", "d\nc\n", Ran(4))
    .with("in", "b\na\n", Hit)
}

/// What comes through the pipe is no input that could be looked at beforehand.
pub fn standard_input_is_a_pipe() -> Probe {
    let cat = || Cmd::sh("cat > out; cat out");
    Probe::new(|_| {}, cat().stdin(b"one\n"))
        .after("first", |_| {}, Refused)
        .again(Refused)
        .command("other text", |_| {}, cat().stdin(b"two\n"), Refused)
        .command("no text", |_| {}, cat().stdin(b""), Refused)
}

/// It is there, but nobody looks at it.
pub fn standard_input_is_not_read() -> Probe {
    let cat = || Cmd::sh("cat in > out; echo done");
    Probe::new(|s| s.write("in", "one\n"), cat().stdin(b"one\n"))
        .first(2)
        .again(AtMost(2))
        .command("other text", |_| {}, cat().stdin(b"two\n"), AtMost(2))
}

/// From where it was read before, and as far as the command goes.
pub fn standard_input_is_a_file() -> Probe {
    let cmd = || Cmd::sh("read second; echo \"got $second\"; cat > rest");
    let open = "exec < in; read first";
    Probe::new(|s| s.write("in", "one\ntwo\nthree\n"), cmd().after(open))
        .first(2)
        .again(AtMost(2))
        .again(AtMost(2))
        .with("in", "one\ntwo\nfour\n", AtMost(2))
        .command(
            "from another place",
            |_| {},
            cmd().after("exec < in"),
            AtMost(2),
        )
}

pub fn no_newline_at_the_end() -> Probe {
    let cmd = Cmd::sh("printf 'no newline'; printf 'nor here' >&2");
    Probe::new(|_| {}, cmd.plain()).first(1).again(Hit)
}

pub fn binary_output() -> Probe {
    Probe::script("printf '\\000\\377\\r\\n\\033[1mbold'\n", |_| {})
        .first(1)
        .again(Hit)
}

pub fn nothing_printed() -> Probe {
    Probe::new(|_| {}, "true")
        .after("first", |_| {}, AtMost(1))
        .again(AtMost(1))
}

/// `exec 5>&1 6>&2` and writing to 5 and 6 is writing to the outputs.
pub fn output_to_a_copy_of_the_descriptor() -> Probe {
    let script = "exec 5>&1 6>&2 > log 2>&1\necho to the log\necho to the output >&5\n\
                  echo to the errors >&6\nls absent\nsh -c 'echo deep >&5'\n";
    Probe::script(script, |_| {})
        .first(3)
        .again(Hit)
        .without("log", Hit)
}

pub fn failing_tool_inside() -> Probe {
    Probe::script(
        "cat absent > out || echo \"status $?\"\ngrep -q x in; echo $?\n",
        |s| {
            s.write("in", "y\n");
        },
    )
    .first(3)
    .again(Hit)
    .with("absent", "there\n", Ran(3))
    .with("in", "x\n", Ran(3))
}

pub fn status_of_a_pipeline() -> Probe {
    let script =
        "set -o pipefail\nfalse | cat in\necho $?\nyes | head -n 2\necho ${PIPESTATUS[0]}\n";
    Probe::new(
        move |s| {
            s.write("build.bash", script);
            s.write("in", "one\n");
        },
        "bash build.bash",
    )
    .first(5)
    .again(AtMost(5))
    .with("in", "two\n", Ran(5))
}

/// A child of the script dies; the script notices and lives on.
pub fn signal_inside_the_script() -> Probe {
    let script = "sh -c 'kill -KILL $$' 2>/dev/null\necho $?\nsh -c 'kill -TERM $$' 2>/dev/null\n\
                  echo $?\ntrap 'echo trapped' USR1\nkill -USR1 $$\n";
    Probe::script(script, |_| {})
        .first(3)
        .again(AtMost(3))
        .again(AtMost(3))
}
