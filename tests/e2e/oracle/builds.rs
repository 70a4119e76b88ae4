//! Build systems.

use super::programs::sources;
use super::temporary::Temporary;
use super::{Program, check};
use crate::run::Cmd;

#[test]
fn m4() {
    let script = "m4 -I inc -DX=1 top.m4 > out; m4 -P none.m4 2>/dev/null; true";
    check(&Program {
        furnish: |s| {
            s.write(
                "top.m4",
                "include(`part.m4')sinclude(`missing.m4')X maketemp(`tXXXXXX')\nsyscmd(`cat in')\n",
            );
            s.write("inc/part.m4", "define(`X', `defined')esyscmd(`echo part')");
            s.write("in", "in\n");
        },
        cmd: Cmd::sh(script),
        at_least: 25,
        steps: &["m4"],
        temporary: Temporary(&["t??????", "m4??????"]),
        ..Program::default()
    });
}

#[test]
fn autoconf() {
    check(&Program {
        furnish: |s| {
            let text = "AC_INIT([tiny], [1])\nAM_INIT_AUTOMAKE([foreign])\nAC_PROG_CC\nAC_CHECK_HEADERS([one.h])\n\
                AC_CONFIG_HEADERS([config.h])\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n";
            s.write("configure.ac", text);
            s.write(
                "Makefile.am",
                "bin_PROGRAMS = tiny\ntiny_SOURCES = tiny.c\n",
            );
            s.write("tiny.c", "int main(void) { return 0; }\n");
        },
        cmd: "autoreconf -i".into(),
        at_least: 500,
        steps: &[],
        temporary: Temporary(&["ar??????", "ah??????", "am4t??????", "tmp????????"]),
        ..Program::default()
    });
}

#[test]
fn configure() {
    check(&Program {
        furnish: |s| {
            let text = "AC_INIT([tiny], [1])\nAC_PROG_CC\nAC_CHECK_HEADERS([one.h stdint.h])\nAC_CHECK_FUNCS([mmap])\n\
                AC_CONFIG_HEADERS([config.h])\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n";
            s.write("configure.ac", text);
            s.write("Makefile.in", "all:\n\t@CC@ -o tiny tiny.c\n");
            s.write("tiny.c", "int main(void) { return 0; }\n");
            s.must(Cmd::sh("autoconf && autoheader && rm -r autom4te.cache"));
        },
        cmd: Cmd::sh("./configure -q && make -s"),
        at_least: 500,
        steps: &["./configure", "make"],
        temporary: Temporary(&["cc??????", "conf??????", "conf#", "conf#subs"]),
        ..Program::default()
    });
}

#[test]
fn cmake_and_ninja() {
    check(&Program {
        furnish: |s| {
            sources(s);
            let text = "cmake_minimum_required(VERSION 3.20)\nproject(tiny C)\nadd_library(two two.c)\n\
                add_executable(m m.c)\ntarget_include_directories(m PRIVATE in)\n\
                target_link_libraries(m two)\nconfigure_file(in/one one.txt)\n";
            s.write("CMakeLists.txt", text);
        },
        cmd: Cmd::sh(
            "cmake -G Ninja -B build . && ninja -j1 -C build && ninja -C build && build/m",
        ),
        steps: &["cmake", "ninja"],
        at_least: 400,
        temporary: Temporary(&[
            "cc??????",
            "cmTC_?????",
            "TryCompile-??????",
            "cmake_object_order_depends_target_cmTC_?????",
        ]),
        ..Program::default()
    });
}

#[test]
fn cargo() {
    check(&Program {
        furnish: |s| {
            s.write("Cargo.toml", "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2021\"\nbuild = \"build.rs\"\n");
            s.write(
                "src/main.rs",
                "mod part;\nfn main() { println!(\"{}\", part::text()); }\n",
            );
            s.write(
                "src/part.rs",
                "pub fn text() -> &'static str { include_str!(\"../text\") }\n",
            );
            s.write(
                "build.rs",
                "fn main() { println!(\"cargo:rerun-if-changed=text\"); }\n",
            );
            s.write("text", "hi\n");
        },
        cmd: with_rust(Cmd::sh("cargo build -q --offline -j1 && target/debug/tiny")),
        at_least: 200,
        steps: &["target/debug/tiny"],
        apart: &[".git", "HEAD", "/"],
        temporary: Temporary(&["cc??????", "rustc??????", "rmeta??????", "rmetadata??????"]),
    });
}

/// The Rust that runs these tests, not a script that chooses one.
fn with_rust(cmd: Cmd) -> Cmd {
    let mut cmd = cmd;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "/usr/bin/cargo".into());
    let bin = std::path::Path::new(&cargo).parent().unwrap().to_owned();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    cmd = cmd.env("PATH", path);
    cmd.env("CARGO_INCREMENTAL", "0")
}
