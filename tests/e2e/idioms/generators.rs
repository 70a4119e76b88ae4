//! Build systems that write build files: cmake with ninja and with make, meson, the autotools.

use super::{age, c_project};
use crate::projects::Project;
use crate::run::{Cmd, Run};
use crate::space::TestSpace;

/// The second run of every command is served as a whole.
fn served(runs: &[Run]) {
    for run in runs {
        assert!(run.summary().whole_hit, "{run:#?}");
    }
}

fn cmake(s: &TestSpace) {
    c_project(s);
    s.write("gen.sh", "echo 'int generated = 1;' > \"$1\"\n");
    s.write(
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.20)\nproject(tiny C)\ninclude_directories(include)\n\
         add_custom_command(OUTPUT gen.c COMMAND sh ${CMAKE_SOURCE_DIR}/gen.sh gen.c\n\
           DEPENDS ${CMAKE_SOURCE_DIR}/gen.sh)\n\
         add_library(part STATIC src/part.c ${CMAKE_BINARY_DIR}/gen.c)\n\
         add_executable(tiny src/main.c)\ntarget_link_libraries(tiny part)\n\
         install(TARGETS tiny DESTINATION bin)\n",
    );
    age(s);
}

#[test]
fn cmake_with_ninja() {
    let space = TestSpace::new();
    let commands = [
        Cmd::from("cmake -G Ninja -S . -B b"),
        Cmd::from("ninja -j1 -C b"),
        Cmd::from("cmake --install b --prefix inst"),
    ];
    let runs = Project::laid(cmake, commands)
        // Directories with random names, and the times that steps took.
        .varies(&[
            "b/CMakeFiles/CMakeOutput.log",
            "b/.ninja_log",
            "b/.ninja_deps",
        ])
        .check(&space);
    served(&runs[..2]);
    // It passes the program's time stamp on, and that is a new one.
    assert!(!runs[2].summary().whole_hit, "{runs:#?}");
    assert_eq!(space.bare("inst/bin/tiny").out(), "42\n");

    space.append("src/part.c", "\n/* edited */\n");
    let edited = space.rfs("ninja -j1 -C b").expect_code(0).expect_ran();
    let compiles = |run: &Run, file: &str| {
        let ran = run
            .explain
            .iter()
            .filter(|line| line.starts_with("rfs: ran "));
        ran.filter(|line| line.contains("cc ") && line.contains(file))
            .count()
    };
    assert!(compiles(&edited, "src/part.c") > 0, "{edited:#?}");
    assert_eq!(compiles(&edited, "src/main.c"), 0, "{edited:#?}");
    let nothing_to_do = space.bare("ninja -C b").expect_code(0);
    assert!(
        nothing_to_do.out().contains("no work to do"),
        "{nothing_to_do:#?}"
    );
}

#[test]
fn cmake_with_make() {
    let space = TestSpace::new();
    // Without its messages: those of parallel jobs come with percentages.
    let commands = [
        Cmd::from("cmake -DCMAKE_RULE_MESSAGES=OFF -S . -B b"),
        Cmd::from("make -s -C b -j2"),
    ];
    let runs = Project::laid(cmake, commands)
        .varies(&["b/CMakeFiles/CMakeOutput.log"])
        .check(&space);
    served(&runs);
    assert_eq!(space.bare("b/tiny").out(), "42\n");
}

#[test]
fn meson_with_ninja() {
    let lay = |s: &TestSpace| {
        c_project(s);
        s.write(
            "meson.build",
            "project('tiny', 'c')\ninc = include_directories('include')\n\
             part = static_library('part', 'src/part.c', include_directories: inc)\n\
             executable('tiny', 'src/main.c', link_with: part, include_directories: inc)\n",
        );
        age(s);
    };
    let space = TestSpace::new();
    // A compiler that is named is not looked for, and so not found behind ccache.
    let setup = Cmd::from("meson setup b").env("CC", "cc");
    let runs = Project::laid(lay, [setup, Cmd::from("ninja -j1 -C b")])
        // Pickled sets in random order, times that steps took, a log with times in it.
        .varies(&[
            "b/.ninja_log",
            "b/.ninja_deps",
            "b/meson-private/build.dat",
            "b/meson-private/coredata.dat",
            "b/meson-logs/meson-log.txt",
        ])
        .check(&space);
    served(&runs);
    assert_eq!(space.bare("b/tiny").out(), "42\n");
}

#[test]
fn autotools_from_autoreconf_on() {
    let lay = |s: &TestSpace| {
        c_project(s);
        s.write(
            "configure.ac",
            "AC_INIT([tiny],[1.0])\nAM_INIT_AUTOMAKE([foreign subdir-objects])\nAM_PROG_AR\n\
             LT_INIT([disable-shared])\nAC_PROG_CC\nAC_CONFIG_HEADERS([config.h])\n\
             AC_CHECK_HEADERS([unistd.h nosuch.h])\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n",
        );
        s.write(
            "Makefile.am",
            "ACLOCAL_AMFLAGS = -I m4\nAM_CPPFLAGS = -I$(srcdir)/include\n\
             lib_LTLIBRARIES = libpart.la\nlibpart_la_SOURCES = src/part.c\n\
             bin_PROGRAMS = tiny\ntiny_SOURCES = src/main.c include/part.h\n\
             tiny_LDADD = libpart.la\n",
        );
        s.mkdir("m4");
        s.mkdir("o");
        age(s);
    };
    let space = TestSpace::new();
    let commands = [
        Cmd::from("autoreconf -fi"),
        Cmd::from("../configure").cwd("o"),
        Cmd::from("make").cwd("o"),
        Cmd::sh("make -s install DESTDIR=$PWD/inst").cwd("o"),
    ];
    let runs = Project::laid(lay, commands)
        // A dump of Perl hashes in random order.
        .varies(&["autom4te.cache/requests", "o/config.log"])
        .check(&space);
    served(&runs);
    assert_eq!(space.bare("o/inst/usr/local/bin/tiny").out(), "42\n");
}
