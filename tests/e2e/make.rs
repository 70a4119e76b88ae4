//! A C project built by make: headers, a generated one, a library made by a sub-make, and what a
//! user does with such a project in a day.

use crate::probe::{AtMost, Expect, Hit, Probe, Ran, assert_same_run};
use crate::run::{Cmd, Run};
use crate::space::TestSpace;
use crate::tree::assert_same;

/// Sources of the program and of the library.
const N_MAIN: usize = 4;
const N_LIB: usize = 3;

const MAKEFILE: &str = "\
CFLAGS = -O1 -Wall -Iinclude -Igen -MMD
OBJS = $(patsubst src/%.c,obj/%.o,$(wildcard src/*.c))

all: prog

prog: $(OBJS) lib/libpart.a
\tgcc -o $@ $(OBJS) -Llib -lpart

obj/%.o: src/%.c gen/version.h | obj
\tgcc $(CFLAGS) -c -o $@ $<

obj:
\tmkdir obj

gen/version.h: VERSION gen.sh
\tmkdir -p gen
\tsh gen.sh VERSION > $@.tmp
\tmv $@.tmp $@

lib/libpart.a: FORCE
\t$(MAKE) -C lib

FORCE:

clean:
\trm -rf obj gen prog
\t$(MAKE) -C lib clean

-include obj/*.d
";

const LIB_MAKEFILE: &str = "\
OBJS = $(patsubst %.c,%.o,$(wildcard *.c))
libpart.a: $(OBJS)
\trm -f $@
\tar rc $@ $(OBJS)
%.o: %.c ../include/part.h
\tgcc -O1 -I../include -c $<
clean:
\trm -f *.o *.a
";

/// The project, with time stamps of long ago and in the order of make's wishes.
pub fn project(s: &TestSpace) {
    s.write("Makefile", MAKEFILE);
    s.write("lib/Makefile", LIB_MAKEFILE);
    s.write("VERSION", "1.0\n");
    s.write("gen.sh", "echo \"#define VERSION \\\"$(cat $1)\\\"\"\n");
    s.write("include/part.h", "int part(int n);\n");
    for n in 1..N_LIB {
        s.write(
            format!("lib/part{n}.c"),
            format!("int part{n}(int n) {{ return n * {n}; }}\n"),
        );
    }
    s.write(
        "lib/part.c",
        "#include \"part.h\"\nint part(int n) { return n + 1; }\n",
    );
    for n in 1..N_MAIN {
        let text = format!("#include <version.h>\nconst char *v{n}(void) {{ return VERSION; }}\n");
        s.write(format!("src/v{n}.c"), text);
    }
    s.write(
        "src/main.c",
        "#include <stdio.h>\n#include <part.h>\n#include \"version.h\"\n\
         int main(void) { return printf(\"%s %d\\n\", VERSION, part(41)) < 0; }\n",
    );
    age(s);
}

/// Makes every source old, so that what is built is newer and an edit is newer still.
fn age(s: &TestSpace) {
    s.must(Cmd::sh(
        "find . -name .rfs -prune -o -type f -exec touch -d '2020-01-01 UTC' {} +",
    ));
}

fn compilers(run: &Run) -> Vec<&String> {
    let tools = [" gcc ", " cc1 ", " as ", " ld ", " collect2 ", " ar "];
    let ran = |line: &&String| line.starts_with("rfs: ran") || line.starts_with("rfs: refused");
    let names = |line: &str| {
        let command = line.split_whitespace().nth(2).unwrap_or("");
        format!(" {} ", command.rsplit('/').next().unwrap())
    };
    run.explain
        .iter()
        .filter(ran)
        .filter(|l| tools.contains(&names(l).as_str()))
        .collect()
}

/// A built project.
fn built() -> TestSpace {
    let s = TestSpace::new();
    project(&s);
    let _first = s.rfs("make").expect_code(0).expect_ran();
    assert_eq!(s.bare("./prog").out(), "1.0 42\n");
    s
}

fn nothing_to_do(s: &TestSpace) {
    let plain = s.bare("make").expect_code(0);
    assert!(
        !plain.out().contains("gcc"),
        "a plain make finds work: {plain:#?}"
    );
}

#[test]
fn first_build_equals_bare() {
    let s = TestSpace::new();
    project(&s);
    let bare = s.bare("make");
    let tree = s.tree();
    s.wipe();
    project(&s);
    let wrapped = s.rfs("make").expect_ran();
    assert_same_run(&bare, &wrapped, "first build");
    assert_same(&tree, &s.tree(), "first build");
    assert_eq!(
        compilers(&wrapped).len(),
        N_MAIN + N_LIB + 2,
        "{wrapped:#?}"
    );
    nothing_to_do(&s);
}

/// The first of them may run make itself, since now there are outputs to look at.
#[test]
fn no_op_is_a_hit() {
    let s = built();
    let bare = s.bare("make");
    let first = s.rfs("make").expect_code(0);
    assert!(compilers(&first).is_empty(), "{first:#?}");
    for round in ["second", "third"] {
        assert_same_run(&bare, &s.rfs("make").expect_hit(), round);
    }
    nothing_to_do(&s);
}

#[test]
fn clean_build_is_a_hit() {
    let s = built();
    let tree = s.tree();
    for round in ["by hand", "again"] {
        s.must("make clean");
        let run = s.rfs("make").expect_code(0).expect_hit();
        assert!(compilers(&run).is_empty(), "{round}: {run:#?}");
        assert_same(&tree, &s.tree(), round);
        nothing_to_do(&s);
    }
}

/// `make clean` is a step like any other.
#[test]
fn wrapped_clean_and_build_are_hits() {
    let s = built();
    let tree = s.tree();
    let _settles = s.rfs("make clean").expect_code(0);
    assert!(!s.exists("prog") && !s.exists("lib/part.o"));
    let _hit = s.rfs("make").expect_hit();
    assert_same(&tree, &s.tree(), "after a wrapped clean");
    let _hit = s.rfs("make clean").expect_hit();
    assert!(!s.exists("prog") && !s.exists("lib/part.o"));
    let run = s.rfs("make").expect_hit();
    assert_same(&tree, &s.tree(), "after a served clean");
    assert!(compilers(&run).is_empty(), "{run:#?}");
    nothing_to_do(&s);
}

/// The whole in one command.
#[test]
fn clean_and_build_in_one_command() {
    let s = built();
    let cmd = || Cmd::sh("make clean > /dev/null && make");
    let tree = s.tree();
    for round in ["first", "second", "third"] {
        let run = s.rfs(cmd()).expect_code(0);
        assert!(compilers(&run).is_empty(), "{round}: {run:#?}");
        assert_same(&tree, &s.tree(), round);
    }
    nothing_to_do(&s);
}

/// make must look, but there is nothing new to compile.
#[test]
fn touched_source_is_not_compiled() {
    let s = built();
    s.must("touch src/main.c include/part.h");
    let tree = s.tree();
    let bare_words = "gcc -O1 -Wall -Iinclude -Igen -MMD -c -o obj/main.o src/main.c";
    let run = s.rfs("make").expect_code(0).expect_ran();
    assert!(
        run.out().contains(bare_words),
        "make says what it does: {run:#?}"
    );
    assert!(compilers(&run).is_empty(), "{run:#?}");
    assert!(run.summary().hit >= 2, "{run:#?}");
    assert_same(&tree, &s.tree(), "touched");
    nothing_to_do(&s);
}

/// Only the edited source is compiled and what depends on it linked.
#[test]
fn edit_compiles_one_source() {
    let s = built();
    let text = s.read("src/main.c");
    s.write("src/main.c", text.replace("41", "42"));
    let run = s.rfs("make").expect_code(0).expect_ran();
    assert_eq!(s.bare("./prog").out(), "1.0 43\n");
    assert_eq!(
        compilers(&run).len(),
        2,
        "one compile and the link: {run:#?}"
    );
    nothing_to_do(&s);
    s.write("src/main.c", text);
    let run = s.rfs("make").expect_code(0);
    assert_eq!(s.bare("./prog").out(), "1.0 42\n");
    assert!(
        compilers(&run).is_empty(),
        "the revert was compiled before: {run:#?}"
    );
    nothing_to_do(&s);
}

/// The object is the same, so it need not be linked again.
#[test]
fn comment_stops_at_the_object() {
    let s = built();
    s.append("src/main.c", "// A comment at the end.\n");
    let run = s.rfs("make").expect_code(0).expect_ran();
    assert_eq!(compilers(&run).len(), 1, "one compile, no link: {run:#?}");
    assert_eq!(s.bare("./prog").out(), "1.0 42\n");
    nothing_to_do(&s);
}

#[test]
fn header_compiles_its_users() {
    let s = built();
    let text = s.read("include/part.h");
    s.write("include/part.h", format!("#define PART 1\n{text}"));
    let run = s.rfs("make").expect_code(0).expect_ran();
    // main.c and part.c include it; make thinks that all of lib does, but there nothing is read.
    assert_eq!(
        compilers(&run).len(),
        2,
        "objects do not change, nothing is linked: {run:#?}"
    );
    nothing_to_do(&s);
    s.write("include/part.h", text);
    let run = s.rfs("make").expect_code(0);
    assert!(compilers(&run).is_empty(), "reverted: {run:#?}");
}

#[test]
fn generated_header_compiles_its_users() {
    let s = built();
    s.write("VERSION", "2.0\n");
    let run = s.rfs("make").expect_code(0).expect_ran();
    assert_eq!(s.bare("./prog").out(), "2.0 42\n");
    assert_eq!(compilers(&run).len(), N_MAIN + 1, "{run:#?}");
    s.write("VERSION", "1.0\n");
    let run = s.rfs("make").expect_code(0);
    assert_eq!(s.bare("./prog").out(), "1.0 42\n");
    assert!(compilers(&run).is_empty(), "{run:#?}");
}

#[test]
fn new_source_is_compiled() {
    let s = built();
    s.write("src/v9.c", "int v9;\n");
    let run = s.rfs("make").expect_code(0).expect_ran();
    assert_eq!(compilers(&run).len(), 2, "{run:#?}");
    s.remove("src/v9.c");
    let run = s.rfs("make").expect_code(0);
    assert!(compilers(&run).is_empty(), "{run:#?}");
}

/// How many jobs make runs at once is no matter of what it builds.
#[test]
fn number_of_jobs_is_ignored() {
    let s = built();
    let tree = s.tree();
    for jobs in [
        "make -j2",
        "make -j 3",
        "make -j",
        "make --jobs=2 -l4",
        "make",
    ] {
        s.must("make clean");
        let run = s.rfs(jobs).expect_code(0);
        assert!(compilers(&run).is_empty(), "{jobs}: {run:#?}");
        assert_same(&tree, &s.tree(), jobs);
        nothing_to_do(&s);
    }
}

#[test]
fn parallel_first_build() {
    let s = TestSpace::new();
    project(&s);
    s.must("make");
    let tree = s.tree();
    s.wipe();
    project(&s);
    let run = s.rfs("make -j4").expect_code(0).expect_ran();
    assert_eq!(
        run.summary().refused,
        0,
        "no step of a make is refused: {run:#?}"
    );
    assert_same(&tree, &s.tree(), "parallel");
    nothing_to_do(&s);
    s.must("make clean");
    let _hit = s.rfs("make -j4").expect_hit();
    assert_same(&tree, &s.tree(), "parallel, served");
    nothing_to_do(&s);
}

/// A failure is replayed with its words and its status until it is mended.
#[test]
fn failing_compile_is_replayed_then_mended() {
    let s = built();
    let text = s.read("src/main.c");
    s.write("src/main.c", text.replace("return", "retrun"));
    let bare = s.bare("make").expect_code(2);
    let first = s.rfs("make").expect_ran();
    assert_same_run(&bare, &first, "fails");
    let second = s.rfs("make");
    assert_same_run(&bare, &second, "fails again");
    assert!(compilers(&second).is_empty(), "{second:#?}");
    s.write("src/main.c", text);
    let _mended = s.rfs("make").expect_code(0);
    assert_eq!(s.bare("./prog").out(), "1.0 42\n");
    nothing_to_do(&s);
}

/// With `-k` the rest is built, with the bare status and words.
#[test]
fn keep_going() {
    let s = TestSpace::new();
    let broken = |s: &TestSpace| {
        project(s);
        s.write("src/v2.c", "broken\n");
    };
    broken(&s);
    let bare = s.bare("make -k").expect_code(2);
    let tree = s.tree();
    s.wipe();
    broken(&s);
    for round in ["first", "second"] {
        let wrapped = s.rfs("make -k");
        assert_same_run(&bare, &wrapped, round);
        assert_same(&tree, &s.tree(), round);
        assert!(
            round == "first" || compilers(&wrapped).is_empty(),
            "{wrapped:#?}"
        );
        s.must("make clean");
    }
}

/// Made by rfs, continued without it, and back: each finds what the other left.
#[test]
fn with_and_without_by_turns() {
    let s = built();
    s.write("src/v1.c", "const char *v1(void) { return \"one\"; }\n");
    s.must("make");
    let run = s.rfs("make").expect_code(0);
    assert!(compilers(&run).is_empty(), "plain make did it: {run:#?}");
    s.write("VERSION", "3.0\n");
    let _run = s.rfs("make").expect_code(0);
    nothing_to_do(&s);
    s.remove("obj/v1.o");
    s.must("make");
    let _run = s.rfs("make").expect_code(0);
    assert_eq!(s.bare("./prog").out(), "3.0 42\n");
    nothing_to_do(&s);
}

/// Every output carries a later time than what it was made from, in whatever order it was served.
#[test]
fn order_of_time_stamps() {
    let s = built();
    s.must("make clean");
    let _hit = s.rfs("make").expect_hit();
    let script = "for o in obj/*.o; do [ $o -nt gen/version.h ] || echo $o; \
                  [ prog -nt $o ] || echo prog $o; done; \
                  [ prog -nt lib/libpart.a ] || echo prog; \
                  for o in lib/*.o; do [ lib/libpart.a -nt $o ] || echo lib $o; done";
    // One tick of the clock can be shared, in a bare build as well.
    let late = s.bare(Cmd::sh(script));
    let older = script.replace("-nt", "-ot").replace("] ||", "] &&");
    let wrong = s.bare(Cmd::sh(&older));
    assert_eq!(
        wrong.out(),
        "",
        "older than its input; not newer: {}",
        late.out()
    );
}

/// What autoconf's scripts do, and no peer could serve: links, temporary directories, lists,
/// descriptors 5 and 6, here-documents, and a log of it all.
#[test]
fn configure_is_a_hit() {
    configure().run(crate::space::Setting::default());
}

pub fn configure() -> Probe {
    let script = r#"#!/bin/sh
# A configure in small.
exec 5>config.log 6>&1
echo "configuring in $(pwd)" >&5
tmp=$(mktemp -d "${TMPDIR-/tmp}/confXXXXXX") || exit 1
trap 'rm -rf "$tmp"' 0
rm -f conf$$ conf$$.file
echo > conf$$.file
if ln -s conf$$.file conf$$ 2>/dev/null; then as_ln_s='ln -s'; else as_ln_s='cp -pR'; fi
rm -f conf$$ conf$$.file
echo "checking whether ln -s works... $as_ln_s" >&6
for tool in gawk mawk awk; do
  for dir in $(echo "$PATH" | tr : ' '); do
    if test -x "$dir/$tool"; then AWK=$tool; break 2; fi
  done
done
echo "checking for awk... $AWK" >&6
for header in stdio.h stdint.h nosuch.h; do
  cat > conftest.c <<EOF
#include <$header>
int main(void) { return 0; }
EOF
  if gcc -c conftest.c >&5 2>&5; then answer=yes; else answer=no; fi
  echo "checking for $header... $answer" >&6
  echo "ac_cv_$(echo $header | tr . _)=$answer" >> "$tmp/cache"
  rm -f conftest.c conftest.o
done
if test "$(ls "$(dirname "$0")" | grep -c '\.in$')" = 2; then inputs=yes; else inputs=no; fi
ls -t configure in1.in > /dev/null
echo "checking for inputs... $inputs" >&6
umask 077
sort "$tmp/cache" > config.cache.tmp
if cmp -s config.cache.tmp config.cache; then rm config.cache.tmp; else mv config.cache.tmp config.cache; fi
umask 022
for in in *.in; do
  sed "s,@AWK@,$AWK,;s,@LN_S@,$as_ln_s," $in > ${in%.in}
done
cat > config.status <<\EOF
#!/bin/sh
echo "status of $0"
EOF
chmod +x config.status
./config.status >&5
ln -sf in1 linked
echo "done" >&6
"#;
    let every: Expect = AtMost(200);
    // `ls -t` looks at the time stamps.
    let in1 = |s: &TestSpace| {
        s.write("in1.in", "awk is @AWK@\n");
        s.set_mtime("in1.in", 1_600_000_001);
    };
    Probe::new(
        move |s| {
            s.script("configure", script);
            s.write("in2.in", "link is @LN_S@\n");
            in1(s);
            s.set_mtime("configure", 1_600_000_000);
        },
        "./configure",
    )
    .first(200)
    .again(every)
    .again(Hit)
    .without("config.status", AtMost(60))
    .with("in1.in", "AWK=@AWK@\n", Ran(200))
    .after(
        "a fresh tree",
        move |s| {
            in1(s);
            for name in [
                "config.log",
                "config.cache",
                "config.status",
                "in1",
                "in2",
                "linked",
            ] {
                s.remove(name);
            }
        },
        Hit,
    )
}
