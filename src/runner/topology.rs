//! Reads machines with hwloc: this one, one that was written down, or one that is only imagined.
//!
//! The only file that knows hwloc. What it returns are plain values; nothing is bound here, since hwloc
//! binds silently to nothing where a topology is not this system's.

use crate::base::cpuset::CpuSet;
use crate::base::topology::{Kind, Machine, Object};
use hwlocality::Topology;
use hwlocality::bitmap::{Bitmap, SpecializedBitmap};
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::{CacheType, OSDeviceType, ObjectType};
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder, TypeFilter};
use hwlocality::topology::export::xml::XMLExportFlags;
use serde::Serialize;
use std::ffi::CStr;
use std::path::PathBuf;

/// Where a machine's description comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The machine we run on, with what we may use of it.
    Here,
    /// The same as a process sees it that is bound or confined in other ways.
    Pid(u32),
    /// A file that `lstopo --of xml` or `rfs topo --xml` wrote.
    Xml(PathBuf),
    /// A description like `pack:2 core:8 pu:2`; see hwloc(7), "Synthetic topologies".
    Synthetic(String),
}

/// A machine that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a description.
    #[error("{0:?} describes no machine; a description looks like \"pack:2 numa:1 core:8 pu:2\"")]
    Synthetic(String),
    /// Not a file that can be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// A file that says something else.
    #[error("{0} is no topology in hwloc's XML format")]
    Xml(PathBuf),
    /// No such process, or none that we may look at.
    #[error("cannot see the processors of process {0}: {1}")]
    Pid(u32, String),
    /// hwloc gave up.
    #[error("hwloc cannot read this machine: {0}")]
    Hwloc(String),
}

/// Reads a machine.
///
/// # Errors
/// When the source is not there or says nothing that hwloc understands.
pub fn read(source: &Source) -> Result<Machine, Error> {
    let topology = load(source)?;
    let mut kinds = Vec::new();
    if let Ok(all) = topology.cpu_kinds() {
        kinds = all.map(|kind| numbers(&kind.cpuset)).collect();
    }
    if kinds.len() < 2 {
        kinds.clear();
    }
    let mut allowed = numbers(&*topology.allowed_cpuset());
    if let Source::Pid(pid) = source {
        let threads = threads(*pid)?;
        let any = |all: CpuSet, thread: &Thread| all.or(&thread.cpus);
        allowed = allowed.and(&threads.iter().fold(CpuSet::default(), any));
    } else if *source == Source::Here {
        allowed = allowed.and(&affinity_of(std::process::id())?);
    }
    Ok(Machine {
        here: topology.is_this_system(),
        root: object(topology.root_object()),
        allowed,
        allowed_nodes: numbers(&*topology.allowed_nodeset()),
        kinds,
    })
}

/// A thread and the processors that it may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Its number.
    pub id: u32,
    /// The processors.
    pub cpus: CpuSet,
}

/// The threads of a process, or the one thread that `pid` is if it does not lead its process.
///
/// # Errors
/// When there is no such process.
pub fn threads(pid: u32) -> Result<Vec<Thread>, Error> {
    let first = Thread {
        id: pid,
        cpus: affinity_of(pid)?,
    };
    let leads = status_field(pid, "Tgid:")? == pid.to_string();
    let tasks = match leads {
        true => std::fs::read_dir(format!("/proc/{pid}/task")).ok(),
        false => None,
    };
    let number = |task: std::fs::DirEntry| task.file_name().to_str()?.parse().ok();
    let mut others: Vec<u32> = tasks
        .into_iter()
        .flatten()
        .filter_map(|task| number(task.ok()?))
        .filter(|id| *id != pid)
        .collect();
    others.sort_unstable();
    // One that has ended meanwhile is none.
    let others = others.into_iter().filter_map(|id| {
        let cpus = affinity_of(id).ok()?;
        Some(Thread { id, cpus })
    });
    Ok(std::iter::once(first).chain(others).collect())
}

/// The same in hwloc's own XML, which its tools read.
///
/// # Errors
/// As [`read`].
pub fn xml(source: &Source) -> Result<String, Error> {
    let topology = load(source)?;
    let text = topology.export_xml(XMLExportFlags::empty());
    let text = text.map_err(|error| Error::Hwloc(error.to_string()))?;
    Ok(text.as_str().to_owned())
}

fn load(source: &Source) -> Result<Topology, Error> {
    let broken = |error: &dyn std::fmt::Display| Error::Hwloc(error.to_string());
    let builder = TopologyBuilder::new();
    let builder = match source {
        Source::Here | Source::Pid(_) => builder,
        Source::Synthetic(text) => builder
            .from_synthetic(text)
            .map_err(|_no| Error::Synthetic(text.clone()))?,
        Source::Xml(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::File(path.clone(), e))?;
            builder
                .from_xml(&text)
                .map_err(|_no| Error::Xml(path.clone()))?
        }
    };
    let builder = builder
        .with_io_type_filter(TypeFilter::KeepImportant)
        .map_err(|error| broken(&error))?;
    let builder = builder
        .with_flags(BuildFlags::empty())
        .map_err(|error| broken(&error))?;
    builder.build().map_err(|error| match source {
        Source::Xml(path) => Error::Xml(path.clone()),
        Source::Synthetic(text) => Error::Synthetic(text.clone()),
        Source::Here | Source::Pid(_) => broken(&error),
    })
}

/// What sched_getaffinity(2) says of a process, read from proc(5) since it has no limit of size.
pub(super) fn affinity_of(pid: u32) -> Result<CpuSet, Error> {
    let set = status_field(pid, "Cpus_allowed_list:")?.parse();
    set.map_err(|error: crate::base::cpuset::NotASet| Error::Pid(pid, error.to_string()))
}

fn status_field(pid: u32, name: &str) -> Result<String, Error> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let text = text.map_err(|error| Error::Pid(pid, error.to_string()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.unwrap_or_default().trim().to_owned())
}

/// hwloc's sets, whatever they number. An infinite one has no weight; it means "all there are", and hwloc
/// gives none for objects.
fn numbers(set: &(impl SpecializedBitmap + AsRef<Bitmap>)) -> CpuSet {
    let set: &Bitmap = set.as_ref();
    let finite = set.weight().unwrap_or(0);
    set.iter_set().take(finite).map(usize::from).collect()
}

fn object(from: &TopologyObject) -> Object {
    let children =
        |objects: &mut dyn Iterator<Item = &TopologyObject>| objects.map(object).collect();
    let cpus = from.cpuset().map(|set| numbers(&*set));
    let nodes = from.nodeset().map(|set| numbers(&*set));
    // A device holds no processors: those that it hangs on are near it.
    let near = from.first_non_io_ancestor();
    let near = near
        .and_then(|object| object.cpuset())
        .map(|set| numbers(&*set));
    Object {
        kind: kind(from),
        logical: from.logical_index(),
        os: from.os_index(),
        name: from.name().map(text),
        cpus: cpus.or(near).unwrap_or_default(),
        nodes: nodes.unwrap_or_default(),
        bytes: bytes(from),
        children: children(&mut from.normal_children()),
        memory: children(&mut from.memory_children()),
        devices: children(&mut from.io_children()),
    }
}

fn text(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

fn bytes(from: &TopologyObject) -> u64 {
    match from.attributes() {
        Some(ObjectAttributes::NUMANode(node)) => node.local_memory().map_or(0, u64::from),
        Some(ObjectAttributes::Cache(cache)) => cache.size().map_or(0, u64::from),
        Some(_) | None => 0,
    }
}

fn kind(from: &TopologyObject) -> Kind {
    match (from.object_type(), from.attributes()) {
        (ObjectType::Machine, _) => Kind::Machine,
        (ObjectType::Package, _) => Kind::Package,
        (ObjectType::Die, _) => Kind::Die,
        (ObjectType::Group, _) => Kind::Group,
        (ObjectType::Core, _) => Kind::Core,
        (ObjectType::PU, _) => Kind::Pu,
        (ObjectType::NUMANode, _) => Kind::Numa,
        (ObjectType::MemCache, _) => Kind::MemoryCache,
        (ObjectType::Bridge, _) => Kind::Bridge,
        (ObjectType::PCIDevice, _) => Kind::Pci,
        (_, Some(ObjectAttributes::Cache(cache))) => {
            let level = u8::try_from(cache.depth()).unwrap_or(u8::MAX);
            match cache.cache_type() {
                CacheType::Instruction => Kind::InstructionCache(level),
                CacheType::Unified | CacheType::Data | CacheType::Unknown(_) => Kind::Cache(level),
            }
        }
        (_, Some(ObjectAttributes::OSDevice(device))) => match device.device_type() {
            OSDeviceType::Storage => Kind::Storage,
            OSDeviceType::GPU => Kind::Gpu,
            OSDeviceType::Network => Kind::Network,
            OSDeviceType::OpenFabrics => Kind::Fabric,
            OSDeviceType::CoProcessor => Kind::Accelerator,
            OSDeviceType::DMA | OSDeviceType::Unknown(_) => Kind::Other,
        },
        _ => Kind::Other,
    }
}
