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
