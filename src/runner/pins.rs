//! The places of a build's steps: each takes the least used slot, the first of several.

use super::slots::Slot;
use super::spawn;
use crate::watch::pins::Pins;
use nix::unistd::Pid;
use std::sync::{Mutex, PoisonError};

/// Slots with the number of those who are in each.
#[derive(Debug)]
pub struct Places {
    slots: Vec<Slot>,
    users: Mutex<Vec<usize>>,
}

impl Places {
    /// All free.
    #[must_use]
    pub fn new(slots: Vec<Slot>) -> Self {
        let users = Mutex::new(vec![0; slots.len()]);
        Self { slots, users }
    }
}

impl Pins for Places {
    fn take(&self, pid: i32) -> Option<usize> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (0..users.len()).min_by_key(|&place| users[place])?;
        // A process that is gone, or of another user, needs no place.
        spawn::set_affinity(Pid::from_raw(pid), &self.slots[place].cpus).ok()?;
        users[place] += 1;
        Some(place)
    }

    fn name(&self, place: usize) -> String {
        let slot = self.slots.get(place);
        slot.map_or_else(String::new, |slot| {
            format!("{} (cpus {})", slot.place, slot.cpus)
        })
    }

    fn give(&self, place: usize) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users[place] = users[place].saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cpuset::CpuSet;

    #[test]
    fn the_least_used_is_taken_and_nothing_is_lost() {
        let here: CpuSet = nix::sched::sched_getaffinity(Pid::from_raw(0))
            .map(|set| {
                (0..1024)
                    .filter(|&cpu| set.is_set(cpu) == Ok(true))
                    .collect()
            })
            .unwrap();
        let slot = Slot {
            cpus: here,
            nodes: CpuSet::default(),
            place: String::new(),
        };
        let places = Places::new(vec![slot; 3]);
        let taken: Vec<_> = (0..4).map(|_| places.take(0).unwrap()).collect();
        assert_eq!(taken, [0, 1, 2, 0]);
        places.give(1);
        assert_eq!(places.take(0), Some(1));
        assert_eq!(places.take(-5), None);
        assert_eq!(*places.users.lock().unwrap(), [2, 1, 1]);
        assert_eq!(Places::new(Vec::new()).take(0), None);
    }
}
