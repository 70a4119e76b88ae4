//! System V objects with a key (sysvipc(7)): a step may have its own, as fakeroot has for its daemon.
//!
//! What goes through them is never known. Whoever makes one and removes it before it ends has kept it to
//! itself, as it does with a pipe.

use super::Watch;
use super::model::Model;
use rfs_tracer::event::{Ipc, Pid};

const WHY: &str = "shares a System V object with others";

impl Watch {
    pub(super) fn ipc(&self, pid: Pid, object: Ipc, create: bool) {
        let mut model = self.model();
        let Some(at) = model.changing(pid) else {
            return;
        };
        match model.ipc.get(&object) {
            Some(maker) => {
                let maker = *maker;
                model.refuse_between(at, maker, WHY);
            }
            None if create && !exists(object) => {
                model.ipc.insert(object, at);
            }
            None => model.up(at, |step| {
                step.refuse(WHY);
                true
            }),
        }
    }
}

impl Model {
    /// Step `at` ends, and what it has made should be gone.
    pub(super) fn ipc_left(&mut self, at: usize) {
        let made = self
            .ipc
            .iter()
            .filter(|(_, maker)| self.chain(**maker).contains(&at));
        let made: Vec<Ipc> = made.map(|(object, _)| *object).collect();
        for object in made {
            if exists(object) {
                self.steps[at].refuse("leaves a System V object behind");
            } else {
                self.ipc.remove(&object);
            }
        }
    }
}

/// Whether there is such an object, or that cannot be told.
fn exists(object: Ipc) -> bool {
    let (table, key) = match object {
        Ipc::Queue(key) => ("msg", key),
        Ipc::Semaphores(key) => ("sem", key),
        Ipc::Memory(key) => ("shm", key),
    };
    // One line each after a heading; the key comes first (proc_sysvipc(5)).
    std::fs::read_to_string(format!("/proc/sysvipc/{table}")).map_or(true, |text| {
        let keys = text.lines().skip(1).map(|line| {
            line.split_whitespace()
                .next()
                .and_then(|word| word.parse().ok())
        });
        keys.into_iter()
            .any(|found| found.is_none_or(|found: i32| found == key))
    })
}
