//! Programs around the compiler: ccache, strace, gdb.

use super::{c_project, twice};
use crate::probe::{Hit, Refused};
use crate::run::Cmd;
use crate::space::TestSpace;

/// Both keep a copy; the outer one answers first. What ccache keeps lies in the workspace, so that it
/// begins empty each time; a check by content does not look at the compiler's time stamp.
#[test]
fn ccache() {
    let cmd = "CCACHE_DIR=$PWD/kept; export CCACHE_DIR; \
               ccache cc -c -Iinclude src/part.c -o part.o && \
               ccache cc -c -Iinclude src/part.c -o again.o && rm -rf kept";
    let cmd = Cmd::sh(cmd).env("CCACHE_COMPILERCHECK", "content");
    twice(c_project, cmd, Hit);
}

/// The tracee is stopped by its own tracer, so it cannot be served; it is told and refused.
#[test]
fn strace() {
    let cmd =
        "strace -f -o log cc -c -Iinclude src/part.c -o part.o && grep -c 'execve(' log; rm log";
    twice(c_project, Cmd::sh(cmd), Refused);
}

#[test]
fn gdb() {
    let lay = |s: &TestSpace| {
        c_project(s);
        s.must("cc -g -Iinclude src/main.c src/part.c -o tiny");
    };
    let cmd = "gdb -nx -batch -ex 'break part' -ex run -ex 'print x' -ex bt -ex continue ./tiny | \
               sed 's/process [0-9]*/process N/'";
    twice(lay, Cmd::sh(cmd), Refused);
}
