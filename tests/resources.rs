//! What a build uses and what it is given: processor time, memory, places, job tokens.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests write files as users do")]
#![allow(missing_docs, reason = "a test's name says what it is")]

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

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.ws().join(name), text).unwrap();
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

    /// A build that ends well: what it printed, and its counts of hits and of steps that ran.
    fn build(&self, options: &[&str], command: &[&str]) -> (Output, (u64, u64)) {
        let file = self.0.path().join("summary");
        let mut args = vec!["build", "--summary", file.to_str().unwrap()];
        args.extend(options);
        args.push("--");
        args.extend(command);
        let output = self.rfs(&args).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        let summary: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(summary["refused"], 0, "{summary}: {output:?}");
        let count = |name: &str| summary[name].as_u64().unwrap();
        (output, (count("hit"), count("ran")))
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
    space.write("work.c", WORK);
    let made = Command::new("cc")
        .args(["-O1", "work.c", "-o", "work"])
        .current_dir(space.ws())
        .status();
    assert!(made.unwrap().success());
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
    let placement = &record["provenance"]["placement"];
    let cpus = placement["cpus"].as_str().unwrap();
    assert_eq!(cpus.parse::<CpuSet>().unwrap().len(), 1, "{record}");
    assert_eq!(placement["asked"], format!("pu:0 (cpus {cpus})"));
    assert_eq!(placement["cpu"].to_string(), cpus);
    let plain = space.rfs(&["cache", "records", "--json"]).output().unwrap();
    assert!(!text(&plain.stdout).contains("provenance"), "{plain:?}");
}
