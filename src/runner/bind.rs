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
        // Mappings of libraries may have a policy of their own; the stack never does.
        let stack = maps.lines().find(|line| line.contains(" stack"));
        let policy = stack.and_then(|line| line.split(' ').nth(1));
        Ok(Self {
            cpus: list("Cpus_allowed_list:"),
            nodes: list("Mems_allowed_list:"),
            memory: policy.unwrap_or_default().to_owned(),
        })
    }
}
