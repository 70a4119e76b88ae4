//! How much of the machine is ours: what affinity, cgroups and a batch system leave of it. Read anew each
//! time, since an administrator may change it while a build runs.

use super::topology;
use crate::base::cpuset::CpuSet;
use crate::base::topology::Machine;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What may be used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Budget {
    /// The processors: affinity and cgroup cpusets together.
    pub cpus: CpuSet,
    /// Processors' worth of time (cgroup quota), where it is less than the processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<f64>,
    /// Bytes of memory that the cgroups allow, where they set a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Jobs at once that a batch system has given, where one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
}

impl Budget {
    /// What a machine leaves us. `batch` is how many jobs a batch system has given, as [`slurm`] says.
    #[must_use]
    pub fn of(machine: &Machine, batch: Option<usize>) -> Self {
        let limits = if machine.here {
            Limits::of_this_process()
        } else {
            Limits::default()
        };
        Self {
            cpus: machine.allowed.clone(),
            quota: limits
                .quota
                .filter(|&quota| quota < machine.allowed.len() as f64),
            memory: limits.memory,
            batch,
        }
    }

    /// What is left to this process now, by what may change while a build runs.
    ///
    /// # Errors
    /// When proc(5) cannot be read.
    pub fn now(batch: Option<usize>) -> Result<Self, topology::Error> {
        let cpus = topology::affinity_of(std::process::id())?;
        let limits = Limits::of_this_process();
        Ok(Self {
            quota: limits.quota,
            memory: limits.memory,
            cpus,
            batch,
        })
    }

    /// How many jobs of one thread it has room for; at least 1.
    #[must_use]
    pub fn jobs(&self) -> usize {
        let jobs = self.cpus.len().min(self.batch.unwrap_or(usize::MAX));
        // Half a processor's worth of time still runs a job.
        let quota = self
            .quota
            .map_or(usize::MAX, |quota| quota.ceil().max(1.0) as usize);
        jobs.min(quota).max(1)
    }
}

/// How many processors Slurm has given to this process, as the environment of a job or step tells: those of
/// a task, else this node's share of the step among the tasks here. `variable` reads the environment.
pub fn slurm(variable: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let of_task = number("SLURM_CPUS_PER_TASK").filter(|&cpus| cpus > 0);
    of_task.or_else(|| {
        let cpus = number("SLURM_CPUS_ON_NODE").filter(|&cpus| cpus > 0)?;
        let node = number("SLURM_NODEID").unwrap_or(0);
        let tasks = variable("SLURM_STEP_TASKS_PER_NODE").and_then(|list| of_node(&list, node));
        Some((cpus / tasks.unwrap_or(1).max(1)).max(1))
    })
}

/// The number of a node in a list like `2(x3),1`, which is 2, 2, 2, 1.
fn of_node(list: &str, node: usize) -> Option<usize> {
    let mut before = 0_usize;
    for part in list.split(',') {
        let (number, times) = part.split_once("(x").unwrap_or((part, "1"));
        before = before.checked_add(times.trim_end_matches(')').parse().ok()?)?;
        if node < before {
            return number.parse().ok();
        }
    }
    None
}

/// What control groups say (cgroups(7)): the tightest on the way up to the root counts.
#[derive(Debug, Default, PartialEq)]
struct Limits {
    quota: Option<f64>,
    memory: Option<u64>,
}

impl Limits {
    fn of_this_process() -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of(&groups, Path::new("/sys/fs/cgroup"))
    }

    /// Of `groups`, the text of /proc/self/cgroup, with the hierarchies mounted below `root`.
    fn of(groups: &str, root: &Path) -> Self {
        let mut limits = Self::default();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            let top = if controllers.is_empty() {
                root.to_owned()
            } else {
                root.join(controllers)
            };
            for dir in upwards(&top, path) {
                if controllers.is_empty() {
                    limits.take(quota_of(&dir), number_in(&dir.join("memory.max")));
                } else {
                    limits.take(
                        old_quota_of(&dir),
                        number_in(&dir.join("memory.limit_in_bytes")),
                    );
                }
            }
        }
        // The first version of cgroups says "no limit" by a number that no machine has.
        limits.memory = limits.memory.filter(|&bytes| bytes < 1 << 60);
        limits
    }

    fn take(&mut self, quota: Option<f64>, memory: Option<u64>) {
        self.quota = match (self.quota, quota) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.memory = match (self.memory, memory) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// Bytes of memory that control groups allow this process, as they say now.
pub(super) fn memory_limit() -> Option<u64> {
    Limits::of_this_process().memory
}

/// The directory of a group and those above it, up to the hierarchy's top. In a container the path may be
/// one of outside: what of it is there is looked at.
fn upwards(top: &Path, group: &str) -> Vec<PathBuf> {
    let dir = top.join(group.trim_start_matches('/'));
    let inside = |dir: &&Path| dir.starts_with(top);
    dir.ancestors()
        .take_while(inside)
        .map(Path::to_owned)
        .collect()
}

/// `cpu.max`: microseconds a period, or `max`.
fn quota_of(dir: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(dir.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok().filter(|&period| period > 0.0)?)
}

fn old_quota_of(dir: &Path) -> Option<f64> {
    let quota = number_in(&dir.join("cpu.cfs_quota_us"))?;
    let period = number_in(&dir.join("cpu.cfs_period_us")).filter(|&period| period > 0)?;
    Some(quota as f64 / period as f64)
}

/// A number alone in a file; none where it says `max` or -1.
fn number_in(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests make a hierarchy")]
    use super::*;

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(root.path().join("a/cpu.max"), "150000 100000\n").unwrap();
        std::fs::write(inner.join("cpu.max"), "max 100000\n").unwrap();
        std::fs::write(inner.join("memory.max"), "1048576\n").unwrap();
        std::fs::write(root.path().join("a/memory.max"), "max\n").unwrap();
        let limits = Limits::of("0::/a/b\n", root.path());
        assert_eq!(
            limits,
            Limits {
                quota: Some(1.5),
                memory: Some(1 << 20)
            }
        );
        assert_eq!(Limits::of("0::/other\n", root.path()), Limits::default());
    }

    #[test]
    fn what_slurm_gives_a_task() {
        let jobs = |text: &str| {
            slurm(|name| {
                let mut words = text.split(' ').filter_map(|word| word.split_once('='));
                let (_, value) = words.find(|(known, _)| *known == &name["SLURM_".len()..])?;
                Some(value.to_owned())
            })
        };
        assert_eq!(jobs("CPUS_PER_TASK=3 CPUS_ON_NODE=12"), Some(3));
        assert_eq!(
            jobs("CPUS_ON_NODE=12"),
            Some(12),
            "a batch script has it all"
        );
        let step = "CPUS_ON_NODE=12 STEP_TASKS_PER_NODE=4(x2),3";
        assert_eq!(jobs(step), Some(3));
        assert_eq!(jobs(&format!("{step} NODEID=1")), Some(3));
        assert_eq!(jobs(&format!("{step} NODEID=2")), Some(4));
        assert_eq!(jobs(&format!("{step} NODEID=3")), Some(12), "no such node");
        assert_eq!(jobs("CPUS_ON_NODE=2 STEP_TASKS_PER_NODE=5"), Some(1));
        assert_eq!(jobs("CPUS_ON_NODE=4 STEP_TASKS_PER_NODE=(x)"), Some(4));
        assert_eq!(jobs("CPUS_PER_TASK=0"), None);
        assert_eq!(jobs(""), None);
    }

    #[test]
    fn the_first_version_of_control_groups() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("cpu,cpuacct/x");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("cpu.cfs_quota_us"), "50000\n").unwrap();
        std::fs::write(dir.join("cpu.cfs_period_us"), "100000\n").unwrap();
        std::fs::write(dir.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        let limits = Limits::of("4:cpu,cpuacct:/x\n", root.path());
        assert_eq!(
            limits,
            Limits {
                quota: Some(0.5),
                memory: None
            }
        );
    }
}
