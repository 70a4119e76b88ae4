//! What the kernel says of those whom `rfs run` has bound, and what `rfs topo` says of those whom others have.

use super::{json, rfs, text, tool};
use rfs::base::cpuset::CpuSet;
use rfs::runner::location;
use rfs::runner::topology::{Source, read};
use std::io::{BufRead, BufReader, Write};
use std::process::Command;

/// The processors of a place on this machine, as hwloc-calc sees it.
fn calc_here(place: &str) -> CpuSet {
    let numbers = tool("hwloc-calc", &["-I", "pu", "--po", place]);
    let numbers = numbers
        .trim()
        .split(',')
        .map(|number| number.parse::<usize>().unwrap());
    numbers.collect()
}

/// What the kernel says of the memory policy in the process, by set_mempolicy(2)'s number and in numa_maps, and
/// in a child of it.
#[test]
fn memory_is_placed_as_asked() {
    let script = "
import ctypes, subprocess
mode, nodes = ctypes.c_int(-1), (ctypes.c_ulong * 64)()
failed = ctypes.CDLL(None).syscall(239, ctypes.byref(mode), nodes, 64 * 64 + 1, None, 0)
print(failed, mode.value, nodes[0])
def policy(maps):
    return next(line for line in maps.splitlines() if ' stack' in line).split(' stack')[0].split(' ', 1)[1]
print(policy(open('/proc/self/numa_maps').read()))
child = ['python3', '-c', 'print(open(\"/proc/self/numa_maps\").read())']
print(policy(subprocess.run(child, capture_output=True, text=True).stdout))
";
    let machine = read(&Source::Here).unwrap();
    let near = machine.nodes_near(&machine.allowed);
    let mask = near.iter().fold(0_u64, |mask, node| mask | 1 << node);
    let (local, prefer) = match near.len() {
        1 => (1, "prefer"),
        _ => (5, "prefer (many)"),
    };
    for (way, mode, mask, policy) in [
        ("none", 0, 0, "default".to_owned()),
        ("local", local, mask, format!("{prefer}:{near}")),
        ("bind", 2, mask, format!("bind:{near}")),
        ("interleave", 3, mask, format!("interleave:{near}")),
    ] {
        let args = [
            "run",
            "--membind",
            way,
            "--json",
            "--",
            "python3",
            "-c",
            script,
        ];
        let output = rfs(&args);
        let seen = format!("0 {mode} {mask}\n{policy}\n{policy}\n");
        assert_eq!(text(&output.stdout), seen, "{way}: {output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        let rank = &report["ranks"][0];
        assert_eq!(rank["got"]["memory"], policy, "{report}");
        assert_eq!(rank["as_asked"], true, "{report}");
        let asked = match way {
            "none" => serde_json::json!("default"),
            _ => serde_json::json!({way: near.to_string()}),
        };
        assert_eq!(rank["asked"]["memory"], asked, "{report}");
    }
}

/// Who may use less than is asked for gets that, and it is said.
#[test]
fn what_differs_from_what_was_asked_is_told() {
    let all = read(&Source::Here).unwrap().allowed;
    let last = all.iter().last().unwrap().to_string();
    assert!(all.len() > 1, "the test needs two processors");
    let run = |cpus: &str, args: &[&str]| {
        let mut command = Command::new("taskset");
        command
            .args(["-c", cpus, env!("CARGO_BIN_EXE_rfs"), "run"])
            .args(args);
        let allowed = [
            "--",
            "sed",
            "-n",
            "s/Cpus_allowed_list:.//p",
            "/proc/self/status",
        ];
        command.args(allowed).output().unwrap()
    };
    for (cpus, as_asked) in [(last.as_str(), false), (all.to_string().as_str(), true)] {
        let output = run(cpus, &["--bind", "pu:all", "--json"]);
        assert_eq!(text(&output.stdout), format!("{cpus}\n"), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        let rank = &report["ranks"][0];
        assert_eq!(rank["asked"]["cpus"], all.to_string(), "{report}");
        assert_eq!(rank["got"]["cpus"], cpus, "{report}");
        assert_eq!(rank["as_asked"], as_asked, "{report}");
        let said = text(&run(cpus, &["--bind", "pu:all"]).stderr);
        assert!(
            said.contains(&format!("asked cpus {all}; got cpus {cpus},")),
            "{said}"
        );
        assert_eq!(said.contains("(not as asked)"), !as_asked, "{said}");
    }
}

/// A process that lives, bound by somebody else: its processors are those of its threads, as for hwloc-bind.
#[test]
fn a_process_is_seen_with_its_threads() {
    let script = "
import os, sys, threading
first, go, moved = int(sys.argv[1]), threading.Event(), threading.Event()
def mover():
    ids.append(threading.get_native_id()); go.wait(); os.sched_setaffinity(0, {first}); moved.set(); stay.wait()
def other():
    ids.append(threading.get_native_id()); stay.wait()
ids, stay = [], threading.Event()
for body in (mover, other):
    threading.Thread(target=body).start()
    while len(ids) < 1 + (body is other): pass
print(os.getpid(), *ids, flush=True)
sys.stdin.readline(); go.set(); moved.wait(); print('moved', flush=True)
sys.stdin.readline(); stay.set()
";
    let all = read(&Source::Here).unwrap().allowed;
    let (first, last) = (all.iter().next().unwrap(), all.iter().last().unwrap());
    assert_ne!(first, last, "the test needs two processors");
    let (first, last) = (first.to_string(), last.to_string());
    let mut child = Command::new("taskset")
        .args(["-c", &last, "python3", "-c", script, &first])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (
        child.stdin.take().unwrap(),
        BufReader::new(child.stdout.take().unwrap()),
    );
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let ids: Vec<&str> = line.split_whitespace().collect();
    let [pid, mover, other] = ids[..] else {
        panic!("{line:?}");
    };
    let allowed = |pid: &str| json(&["topo", "--pid", pid, "--json"])["allowed"].clone();
    for id in [pid, mover, other] {
        assert_eq!(allowed(id), last, "{id}");
        let said = text(&rfs(&["topo", "--pid", id]).stdout);
        let told = format!("\nprocess {id} may use cpus {last}\n");
        assert!(said.ends_with(&told), "{said}");
    }
    to.write_all(b"\n").unwrap();
    from.read_line(&mut String::new()).unwrap();
    let both = format!("{first},{last}").parse::<CpuSet>().unwrap();
    assert_eq!(allowed(pid), both.to_string());
    let mask = tool("hwloc-bind", &["--get", "--pid", pid]);
    assert_eq!(calc_here(mask.trim()), both, "as hwloc says");
    assert_eq!([allowed(mover), allowed(other)], [first.as_str(), &last]);
    let shown = json(&["topo", "--pid", pid, "--json"]);
    let threads = shown["threads"].as_array().unwrap();
    let threads: Vec<String> = threads
        .iter()
        .map(|thread| format!("{} {}", thread["id"], thread["cpus"].as_str().unwrap()))
        .collect();
    let mut others = [format!("{mover} {first}"), format!("{other} {last}")];
    others.sort();
    assert_eq!(threads[0], format!("{pid} {last}"));
    assert_eq!(threads[1..], others);
    let said = text(&rfs(&["topo", "--pid", pid]).stdout);
    assert!(
        said.contains(&format!("\n  thread {mover}: cpus {first}\n")),
        "{said}"
    );
    let plan = json(&["topo", "--pid", other, "--plan", "--jobs", "2", "--json"]);
    assert_eq!(
        [&plan["slots"][0]["cpus"], &plan["slots"][1]["cpus"]],
        [&last, &last]
    );
    to.write_all(b"\n").unwrap();
    let id = pid.to_owned();
    assert!(child.wait().unwrap().success());
    assert_eq!(rfs(&["topo", "--pid", &id]).status.code(), Some(125));
}

/// The devices of this machine, whatever they are: near them is what hwloc says.
#[test]
fn devices_that_are_here() {
    let here = read(&Source::Here).unwrap();
    let xml = text(&rfs(&["topo", "--xml"]).stdout);
    let devices = xml.split("type=\"OSDev\"").skip(1);
    let names = devices.map(|device| {
        device
            .split("name=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
    });
    for name in names {
        let place = format!("os={name}");
        let near = calc_here(&place).and(&here.allowed);
        assert_eq!(
            location::parse(&here, &place).unwrap().and(&here.allowed),
            near,
            "{place}"
        );
        let status = [
            "--",
            "sed",
            "-n",
            "s/Cpus_allowed_list:.//p",
            "/proc/self/status",
        ];
        let output = rfs(&[&["run", "-q", "--bind", &place], &status[..]].concat());
        assert_eq!(
            text(&output.stdout),
            format!("{near}\n"),
            "{place}: {output:?}"
        );
    }
}
