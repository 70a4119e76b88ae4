//! The face: options, exit codes, what is told to the user and to programs, where the cache lies
//! and what the workspace is.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::probe::{AtMost, Hit, Probe, Ran, assert_same_run};
use crate::run::{Cmd, Run};
use crate::space::{Setting, TestSpace};
use crate::tree::assert_same;

/// A message of rfs: it starts with its name and is one line.
fn says(run: &Run, words: &[&str]) -> bool {
    run.err()
        .lines()
        .any(|l| l.starts_with("rfs: ") && words.iter().all(|w| l.contains(w)))
}

/// A workspace whose `build.sh` copies `in` to `out` by a step of its own.
fn copying() -> TestSpace {
    let s = TestSpace::new();
    s.write("in", "one\n");
    s.write("build.sh", "sh -c 'cat in > out'\n");
    s
}

#[test]
fn exit_code_is_the_command_s() {
    let s = TestSpace::new();
    for code in [0, 1, 2, 77, 124, 125, 126, 127, 130, 255] {
        let exit = Cmd::sh(&format!("exit {code}"));
        let _first = s.rfs(exit.clone()).expect_code(code);
        let _second = s.rfs(exit).expect_code(code);
    }
}

#[test]
fn command_is_not_found() {
    let s = TestSpace::new();
    for name in ["no-such-command", "./no-such-file", "/no/such/path"] {
        let run = s.rfs(name).expect_code(127);
        assert!(says(&run, &[name]), "{run:#?}");
    }
    s.script("bin/late", "#!/bin/sh\necho here\n");
    let run = s.rfs("./bin/late").expect_code(0);
    assert_eq!(run.out(), "here\n");
}

#[test]
fn command_is_not_executable() {
    let s = TestSpace::new();
    s.write("tool", "#!/bin/sh\necho runs\n");
    s.mkdir("dir");
    for name in ["./tool", "./dir"] {
        let run = s.rfs(name).expect_code(126);
        assert!(says(&run, &[name]), "{run:#?}");
    }
    s.chmod("tool", 0o755);
    assert_eq!(s.rfs("./tool").expect_code(0).out(), "runs\n");
}

/// What the kernel cannot run at all, though it has the bit: as execvp(3), on to a shell.
#[test]
fn command_is_no_program() {
    let s = TestSpace::new();
    s.script("no-first-line", "echo \"run by $0\"\n");
    let bare = s.bare("./no-first-line").expect_code(0);
    assert_same_run(&bare, &s.rfs("./no-first-line"), "first");
    assert_same_run(&bare, &s.rfs("./no-first-line"), "second");
    s.script("no-interpreter", "#!/no/such/interpreter\n");
    let run = s.rfs("./no-interpreter").expect_code(127);
    assert!(says(&run, &["./no-interpreter"]), "{run:#?}");
}

/// Commands use 1 and 2 themselves, so a wrong call of rfs is told apart.
#[test]
fn usage_errors_are_125() {
    let s = TestSpace::new();
    let wrong: [&[&str]; 7] = [
        &["build", "--no-such-option", "--", "true"],
        &["build"],
        &["build", "--"],
        &["build", "--tracer", "magic", "--", "true"],
        &["build", "--summary"],
        &["no-such-command"],
        &["cache", "no-such-command"],
    ];
    for args in wrong {
        let run = s.tool(args).expect_code(125);
        assert!(
            !run.stderr.is_empty() && run.stdout.is_empty(),
            "{args:?}: {run:#?}"
        );
    }
}

#[test]
fn summary_file_cannot_be_written() {
    let s = copying();
    let run = s.tool(&[
        "build",
        "--summary",
        "/no/such/dir/file",
        "--",
        "sh",
        "build.sh",
    ]);
    assert_eq!(s.read("out"), "one\n", "the build is not lost: {run:#?}");
    assert!(says(&run, &["/no/such/dir", "summary"]), "{run:#?}");
}

#[test]
fn help_and_version() {
    let s = TestSpace::new();
    for args in [
        &["--help"][..],
        &["--version"],
        &["build", "--help"],
        &["cache", "--help"],
    ] {
        let run = s.tool(args).expect_code(0);
        assert!(
            !run.stdout.is_empty() && run.stderr.is_empty(),
            "{args:?}: {run:#?}"
        );
    }
    assert!(s.tool(&["--version"]).out().starts_with("rfs "));
}

/// `--` may be left out; the command's options are its own all the same.
#[test]
fn options_of_the_command_are_its_own() {
    let s = TestSpace::new();
    let run = s.tool(&[
        "build",
        "-q",
        "sh",
        "-c",
        "echo \"$@\"",
        "sh",
        "-q",
        "--explain",
        "--",
        "x",
    ]);
    assert_eq!(run.expect_code(0).out(), "-q --explain -- x\n");
}

/// `rfs: 3 steps: 1 hit, 2 ran, 0 refused; 14m12s of work saved; 9.8 s`
#[test]
fn summary_line_comes_last() {
    let s = copying();
    for (round, counts) in [(1, None), (2, Some("1 hit, 0 ran, 0 refused"))] {
        let run = s.tool(&[
            "build",
            "--",
            "sh",
            "-c",
            "echo said; echo wrong >&2; sh build.sh",
        ]);
        let err = run.err();
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(run.out(), "said\n", "round {round}");
        assert_eq!(
            (lines[0], lines.len()),
            ("wrong", 2),
            "round {round}: {err}"
        );
        let (steps, rest) = lines[1]
            .split_once(": ")
            .and_then(|(_, l)| l.split_once(": "))
            .unwrap();
        assert!(
            lines[1].starts_with("rfs: ") && steps.contains("step"),
            "{err}"
        );
        let parts: Vec<&str> = rest.split("; ").collect();
        assert_eq!(parts.len(), 3, "{err}");
        for word in ["hit", "ran", "refused"] {
            assert!(parts[0].contains(word), "{err}");
        }
        assert!(
            parts[1].ends_with("of work saved") && parts[2].ends_with(" s"),
            "{err}"
        );
        assert!(counts.is_none_or(|counts| parts[0] == counts), "{err}");
    }
}

#[test]
fn quiet_says_nothing() {
    let s = copying();
    for _ in 0..2 {
        let run = s
            .tool(&["build", "-q", "--", "sh", "build.sh"])
            .expect_code(0);
        assert_eq!((run.out(), run.err()), (String::new(), String::new()));
    }
}

#[test]
fn summary_counts() {
    let s = copying();
    let first = s.rfs("sh build.sh").expect_ran();
    assert_eq!(first.summary().hit, 0, "{first:#?}");
    assert!(first.summary().ran >= 2, "{first:#?}");
    let _second = s.rfs("sh build.sh").expect_hit();
    s.write("in", "two\n");
    let third = s.rfs("sh build.sh").expect_ran();
    assert!(
        third.summary().ran >= 1 && third.summary().refused == 0,
        "{third:#?}"
    );
}

/// Part of the steps are served: those whose inputs did not change.
#[test]
fn summary_counts_what_was_served_inside() {
    let s = TestSpace::new();
    s.write(
        "build.sh",
        "for n in 1 2 3 4 5; do sh -c \"sort in$n | uniq > out$n\"; done\n",
    );
    (1..6).for_each(|n| s.write(format!("in{n}"), format!("{n}\n")));
    let _first = s.rfs("sh build.sh").expect_ran();
    s.write("in3", "three\n");
    let second = s.rfs("sh build.sh").expect_ran();
    let summary = second.summary();
    assert!(summary.hit >= 4, "four of five are served: {second:#?}");
    assert!(summary.ran + summary.refused <= 4, "{second:#?}");
    assert_eq!(s.read("out3"), "three\n");
}

#[test]
fn explain_tells_hits_and_reasons() {
    let s = copying();
    let first = s.rfs("sh build.sh").expect_ran();
    let ran = |run: &Run| -> Vec<String> {
        run.explain
            .iter()
            .filter(|l| l.starts_with("rfs: ran "))
            .cloned()
            .collect()
    };
    assert_eq!(
        ran(&first).len() as u64,
        first.summary().ran,
        "a line a step: {first:#?}"
    );
    assert!(
        ran(&first)[0].contains("sh build.sh"),
        "in order of start: {first:#?}"
    );
    assert!(
        ran(&first).iter().all(|l| l.contains("because ")),
        "{first:#?}"
    );

    let second = s.rfs("sh build.sh").expect_hit();
    assert_eq!(second.explain.len(), 1, "{second:#?}");
    assert!(second.explain[0].starts_with("rfs: hit "), "{second:#?}");
    assert!(second.explain[0].contains("sh build.sh"), "{second:#?}");

    s.write("in", "two\n");
    let third = s.rfs("sh build.sh").expect_ran();
    let told = |words: &[&str]| {
        ran(&third)
            .iter()
            .any(|l| words.iter().all(|w| l.contains(w)))
    };
    assert!(told(&["because ", "in ", "content"]), "{third:#?}");
}

#[test]
fn explain_tells_refusals() {
    let s = TestSpace::new();
    let run = s.rfs(Cmd::sh("cat > out").stdin(b"x\n")).expect_code(0);
    let refused = run
        .explain
        .iter()
        .find(|line| line.starts_with("rfs: refused "));
    let reason = refused
        .and_then(|line| line.rsplit_once(": "))
        .map(|(_, reason)| reason);
    assert!(reason.is_some_and(|reason| !reason.is_empty()), "{run:#?}");
    assert!(
        refused.is_some_and(|line| line.contains("pipe")),
        "{run:#?}"
    );
}

#[test]
fn absent_and_there_are_told_by_name() {
    let s = TestSpace::new();
    s.write(
        "build.sh",
        "if [ -f config.h ]; then echo yes; else echo no; fi\n",
    );
    let _first = s.rfs("sh build.sh").expect_ran();
    s.write("config.h", "");
    let second = s.rfs("sh build.sh").expect_ran();
    assert!(
        second.explain.iter().any(|line| line.contains("config.h")),
        "{second:#?}"
    );
}

#[test]
fn rerun_records_but_never_serves() {
    let s = copying();
    for _ in 0..2 {
        let run = s.rfs_with(&["--rerun"], "sh build.sh").expect_ran();
        assert_eq!(run.summary().hit, 0, "{run:#?}");
    }
    let _served = s.rfs("sh build.sh").expect_hit();
}

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

#[test]
fn cache_lies_where_the_user_says() {
    let s = copying();
    let root = |name: &str| s.root().join(name);
    let at = |env: &[(&str, OsString)], options: &[&str]| {
        let mut cmd = Cmd::from("sh build.sh");
        for key in ["RFS_CACHE_DIR", "XDG_CACHE_HOME"] {
            cmd.env.push((key.into(), None));
        }
        for (key, value) in env {
            cmd = cmd.env(key, value);
        }
        s.rfs_with(options, cmd).expect_code(0)
    };
    let home = root("home").join(".cache/rfs");
    assert!(!home.exists());
    let _ran = at(&[], &[]).expect_ran();
    assert!(home.is_dir(), "~/.cache/rfs");
    let xdg = ("XDG_CACHE_HOME", root("xdg").into());
    let _ran = at(std::slice::from_ref(&xdg), &[]).expect_ran();
    assert!(root("xdg/rfs").is_dir(), "$XDG_CACHE_HOME/rfs");
    let own = ("RFS_CACHE_DIR", root("own").into());
    let _ran = at(&[xdg.clone(), own.clone()], &[]).expect_ran();
    assert!(root("own").is_dir(), "$RFS_CACHE_DIR");
    let option = root("option").display().to_string();
    let _ran = at(&[xdg, own], &["--cache-dir", &option]).expect_ran();
    assert!(root("option").is_dir(), "--cache-dir");
}

#[test]
fn init_marks_the_workspace() {
    let s = TestSpace::new();
    let _ok = s.tool(&["init"]).expect_code(0);
    let tag = s.read(".rfs/CACHEDIR.TAG");
    assert!(
        tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"),
        "{tag}"
    );
    assert_eq!(s.read(".rfs/.gitignore"), "*\n");
    let _again = s.tool(&["init"]).expect_code(0);
    s.mkdir("other");
    let _ok = s.tool(&["init", "other"]).expect_code(0);
    assert!(s.exists("other/.rfs/CACHEDIR.TAG"));
    let missing = s.tool(&["init", "no/such/dir"]);
    assert_ne!(missing.code(), 0);
    assert!(says(&missing, &["no/such/dir"]), "{missing:#?}");
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

#[test]
fn small_commands_answer() {
    let s = copying();
    let _ran = s.rfs("sh build.sh").expect_ran();
    for args in [&["cache", "stats"][..], &["cache", "verify"], &["doctor"]] {
        let run = s.tool(args).expect_code(0);
        assert!(!run.stdout.is_empty(), "{args:?}: {run:#?}");
    }
    let _still = s.rfs("sh build.sh").expect_hit();
}

#[test]
fn small_commands_without_a_cache() {
    let s = TestSpace::new();
    for args in [&["cache", "stats"][..], &["cache", "verify"]] {
        let run = s.tool(args).expect_code(0);
        assert!(run.err().is_empty(), "{args:?}: {run:#?}");
    }
}

/// A log says more, and the build does the same.
#[test]
fn log_level_is_taken() {
    let s = copying();
    let cmd = || Cmd::from("sh build.sh").env("RFS_LOG", "debug");
    let _ran = s.rfs(cmd()).expect_code(0);
    assert_eq!(s.read("out"), "one\n");
    let _served = s.rfs("sh build.sh").expect_hit();
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
