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
