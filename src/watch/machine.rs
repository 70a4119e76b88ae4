//! What the machine is like, for those who read a record: uname(2) and what sysfs says of its processors.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::OnceLock;

/// The machine that builds run on.
pub(super) struct Machine {
    /// Its name in the network.
    pub node: String,
    /// What each key depends on.
    pub key: String,
}

impl Machine {
    pub(super) fn here() -> Self {
        static UNKNOWN: OnceLock<OsString> = OnceLock::new();
        let unknown = UNKNOWN.get_or_init(OsString::new);
        let names = nix::sys::utsname::uname();
        let text = |field: fn(&nix::sys::utsname::UtsName) -> &OsStr| {
            names
                .as_ref()
                .map_or(unknown.as_os_str(), field)
                .to_string_lossy()
                .into_owned()
        };
        let node = text(|names| names.nodename());
        let key = [
            text(|n| n.sysname()),
            node.clone(),
            text(|n| n.release()),
            text(|n| n.machine()),
        ]
        .join(" ");
        Self { node, key }
    }
}

/// Its packages, memory nodes, cores and processors. Read once, by the first who asks.
pub(super) fn shape() -> &'static str {
    static SHAPE: OnceLock<String> = OnceLock::new();
    SHAPE.get_or_init(|| shape_below(Path::new("/sys/devices/system")))
}

fn shape_below(dir: &Path) -> String {
    let numbered = |dir: &Path, name: &str| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_one = |path: &std::path::PathBuf| {
            let number = path.file_name().and_then(OsStr::to_str);
            let number = number.and_then(|text| text.strip_prefix(name));
            number.is_some_and(|text| text.parse::<u32>().is_ok())
        };
        paths.filter(is_one).collect()
    };
    let (mut packages, mut cores, mut processors) = (BTreeSet::new(), BTreeSet::new(), 0);
    for cpu in numbered(&dir.join("cpu"), "cpu") {
        let read = |name: &str| std::fs::read_to_string(cpu.join("topology").join(name));
        // One that is offline has no topology.
        let (Ok(package), Ok(core)) = (read("physical_package_id"), read("core_id")) else {
            continue;
        };
        processors += 1;
        packages.insert(package.clone());
        cores.insert((package, core));
    }
    let nodes = numbered(&dir.join("node"), "node").len().max(1);
    let (packages, cores) = (packages.len(), cores.len());
    format!("packages {packages}, nodes {nodes}, cores {cores}, processors {processors}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the test makes a machine")]
    use super::*;

    #[test]
    fn a_machine_of_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("node/node1")).unwrap();
        std::fs::create_dir_all(dir.path().join("node/node0")).unwrap();
        std::fs::create_dir_all(dir.path().join("cpu/cpufreq")).unwrap();
        for (cpu, package, core) in [(0, 0, 0), (1, 0, 0), (2, 1, 0), (10, 1, 1)] {
            let topology = dir.path().join(format!("cpu/cpu{cpu}/topology"));
            std::fs::create_dir_all(&topology).unwrap();
            std::fs::write(topology.join("physical_package_id"), format!("{package}\n")).unwrap();
            std::fs::write(topology.join("core_id"), format!("{core}\n")).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("cpu/cpu11")).unwrap();
        let shape = shape_below(dir.path());
        assert_eq!(shape, "packages 2, nodes 2, cores 3, processors 4");
    }
}
