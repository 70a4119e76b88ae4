//! Properties of plans, on machines that are only described.

use super::*;
use crate::runner::location;
use crate::runner::topology::{Source, read};

const MACHINES: [&str; 7] = [
    "pu:1",
    "core:2 pu:1",
    "pack:2 numa:2 core:8 pu:2",
    "numa:2 pack:1 l3:2 core:4 pu:1",
    "pack:1 l3:3 l2:2 core:1 pu:2",
    "pack:4 core:3 pu:4",
    "pack:2 numa:1 l3:8 core:8 pu:2",
];

fn machine(description: &str) -> Machine {
    read(&Source::Synthetic(description.to_owned())).unwrap()
}

fn together(slots: &[Slot]) -> CpuSet {
    slots
        .iter()
        .fold(CpuSet::default(), |all, slot| all.or(&slot.cpus))
}

#[test]
fn every_job_has_a_place_within_what_is_allowed() {
    for description in MACHINES {
        let machine = machine(description);
        let some: CpuSet = machine.allowed.iter().filter(|cpu| cpu % 3 != 1).collect();
        for allowed in [&machine.allowed, &some] {
            for policy in Policy::ALL {
                for jobs in [0, 1, 5, 24, 70] {
                    let slots = plan(&machine, allowed, jobs, policy);
                    assert_eq!(slots.len(), jobs, "{description} {policy} {jobs}");
                    for slot in slots {
                        assert!(!slot.cpus.is_empty(), "{description} {policy} {jobs}");
                        assert!(allowed.covers(&slot.cpus), "{description} {policy} {jobs}");
                        assert!(!slot.nodes.is_empty(), "{description} {policy} {jobs}");
                    }
                }
            }
        }
    }
}

#[test]
fn nobody_shares_while_there_is_room() {
    for description in MACHINES {
        let machine = machine(description);
        let cores = machine.of_kind(Kind::Core).len().max(1);
        let pus = machine.allowed.len();
        for (policy, room) in [
            (Policy::Pack, pus),
            (Policy::Core, cores),
            (Policy::Spread, pus),
        ] {
            for jobs in [1, 2, room / 2 + 1, room].map(|jobs| jobs.min(room)) {
                let slots = plan(&machine, &machine.allowed, jobs, policy);
                let used: usize = slots.iter().map(|slot| slot.cpus.len()).sum();
                assert_eq!(
                    used,
                    together(&slots).len(),
                    "{description} {policy} {jobs}"
                );
            }
        }
    }
}

#[test]
fn spread_leaves_nothing_idle() {
    for description in MACHINES {
        let machine = machine(description);
        for jobs in (1..40).step_by(3) {
            let slots = plan(&machine, &machine.allowed, jobs, Policy::Spread);
            assert_eq!(together(&slots), machine.allowed, "{description} {jobs}");
        }
    }
}

#[test]
fn caches_and_nodes_are_filled_in_turn() {
    let machine = machine("pack:2 numa:1 l3:2 core:4 pu:2");
    let slots = plan(&machine, &machine.allowed, 5, Policy::Cache);
    let places: Vec<&str> = slots.iter().map(|slot| slot.place.as_str()).collect();
    assert_eq!(places, ["l3:0", "l3:1", "l3:2", "l3:3", "l3:0"]);
    let second = &slots[1];
    assert_eq!(second.cpus.to_string(), "8-15");
    assert_eq!(second.nodes.to_string(), "0");
    let slots = plan(&machine, &machine.allowed, 3, Policy::Numa);
    let cpus: Vec<String> = slots.iter().map(|slot| slot.cpus.to_string()).collect();
    assert_eq!(cpus, ["0-15", "16-31", "0-15"]);
}

#[test]
fn strong_cores_come_first() {
    let mut machine = machine("core:4 pu:1");
    machine.kinds = vec!["0-1".parse().unwrap(), "2-3".parse().unwrap()];
    let slots = plan(&machine, &machine.allowed, 4, Policy::Core);
    let cpus: Vec<String> = slots.iter().map(|slot| slot.cpus.to_string()).collect();
    assert_eq!(cpus, ["2", "3", "0", "1"]);
}

#[test]
fn a_places_name_is_the_place() {
    for description in MACHINES {
        let machine = machine(description);
        for policy in [Policy::Pack, Policy::Core, Policy::Cache, Policy::Numa] {
            for slot in plan(&machine, &machine.allowed, 7, policy) {
                if slot.place != "anywhere" {
                    let place = location::parse(&machine, &slot.place);
                    assert_eq!(place, Ok(slot.cpus), "{description}: {}", slot.place);
                }
            }
        }
    }
}

proptest::proptest! {
    /// Whatever the machine, what may be used of it, the number of jobs and the policy: every job has a place
    /// within what is allowed, and none shares while there are things enough.
    #[test]
    fn plans_keep_their_promises(
        packages in 1_usize..4, nodes in 1_usize..3, cores in 1_usize..6, pus in 1_usize..4,
        mask in proptest::prelude::any::<u128>(), jobs in 1_usize..90, policy in 0_usize..6,
    ) {
        let description = format!("pack:{packages} numa:{nodes} core:{cores} pu:{pus}");
        let machine = machine(&description);
        let chosen = |cpu: &usize| mask >> (cpu % 128) & 1 == 1;
        let mut allowed: CpuSet = machine.allowed.iter().filter(chosen).collect();
        if allowed.is_empty() {
            allowed = machine.allowed.clone();
        }
        let policy = Policy::ALL[policy];
        let slots = plan(&machine, &allowed, jobs, policy);
        assert_eq!(slots.len(), jobs);
        let things = match policy {
            Policy::None => 0,
            Policy::Spread | Policy::Pack => allowed.len(),
            Policy::Core => named(&machine.of_kind(Kind::Core), &allowed).len(),
            Policy::Cache => 0,
            Policy::Numa => named(&machine.of_kind(Kind::Numa), &allowed).len(),
        };
        let mut used = CpuSet::default();
        for (job, slot) in slots.iter().enumerate() {
            assert!(!slot.cpus.is_empty() && allowed.covers(&slot.cpus));
            assert_eq!(slot.nodes, machine.nodes_near(&slot.cpus));
            if job < things && (policy != Policy::Spread || jobs <= things) {
                assert!(!used.meets(&slot.cpus), "{description} {allowed} {policy} {jobs}: {slots:?}");
                used = used.or(&slot.cpus);
            }
        }
    }
}
