//! The ready rules, and rules out of what make and ninja know.

use super::rules;
use crate::run::Cmd;

#[test]
fn archives_python_and_tests_by_ready_rules() {
    let s = rules(
        "load('@rfs//archive.star', 'tarball', 'unpack')\n\
         load('@rfs//python.star', 'python')\n\
         load('@rfs//tests.star', 'sharded_test')\n\
         unpack('untar', 'in.tar', 'in', strip = 1)\n\
         python('gen', ['sum'], 'py/gen.py', ['in/a', '{target}'], deps = ['in/a'])\n\
         tarball('pack', 'out.tgz', ['sum', 'in/b'])\n\
         sharded_test('check', 'test.sh', shards = 2, deps = ['sum'])\n",
    );
    s.must(Cmd::sh(
        "mkdir x; echo 2 > x/a; echo 3 > x/b; tar -cf in.tar x; rm -r x",
    ));
    s.write("py/lib.py", "def twice(n): return 2 * n\n");
    s.write(
        "py/gen.py",
        "import sys\nfrom lib import twice\nopen(sys.argv[2], 'w').write(str(twice(int(open(sys.argv[1]).read()))))\n",
    );
    s.script(
        "test.sh",
        "#!/bin/sh\necho $TEST_SHARD_INDEX of $TEST_TOTAL_SHARDS: $(cat sum)\n",
    );
    let all = [
        "check check",
        "check shard 0 check.0.log",
        "check shard 1 check.1.log",
        "gen sum",
        "pack out.tgz",
        "untar",
    ];
    s.build("out.tgz check").ran(&all);
    assert_eq!(s.read("check.1.log"), "1 of 2: 4\n");
    assert_eq!(s.bare(Cmd::sh("tar -tzf out.tgz")).out(), "sum\nin/b\n");
    s.build("out.tgz check").ran(&[]).served(&[]);
    s.append("py/lib.py", "# more\n");
    // tar looks at time stamps.
    s.build("out.tgz check").ran(&["gen sum", "pack out.tgz"]);
    s.write("test.sh", "#!/bin/sh\nexit 1\n");
    s.build("-k check").failed(&["exit status 1"]);
}

#[test]
fn c_and_cxx_by_ready_rules() {
    let s = rules(
        "load('@rfs//c.star', 'c_objects', 'c_shared', 'cxx_objects', 'cxx_program')\n\
         c_objects('cc', '{n}.c', '{n}.o', cc = 'gcc', cflags = '-fPIC')\n\
         cxx_objects('cxx', '{n}.cc', '{n}.oo', cxx = 'g++')\n\
         c_shared('so', 'libf.so', ['f.o'], cc = 'gcc')\n\
         cxx_program('prog', 'prog', ['main.oo', 'libf.so'], cxx = 'g++', ldflags = '-Wl,-rpath,$PWD')\n",
    );
    s.write(
        "f.h",
        "#ifdef __cplusplus\nextern \"C\"\n#endif\nint f(void);\n",
    );
    s.write("f.c", "#include \"f.h\"\nint f(void) { return 5; }\n");
    s.write("main.cc", "#include \"f.h\"\nint main() { return f(); }\n");
    s.build("prog")
        .ran(&["cc f.o", "cxx main.oo", "prog prog", "so libf.so"]);
    assert_eq!(s.bare("./prog").code(), 5);
    s.append("f.h", "// more\n");
    s.build("prog").ran(&["cc f.o", "cxx main.oo"]);
}

/// A program, a library and its tests, by the compiler that built this test.
#[test]
fn rust_by_ready_rules() {
    let sysroot = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .unwrap();
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    let rustc = format!("rustc = '{}/bin/rustc'", sysroot.trim());
    let s = rules(&format!(
        "load('@rfs//rust.star', 'rust_library', 'rust_program', 'rust_test')\n\
         rust_library('lib', 'libf.rlib', 'f/lib.rs', {rustc})\n\
         rust_program('prog', 'prog', 'main.rs', libs = {{'f': 'libf.rlib'}}, {rustc})\n\
         rust_test('check', 'checks', 'f/lib.rs', {rustc})\n\
         rule('checked', targets = 'checked', deps = 'checks', cmd = './checks > checked')\n"
    ));
    s.write("f/lib.rs", "mod more;\npub use more::f;\n");
    s.write(
        "f/more.rs",
        "pub fn f() -> i32 { 7 }\n#[test]\nfn is_seven() { assert_eq!(f(), 7); }\n",
    );
    s.write("main.rs", "fn main() { std::process::exit(f::f()); }\n");
    s.build("prog").ran(&["lib libf.rlib", "prog prog"]);
    assert_eq!(s.bare("./prog").code(), 7);
    s.build("prog").ran(&[]).served(&[]);
    s.build("checked").ran(&["check checks", "checked checked"]);
    // A module that no rule names.
    s.write(
        "f/more.rs",
        "pub fn f() -> i32 { 8 }\n#[test]\nfn is_seven() { assert_eq!(f(), 7); }\n",
    );
    s.build("prog").ran(&["lib libf.rlib", "prog prog"]);
    assert_eq!(s.bare("./prog").code(), 8);
    s.build("checked")
        .failed(&["checked checked: exit status 101"]);
}

/// What stands for pdflatex and bibtex here does as they do: references are right in the run after the one that
/// has written them down, and all of it lies beside the result.
const TEX: &str = "#!/bin/sh\n\
    for word; do case $word in -output-directory=*) out=${word#*=};; -*) ;; *) src=$word;; esac; done\n\
    name=$(basename \"$src\" .tex)\n\
    { cat \"$src\"; cat \"$(dirname \"$src\")/part.tex\"; echo \"refs: $(cat \"$out/$name.aux\" \"$out/$name.bbl\" 2> /dev/null)\"; } > \"$out/$name.pdf\"\n\
    grep -c label \"$src\" > \"$out/$name.aux\"\n";

#[test]
fn latex_by_ready_rules() {
    let s = rules(
        "load('@rfs//latex.star', 'latex')\n\
         latex('paper', 'doc/paper.pdf', 'doc/paper.tex', engine = './tex', bibtex = '$top/bib')\n",
    );
    s.script("tex", TEX);
    s.script("bib", "#!/bin/sh\ncat \"${BIBINPUTS%:}/books\" > $1.bbl\n");
    s.write("books", "Knuth\n");
    s.write("doc/paper.tex", "label\nlabel\n");
    s.write("doc/part.tex", "part\n");
    s.build("doc/paper.pdf").ran(&["paper doc/paper.pdf"]);
    assert_eq!(
        s.read("doc/paper.pdf"),
        "label\nlabel\npart\nrefs: 2\nKnuth\n"
    );
    s.build("doc/paper.pdf").ran(&[]);
    // What is included and cited need not be named, and nothing but the result is left.
    s.write("doc/part.tex", "other\n");
    s.build("doc/paper.pdf").ran(&["paper doc/paper.pdf"]);
    s.write("books", "Lamport\n");
    s.build("doc/paper.pdf").ran(&["paper doc/paper.pdf"]);
    assert!(
        s.read("doc/paper.pdf")
            .ends_with("other\nrefs: 2\nLamport\n")
    );
    assert!(!s.exists("doc/paper.aux") && !s.exists("paper.bbl"));
}

const MAKEFILE: &str = "all: prog\nprog: a.o b.o\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -MMD -c $< \\\n\t  -o $@\n\
    gen.h: VERSION\n\techo \"#define N $$(cat VERSION)\" > $@\n\t@echo made $@\na.o: gen.h\n";

fn sources(s: &crate::space::TestSpace) {
    s.write("VERSION", "6\n");
    s.write(
        "a.c",
        "#include \"gen.h\"\nint b(void);\nint main(void) { return N + b(); }\n",
    );
    s.write("b.c", "int b(void) { return 1; }\n");
}

#[test]
fn rules_out_of_what_make_says() {
    let s = rules("");
    sources(&s);
    s.write("Makefile", MAKEFILE);
    let program = s.program().display();
    s.must(Cmd::sh(&format!(
        "make -nB --trace prog | {program} rules import --make - > ../outside/R"
    )));
    s.must(Cmd::sh("mv ../outside/R Rfsfile"));
    s.build("prog")
        .ran(&["a.o a.o", "b.o b.o", "gen.h gen.h", "prog prog"]);
    assert_eq!(s.bare("./prog").code(), 7);
    s.build("prog").ran(&[]).served(&[]);
    s.write("VERSION", "7\n");
    s.build("prog")
        .ran(&["a.o a.o", "gen.h gen.h", "prog prog"]);
    assert_eq!(s.bare("./prog").code(), 8);
}

#[test]
fn rules_out_of_a_build_ninja() {
    let s = rules("");
    sources(&s);
    s.write(
        "build.ninja",
        "cc = gcc\nrule cc\n  command = $cc -MMD -MF $out.d -c $in -o $out\n  depfile = $out.d\n  deps = gcc\n\
         rule ld\n  command = $cc -o $out @$out.rsp\n  rspfile = $out.rsp\n  rspfile_content = $in\n\
         rule gen\n  command = echo \"#define N $$(cat $in)\" > $out\n\
         build gen.h: gen VERSION\nbuild o/a.o: cc a.c || gen.h\n  cc = gcc -I.\nbuild o/b.o: cc b.c\n\
         build prog: ld o/a.o o/b.o\nbuild all: phony prog\ndefault all\n",
    );
    let program = s.program().display();
    s.must(Cmd::sh(&format!(
        "{program} rules import --ninja build.ninja > ../outside/R && mv ../outside/R Rfsfile"
    )));
    let all = [
        "all all",
        "default default",
        "gen.h gen.h",
        "o/a.o o/a.o",
        "o/b.o o/b.o",
        "prog prog",
    ];
    s.build("default").ran(&all);
    assert_eq!(s.bare("./prog").code(), 7);
    s.build("default").ran(&[]).served(&[]);
    s.write("VERSION", "8\n");
    s.build("default")
        .ran(&["gen.h gen.h", "o/a.o o/a.o", "prog prog"]);
    assert_eq!(s.bare("./prog").code(), 9);
}
