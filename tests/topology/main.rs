//! `rfs topo` and `rfs run` beside hwloc's own tools and the kernel.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests write files as users do")]
#![allow(missing_docs, reason = "a test's name says what it is")]

mod bound;

use rfs::base::cpuset::CpuSet;
use rfs::runner::location;
use rfs::runner::topology::{Source, read};
use std::process::{Command, Output};

fn rfs(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rfs"))
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

fn json(args: &[&str]) -> serde_json::Value {
    let output = rfs(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a tool of hwloc's prints.
fn tool(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{name} (package hwloc-nox): {error}"));
    assert!(output.status.success(), "{name} {args:?}: {output:?}");
    text(&output.stdout)
}

/// The processors of a place, as hwloc-calc sees it.
fn calc(machine: &str, place: &str) -> CpuSet {
    let numbers = tool("hwloc-calc", &["-i", machine, "-I", "pu", "--po", place]);
    numbers
        .trim()
        .split(',')
        .map(|number| number.parse::<usize>().unwrap())
        .collect()
}

const MACHINES: [&str; 4] = [
    "pack:2 numa:2 core:8 pu:2",
    "pack:1 l3:3 l2:2 core:1 pu:2",
    "numa:3 core:5 pu:1",
    "pack:2 l3:2 core:3 pu:4",
];

#[test]
fn jobs_are_spread_as_hwloc_distrib_does() {
    for machine in MACHINES {
        for jobs in ["1", "2", "3", "5", "6", "7", "12", "31"] {
            let plan = json(&[
                "topo",
                "--plan",
                "--json",
                "--policy",
                "spread",
                "--jobs",
                jobs,
                "--synthetic",
                machine,
            ]);
            let slots = plan["slots"].as_array().unwrap();
            let ours: Vec<CpuSet> = slots
                .iter()
                .map(|slot| slot["cpus"].as_str().unwrap().parse().unwrap())
                .collect();
            let masks = tool("hwloc-distrib", &["-i", machine, jobs]);
            let theirs: Vec<CpuSet> = masks.lines().map(|mask| calc(machine, mask)).collect();
            assert_eq!(ours, theirs, "{machine}: {jobs} jobs");
        }
    }
}

#[test]
fn places_are_those_of_hwloc_calc() {
    for description in MACHINES {
        let machine = read(&Source::Synthetic(description.to_owned())).unwrap();
        for place in [
            "core:0",
            "core:1-3",
            "core:2-",
            "core:all",
            "core:even",
            "core:odd",
            "core:4:3",
            "numa:0",
            "pu:1-4",
            "numa:0.core:1",
            "core:all.pu:0",
            "core:1.pu:0",
            "machine:0.core:2",
            "0x5",
        ] {
            let ours = location::parse(&machine, place).unwrap();
            assert_eq!(ours, calc(description, place), "{description}: {place}");
        }
    }
}

#[test]
fn a_written_topology_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("machine.xml");
    let name = file.to_str().unwrap();
    for machine in MACHINES {
        let written = rfs(&["topo", "--synthetic", machine, "--format", "xml"]);
        std::fs::write(&file, &written.stdout).unwrap();
        let (read, described) = (
            rfs(&["topo", "--xml", name]),
            rfs(&["topo", "--synthetic", machine]),
        );
        assert_eq!(text(&read.stdout), text(&described.stdout), "{machine}");
        assert!(rfs(&["topo", "diff", name, machine]).status.success());
        let cores = tool("hwloc-calc", &["-i", name, "-N", "core", "all"]);
        let ours = json(&["topo", "--xml", name, "--json"]).to_string();
        assert_eq!(
            ours.matches("\"kind\":\"core\"").count().to_string(),
            cores.trim()
        );
    }
    let other = rfs(&["topo", "diff", MACHINES[0], MACHINES[1]]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stdout).contains("- Core L#15"), "{other:?}");
}

#[test]
fn a_picture_is_well_formed() {
    let picture = rfs(&["topo", "--svg", "--synthetic", MACHINES[0]]);
    let checked = "import sys, xml.dom.minidom as m; print(len(m.parse(sys.stdin.buffer).getElementsByTagName('rect')))";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("machine.svg");
    std::fs::write(&file, &picture.stdout).unwrap();
    let input = std::fs::File::open(&file).unwrap();
    let output = Command::new("python3")
        .args(["-c", checked])
        .stdin(input)
        .output()
        .unwrap();
    // Background, machine, 2 packages, 4 nodes in groups, 32 cores, 64 processors.
    let boxes: usize = text(&output.stdout).trim().parse().unwrap();
    assert!(boxes >= 1 + 1 + 2 + 4 + 32 + 64, "{boxes}");
}

#[test]
fn a_bound_command_stays_where_it_was_put_with_its_threads_and_children() {
    let script = "
import subprocess, threading
def allowed(path):
    return next(line.split()[1] for line in open(path) if line.startswith('Cpus_allowed_list'))
print(allowed('/proc/self/status'))
thread = threading.Thread(target=lambda: print(allowed('/proc/thread-self/status')))
thread.start(); thread.join()
subprocess.run(['sed', '-n', 's/Cpus_allowed_list:.//p', '/proc/self/status'])
";
    let machine = read(&Source::Here).unwrap();
    let last = machine.allowed.iter().last().unwrap();
    let place = format!("0x{:x}", 1u128 << last);
    let output = rfs(&[
        "run",
        "--bind",
        &place,
        "--membind",
        "bind",
        "--json",
        "--",
        "python3",
        "-uc",
        script,
    ]);
    assert_eq!(
        text(&output.stdout),
        format!("{last}\n").repeat(3),
        "{output:?}"
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let rank = &report["ranks"][0];
    assert_eq!(rank["got"]["cpus"], last.to_string());
    assert!(
        rank["got"]["memory"].as_str().unwrap().starts_with("bind:"),
        "{report}"
    );
    assert_eq!(rank["exit"], 0);
    assert!(rank["peak_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn ranks_have_places_and_numbers_of_their_own() {
    let output = rfs(&[
        "run",
        "-n",
        "3",
        "--policy",
        "pack",
        "-q",
        "--",
        "sh",
        "-c",
        "echo $RFS_RANK/$RFS_SIZE $RFS_LOCAL_RANK/$RFS_LOCAL_SIZE",
    ]);
    let printed = text(&output.stdout);
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0/3 0/3", "1/3 1/3", "2/3 2/3"]);
}

#[test]
fn ends_as_the_command_ended() {
    let status = |args: &[&str]| rfs(args).status;
    assert_eq!(
        status(&["run", "-q", "--", "sh", "-c", "exit 7"]).code(),
        Some(7)
    );
    assert_eq!(
        status(&["run", "-q", "-n", "2", "--", "sh", "-c", "exit $RFS_RANK"]).code(),
        Some(1)
    );
    assert_eq!(
        status(&["run", "-q", "--", "no-such-command"]).code(),
        Some(127)
    );
    assert_eq!(
        status(&["run", "-q", "--", "/etc/passwd"]).code(),
        Some(126)
    );
    let killed = status(&["run", "-q", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&killed),
        Some(15)
    );
}

#[test]
fn what_cannot_be_had_is_told() {
    for (args, told) in [
        (
            &["run", "--bind", "core:99999", "true"][..],
            "there is no Core 99999 in this machine",
        ),
        (&["run", "--bind", "cor:1", "true"], "no kind of object"),
        (&["run", "--bind", "os=none0", "true"], "no device"),
        (&["topo", "--synthetic", "nonsense"], "describes no machine"),
        (
            &["topo", "--xml", "/no/such/file"],
            "cannot read /no/such/file",
        ),
        (&["topo", "--xml", "/etc/passwd"], "is no topology"),
        (&["topo", "--pid", "4000000"], "process 4000000"),
        (&["topo", "--json", "--svg"], "only one format"),
    ] {
        let output = rfs(args);
        assert_eq!(output.status.code(), Some(125), "{args:?}");
        let said = text(&output.stderr);
        assert!(
            said.starts_with("rfs: error: ") && said.contains(told),
            "{args:?}: {said}"
        );
    }
}

/// Two compilers at a time, each waiting for the other, in a build that is pinned by cores.
#[test]
fn steps_that_compute_have_places_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let compiler = "#!/bin/sh
allowed=$(sed -n 's/Cpus_allowed_list:.//p' /proc/self/status)
echo \"$allowed\" > cpus.$1
until [ -e cpus.1 ] && [ -e cpus.2 ]; do sleep 0.01; done
";
    std::fs::write(dir.path().join("gcc"), compiler).unwrap();
    let script = "chmod +x gcc; ./gcc 1 & ./gcc 2; wait; sed -n 's/Cpus_allowed_list:.//p' /proc/self/status";
    let build = |pin: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rfs"));
        command
            .arg("build")
            .args(pin)
            .args(["--", "sh", "-c", script]);
        command
            .current_dir(dir.path())
            .env("RFS_CACHE_DIR", dir.path().join("cache"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let set = |name: &str| -> CpuSet {
            let file = dir.path().join(name);
            let cpus = std::fs::read_to_string(&file)
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            std::fs::remove_file(file).unwrap();
            cpus
        };
        let around: CpuSet = text(&output.stdout).trim().parse().unwrap();
        (set("cpus.1"), set("cpus.2"), around)
    };
    let all = read(&Source::Here).unwrap().allowed;
    let (one, two, around) = build(&["--rerun", "--pin", "pack"]);
    assert_eq!((one.len(), two.len(), &around), (1, 1, &all));
    assert!(all.len() == 1 || one != two, "{one} {two}");
    let (one, two, around) = build(&["--rerun"]);
    assert_eq!((&one, &two, &around), (&all, &all, &all));
}

/// Ranks of a real MPI program find each other, and one that gives up takes the others with it.
#[test]
fn programs_of_mpich_run_without_its_launcher() {
    let dir = tempfile::tempdir().unwrap();
    let program = "#include <mpi.h>
#include <stdio.h>
#include <unistd.h>
int main(int n, char **arg)
{
    int rank, size, sum;
    MPI_Init(&n, &arg);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0)
        printf(\"%d ranks, sum %d\\n\", size, sum);
    if (n > 1 && rank == size - 1) {
        if (arg[1][0] == 'a')
            MPI_Abort(MPI_COMM_WORLD, 7);
        _exit(3);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    return MPI_Finalize();
}
";
    std::fs::write(dir.path().join("a.c"), program).unwrap();
    let made = Command::new("mpicc.mpich")
        .args(["a.c", "-o", "a"])
        .current_dir(dir.path())
        .output()
        .unwrap_or_else(|error| panic!("mpicc.mpich (package libmpich-dev): {error}"));
    assert!(made.status.success(), "{made:?}");
    let program = dir.path().join("a");
    let program = program.to_str().unwrap();
    for n in ["1", "2", "4"] {
        let output = rfs(&[
            "run", "-n", n, "--pmi", "--policy", "pack", "-q", "--", program,
        ]);
        assert!(output.status.success(), "{output:?}");
        let n: usize = n.parse().unwrap();
        let sum = n * (n - 1) / 2;
        assert_eq!(text(&output.stdout), format!("{n} ranks, sum {sum}\n"));
    }
    for how in ["abort", "exit"] {
        let output = rfs(&["run", "-n", "3", "--pmi", "-q", "--", program, how]);
        assert!(!output.status.success(), "{output:?}");
    }
    let alone = rfs(&["run", "-n", "2", "-q", "--", program]);
    assert_eq!(
        text(&alone.stdout),
        "1 ranks, sum 0\n".repeat(2),
        "{alone:?}"
    );
}
