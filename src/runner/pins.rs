//! The places of a build's steps: each takes the least used slot, the first of several; one that is to be near
//! something takes one of those there. When what may be used has changed, all is planned anew.

use super::budget::Budget;
use super::location::{self, NoPlace};
use super::slots::{self, Policy, Slot};
use super::{spawn, topology};
use crate::base::cpuset::CpuSet;
use crate::base::topology::Machine;
use crate::watch::pins::Pins;
use nix::unistd::Pid;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Slots with the number of those who are in each.
#[derive(Debug)]
pub struct Places {
    machine: Machine,
    policy: Policy,
    batch: Option<usize>,
    /// Programs with the processors near what they want.
    near: Vec<(String, CpuSet)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What could be used when the slots were planned.
    allowed: CpuSet,
    slots: Vec<Slot>,
    users: Vec<usize>,
    /// How often it was planned anew: who got a place before is not counted any more.
    round: usize,
}

/// A place is a slot in a round.
const ROUND: usize = 1 << 20;

impl Places {
    /// All free. `near` has lines like `nvcc=gpu:0`; `batch` is as for [`Budget::of`].
    ///
    /// # Errors
    /// When the machine lacks what a program is to be near.
    pub fn new(
        machine: Machine,
        policy: Policy,
        batch: Option<usize>,
        near: &[String],
    ) -> Result<Self, NoPlace> {
        let parse = |entry: &String| {
            let (program, place) = entry.split_once('=').unwrap_or((entry, ""));
            Ok((program.to_owned(), location::parse(&machine, place)?))
        };
        let near = near.iter().map(parse).collect::<Result<_, NoPlace>>()?;
        let allowed = machine.allowed.clone();
        let places = Self {
            machine,
            policy,
            batch,
            near,
            state: Mutex::default(),
        };
        places.plan(&mut places.state(), allowed);
        Ok(places)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self, state: &mut State, allowed: CpuSet) {
        let machine = Machine {
            allowed: allowed.clone(),
            ..self.machine.clone()
        };
        let budget = Budget::of(&machine, self.batch);
        state.slots = slots::plan(&machine, &allowed, budget.jobs(), self.policy);
        state.users = vec![0; state.slots.len()];
        state.allowed = allowed;
        state.round += 1;
    }

    /// The processors near what a program wants, as far as they may be used.
    fn near(&self, program: &str, allowed: &CpuSet) -> Option<CpuSet> {
        let (_, cpus) = self.near.iter().find(|(name, _)| name == program)?;
        Some(cpus.and(allowed)).filter(|cpus| !cpus.is_empty())
    }
}

impl Pins for Places {
    fn has_near(&self, program: &str) -> bool {
        self.near.iter().any(|(name, _)| name == program)
    }

    fn take(&self, pid: i32, program: &str) -> Option<usize> {
        // What a process may use that nobody has bound yet is what the build may use now.
        let now = topology::affinity_of(u32::try_from(pid).ok()?).ok()?;
        let mut state = self.state();
        if now != state.allowed && !now.is_empty() {
            self.plan(&mut state, now);
        }
        let near = self.near(program, &state.allowed);
        let fits = |at: &usize| {
            near.as_ref()
                .is_none_or(|near| near.covers(&state.slots[*at].cpus))
        };
        let least = |at: &usize| state.users[*at];
        let all = 0..state.slots.len();
        let chosen = all.clone().filter(fits).min_by_key(least);
        let at = chosen.or_else(|| all.min_by_key(least))?;
        let cpus = match (chosen, &near) {
            (None, Some(near)) => near,
            _ => &state.slots[at].cpus,
        };
        // A process that is gone, or of another user, needs no place.
        spawn::set_affinity(Pid::from_raw(pid), cpus).ok()?;
        state.users[at] += 1;
        Some(state.round * ROUND + at)
    }

    fn name(&self, place: usize) -> String {
        let state = self.state();
        let slot = state.slots.get(place % ROUND);
        slot.map_or_else(String::new, |slot| {
            format!("{} (cpus {})", slot.place, slot.cpus)
        })
    }

    fn give(&self, place: usize) {
        let mut state = self.state();
        if place / ROUND != state.round {
            return;
        }
        if let Some(users) = state.users.get_mut(place % ROUND) {
            *users = users.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::topology::{Source, read};
    use std::process::{Child, Command};

    fn sleeper() -> (Child, i32) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id().try_into().unwrap();
        (child, pid)
    }

    fn allowed(pid: i32) -> CpuSet {
        topology::affinity_of(pid.try_into().unwrap()).unwrap()
    }

    fn places(policy: Policy, near: &[String]) -> Places {
        Places::new(read(&Source::Here).unwrap(), policy, None, near).unwrap()
    }

    /// However what may be used changes: each gets a place within it, and places are shared evenly.
    #[test]
    fn places_follow_what_may_be_used() {
        let all = read(&Source::Here).unwrap().allowed;
        let places = places(Policy::Pack, &[]);
        let (first, last) = (all.iter().next().unwrap(), all.iter().last().unwrap());
        let sets = [
            all.clone(),
            CpuSet::from_iter([first]),
            CpuSet::from_iter([last]),
            all,
        ];
        for round in 0..12 {
            let now = &sets[round % sets.len()];
            let (mut children, mut taken, mut used) = (Vec::new(), Vec::new(), CpuSet::default());
            for _ in now.iter() {
                let (child, pid) = sleeper();
                children.push(child);
                spawn::set_affinity(Pid::from_raw(pid), now).unwrap();
                taken.push(places.take(pid, "cc").unwrap());
                let got = allowed(pid);
                assert!(now.covers(&got) && got.len() == 1, "{got} of {now}");
                assert!(!used.meets(&got), "{got} is free, {used} is not");
                used = used.or(&got);
            }
            assert_eq!(places.state().users, vec![1; now.len()]);
            let before = places.state().round;
            for (mut child, place) in children.into_iter().zip(taken) {
                child.kill().unwrap();
                child.wait().unwrap();
                places.give(place);
            }
            // A place of before, given back late.
            places.give((before - 1) * ROUND);
            assert_eq!(places.state().users, vec![0; now.len()]);
        }
        assert_eq!(places.take(-5, "cc"), None);
    }

    #[test]
    fn who_wants_to_be_near_something_is() {
        let machine = read(&Source::Here).unwrap();
        let last = machine.of_kind(crate::base::topology::Kind::Pu).len() - 1;
        let near = format!("nvcc=pu:{last}");
        for policy in [Policy::Pack, Policy::None] {
            let places = places(policy, std::slice::from_ref(&near));
            assert!(places.has_near("nvcc") && !places.has_near("cc"));
            let wanted = location::parse(&machine, &format!("pu:{last}")).unwrap();
            for _ in 0..2 {
                let (mut child, pid) = sleeper();
                places.take(pid, "nvcc").unwrap();
                assert_eq!(allowed(pid), wanted, "{policy}");
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
        let lacking = ["x=gpu:77".to_owned()];
        Places::new(machine, Policy::Pack, None, &lacking).unwrap_err();
    }
}
