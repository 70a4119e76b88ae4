//! A C project by rules: nothing of its headers is declared.

use super::rules;
use crate::projects::unpack;
use crate::run::Cmd;
use crate::space::TestSpace;

const RULES: &str = "\
rule('compile', targets = 'obj/{n}.o', deps = 'src/{n}.c', cmd = 'gcc -Iinclude -Igen -c -o {target} {dep}')
rule('version', targets = 'gen/version.h', deps = 'VERSION', cmd = 'echo \"#define VERSION \\\\\"$(cat {dep})\\\\\"\" > {target}')
rule('link', targets = 'prog', deps = ['obj/%s.o' % name[4:-2] for name in glob('src/*.c')], cmd = 'gcc -o {target} {deps}')
";

fn project() -> TestSpace {
    let s = rules(RULES);
    s.write("VERSION", "1.0\n");
    s.write("include/f.h", "int f(void);\n");
    s.write("src/f.c", "#include \"f.h\"\nint f(void) { return 42; }\n");
    s.write(
        "src/main.c",
        "#include <stdio.h>\n#include \"f.h\"\n#include \"version.h\"\n\
         int main(void) { return printf(\"%s %d\\n\", VERSION, f()) < 0; }\n",
    );
    s
}

const ALL: [&str; 4] = [
    "compile obj/f.o",
    "compile obj/main.o",
    "link prog",
    "version gen/version.h",
];

/// A compilation that includes a header which is still to be made waits for it: one run a job.
#[test]
fn a_generated_header_is_waited_for() {
    for slots in ["-j1", "-j2", "-j8"] {
        let s = project();
        s.build(&format!("{slots} prog")).ran(&ALL);
        assert_eq!(s.bare("./prog").out(), "1.0 42\n");
        s.build("prog").ran(&[]).served(&[]);
    }
}

#[test]
fn an_edit_rebuilds_its_readers_and_ends_where_bytes_are_equal() {
    let s = project();
    s.build("prog").ran(&ALL);
    s.append("include/f.h", "/* a comment */\n");
    s.build("prog")
        .ran(&["compile obj/f.o", "compile obj/main.o"]);
    s.append("src/f.c", "int more;\n");
    s.build("prog").ran(&["compile obj/f.o", "link prog"]);
    s.write("VERSION", "2.0\n");
    s.build("prog")
        .ran(&["compile obj/main.o", "link prog", "version gen/version.h"]);
    assert_eq!(s.bare("./prog").out(), "2.0 42\n");
    // A header that would be found before the other: nobody else knows.
    s.write("src/f.h", "int f(void);\nint g(void);\n");
    s.build("prog")
        .ran(&["compile obj/f.o", "compile obj/main.o"]);
}

/// Touched files, removed targets and old versions cost no run.
#[test]
fn what_was_made_before_is_taken_from_the_cache() {
    let s = project();
    s.build("prog").ran(&ALL);
    s.must(Cmd::sh("touch src/*.c include/*.h VERSION"));
    s.build("prog").ran(&[]).served(&[]);
    s.must(Cmd::sh("rm -rf obj gen prog .rfs"));
    s.build("prog").ran(&[]).served(&ALL);
    assert_eq!(s.bare("./prog").out(), "1.0 42\n");
    s.write("VERSION", "2.0\n");
    s.build("prog")
        .ran(&["compile obj/main.o", "link prog", "version gen/version.h"]);
    s.write("VERSION", "1.0\n");
    s.build("prog")
        .ran(&[])
        .served(&["compile obj/main.o", "link prog", "version gen/version.h"]);
}

/// Lua from Debian's source: all of it, nothing twice, and one header's readers.
#[test]
fn lua_by_rules() {
    let s = TestSpace::new();
    unpack(&s, "lua", "");
    s.write(
        "Rfsfile",
        "load('@rfs//c.star', 'c_archive', 'c_objects', 'c_program')\n\
         def objects(exclude): return ['obj/%s.o' % c[4:-2] for c in glob('src/*.c', exclude = exclude)]\n\
         c_objects('compile', 'src/{n}.c', 'obj/{n}.o', cc = 'gcc', cflags = '-std=gnu99 -O1 -DLUA_USE_LINUX')\n\
         c_archive('archive', 'liblua.a', objects(['src/lua.c', 'src/luac.c']))\n\
         c_program('link', 'lua', ['obj/lua.o', 'liblua.a'], cc = 'gcc', ldflags = '-Wl,-E', libs = '-lm -ldl')\n",
    );
    let first = s.build("-j2 lua");
    let count = |what: &[&str]| {
        what.iter()
            .filter(|title| title.starts_with("compile "))
            .count()
    };
    assert_eq!(first.run.status.code(), Some(0), "{}", first.run.err());
    assert_eq!(count(&first.those("run")), 33, "{}", first.run.err());
    assert_eq!(first.those("run").len(), 35);
    let lua = s.bare(Cmd::new([
        "./lua",
        "-e",
        "print(6 * 7, string.rep('x', 3))",
    ]));
    assert_eq!(lua.out(), "42\txxx\n");
    s.build("lua").ran(&[]).served(&[]);
    s.append("src/lctype.h", "/* a comment */\n");
    let readers = ["lcode", "lctype", "llex", "lobject", "lparser"];
    let second = s.build("lua");
    let ran = second.those("run");
    assert!(
        readers[1..4]
            .iter()
            .all(|name| ran.contains(&&*format!("compile obj/{name}.o"))),
        "{ran:?}"
    );
    assert!(count(&ran) == ran.len() && ran.len() < 12, "{ran:?}");
}

/// Zstandard from Debian's source, by rules and by its makefile: the same program, byte for byte. The long form
/// compiles as its makefile would by itself.
#[test]
fn zstd_by_rules_is_that_of_its_makefile() {
    let cflags = match std::env::var_os("RFS_LONG") {
        Some(_) => "-O3",
        None => "-O0",
    };
    let s = TestSpace::new();
    unpack(&s, "zstd", "");
    let make = format!(
        "cp -a . ../outside/zstd && make -s -j2 -C ../outside/zstd/programs zstd CFLAGS={cflags} \
         HAVE_ZLIB=0 HAVE_LZMA=0 HAVE_LZ4=0"
    );
    s.must(Cmd::sh(&make));
    s.write(
        "Rfsfile",
        format!(
            "load('@rfs//c.star', 'c_objects', 'c_program')\n\
             FLAGS = '{cflags} -DXXH_NAMESPACE=ZSTD_ -DDEBUGLEVEL=0 -DZSTD_LEGACY_SUPPORT=5 -DZSTD_MULTITHREAD'\n\
             # Assertions name their file, as seen from programs/ there.\n\
             OWN = FLAGS + ' -fmacro-prefix-map=programs/= -fmacro-prefix-map=lib/=../lib/'\n\
             LIB = [glob('lib/%s/*.[cS]' % d) for d in ['common', 'compress', 'decompress', 'dictBuilder']]\n\
             LEGACY = ['lib/legacy/zstd_v0%d.c' % n for n in [5, 6, 7]]\n\
             SOURCES = [c for part in LIB for c in part] + LEGACY + glob('programs/*.c')\n\
             c_objects('c', '{{d}}/{{n}}.c', 'obj/{{d:.*}}/{{n}}.o', cflags = OWN)\n\
             c_objects('s', '{{d}}/{{n}}.S', 'obj/{{d:.*}}/{{n}}.o', cflags = OWN)\n\
             c_program('link', 'zstd', ['obj/%s.o' % c[:-2] for c in SOURCES], ldflags = FLAGS, \
             libs = '-z noexecstack -pthread')\n"
        ),
    );
    let first = s.build("-j2 zstd");
    assert_eq!(first.run.status.code(), Some(0), "{}", first.run.err());
    assert_eq!(first.those("run").len(), 44, "{}", first.run.err());
    s.must("cmp zstd ../outside/zstd/programs/zstd");
    s.must(Cmd::sh(
        "./zstd -q -c README.md | ./zstd -q -d | cmp - README.md",
    ));
    s.build("zstd").ran(&[]).served(&[]);
    s.append("programs/timefn.h", "/* a comment */\n");
    let second = s.build("zstd");
    let ran = second.those("run");
    assert!(
        ran.contains(&"c obj/programs/timefn.o") && !ran.contains(&"link zstd") && ran.len() < 10,
        "{ran:?}"
    );
}
