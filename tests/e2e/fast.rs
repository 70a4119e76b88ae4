//! What makes it fast, as far as it can be counted: calls that stop and why.

use serde_json::Value;

use crate::run::Cmd;
use crate::space::TestSpace;

const LOOKS: u64 = 100;

/// A program that looks at a hundred names, each once.
const ASKER: &str = "#include <stdio.h>\n#include <unistd.h>\n\
    int main(void) {\n\
        char name[32];\n\
        for (int i = 0; i < 100; i++) {\n\
            snprintf(name, sizeof name, \"absent%d\", i);\n\
            access(name, F_OK);\n\
        }\n\
        return 0;\n\
    }\n";

fn asker(options: &str) -> TestSpace {
    let s = TestSpace::new();
    s.write("asker.c", ASKER);
    s.must(format!("gcc {options} -o asker asker.c").as_str());
    s
}

/// What `rfs profile` tells of the calls of the last build.
struct Calls(Value);

impl Calls {
    /// Of a build with the preload library or without it.
    fn of(s: &TestSpace, cmd: impl Into<Cmd>, preload: &str, tracer: &str) -> Self {
        let options = ["--tracer", tracer];
        let preload = format!("RFS_PRELOAD={preload}");
        let run = s.rfs_with(&options, cmd.into().outer(["env", preload.as_str()]));
        let _built = run.expect_code(0);
        let told = s.tool(&["profile", "--json"]).expect_code(0);
        let told: Value = serde_json::from_str(&told.out()).unwrap();
        Self(told["calls"].clone())
    }

    fn noted(&self) -> u64 {
        self.0["noted"].as_u64().unwrap()
    }

    /// How many calls of a kind, program and reason stopped; empty words stand for any.
    fn stops(&self, call: &str, program: &str, why: &str) -> u64 {
        let is = |stop: &Value, key: &str, wanted: &str| wanted.is_empty() || stop[key] == wanted;
        let stops = self.0["stopped"].as_array().unwrap().iter();
        stops
            .filter(|stop| is(stop, "call", call))
            .filter(|stop| is(stop, "program", program) && is(stop, "why", why))
            .map(|stop| stop["times"].as_u64().unwrap())
            .sum()
    }
}

#[test]
fn looks_with_the_library_do_not_stop() {
    let s = asker("-O1");
    let calls = Calls::of(&s, "./asker", "1", "notify");
    // The first few ask for memory first.
    let stopped = calls.stops("access", "asker", "") + calls.stops("faccessat", "asker", "");
    assert!(calls.noted() + stopped >= LOOKS, "{:#}", calls.0);
    assert!(calls.noted() + 5 >= LOOKS, "{:#}", calls.0);
    assert_eq!(calls.stops("", "", "no-library"), 0, "{:#}", calls.0);
    assert!(
        calls.stops("openat", "asker", "loader") > 0,
        "{:#}",
        calls.0
    );
    assert_eq!(calls.stops("exit_group", "asker", "acts"), 1);
    let text = s.tool(&["profile", "--calls"]).expect_code(0).out();
    assert!(
        text.contains(&format!("{} looks were noted", calls.noted())),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.ends_with("openat             asker")),
        "{text}"
    );
}

#[test]
fn looks_without_the_library_stop() {
    for (options, preload, tracer) in [
        ("-O1", "0", "notify"),
        ("-O1", "1", "ptrace"),
        ("-O1 -static", "1", "notify"),
    ] {
        let s = asker(options);
        let calls = Calls::of(&s, "./asker", preload, tracer);
        let stopped = ["access", "faccessat"].map(|call| calls.stops(call, "asker", "no-library"));
        // The loader asks for its list of libraries in the same way.
        let more = u64::from(options == "-O1");
        assert_eq!(
            stopped[0] + stopped[1],
            LOOKS + more,
            "{options} {tracer}: {:#}",
            calls.0
        );
        assert_eq!(calls.noted(), 0, "{options} {tracer}");
        assert_eq!(calls.stops("exit_group", "asker", "acts"), 1);
    }
}

/// What the tests of records side by side rest on: the shell and the second program have the library.
#[test]
fn half_of_the_programs_have_the_library() {
    let s = asker("-O1");
    let calls = Calls::of(&s, Cmd::sh("./asker 1; ./asker 2; :"), "half", "notify");
    let stopped = ["access", "faccessat"].map(|call| calls.stops(call, "asker", "no-library"));
    assert_eq!(stopped[0] + stopped[1], LOOKS + 1, "{:#}", calls.0);
    assert!(
        calls.noted() + 5 >= LOOKS && calls.noted() < 2 * LOOKS,
        "{:#}",
        calls.0
    );
}

/// A child that has not started a program is counted for that of its parent.
#[test]
fn stops_are_those_of_the_program_that_runs() {
    let s = asker("-O1 -static");
    let calls = Calls::of(
        &s,
        Cmd::sh("(:); ./asker 1; ./asker 2; (exit 3) || :"),
        "0",
        "notify",
    );
    assert_eq!(
        calls.stops("exit_group", "asker", "acts"),
        2,
        "{:#}",
        calls.0
    );
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    let shell = shell.file_name().unwrap().to_str().unwrap();
    assert_eq!(calls.stops("exit_group", shell, "acts"), 3, "{:#}", calls.0);
    assert_eq!(calls.stops("execve", shell, "acts"), 2, "{:#}", calls.0);
}

/// make starts a command by posix_spawn(3), a shell the same one by fork(2).
#[test]
fn who_starts_a_program_does_not_matter() {
    let s = TestSpace::new();
    s.write("in", "one\n");
    s.script("tool", "#!/bin/sh\ncp in out\n");
    s.write(
        "start.py",
        "import os, sys\n\
         argv = ['./tool']\n\
         if sys.argv[1] == 'spawn':\n    child = os.posix_spawn(argv[0], argv, os.environ)\n\
         else:\n    child = os.fork()\n    child or os.execv(argv[0], argv)\n\
         sys.exit(os.waitpid(child, 0)[1] >> 8)\n",
    );
    let _forked = s.rfs("python3 start.py fork").expect_code(0);
    s.remove("out");
    let spawned = s.rfs("python3 start.py spawn").expect_code(0);
    assert_eq!(spawned.summary().hit, 1, "{spawned:#?}");
    assert_eq!(s.read("out"), "one\n");
}
