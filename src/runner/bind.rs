//! Binds an execution: what is asked, made ready before the fork, and what the kernel says came of it.
//! The two can differ, so both are told.

use crate::base::cpuset::CpuSet;
use serde::Serialize;
use std::fmt;
use std::io;

/// How memory is placed (set_mempolicy(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// As it comes.
    Default,
    /// On the nodes near the processors, on others when those are full.
    Local(CpuSet),
    /// On these nodes only.
    Bind(CpuSet),
    /// Pages dealt over these nodes.
    Interleave(CpuSet),
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Local(nodes) => write!(f, "local:{nodes}"),
            Self::Bind(nodes) => write!(f, "bind:{nodes}"),
            Self::Interleave(nodes) => write!(f, "interleave:{nodes}"),
        }
    }
}

/// Where an execution is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// The processors; none: wherever the parent may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuSet>,
    /// The memory.
    pub memory: Memory,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cpus {
            Some(cpus) => write!(f, "cpus {cpus}")?,
            None => write!(f, "any cpus")?,
        }
        if self.memory == Memory::Default {
            return Ok(());
        }
        write!(f, ", memory {}", self.memory)
    }
}

impl Binding {
    /// Binds the calling thread, and whatever it executes from then on.
    ///
    /// # Errors
    /// When the kernel refuses, as for processors or nodes that are not there.
    pub fn take(&self) -> io::Result<()> {
        if let Some(cpus) = &self.cpus {
            super::spawn::set_affinity(nix::unistd::Pid::from_raw(0), cpus)?;
        }
        super::spawn::set_memory_policy(&self.memory)
    }
}

/// What the kernel says of a process's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The processors that it may run on.
    pub cpus: CpuSet,
    /// The memory nodes that it may use.
    pub nodes: CpuSet,
    /// The policy of its memory, as numa_maps in proc(5) writes it; empty where the kernel knows no nodes.
    pub memory: String,
}

impl Placement {
    /// Whether it is what was asked for.
    #[must_use]
    pub fn is_as_asked(&self, asked: &Binding) -> bool {
        let policy = |names: &[&str], nodes: &CpuSet| {
            let mut names = names.iter();
            names.any(|name| self.memory == format!("{name}:{nodes}"))
        };
        let memory = match &asked.memory {
            Memory::Default => true,
            Memory::Local(nodes) => policy(&["prefer", "prefer (many)"], nodes),
            Memory::Bind(nodes) => policy(&["bind"], nodes),
            Memory::Interleave(nodes) => policy(&["interleave"], nodes),
        };
        memory && asked.cpus.as_ref().is_none_or(|cpus| *cpus == self.cpus)
    }

    /// Of the calling thread.
    ///
    /// # Errors
    /// When proc(5) cannot be read.
    pub fn of_this_process() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/thread-self/status")?;
        let list = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().parse().unwrap_or_default()
        };
        let maps = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap_or_default();
        Ok(Self {
            cpus: list("Cpus_allowed_list:"),
            nodes: list("Mems_allowed_list:"),
            memory: policy_of_stack(&maps).unwrap_or_default().to_owned(),
        })
    }
}

/// Of the text of numa_maps: mappings of libraries may have a policy of their own, the stack never has.
fn policy_of_stack(maps: &str) -> Option<&str> {
    let mut stacks = maps.lines().filter_map(|line| line.split_once(" stack"));
    let (before, _) = stacks.next()?;
    // The kernel's name of a policy may have a blank in it.
    before.split_once(' ').map(|(_address, policy)| policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_numa_maps_tells() {
        let maps = |policy: &str| {
            format!("55d0 bind:3 file=/bin/x mapped=1\n7ffc {policy} stack anon=3 N0=3\n")
        };
        let set = |text: &str| -> CpuSet { text.parse().unwrap() };
        for (policy, asked, same) in [
            ("default", Memory::Default, true),
            ("prefer (many):0-1", Memory::Local(set("0-1")), true),
            ("prefer:1", Memory::Local(set("1")), true),
            ("local", Memory::Local(set("1")), false),
            ("bind:0", Memory::Bind(set("0-1")), false),
            ("bind:0-1", Memory::Bind(set("0-1")), true),
            ("bind:0", Memory::Interleave(set("0")), false),
            ("interleave:0,2", Memory::Interleave(set("0,2")), true),
        ] {
            let text = maps(policy);
            assert_eq!(policy_of_stack(&text), Some(policy));
            let got = Placement {
                cpus: set("1"),
                nodes: set("0-1"),
                memory: policy.to_owned(),
            };
            let mut asked = Binding {
                cpus: None,
                memory: asked,
            };
            assert_eq!(got.is_as_asked(&asked), same, "{policy} for {asked}");
            asked.cpus = Some(set("1"));
            assert_eq!(got.is_as_asked(&asked), same);
            asked.cpus = Some(set("0-1"));
            assert!(!got.is_as_asked(&asked));
        }
        assert_eq!(policy_of_stack(""), None);
    }
}
