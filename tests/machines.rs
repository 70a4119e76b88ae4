//! Real machines, described by hwloc's own test data: rfs says of them what hwloc's tools say.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(missing_docs, reason = "a test's name says what it is")]

use rfs::base::cpuset::CpuSet;
use rfs::base::topology::{Kind, Machine};
use rfs::runner::location;
use rfs::runner::slots::{Policy, plan};
use rfs::runner::topology::{Source, read};
use std::process::Command;

const MACHINES: [&str; 6] = [
    "16amd64-8n2c-cpusets",
    "16em64t-4s2c2t-offlines",
    "24em64t-2n6c2t-pci",
    "8intel64-fakeKNL-A2A-hybrid.rootattachednumas",
    "fakecpukinds",
    "power8gpudistances",
];

fn path(name: &str) -> String {
    format!("{}/tests/machines/{name}.xml", env!("CARGO_MANIFEST_DIR"))
}

fn machine(name: &str) -> Machine {
    read(&Source::Xml(path(name).into())).unwrap()
}

fn tool(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{name} (package hwloc-nox): {error}"));
    assert!(output.status.success(), "{name} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The processors of a place, as hwloc-calc sees it.
fn calc(machine: &str, place: &str) -> CpuSet {
    let numbers = tool(
        "hwloc-calc",
        &["-i", &path(machine), "-I", "pu", "--po", place],
    );
    let numbers = numbers
        .trim()
        .split(',')
        .filter(|number| !number.is_empty());
    numbers
        .map(|number| number.parse::<usize>().unwrap())
        .collect()
}

#[test]
fn places_are_those_of_hwloc_calc() {
    for name in MACHINES {
        let machine = machine(name);
        let packages = machine.of_kind(Kind::Package).len();
        for place in [
            "core:0",
            "core:0-1",
            "core:all",
            "core:odd",
            "pu:1-3",
            "machine:0",
            "core:1.pu:0",
        ] {
            assert_eq!(
                location::parse(&machine, place).unwrap(),
                calc(name, place),
                "{name}: {place}"
            );
        }
        for at in 0..packages {
            for place in [format!("pack:{at}"), format!("pack:{at}.core:0")] {
                assert_eq!(
                    location::parse(&machine, &place).unwrap(),
                    calc(name, &place),
                    "{name}: {place}"
                );
            }
        }
        for node in machine.of_kind(Kind::Numa) {
            let place = format!("numa:{}", node.logical);
            if !node.cpus.is_empty() {
                assert_eq!(
                    location::parse(&machine, &place).unwrap(),
                    calc(name, &place),
                    "{name}: {place}"
                );
            }
        }
    }
}

#[test]
fn jobs_are_spread_as_hwloc_distrib_does() {
    for name in MACHINES {
        let machine = machine(name);
        for jobs in 1..=machine.allowed.len().min(9) {
            let slots = plan(&machine, &machine.allowed, jobs, Policy::Spread);
            let ours: Vec<CpuSet> = slots.into_iter().map(|slot| slot.cpus).collect();
            let masks = tool("hwloc-distrib", &["-i", &path(name), &jobs.to_string()]);
            let theirs: Vec<CpuSet> = masks.lines().map(|mask| calc(name, mask)).collect();
            assert_eq!(ours, theirs, "{name}: {jobs} jobs");
        }
    }
}

/// What asks for a device gets the processors near it.
#[test]
fn devices_have_processors_near_them() {
    for (name, devices) in [
        ("24em64t-2n6c2t-pci", &["eth0", "ib0", "mlx4_0"][..]),
        ("power8gpudistances", &["cuda0", "cuda3", "nvml1"]),
    ] {
        let machine = machine(name);
        for device in devices {
            let place = format!("os={device}");
            let near = location::parse(&machine, &place).unwrap();
            assert_eq!(near, calc(name, &place), "{name}: {place}");
            assert!(
                near.len() < machine.allowed.len(),
                "{name}: {place} is nearer to some"
            );
        }
    }
    let power = machine("power8gpudistances");
    let (first, last) = (
        location::parse(&power, "gpu:0").unwrap(),
        location::parse(&power, "gpu:3").unwrap(),
    );
    assert_eq!(
        (&first, &last),
        (
            &calc("power8gpudistances", "os=nvml0"),
            &calc("power8gpudistances", "os=nvml3")
        )
    );
    assert!(!first.meets(&last), "{first} {last}");
    let intel = machine("24em64t-2n6c2t-pci");
    assert_eq!(
        location::parse(&intel, "net:0").unwrap(),
        calc("24em64t-2n6c2t-pci", "os=eth0")
    );
    location::parse(&intel, "gpu:0").unwrap_err();
}

/// The strongest cores are filled first.
#[test]
fn kinds_of_cores() {
    let name = "fakecpukinds";
    let machine = machine(name);
    for (at, kind) in machine.kinds.iter().enumerate() {
        let at = at.to_string();
        let args = [
            "-i",
            &path(name),
            "--cpukind",
            &at,
            "-I",
            "pu",
            "--po",
            "all",
        ];
        let cpus = tool("hwloc-calc", &args);
        let cpus: CpuSet = cpus
            .trim()
            .split(',')
            .map(|cpu| cpu.parse::<usize>().unwrap())
            .collect();
        assert_eq!(*kind, cpus, "{at}");
    }
    let slots = plan(
        &machine,
        &machine.allowed,
        machine.allowed.len(),
        Policy::Pack,
    );
    let order: Vec<usize> = slots
        .iter()
        .filter_map(|slot| slot.cpus.iter().next())
        .collect();
    let kind = |cpu: &usize| machine.kinds.iter().position(|kind| kind.contains(*cpu));
    let kinds: Vec<_> = order.iter().map(kind).collect();
    assert_eq!(kinds, [Some(2), Some(1), Some(0), Some(0)], "{order:?}");
}

/// Threads of a core: one job a core has them all, one job a processor fills a core before the next.
#[test]
fn threads_of_a_core() {
    let machine = machine("power8gpudistances");
    let cores = plan(&machine, &machine.allowed, 2, Policy::Core);
    assert_eq!(
        [&cores[0].cpus, &cores[1].cpus].map(ToString::to_string),
        ["0-1", "8-9"]
    );
    let packed = plan(&machine, &machine.allowed, 3, Policy::Pack);
    let packed: Vec<String> = packed.iter().map(|slot| slot.cpus.to_string()).collect();
    assert_eq!(packed, ["0", "1", "8"]);
}
