//! Idioms of builds: the tools and habits that real ones are made of, a family a file. Each is done
//! bare and twice under rfs at the same path; what the second wrapped run may do is stated.

mod generators;
mod jobserver;
mod languages;
mod meetings;
mod names;
mod packages;
mod places;
mod processes;
mod science;
mod wrappers;

pub use languages::cargo;

use crate::probe::{Expect, Hit, Probe, Ran};
use crate::run::Cmd;
use crate::space::TestSpace;

/// Whether the long forms of the tests are wanted as well.
pub fn long() -> bool {
    std::env::var_os("RFS_LONG").is_some_and(|value| value != "0" && !value.is_empty())
}

/// A library, a program that uses it, and a header.
pub fn c_project(s: &TestSpace) {
    s.write("include/part.h", "int part(int);\n");
    s.write(
        "src/part.c",
        "#include \"part.h\"\nint part(int x) { return x * 2; }\n",
    );
    s.write(
        "src/main.c",
        "#include <stdio.h>\n#include \"part.h\"\n\
         int main(void) { printf(\"%d\\n\", part(21)); return 0; }\n",
    );
}

/// Gives everything in the workspace the same old time stamp, as a checkout of a release has it, so that
/// two layouts of it are the same even for tools that store time stamps.
pub fn age(s: &TestSpace) {
    s.must("find . -exec touch -h -d @1600000000 {} +");
}

/// Bare, wrapped, and wrapped again from the same beginning.
pub fn twice(setup: impl Fn(&TestSpace) + Clone + 'static, cmd: impl Into<Cmd>, second: Expect) {
    twice_in(&TestSpace::new(), setup, cmd, second);
}

pub fn twice_in(
    space: &TestSpace,
    setup: impl Fn(&TestSpace) + Clone + 'static,
    cmd: impl Into<Cmd>,
    second: Expect,
) {
    let lay = move |s: &TestSpace| {
        setup(s);
        age(s);
    };
    let again = lay.clone();
    let first = match second {
        crate::probe::Refused => second,
        Hit | Ran(_) | crate::probe::AtMost(_) => Ran(10_000),
    };
    Probe::new(lay, cmd)
        .after("first", |_| {}, first)
        .after(
            "from the beginning",
            move |s| {
                s.must("find . -mindepth 1 -maxdepth 1 ! -name .rfs -exec rm -rf {} +");
                again(s);
            },
            second,
        )
        .run_in(space);
}

/// The command as root alone can prepare it: `before` in a mount namespace of its own, then the command.
pub fn mounted(cmd: impl Into<Cmd>, before: &str) -> Cmd {
    let text = format!("{before}\nexec \"$@\"");
    cmd.into().outer([
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        &text,
        "sh",
    ])
}
