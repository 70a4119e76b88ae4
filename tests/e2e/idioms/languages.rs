//! Other languages' ways: cargo with a macro crate and a build script, a Python extension, Node, and
//! programs of another architecture.

use super::{age, c_project, twice};
use crate::probe::Hit;
use crate::projects::Project;
use crate::run::Cmd;
use crate::space::TestSpace;
use std::path::Path;

fn cargo_workspace(s: &TestSpace) {
    s.write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"app\", \"mac\"]\nresolver = \"2\"\n",
    );
    s.write(
        "mac/Cargo.toml",
        "[package]\nname = \"mac\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
    );
    s.write(
        "mac/src/lib.rs",
        "use proc_macro::TokenStream;\n#[proc_macro]\npub fn answer(_: TokenStream) -> TokenStream {\n\
         let path = concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/number\");\n\
         std::fs::read_to_string(path).unwrap().parse().unwrap()\n}\n",
    );
    s.write("mac/number", "42");
    s.write(
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\nbuild = \"build.rs\"\n\
         [dependencies]\nmac = { path = \"../mac\" }\n",
    );
    s.write(
        "app/build.rs",
        "fn main() {\n    let dir = std::env::var(\"OUT_DIR\").unwrap();\n\
         std::fs::write(dir + \"/made.rs\", \"pub const MADE: u32 = 7;\").unwrap();\n\
         println!(\"cargo:rerun-if-changed=build.rs\");\n}\n",
    );
    s.write(
        "app/src/main.rs",
        "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n\
         fn main() { println!(\"{} {}\", mac::answer!(), MADE); }\n",
    );
    age(s);
}

pub fn cargo(args: &str) -> Cmd {
    let toolchain = Path::new(env!("CARGO")).parent().unwrap();
    Cmd::from(args)
        .env("PATH", format!("{}:/usr/bin:/bin", toolchain.display()))
        .env("CARGO_INCREMENTAL", "0")
}

#[test]
fn cargo_with_its_jobserver() {
    let space = TestSpace::new();
    let runs = Project::laid(
        cargo_workspace,
        [cargo("cargo build --offline --quiet -j2")],
    )
    // Cargo writes hash maps in the order of a random seed.
    .varies(&[
        "target/.rustc_info.json",
        "target/debug/.fingerprint/*/dep-",
    ])
    .check(&space);
    assert!(runs[0].summary().whole_hit, "{runs:#?}");
    assert_eq!(space.bare("target/debug/app").out(), "42 7\n");

    // The macro's own input, which cargo does not know: a clean build sees it.
    space.remove("target");
    space.write("mac/number", "43");
    let edited = space
        .rfs(cargo("cargo build --offline --quiet -j2"))
        .expect_code(0);
    let ran = |name: &str| {
        let lines = edited
            .explain
            .iter()
            .filter(|line| line.starts_with("rfs: ran "));
        lines
            .filter(|line| line.contains(&format!("--crate-name {name} ")))
            .count()
    };
    // The two that are compiled side by side list one directory, so that one may run for the other's sake.
    assert_eq!(ran("app"), 1, "{edited:#?}");
    assert_eq!(space.bare("target/debug/app").out(), "43 7\n");
}

/// pip unpacks and builds below random names in /tmp: served as a whole or not at all.
#[test]
fn python_wheel_with_a_c_extension() {
    let lay = |s: &TestSpace| {
        s.write(
            "tiny-1.0/setup.py",
            "from setuptools import setup, Extension\n\
             setup(name='tiny', version='1.0', packages=['tiny'],\n\
             ext_modules=[Extension('tiny._c', ['tiny/c.c'], extra_compile_args=['-g0'])])\n",
        );
        s.write(
            "tiny-1.0/pyproject.toml",
            "[build-system]\nrequires = ['setuptools', 'wheel']\n\
             build-backend = 'setuptools.build_meta'\n",
        );
        s.write("tiny-1.0/tiny/__init__.py", "from ._c import answer\n");
        s.write(
            "tiny-1.0/tiny/c.c",
            "#include <Python.h>\n\
             static PyObject *answer(PyObject *s, PyObject *a) { return PyLong_FromLong(42); }\n\
             static PyMethodDef m[] = {{\"answer\", answer, METH_NOARGS, \"\"}, {0}};\n\
             static struct PyModuleDef d = {PyModuleDef_HEAD_INIT, \"_c\", 0, -1, m};\n\
             PyMODINIT_FUNC PyInit__c(void) { return PyModule_Create(&d); }\n",
        );
        s.must("tar --sort=name --mtime=@1600000000 -czf tiny-1.0.tar.gz tiny-1.0");
        s.remove("tiny-1.0");
        // pip asks rustc for its version if there is one, and kills it when it does not answer at once.
        for tool in ["x86_64-linux-gnu-gcc", "as", "ld"] {
            s.symlink(format!("/usr/bin/{tool}"), format!("bin/{tool}"));
        }
        age(s);
    };
    let wheel = Cmd::new([
        "/usr/bin/python3",
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-build-isolation",
        "--no-index",
        "--no-deps",
        "--no-cache-dir",
        "-w",
        "out",
        "tiny-1.0.tar.gz",
    ]);
    let space = TestSpace::new();
    let wheel = wheel
        .env("SOURCE_DATE_EPOCH", "1600000000")
        .env("PATH", space.path("bin"));
    let runs = Project::laid(lay, [wheel])
        // The order of a set in its list of files, and the build directory's random name.
        .varies(&["out/tiny-1.0-*.whl"])
        .check(&space);
    assert!(runs[0].summary().whole_hit, "{runs:#?}");
    space.must(Cmd::sh(
        "cd out && /usr/bin/python3 -m zipfile -e *.whl . && \
                        /usr/bin/python3 -c 'import tiny; assert tiny.answer() == 42'",
    ));
}

#[test]
fn node() {
    let lay = |s: &TestSpace| {
        s.write("lib.js", "module.exports = (x) => x * 2;\n");
        s.write("unit.c", "int unit;\n");
        s.write(
            "gen.js",
            "const fs = require('fs');\nconst twice = require('./lib.js');\n\
             fs.mkdirSync('out', { recursive: true });\n\
             fs.writeFileSync('out/a.json', JSON.stringify({ v: twice(21), names: fs.readdirSync('.') }));\n\
             fs.createReadStream('lib.js').pipe(fs.createWriteStream('out/copy.js')).on('finish', () => {\n\
               require('child_process').execFileSync('cc', ['-c', '-o', 'out/unit.o', 'unit.c']);\n\
               console.log('done');\n});\n",
        );
    };
    twice(lay, "node gen.js", Hit);
}

/// A 32-bit program enters the kernel by another door, and lists directories by older calls.
#[test]
fn i386() {
    let lay = |s: &TestSpace| {
        s.write("in", "hello\n");
        s.write(
            "old.c",
            "#include <dirent.h>\n#include <stdio.h>\nint main(void)\n{\n\
             char text[9] = {0};\n FILE *in = fopen(\"in\", \"r\"), *out = fopen(\"out\", \"w\");\n\
             fread(text, 1, 8, in);\n fprintf(out, \"%s%zu\\n\", text, sizeof(long));\n fclose(out);\n\
             DIR *dir = opendir(\".\");\n while (readdir(dir))\n ;\n\
             rename(\"out\", \"renamed\");\n puts(text);\n return 3;\n}\n",
        );
    };
    let cmd = "gcc -m32 old.c -o old && ./old; echo $?; gcc -m32 -static old.c -o old-static && \
               ./old-static; echo $?";
    twice(lay, Cmd::sh(cmd), Hit);

    // Its input is seen to change.
    let s = TestSpace::new();
    lay(&s);
    s.must("gcc -m32 old.c -o old");
    let _first = s.rfs("./old").expect_code(3).expect_ran();
    let _second = s.rfs("./old").expect_code(3);
    let _settled = s.rfs("./old").expect_code(3).expect_hit();
    s.write("in", "other\n");
    let _edited = s.rfs("./old").expect_code(3).expect_ran();
    assert_eq!(s.read("renamed"), "other\n4\n");
}

#[test]
fn make_in_a_subdirectory_and_out_of_the_tree() {
    let lay = |s: &TestSpace| {
        c_project(s);
        s.write(
            "src/Makefile",
            "top := $(dir $(lastword $(MAKEFILE_LIST)))\nVPATH = $(top)\n\
             all: tiny\ntiny: main.o part.o\n\tcc -o $@ $^\n\
             %.o: %.c\n\tcc -c -I$(top)../include -o $@ $<\n",
        );
        s.mkdir("o");
    };
    let cmd = "make -C src && make -C o -f ../src/Makefile && src/tiny && o/tiny";
    twice(lay, Cmd::sh(cmd), Hit);
}
