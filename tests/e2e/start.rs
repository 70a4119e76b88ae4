//! How a command is started: from where, in which environment, with what it inherits; and what is
//! there when it has ended.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::face::copying;
use crate::probe::{AtMost, Hit, Probe, Ran, assert_same_run};
use crate::run::Cmd;
use crate::space::{Setting, TestSpace};
use crate::tree::assert_same;

/// Whole and unchanged, any bytes that the kernel allows.
#[test]
fn environment_is_passed_on_whole() {
    let s = TestSpace::new();
    let cmd = Cmd::new(["env", "-0"])
        .env("EMPTY", "")
        .env("SPACED", " a  b ")
        .env("LINES_OF", "a\nb=c\n")
        .env(
            OsStr::from_bytes(b"BYTES\xff"),
            OsStr::from_bytes(b"\xfe\x80"),
        )
        .env("LD_LIBRARY_PATH", "/no/such")
        .env("MAKEFLAGS", "-k")
        .env("RFS_OWN", "x")
        .env("COLUMNS", "33");
    let bare = s.bare(cmd.clone());
    for round in ["first", "second"] {
        assert_same_run(&bare, &s.rfs(cmd.clone()), round);
    }
}

/// They change from shell to shell and from make to make, never a result.
#[test]
fn ignored_variables_do_not_change_the_key() {
    let s = copying();
    let _first = s.rfs("sh build.sh").expect_ran();
    let ignored = [
        ("COLUMNS", "132"),
        ("LINES", "50"),
        ("MAKEFLAGS", " -j4 --jobserver-auth=3,4"),
        ("MAKEFLAGS", " -j8 --jobserver-auth=fifo:/tmp/GMfifo1"),
        ("WINDOWID", "123"),
        ("XDG_SESSION_ID", "7"),
        ("SSH_TTY", "/dev/pts/7"),
        ("SHLVL", "3"),
        ("OLDPWD", "/"),
        ("_", "/usr/bin/rfs"),
    ];
    for (key, value) in ignored {
        let run = s.rfs(Cmd::from("sh build.sh").env(key, value));
        assert!(run.summary().whole_hit, "{key}={value}: {run:#?}");
    }
    let _ran = s
        .rfs(Cmd::from("sh build.sh").env("CFLAGS", "-O2"))
        .expect_ran();
}

/// A flag of make that changes what it does is no jobserver.
#[test]
fn makeflags_are_ignored_in_part_only() {
    let s = TestSpace::new();
    s.write("Makefile", "all:\n\t@echo $(X)\n");
    let cmd = |flags: &str| Cmd::from("make").env("MAKEFLAGS", flags);
    for flags in ["", "-- X=1", "-- X=2", "n"] {
        assert_same_run(&s.bare(cmd(flags)), &s.rfs(cmd(flags)), flags);
    }
}

/// The nearest `.rfs` or `.git` above is the workspace, so that its other files are seen as its own.
#[test]
fn build_from_a_sub_directory() {
    for mark in [".git", ".rfs"] {
        let s = TestSpace::new();
        s.mkdir(mark);
        s.write("in", "one\n");
        s.mkdir("a/b");
        let cmd = || Cmd::sh("cat ../../in > out; pwd").cwd("a/b");
        let bare = s.bare(cmd());
        s.remove("a/b/out");
        assert_same_run(&bare, &s.rfs(cmd()).expect_ran(), "first");
        s.remove("a/b/out");
        assert_same_run(&bare, &s.rfs(cmd()).expect_hit(), "second");
        assert_eq!(s.read("a/b/out"), "one\n");
        assert!(
            !s.exists("a/b/.rfs"),
            "the state lies at the root of the workspace"
        );
    }
}

#[test]
fn current_directory_behind_a_link() {
    let s = TestSpace::new();
    let link = s.root().join("outside/link");
    s.write("sub/in", "one\n");
    s.mkdir(".git");
    symlink(s.path("sub"), &link).unwrap();
    let cmd = || {
        Cmd::sh("pwd; pwd -P; cat in > out")
            .cwd(&link)
            .env("PWD", &link)
    };
    let bare = s.bare(cmd());
    let tree = s.tree();
    for round in ["first", "second"] {
        s.remove("sub/out");
        assert_same_run(&bare, &s.rfs(cmd()).expect_code(0), round);
        assert_same(&tree, &s.tree(), round);
    }
}

#[test]
fn workspace_of_any_name() {
    for name in [
        &b"a b  c"[..],
        "\u{fc}\u{4e16}\u{1f600}".as_bytes(),
        b"by\xff\xfetes",
        b"l\ni\\ne",
    ] {
        let s = TestSpace::named(OsStr::from_bytes(name), Setting::default());
        Probe::script("cat in > out; pwd; sh -c 'sort in > out2'\n", |s| {
            s.write("in", "one\n");
        })
        .first(4)
        .again(Hit)
        .without("out", Hit)
        .with("in", "two\n", Ran(4))
        .run_in(&s);
    }
}

/// As for a user who types it in a directory of no project.
#[test]
fn first_use_needs_no_preparation() {
    let s = copying();
    let _ran = s.rfs("sh build.sh").expect_ran();
    assert!(s.exists(".rfs/CACHEDIR.TAG"));
    assert_eq!(s.read(".rfs/.gitignore"), "*\n");
}

/// Limits, descriptors and dispositions of signals are those that the user's shell set.
#[test]
fn process_attributes_are_inherited() {
    let cases = [
        ("limits", "bash -c 'ulimit -a'", ":"),
        (
            "a limit",
            "bash -c 'ulimit -n; ulimit -c'",
            "ulimit -n 500; ulimit -c 0",
        ),
        ("descriptors", "ls /proc/self/fd", ":"),
        ("a descriptor", "ls /proc/self/fd; cat <&7", "exec 7< in"),
        (
            "signals",
            "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status",
            ":",
        ),
        (
            "ignored signals",
            "grep SigIgn /proc/self/status",
            "trap '' HUP PIPE USR1",
        ),
        ("identity", "id", ":"),
        ("nice", "nice", "renice -n 3 $$ > /dev/null"),
    ];
    for (name, script, before) in cases {
        let s = TestSpace::new();
        s.write("in", "one\n");
        let cmd = Cmd::sh(script).after(before);
        let bare = s.bare(cmd.clone()).expect_code(0);
        assert_same_run(&bare, &s.rfs(cmd.clone()), &format!("{name}, first"));
        assert_same_run(&bare, &s.rfs(cmd), &format!("{name}, second"));
    }
}

/// rfs inside rfs: the inner one finds no second tracer to be had, or has one; both are right.
#[test]
fn nested() {
    let s = copying();
    let program = s.program().display().to_string();
    let inner = || Cmd::new([program.as_str(), "build", "-q", "--", "sh", "build.sh"]);
    for content in ["one\n", "one\n", "two\n"] {
        s.write("in", content);
        s.remove("out");
        let run = s.rfs(inner()).expect_code(0);
        assert_eq!(s.read("out"), content, "{run:#?}");
    }
}

/// No mount and no process is left when the command has ended.
#[test]
fn nothing_is_left_behind() {
    let s = copying();
    let _ran = s.rfs("sh build.sh").expect_code(0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = s.root().file_name().unwrap().to_str().unwrap();
    assert!(!mounts.contains(root), "{mounts}");
    let program = s.program().file_name().unwrap();
    for process in fs::read_dir("/proc").unwrap() {
        let Ok(cwd) = fs::read_link(process.unwrap().path().join("cwd")) else {
            continue;
        };
        assert!(
            !cwd.starts_with(s.root()),
            "{} is left of {program:?}",
            cwd.display()
        );
    }
}

/// What the command puts beside the workspace is not the workspace's, and is not forgotten.
#[test]
fn whole_probe_in_a_sub_directory() {
    let s = TestSpace::new();
    Probe::new(
        |s| {
            s.mkdir(".git");
            s.write("sub/in", "one\n");
        },
        Cmd::sh("cat in > ../out; mkdir -p ../d; cat in > ../d/out").cwd("sub"),
    )
    .first(4)
    .again(AtMost(4))
    .again(Hit)
    .without("out", Hit)
    .with("sub/in", "two\n", Ran(4))
    .run_in(&s);
}
