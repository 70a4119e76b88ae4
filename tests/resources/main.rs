//! What a build uses and what it is given: processor time, memory, places, job tokens.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests write files as users do")]
#![allow(missing_docs, reason = "a test's name says what it is")]

mod groups;
mod held;
mod places;
mod tools;

use rfs::base::cpuset::CpuSet;
use std::process::{Command, Output};

/// A workspace with a cache.
struct Space(tempfile::TempDir);

impl Space {
    fn new() -> Self {
        let space = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(space.ws()).unwrap();
        space
    }

    fn ws(&self) -> std::path::PathBuf {
        self.0.path().join("ws")
    }

    /// Outside of the workspace, where nothing that is there by turns makes a step unstable.
    fn there(&self) -> std::path::PathBuf {
        self.0.path().join("there")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.ws().join(name), text).unwrap();
    }

    /// A program of one source file.
    fn compile(&self, name: &str, source: &str) {
        let file = format!("{name}.c");
        self.write(&file, source);
        let mut cc = Command::new("cc");
        cc.args(["-O1", &file, "-o", name]).current_dir(self.ws());
        assert!(cc.status().unwrap().success());
    }

    fn rfs(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rfs"));
        command.args(args).current_dir(self.ws());
        command.env("RFS_CACHE_DIR", self.0.path().join("cache"));
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CARGO_MAKEFLAGS"] {
            command.env_remove(name);
        }
        command
    }

    /// A build that ends well: what it printed, and its counts of steps that were served, ran and were refused.
    fn build(&self, options: &[&str], command: &[&str]) -> (Output, [u64; 3]) {
        let file = self.0.path().join("summary");
        let mut args = vec!["build", "--explain", "--summary", file.to_str().unwrap()];
        args.extend(options);
        args.push("--");
        args.extend(command);
        let output = self.rfs(&args).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        let summary: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let count = |name: &str| summary[name].as_u64().unwrap();
        (output, ["hit", "ran", "refused"].map(count))
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.rfs(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The step of the last build whose command starts so.
    fn step(&self, title: &str) -> serde_json::Value {
        let profile = self.json(&["profile", "--json"]);
        let steps = profile["steps"].as_array().unwrap();
        let is_it = |step: &&serde_json::Value| step["title"].as_str().unwrap().starts_with(title);
        steps
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("no {title}: {profile}"))
            .clone()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fills so many MiB of memory, or computes for so many seconds of its own time.
const WORK: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <time.h>
int main(int n, char **arg)
{
    size_t size = (size_t)atoi(arg[1]) << 20;
    char *memory = malloc(size + 1);
    memset(memory, 1, size);
    while (clock() < atof(arg[2]) * CLOCKS_PER_SEC)
        ;
    return memory[size / 2] == 2;
}
"#;

fn work(space: &Space) {
    space.compile("work", WORK);
}

/// What a step used is known, apart from what the steps inside it used.
#[test]
fn what_a_step_has_used_is_told() {
    let space = Space::new();
    work(&space);
    let script = "sh -c './work 96 0; true'; ./work 0 0.3; sh -c 'true; exec ./work 0 0.1'; ls /proc/self/root >/dev/null";
    space.build(&[], &["sh", "-c", script]);
    let number = |step: &serde_json::Value, name: &str| step[name].as_u64().unwrap();

    let (memory, time) = (space.step("./work 96 0"), space.step("./work 0 0.3"));
    assert!(number(&memory, "peak_bytes") >= 96 << 20, "{memory}");
    assert_eq!(memory["peak_bytes"], memory["own_bytes"], "{memory}");
    assert!(number(&time, "peak_bytes") < 48 << 20, "{time}");
    assert!(number(&time, "cpu_us") >= 290_000, "{time}");
    assert!(
        number(&time, "cpu_us") <= number(&time, "wall_us"),
        "{time}"
    );
    let last = space.step("./work 0 0.1");
    assert!(
        (90_000..290_000).contains(&number(&last, "cpu_us")),
        "{last}"
    );

    let inner = space.step("sh -c ./work 96");
    assert!(number(&inner, "peak_bytes") >= 96 << 20, "{inner}");
    assert!(number(&inner, "own_bytes") < 48 << 20, "{inner}");
    let all = space.step("sh -c sh");
    assert!(number(&all, "cpu_us") >= 380_000, "{all}");
    assert!(number(&all, "peak_bytes") >= 96 << 20, "{all}");
    assert!(number(&all, "switches") > 0, "{all}");
    let cpus = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_CONF)
        .unwrap()
        .unwrap();
    assert!(i64::try_from(number(&all, "cpu")).unwrap() < cpus, "{all}");

    let trace = space.json(&["profile", "--trace"]);
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |event: &&serde_json::Value| event["args"]["number"] == time["number"];
    let event = events.iter().find(of).unwrap();
    assert_eq!(event["dur"], time["wall_us"]);
    let lane = |event: &&serde_json::Value| event["name"] == "thread_name";
    let lanes: Vec<_> = events
        .iter()
        .filter(lane)
        .map(|lane| text(lane["args"]["name"].as_str().unwrap().as_bytes()))
        .collect();
    assert!(lanes.contains(&format!("cpu {}", time["cpu"])), "{lanes:?}");
    let told = text(&space.rfs(&["profile", "-n", "1"]).output().unwrap().stdout);
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.lines().nth(1).unwrap().contains("sh -c sh"), "{told}");
}

/// The record keeps it, with machine and place.
#[test]
fn records_tell_what_it_cost_and_where() {
    let space = Space::new();
    work(&space);
    std::fs::rename(space.ws().join("work"), space.ws().join("cc")).unwrap();
    space.build(&["--pin", "pack"], &["./cc", "64", "0"]);
    let output = space
        .rfs(&["cache", "records", "--json", "--cost"])
        .output()
        .unwrap();
    let record: serde_json::Value =
        serde_json::from_str(text(&output.stdout).lines().next().unwrap()).unwrap();
    assert!(
        record["cost"]["peak_bytes"].as_u64().unwrap() >= 64 << 20,
        "{record}"
    );
    let topology = record["provenance"]["topology"].as_str().unwrap();
    assert!(
        topology.starts_with("packages ") && !topology.contains(" 0"),
        "{record}"
    );
    let tracer = record["provenance"]["tracer"].as_str().unwrap();
    assert!(["notify", "ptrace"].contains(&tracer), "{record}");
    let placement = &record["provenance"]["placement"];
    let cpus = placement["cpus"].as_str().unwrap();
    assert_eq!(cpus.parse::<CpuSet>().unwrap().len(), 1, "{record}");
    assert_eq!(placement["asked"], format!("pu:0 (cpus {cpus})"));
    assert_eq!(placement["cpu"].to_string(), cpus);
    let plain = space.rfs(&["cache", "records", "--json"]).output().unwrap();
    assert!(!text(&plain.stdout).contains("provenance"), "{plain:?}");
}

/// Without `-j` the command gets what it would get without rfs.
#[test]
fn nobody_is_told_of_tokens_unasked() {
    let space = Space::new();
    let script = "env | grep -v -e ^_= -e ^PWD= | sort; ls /proc/self/fd";
    let (wrapped, _) = space.build(&["-q"], &["sh", "-c", script]);
    let mut bare = space.rfs(&[]);
    bare = {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(space.ws());
        for (name, value) in bare.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    };
    assert_eq!(text(&wrapped.stdout), text(&bare.output().unwrap().stdout));
}

/// A budget decides nothing about what is served.
#[test]
fn a_build_with_a_budget_serves_one_without_and_the_other_way_round() {
    for (first, second) in [(&["-j2"][..], &[][..]), (&[], &["-j3"])] {
        let space = Space::new();
        space.write("Makefile", "all: ; +$(MAKE) -f sub.mk K=1\n");
        space.write(
            "sub.mk",
            "all: a.o b.o\n%.o: %.c ; env -i /usr/bin/cc -c $< -o $@ && sh -c 'cp $@ $@.2'\n",
        );
        space.write("a.c", "int a;\n");
        space.write("b.c", "int b;\n");
        let script = "make -k; env -i /usr/bin/cc -c a.c -o c.o";
        let (output, [hit, ran, refused]) = space.build(first, &["sh", "-c", script]);
        assert!(hit == 0 && ran > 4 && refused == 0, "{output:?}");
        let clean = || {
            for name in ["a.o", "b.o", "c.o", "a.o.2", "b.o.2"] {
                std::fs::remove_file(space.ws().join(name)).unwrap();
            }
        };
        clean();
        space.write("b.c", "int b2;\n");
        let (output, counts) = space.build(second, &["sh", "-c", script]);
        // Both shells and both makes run, and what concerns b.c.
        assert_eq!(counts, [2, 6, 0], "{second:?}: {output:?}");
        clean();
        let (_, counts) = space.build(first, &["sh", "-c", script]);
        assert_eq!(counts, [1, 0, 0], "{first:?}");
    }
}

/// Cargo hands our tokens on, and gcc takes them for LTO.
#[test]
fn cargo_and_gcc_know_the_budget() {
    let space = Space::new();
    space.write(
        "Cargo.toml",
        "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
    );
    std::fs::create_dir(space.ws().join("src")).unwrap();
    space.write("src/main.rs", "fn main() {}\n");
    let script = "fn main() {
        let flags = std::env::var(\"CARGO_MAKEFLAGS\").unwrap();
        let (_, fds) = flags.split_once(\"--jobserver-auth=\").unwrap();
        let fd = fds.split(',').next().unwrap();
        println!(\"cargo::warning={}\", std::fs::read_link(format!(\"/proc/self/fd/{fd}\")).unwrap().display());
    }\n";
    space.write("build.rs", script);
    let script =
        "readlink /proc/self/fd/60; cargo build --offline; gcc -flto=jobserver -O1 x.c y.c -o x";
    space.write("x.c", "int y(void); int main(void) { return y(); }\n");
    space.write("y.c", "int y(void) { return 0; }\n");
    let output = space
        .rfs(&["build", "-q", "-j2", "--", "sh", "-c", script])
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let pipe = text(&output.stdout);
    assert!(pipe.starts_with("pipe:["), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!("warning: a@0.1.0: {pipe}")),
        "{output:?}"
    );
    assert!(!said.contains("jobserver"), "{said}");
}

/// A make that knows fifos gets one, and nobody inherits anything. It is gone when the build has ended.
#[test]
fn a_newer_make_gets_a_fifo() {
    let space = Space::new();
    let (bin, tmp) = (space.0.path().join("bin"), space.0.path().join("tmp"));
    std::fs::create_dir(&bin).unwrap();
    std::fs::create_dir(&tmp).unwrap();
    std::fs::write(bin.join("make"), "#!/bin/sh\necho GNU Make 4.4.1\n").unwrap();
    std::fs::set_permissions(
        bin.join("make"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let script = "import os, re
fifo = re.search(' -j4 --jobserver-auth=fifo:([^ ]*)', os.environ['MAKEFLAGS'])[1]
fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
tokens = os.read(fd, 99)
print(len(tokens), '60' in os.listdir('/proc/self/fd'))
os.write(fd, tokens)
";
    space.write("client.py", script);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = |options: &[&str]| {
        let mut args = vec!["build", "-q"];
        args.extend(options);
        args.extend(["--", "python3", "client.py"]);
        let output = space
            .rfs(&args)
            .env("PATH", &path)
            .env("TMPDIR", &tmp)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    assert_eq!(run(&["-j4"]), "3 False\n");
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0);
    let output = space.rfs(&["build", "-j0", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
}

/// Needs so many MiB of memory for a moment and tells how many like it there are: their names are in `there`.
const HOG: &str = r#"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
int main(int n, char **arg)
{
    char name[100], in[100];
    snprintf(name, sizeof name, "%s/%s", getenv("THERE"), arg[1]);
    FILE *file = fopen("in", "r");
    if (!file || !fgets(in, sizeof in, file) || mkdir(name, 0755))
        return 1;
    size_t size = (size_t)atoi(arg[2]) << 20;
    char *memory = malloc(size);
    memset(memory, 1, size);
    DIR *dir = opendir(getenv("THERE"));
    int others = -2;
    while (readdir(dir))
        others++;
    while (clock() < 0.15 * CLOCKS_PER_SEC)
        ;
    if (n > 3 && !strcmp(arg[3], "read"))
        while (read(0, in, 1) == 1)
            ;
    if (n > 3 && !strcmp(arg[3], "run") && system(arg[4]))
        return 2;
    rmdir(name);
    snprintf(name, sizeof name, "out.%s", arg[1]);
    file = fopen(name, "w");
    fprintf(file, "%d\n", memory[0] + others - 1);
    return fclose(file);
}
"#;

/// A space where `./hog` has been run by each of the commands, alone, with its memory in its records.
fn hogs(commands: &[&str]) -> Space {
    let space = Space::new();
    space.compile("hog", HOG);
    space.write("in", "1\n");
    std::fs::create_dir(space.there()).unwrap();
    let script = commands.join("; ");
    let output = hold(&space, &["--memory", "none"], &script);
    assert!(output.status.success(), "{output:?}");
    space.write("in", "2\n");
    space
}

fn hold(space: &Space, options: &[&str], script: &str) -> Output {
    let mut args = vec!["build", "--explain"];
    args.extend(options);
    args.extend(["--", "sh", "-c", script]);
    let mut command = space.rfs(&args);
    command.env("THERE", space.there());
    command.output().unwrap()
}

/// How many of the eight `./hog N` were there at once.
fn most_at_once(space: &Space) -> u32 {
    let outs =
        (0..8).map(|at| std::fs::read_to_string(space.ws().join(format!("out.{at}"))).unwrap());
    let counts = outs.map(|text| text.trim().parse::<u32>().unwrap());
    counts.max().unwrap()
}

/// Eight that need 60 MiB each, in 150 MiB: two at a time.
#[test]
fn steps_wait_until_there_is_memory_for_them() {
    let names: Vec<String> = (0..8).map(|at| format!("./hog {at} 60")).collect();
    let commands: Vec<&str> = names.iter().map(String::as_str).collect();
    let space = hogs(&commands);
    let side_by_side = format!("{} & wait", commands.join(" & "));
    let output = hold(&space, &["--memory", "150M"], &side_by_side);
    assert!(output.status.success(), "{output:?}");
    assert!((1..=2).contains(&most_at_once(&space)), "{output:?}");
}

/// Who waits for a step must not keep it from starting: the one around it, or who reads what it writes.
#[test]
fn nobody_waits_for_ever_for_memory() {
    let inside = "./hog a 60 run './hog b 60'";
    let space = hogs(&[inside, "./hog c 60", "./hog d 60 read </dev/null"]);
    let output = hold(&space, &["--memory", "100M"], inside);
    assert!(output.status.success(), "{output:?}");
    space.write("in", "3\n");
    let script = "mkfifo p; ./hog d 60 read <p & exec 9>p; until [ -e $THERE/d ]; do sleep 0.01; done; ./hog c 60 >&9; exec 9>&-; wait";
    let output = hold(&space, &["--memory", "100M"], script);
    assert!(output.status.success(), "{output:?}");
    space.write("in", "4\n");
    let output = hold(
        &space,
        &["--memory", "1M", "--pressure", "cpu=0,memory=0,io=0"],
        "./hog c 60 & ./hog d 60 read </dev/null & wait",
    );
    assert!(output.status.success(), "{output:?}");
}

/// A step that computes is bound with its threads and its children; one that is to be near something goes there.
#[test]
fn a_pinned_step_is_bound_with_all_that_it_starts() {
    let space = Space::new();
    let script = "#!/usr/bin/python3
import subprocess, sys, threading
def allowed(path):
    return next(line.split()[1] for line in open(path) if line.startswith('Cpus_allowed_list'))
print(allowed('/proc/self/status'))
thread = threading.Thread(target=lambda: print(allowed('/proc/thread-self/status')))
thread.start(); thread.join()
sys.stdout.flush()
subprocess.run(['sed', '-n', 's/Cpus_allowed_list:.//p', '/proc/self/status'])
";
    for name in ["cc", "nvcc"] {
        space.write(name, script);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(space.ws().join(name), mode).unwrap();
    }
    let machine = rfs::runner::topology::read(&rfs::runner::topology::Source::Here).unwrap();
    let cpus: Vec<usize> = machine.allowed.iter().collect();
    let last = cpus.len() - 1;
    space.write(
        "rfs.toml",
        &format!("[tools]\nnear = [\"nvcc=pu:{last}\"]\n"),
    );
    let (output, _) = space.build(&["--pin", "core"], &["sh", "-c", "./cc; ./nvcc"]);
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{output:?}");
    let core = machine.of_kind(rfs::base::topology::Kind::Core)[0]
        .cpus
        .and(&machine.allowed);
    assert!(
        lines[..3].iter().all(|line| *line == core.to_string()),
        "{said}"
    );
    assert!(
        lines[3..]
            .iter()
            .all(|line| line.parse::<CpuSet>().unwrap().contains(cpus[last])),
        "{said}"
    );
    let step = space.step("./cc");
    assert_eq!(
        step["cpus"],
        core.to_string(),
        "the placement is read back: {step}"
    );
    assert_eq!(step["asked"], format!("core:0 (cpus {core})"));
}
