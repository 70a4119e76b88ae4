#!/usr/bin/env python3
"""Breaks rfs on purpose, one way at a time, and says which of the tests notice.

    python3 tests/breakages.py [--all] [NAME...]

Each entry of BREAKAGES is a piece of the source, what it becomes, and the tests that must fail then: a
filter of the end-to-end tests, or one of another test program after its name.
Without --all the first test that fails ends the matter. The tree must be clean where it is broken, and
is put back afterwards. Exit status 1 if a breakage goes unnoticed by a test that is named with it.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# name: (file, text, broken text, tests that must notice)
BREAKAGES = {
    "content is not compared": (
        "src/base/record.rs",
        "looked(Access::REG, digest != digest2, Change::Content)",
        "looked(Access::REG, false && digest != digest2, Change::Content)",
        ["probes::content"],
    ),
    "link text is not compared": (
        "src/base/record.rs",
        "Self::Link(text2, mtime2)) => (text != text2)",
        "Self::Link(text2, mtime2)) => (false && text != text2)",
        ["same::links", "probes::lookup"],
    ),
    "permissions are not compared": (
        "src/base/record.rs",
        "looked(Access::MODE | Access::OVER, mode != mode2, Change::Mode)",
        "looked(Access::MODE | Access::OVER, false && mode != mode2, Change::Mode)",
        ["probes::"],
    ),
    "names in a directory are not compared": (
        "src/base/record.rs",
        "looked(Access::LIST, list != list2, Change::Names)",
        "looked(Access::LIST, false && list != list2, Change::Names)",
        ["probes::lookup"],
    ),
    "the appearance of a name is not noticed": (
        "src/base/record.rs",
        "(Self::Absent, _) => Some(Change::Appeared)",
        "(Self::Absent, _) => None",
        ["probes::lookup"],
    ),
    "the order of time stamps is not compared": (
        "src/cache/lookup.rs",
        "if !same {",
        "if false && !same {",
        ["make::"],
    ),
    "directories do not get their place among the time stamps": (
        "src/cache/dirs.rs",
        "match disk.set_mtime(&dir.path, time(dir.rank)) {",
        "match disk.set_mtime(&dir.path, time(0)) {",
        ["dated::a_directory"],
    ),
    "what is written over touches its directory": (
        "src/record/dirs.rs",
        "entry.wrote.any(Wrote::NAME) && input(",
        "entry.wrote.any(Wrote::NAME) || input(",
        ["dated::a_directory"],
    ),
    "an old output that a link leads to need not be known": (
        "src/watch/paths.rs",
        "links.any(|link| link.starts_with(self.world.root()))",
        "links.any(|link| link == self.world.root())",
        ["semantics::object_file_in_the_place_of_a_link"],
    ),
    "who cannot say what he changes says nothing": (
        "src/world/others.rs",
        "if started == ANYTHING {",
        "if started == ANYTHING - 1 {",
        ["lib world::others"],
    ),
    "who ignores the ends of children is not refused": (
        "src/watch/usage.rs",
        "is_ok_and(|mask| mask & bit != 0)",
        "is_ok_and(|mask| mask & bit == u64::MAX)",
        ["child_is_killed_before"],
    ),
    "what came in by standard input is not compared": (
        "src/cache/lookup.rs",
        "if stdin(&record.stdin) {",
        "if stdin(&record.stdin) || true {",
        ["probes::", "stream::"],
    ),
    "inputs that changed while they were used are not looked at": (
        "src/watch/close.rs",
        "for input in &folded.check {",
        "for input in folded.check.iter().take(0) {",
        ["input_changed_while_it_is_used"],
    ),
    "outputs that others write as well are recorded": (
        "src/record/fold.rs",
        "if !untouched && (theirs || entry.shared) {",
        "if false && !untouched && (theirs || entry.shared) {",
        ["semantics::"],
    ),
    "a blob is kept although it could not be written": (
        "src/cache/blobs.rs",
        "self.disk.write_at(&tmp.file, &tmp.path, bytes, 0)?;",
        "drop(self.disk.write_at(&tmp.file, &tmp.path, bytes, 0));",
        ["faults recorded::torn"],
    ),
    "whoever is called at a socket need not know": (
        "src/watch/meet.rs",
        "model.refuse_between(at, host, &why);",
        "let _ = host;",
        ["lib who_calls_at_a_socket_is_told_by_others"],
    ),
    "whoever called before there was a socket need not know": (
        "src/watch/meet.rs",
        "model.refuse_between(at, caller, &why);",
        "let _ = caller;",
        ["lib who_calls_at_a_socket_is_told_by_others"],
    ),
    "a compiler's text is put in place of what is there": (
        "src/record/fold.rs",
        "access = if replaced && into && !access.has(Access::OUST) {",
        "access = if false && replaced && into && !access.has(Access::OUST) {",
        ["semantics::written_over_or_made_anew"],
    ),
    "a link in the place of an object file does not matter": (
        "src/record/fold.rs",
        "} else if replaced {\n            Access::PEEK",
        "} else if replaced {\n            Access::OUST",
        ["probes::output::tests::object_file_by_a_link"],
    ),
    "what was set of a file stays with its old name": (
        "src/watch/model.rs",
        "entry.wrote |= wrote;",
        "let _ = (entry, wrote);",
        ["dated::"],
    ),
    "the order of time stamps in the future is not compared": (
        "src/record/fold.rs",
        "rank | Dep::FUTURE",
        "1 | Dep::FUTURE",
        ["dated::"],
    ),
    "a file of the workspace's state may stay empty": (
        "src/cli/workspace.rs",
        "found.len() < text.len() as u64",
        "found.len() > text.len() as u64",
        ["lib workspace"],
    ),
    "what a parent hears of a child that was killed does not matter": (
        "tracer/src/fast.rs",
        "tells.then(|| (caller.int(2), caller.int(3)))",
        "(tells && false).then(|| (caller.int(2), caller.int(3)))",
        ["kill::end::child_is_killed"],
    ),
    "processes left behind do not matter": (
        "src/watch/close.rs",
        "            self.leftovers(&mut model, at);\n",
        "",
        ["idioms::processes"],
    ),
    "System V objects may be anybody's": (
        "src/watch/ipc.rs",
        "None if create && !exists(object) => {",
        "None if create => {",
        ["idioms::processes"],
    ),
    "System V objects may be left behind": (
        "src/watch/ipc.rs",
        "if exists(object) {",
        "if false && exists(object) {",
        ["idioms::processes"],
    ),
}


def cargo(test):
    program, _, test = test.rpartition(" ")
    which = ["--lib"] if program == "lib" else ["--test", program or "e2e"]
    env = os.environ | {"RUST_BACKTRACE": "0"}
    return subprocess.run(["cargo", "test", "-q", *which, test], cwd=ROOT, env=env,
                          text=True, capture_output=True)


def noticed(test):
    done = cargo(test)
    if "could not compile" in done.stderr:
        sys.exit(done.stderr)
    failed = [line.split("'")[1] for line in done.stdout.splitlines() + done.stderr.splitlines()
              if line.startswith("thread '") and "panicked" in line]
    return done.returncode != 0, sorted(set(name for name in failed if "::" in name))


def main():
    args = sys.argv[1:]
    every = "--all" in args
    names = [arg for arg in args if arg != "--all"] or list(BREAKAGES)
    unnoticed = 0
    for name in names:
        file, text, broken, tests = BREAKAGES[name]
        path = ROOT / file
        whole = path.read_text()
        if whole.count(text) != 1:
            sys.exit(f"{name}: {file} has {text!r} {whole.count(text)} times")
        path.write_text(whole.replace(text, broken))
        try:
            for test in tests:
                yes, who = noticed(test)
                print(f"{name}: {test}: {'noticed by ' + ', '.join(who[:8]) if yes else 'NOT NOTICED'}",
                      flush=True)
                if yes and not every:
                    break
                unnoticed += not yes
        finally:
            path.write_text(whole)
    sys.exit(unnoticed != 0)


main()
