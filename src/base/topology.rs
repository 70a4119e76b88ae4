//! What a machine is made of: a tree of packages, caches, cores and processors with the memory and the
//! devices near them. Values only; where they come from is the runner's business.

use super::cpuset::CpuSet;
use serde::Serialize;
use std::fmt;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The whole.
    Machine,
    /// What is put into a socket.
    Package,
    /// A part of a package.
    Die,
    /// Things that belong together in a way that has no name.
    Group,
    /// A cache of data, or of both, with its level.
    Cache(u8),
    /// A cache of instructions, with its level.
    InstructionCache(u8),
    /// A physical core.
    Core,
    /// What runs one thread.
    Pu,
    /// Memory with its own distance from each processor.
    Numa,
    /// A cache on the memory's side.
    MemoryCache,
    /// A bridge to devices.
    Bridge,
    /// A device on a PCI bus.
    Pci,
    /// A disk.
    Storage,
    /// A graphics processor.
    Gpu,
    /// A network interface.
    Network,
    /// An InfiniBand or similar interface.
    Fabric,
    /// An accelerator.
    Accelerator,
    /// Whatever else.
    Other,
}

impl Kind {
    /// Every name that a user may type for a kind, with the kind; the first for each is ours.
    const NAMES: &[(&str, Self)] = &[
        ("machine", Self::Machine),
        ("package", Self::Package),
        ("pack", Self::Package),
        ("socket", Self::Package),
        ("die", Self::Die),
        ("group", Self::Group),
        ("l1", Self::Cache(1)),
        ("l1d", Self::Cache(1)),
        ("l2", Self::Cache(2)),
        ("l3", Self::Cache(3)),
        ("l4", Self::Cache(4)),
        ("l5", Self::Cache(5)),
        ("l1i", Self::InstructionCache(1)),
        ("core", Self::Core),
        ("pu", Self::Pu),
        ("numa", Self::Numa),
        ("node", Self::Numa),
        ("numanode", Self::Numa),
    ];

    /// The kind that a user means.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let known = Self::NAMES.iter().find(|(name, _kind)| *name == text);
        known.map(|&(_name, kind)| kind)
    }

    /// The names that [`Self::parse`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|&(name, _kind)| name)
    }

    /// Whether it is something that can be near processors without holding any.
    #[must_use]
    pub fn is_device(self) -> bool {
        matches!(
            self,
            Self::Storage | Self::Gpu | Self::Network | Self::Fabric | Self::Accelerator
        )
    }
}

/// As hwloc's tools write it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("Machine"),
            Self::Package => f.write_str("Package"),
            Self::Die => f.write_str("Die"),
            Self::Group => f.write_str("Group"),
            Self::Cache(1) => f.write_str("L1d"),
            Self::Cache(level) => write!(f, "L{level}"),
            Self::InstructionCache(level) => write!(f, "L{level}i"),
            Self::Core => f.write_str("Core"),
            Self::Pu => f.write_str("PU"),
            Self::Numa => f.write_str("NUMANode"),
            Self::MemoryCache => f.write_str("MemCache"),
            Self::Bridge => f.write_str("Bridge"),
            Self::Pci => f.write_str("PCI"),
            Self::Storage => f.write_str("Block"),
            Self::Gpu => f.write_str("GPU"),
            Self::Network => f.write_str("Net"),
            Self::Fabric => f.write_str("OpenFabrics"),
            Self::Accelerator => f.write_str("CoProc"),
            Self::Other => f.write_str("Misc"),
        }
    }
}

/// One object of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its number among all of its kind, in the order of the tree.
    pub logical: usize,
    /// The kernel's number for it, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<usize>,
    /// A device's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The processors in it; for memory and devices, those near it.
    pub cpus: CpuSet,
    /// The memory nodes near it.
    pub nodes: CpuSet,
    /// Size of a cache, or of a node's own memory, in bytes; 0 for all others.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// What it is made of, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Self>,
    /// The memory attached to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<Self>,
    /// The devices attached to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Self>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl Object {
    /// This one and all below it: processors' side, memory, devices, each in the tree's order.
    pub fn all(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        let below = self
            .memory
            .iter()
            .chain(&self.devices)
            .chain(&self.children);
        Box::new(std::iter::once(self).chain(below.flat_map(Self::all)))
    }
}

/// A machine, this one or one that is only described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Whether it is the one we run on, so that binding to it means something.
    pub here: bool,
    /// The whole tree.
    pub root: Object,
    /// The processors that may be used.
    pub allowed: CpuSet,
    /// The memory nodes that may be used.
    pub allowed_nodes: CpuSet,
    /// Kinds of cores, the weakest first; empty where all are alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<CpuSet>,
}

impl Machine {
    /// All objects of a kind, by their logical number.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> Vec<&Object> {
        let mut found: Vec<_> = self
            .root
            .all()
            .filter(|object| object.kind == kind)
            .collect();
        found.sort_by_key(|object| object.logical);
        found
    }

    /// The largest caches of data: what cores share before memory. Where nothing is known of caches, the
    /// memory nodes.
    #[must_use]
    pub fn last_caches(&self) -> Vec<&Object> {
        (1..=5)
            .rev()
            .map(|level| self.of_kind(Kind::Cache(level)))
            .find(|caches| !caches.is_empty())
            .unwrap_or_else(|| self.of_kind(Kind::Numa))
    }

    /// The memory nodes near these processors.
    #[must_use]
    pub fn nodes_near(&self, cpus: &CpuSet) -> CpuSet {
        let near = |node: &&Object| node.cpus.meets(cpus);
        let nodes = self.of_kind(Kind::Numa);
        nodes
            .into_iter()
            .filter(near)
            .filter_map(|node| node.os)
            .collect()
    }
}
