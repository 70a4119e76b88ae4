//! What doc/semantics.md says can be told apart: each sentence that is listed here is in the document, and is
//! true. Other limits are pinned where their subject is tested.

use crate::run::Cmd;
use crate::space::{Setting, TestSpace};

/// A part of the document, a shell script, and what it prints as root and as an ordinary user.
const LIMITS: [(&str, &str, [&str; 2]); 8] = [
    (
        "**`io_uring`** is answered ENOSYS",
        "python3 -c 'import ctypes; c = ctypes.CDLL(None, use_errno=True); \
         print(c.syscall(425, 1, 0), ctypes.get_errno())'",
        ["-1 38\n", "-1 38\n"],
    ),
    (
        "**`O_TMPFILE`** in the workspace is answered EOPNOTSUPP",
        "python3 -c 'import os\ntry: os.open(\".\", os.O_TMPFILE | os.O_RDWR)\n\
         except OSError as e: print(e.errno)'",
        ["95\n", "95\n"],
    ),
    (
        "`stat -f` in the workspace says fuse",
        "stat -f -c %T . | cut -c -4",
        ["fuse\n", "fuse\n"],
    ),
    (
        "`chown` to other ids fails with EINVAL",
        "python3 -c 'import os\ntry: os.chown(\"in\", 1, 1); print(\"done\")\n\
         except OSError as e: print(e.errno)'",
        ["done\n", "22\n"],
    ),
    (
        "to a descriptor that the step was started with are answered EINVAL",
        "python3 -c 'import os\ntry: os.sendfile(1, os.open(\"in\", 0), 0, 3)\n\
         except OSError as e: print(e.errno)'",
        ["22\n", "22\n"],
    ),
    (
        "hard links and renames across its border fail with EXDEV",
        "python3 -c 'import os\nfor deed in os.link, os.rename:\n try: deed(\"in\", \"../outside/f\")\n \
         except OSError as e: print(e.errno)'",
        ["18\n18\n", "18\n18\n"],
    ),
    (
        "**`FICLONE`** (`cp --reflink=always`): the mount cannot",
        "cp --reflink=always in c 2>&1 | grep -o \"Operation not supported\"",
        ["Operation not supported\n", "Operation not supported\n"],
    ),
    (
        "`no_new_privs` is not set",
        "grep NoNewPrivs /proc/self/status | tr -d '\\t'",
        ["NoNewPrivs:0\n", "NoNewPrivs:0\n"],
    ),
];

#[test]
fn the_document_is_true() {
    let text = include_str!("../../doc/semantics.md");
    let text: Vec<&str> = text.split_whitespace().collect();
    let text = text.join(" ");
    for (sentence, script, said) in LIMITS {
        assert!(text.contains(sentence), "not in the document: {sentence}");
        for (nobody, said) in [false, true].into_iter().zip(said) {
            let s = TestSpace::with(Setting {
                nobody,
                tracer: None,
            });
            s.write("in", "one\n");
            s.write("../outside/there", "");
            let run = s.rfs(Cmd::sh(script));
            assert_eq!(run.out(), said, "{sentence}: nobody {nobody} {run:#?}");
        }
    }
}

/// A shell says so of what somebody has killed, and nobody may have seen that.
#[test]
fn an_exit_as_if_killed_leaves_no_record() {
    for code in [137, 143] {
        let s = TestSpace::new();
        for _ in 0..2 {
            let run = s.rfs(Cmd::sh(&format!("exit {code}"))).expect_code(code);
            assert_eq!(run.summary().refused, 1, "{run:#?}");
        }
    }
}

/// More than rfs keeps of what a step prints.
#[test]
fn a_print_of_more_than_64_mib_leaves_no_record() {
    const MOST: usize = 64 << 20;
    for (n, refused) in [(1 << 20, false), (MOST + 1, true)] {
        let s = TestSpace::new();
        for round in 0..2 {
            let run = s.rfs(Cmd::sh(&format!("head -c {n} /dev/zero; echo said >&2")));
            let run = run.expect_code(0);
            assert_eq!(run.stdout.len(), n);
            let summary = run.summary();
            let expected = (u64::from(refused), !refused && round == 1);
            assert_eq!(
                (summary.refused, summary.whole_hit),
                expected,
                "{n}, run {round}"
            );
        }
    }
}

/// The names in a directory, and its permissions, are what a step depends on that makes files in it.
#[test]
fn a_default_acl_that_came_later_is_not_noticed() {
    let s = TestSpace::new();
    s.must(Cmd::sh("mkdir d"));
    let step = || s.rfs(Cmd::sh("echo made > d/f")).expect_code(0);
    let _first = step().expect_ran();
    // Version 2; the owner, user 12345, the group, the mask, others: tag, permissions, id.
    let acl = "import os, struct; n = 0xffffffff; all = [(1, 7, n), (2, 7, 12345), (4, 5, n), (16, 7, n), (32, 5, n)]; \
               os.setxattr('d', 'system.posix_acl_default', struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in all))";
    let names = || {
        let look = "import os; print(os.listxattr('d/f'))";
        s.bare(Cmd::new(["python3", "-c", look]))
            .expect_code(0)
            .out()
    };
    s.must(Cmd::new(["python3", "-c", acl]));
    s.must(Cmd::sh("rm d/f; echo made > d/f"));
    assert_eq!(
        names(),
        "['system.posix_acl_access']\n",
        "as the bare command does"
    );
    s.must(Cmd::sh("rm d/f"));
    let _served = step().expect_hit();
    assert_eq!(names(), "[]\n");
}

/// The workspace is mounted over itself, and git does not look beyond a mount.
#[test]
fn git_looks_for_no_repository_above_the_workspace() {
    let s = TestSpace::new();
    // Else the workspace would be all of the repository.
    let _workspace = s.rfs(Cmd::sh("true")).expect_code(0);
    s.must(Cmd::new(["git", "init", "-q", ".."]));
    let look = Cmd::new(["git", "rev-parse", "--show-prefix"]);
    assert_eq!(s.bare(look.clone()).expect_code(0).out(), "ws/\n");
    let run = s.rfs(look.clone()).expect_code(128);
    assert!(
        run.err().contains("GIT_DISCOVERY_ACROSS_FILESYSTEM"),
        "{run:#?}"
    );
    let across = look.env("GIT_DISCOVERY_ACROSS_FILESYSTEM", "1");
    assert_eq!(s.rfs(across).expect_code(0).out(), "ws/\n");
}
