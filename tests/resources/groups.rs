//! Limits that somebody else has set: a real control group, and what Slurm tells a step.

use super::{Space, hogs, most_at_once, text};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A control group of this test's own with a limit of memory, as root makes one (cgroups(7)).
struct Group(PathBuf);

impl Group {
    fn with_memory(bytes: u64) -> Self {
        let name = format!("rfs-test-{}", std::process::id());
        let (root, limit) = match Path::new("/sys/fs/cgroup/memory").exists() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let group = Self(Path::new(root).join(name));
        let made = std::fs::create_dir(&group.0);
        made.unwrap_or_else(|error| {
            panic!("{}: {error}: the test needs to make one", group.0.display())
        });
        std::fs::write(group.0.join(limit), bytes.to_string()).unwrap();
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The host of a build may be there for a moment longer.
        while std::fs::remove_dir(&self.0)
            .is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
        {
            std::thread::yield_now();
        }
    }
}

/// Eight that need 150 MiB each, in a control group with 420 MiB: two at a time, and nobody is killed.
#[test]
fn steps_wait_for_the_memory_of_their_control_group() {
    let names: Vec<String> = (0..8).map(|at| format!("./hog {at} 150")).collect();
    let commands: Vec<&str> = names.iter().map(String::as_str).collect();
    let space = hogs(&commands);
    let group = Group::with_memory(420 << 20);
    let side_by_side = format!("{} & wait", commands.join(" & "));
    let mut command = Command::new("sh");
    let script = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", group.0.display());
    let rfs = space.rfs(&["build", "--", "sh", "-c", &side_by_side]);
    command
        .args(["-c", &script, "sh"])
        .arg(rfs.get_program())
        .args(rfs.get_args());
    command.current_dir(space.ws()).env("THERE", space.there());
    for (name, value) in rfs.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!((1..=2).contains(&most_at_once(&space)), "{output:?}");
}

/// The tasks of a step share what it has of the node.
#[test]
fn a_step_of_slurm_has_its_share() {
    let space = Space::new();
    let script = "echo $MAKEFLAGS";
    let jobs = |variables: &[(&str, &str)]| {
        let mut build = space.rfs(&["build", "-q", "--rerun", "-jauto", "--", "sh", "-c", script]);
        for name in [
            "SLURM_CPUS_PER_TASK",
            "SLURM_CPUS_ON_NODE",
            "SLURM_STEP_TASKS_PER_NODE",
        ] {
            build.env_remove(name);
        }
        let output = build.envs(variables.iter().copied()).output().unwrap();
        let flags = text(&output.stdout);
        let jobs = flags.split(' ').find_map(|word| word.strip_prefix("-j"));
        jobs.unwrap_or_else(|| panic!("{output:?}"))
            .parse::<usize>()
            .unwrap()
    };
    let machine = rfs::runner::topology::read(&rfs::runner::topology::Source::Here).unwrap();
    let all = rfs::runner::budget::Budget::of(&machine, None).jobs();
    assert_eq!(jobs(&[]), all);
    let node = all.to_string();
    assert_eq!(jobs(&[("SLURM_CPUS_ON_NODE", &node)]), all);
    let step = [
        ("SLURM_CPUS_ON_NODE", node.as_str()),
        ("SLURM_STEP_TASKS_PER_NODE", node.as_str()),
        ("SLURM_STEP_ID", "0"),
    ];
    assert_eq!(jobs(&step), 1);
    assert_eq!(jobs(&[("SLURM_CPUS_PER_TASK", "1")]), 1);
    assert_eq!(jobs(&[("SLURM_CPUS_PER_TASK", "9999")]), all);
}
