//! The face: options, exit codes, what is told to the user and to programs, where the cache lies
//! and what the workspace is.

use std::ffi::OsString;

use crate::probe::assert_same_run;
use crate::run::{Cmd, Run};
use crate::space::TestSpace;

/// A message of rfs: it starts with its name and is one line.
fn says(run: &Run, words: &[&str]) -> bool {
    run.err()
        .lines()
        .any(|l| l.starts_with("rfs: ") && words.iter().all(|w| l.contains(w)))
}

/// A workspace whose `build.sh` copies `in` to `out` by a step of its own.
pub fn copying() -> TestSpace {
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
            run.err().contains("--help") && run.stdout.is_empty(),
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

/// A small tool is a part of the step around it, and a step of its own where the configuration says so.
#[test]
fn the_configuration_says_what_is_no_step_of_its_own() {
    let steps = |config: &str, script: &str| {
        let s = TestSpace::new();
        s.write("in", "one\n");
        s.write("rfs.toml", config);
        let run = s.rfs(Cmd::sh(script)).expect_code(0);
        assert_eq!(s.read("out"), "one\n");
        run.summary().ran
    };
    assert_eq!(steps("", "cat in >out; :"), 1);
    assert_eq!(steps("[tools]\nfold = ['-cat']\n", "cat in >out; :"), 2);
    assert_eq!(steps("", "m4 in >out; :"), 2);
    assert_eq!(steps("[tools]\nfold = ['m4']\n", "m4 in >out; :"), 1);
}
