//! Programs without a C library of the system: static, by calls of their own, with signals in between.

use super::programs::sources;
use super::temporary::Temporary;
use super::{Program, check, check_with};
use crate::run::Cmd;
use crate::space::TestSpace;

#[test]
fn static_busybox() {
    let text = "PATH=/no-such; b=/bin/busybox; $b cat in/one; $b find . -name two; $b ls -l in >/dev/null; \
        $b cp -r in copy; $b mv copy/one copy/three; $b rm copy/two; $b ln -s in l; $b stat l/one >/dev/null; \
        $b sed -i s/x/y/ in/one; $b mkdir -p a/b/c; $b rmdir a/b/c; $b touch t none/t 2>/dev/null; \
        $b tar cf t.tar in; $b test -e nothing; $b readlink -f l; $b diff -r in copy; $b head -n 1 <in/two; \
        $b awk '{ print }' in/one; $b grep -r two in; $b realpath l/..; $b du in; $b cmp in/one in/two; \
        $b unlink t; $b env -i $b sh -c 'echo *; [ -d in ]'";
    check(&Program {
        furnish: sources,
        cmd: Cmd::new(["/bin/busybox", "sh", "-c", text]),
        at_least: 20,
        steps: &["/bin/busybox"],
        temporary: Temporary(&["one??????"]),
        ..Program::default()
    });
}

fn in_c(name: &str, how: &str, text: &'static str, furnish: fn(&TestSpace), at_least: usize) {
    let s = TestSpace::new();
    s.write("x.c", text);
    s.must(format!("{how} -o {name} x.c").as_str());
    let program = std::fs::read(s.path(name)).unwrap();
    check_with(
        &Program {
            furnish,
            cmd: format!("./{name}").as_str().into(),
            at_least,
            steps: &["./"],
            ..Program::default()
        },
        &[(name, &program)],
    );
}

#[test]
fn raw_calls() {
    let furnish = |s: &TestSpace| {
        s.write("in/one", "one\n");
        s.write("in/two", "two\n");
        s.write("list/a", "");
        s.symlink("in", "link");
        s.symlink("loop", "loop");
    };
    let how = "gcc -O1 -nostdlib -static -fno-stack-protector";
    in_c("raw", how, include_str!("raw.c"), furnish, 60);
}

#[test]
fn threads_and_signals() {
    let furnish = |s: &TestSpace| (0..20).for_each(|n| s.write(format!("in/f{n}"), "x\n"));
    in_c(
        "threads",
        "gcc -O1 -pthread",
        include_str!("threads.c"),
        furnish,
        500,
    );
    in_c(
        "threads",
        "musl-gcc -O1 -static",
        include_str!("threads.c"),
        furnish,
        500,
    );
}

#[test]
fn musl() {
    let text = "#include <dirent.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <sys/stat.h>\n\
        #include <unistd.h>\n#include <spawn.h>\n#include <sys/wait.h>\n#include <glob.h>\n\
        int main(void) {\n\
        struct stat st; char path[4096]; DIR *d = opendir(\"in\"); while (readdir(d)) {} closedir(d);\n\
        FILE *f = fopen(\"in/one\", \"r\"); while (getc(f) != EOF) {} fclose(f);\n\
        stat(\"in/two\", &st); lstat(\"none\", &st); access(\"in/two\", R_OK); realpath(\"link/two\", path);\n\
        f = fopen(\"out\", \"w\"); fputs(path, f); fclose(f); mkdir(\"d\", 0755); rename(\"out\", \"d/out\");\n\
        glob_t g; glob(\"in/*\", 0, 0, &g); fopen(\"no/such\", \"r\"); symlink(\"x\", \"l\"); unlink(\"l\");\n\
        char *argv[] = {\"cat\", \"in/one\", 0}; pid_t pid; posix_spawnp(&pid, \"cat\", 0, 0, argv, 0);\n\
        int status; waitpid(pid, &status, 0); return status; }\n";
    let furnish = |s: &TestSpace| {
        sources(s);
        s.symlink("in", "link");
    };
    in_c("dynamic", "musl-gcc", text, furnish, 15);
    in_c("static", "musl-gcc -static", text, furnish, 15);
}

/// What cannot be told in a record is refused by both backends, for the same reason.
#[test]
fn refusals() {
    let calls = [
        (
            "x32",
            "syscall(0x40000000 | 21, \"in/one\", 0)",
            "x32 program",
        ),
        ("inotify", "inotify_init()", "watches files"),
        (
            "fanotify",
            "syscall(SYS_fanotify_init, 0, 0)",
            "watches files",
        ),
        (
            "by_handle",
            "syscall(SYS_open_by_handle_at, -100, &handle, 0)",
            "opens a file by handle",
        ),
        ("unknown", "syscall(6000, 1, 2)", "system call"),
        ("chroot", "chroot(\"in\")", "changes its root"),
        (
            "own_root",
            "syscall(SYS_openat2, -100, \"in/../in\", &how, 24)",
            "opens below a root of its own",
        ),
        (
            "memory_of_others",
            "syscall(SYS_process_vm_writev, getppid(), 0, 0, 0, 0, 0)",
            "memory",
        ),
        (
            "parent_s_child",
            "syscall(SYS_clone, CLONE_PARENT | 17, 0, 0, 0, 0) || (_exit(0), 0)",
            "parent",
        ),
    ];
    let mut text =
        "#define _GNU_SOURCE\n#include <sched.h>\n#include <string.h>\n#include <sys/inotify.h>\n\
        #include <sys/syscall.h>\n#include <unistd.h>\n#include <stdlib.h>\n\
        static struct { unsigned bytes; int type; char data[128]; } handle = {.bytes = 8};\n\
        static long how[3] = {0, 0, 0x10};\nint main(int n, char **v) {\n"
            .to_owned();
    for (name, call, _) in &calls {
        text += &format!("if (!strcmp(v[1], \"{name}\")) {call};\n");
    }
    text += "return 0; }\n";
    let s = TestSpace::new();
    s.write("in/one", "one\n");
    s.write("x.c", text);
    s.must("gcc -w -o x x.c");
    for (name, _, why) in calls {
        let mut told = Vec::new();
        for backend in super::BACKENDS {
            let run = s.rfs_with(&["--tracer", backend], format!("./x {name}").as_str());
            let run = run.expect_code(0);
            assert_eq!(
                run.summary().refused,
                1,
                "{name}, {backend}: {:?}",
                run.explain
            );
            assert!(
                run.explain[0].contains(why),
                "{name}, {backend}: {:?}",
                run.explain
            );
            told.push(run.explain);
        }
        assert_eq!(told[0], told[1], "{name}");
    }
}
