//! Limits that somebody else has set: a real control group, and what Slurm tells a step.

use super::{Space, hogs, most_at_once, text};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A control group of a test's own, as root makes one (cgroups(7)).
struct Group(PathBuf);

impl Group {
    fn with_memory(bytes: u64) -> Self {
        let (group, old) = Self::of("memory");
        let limit = match old {
            true => "memory.limit_in_bytes",
            false => "memory.max",
        };
        group.set(limit, &bytes.to_string());
        group
    }

    fn with_cpus(cpus: &str) -> Self {
        let (group, old) = Self::of("cpuset");
        group.set("cpuset.cpus", cpus);
        if old {
            group.set("cpuset.mems", "0");
        }
        group
    }

    /// A new group below this controller, and whether it is of the first version of cgroups.
    fn of(controller: &str) -> (Self, bool) {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers"));
        let old = !controllers.is_ok_and(|all| all.split_whitespace().any(|c| c == controller));
        let top = if old {
            root.join(controller)
        } else {
            root.to_owned()
        };
        if old && !top.exists() {
            let script = "mountpoint -q /sys/fs/cgroup || mount -t tmpfs cgroup /sys/fs/cgroup; \
                          mkdir -p /sys/fs/cgroup/$1 && mount -t cgroup -o $1 cgroup /sys/fs/cgroup/$1";
            let mounted = Command::new("sh")
                .args(["-c", script, "sh", controller])
                .status()
                .unwrap();
            assert!(
                mounted.success(),
                "the test needs the controller {controller}"
            );
        } else if !old {
            let enabled = std::fs::write(
                root.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
            enabled.unwrap_or_else(|error| panic!("the test needs {controller}: {error}"));
        }
        let dir = top.join(format!("rfs-test-{controller}-{}", std::process::id()));
        let made = std::fs::create_dir(&dir);
        made.unwrap_or_else(|error| {
            panic!("{}: {error}: the test needs to make one", dir.display())
        });
        (Self(dir), old)
    }

    fn set(&self, name: &str, value: &str) {
        std::fs::write(self.0.join(name), value).unwrap();
    }

    /// A build in this group.
    fn build(&self, space: &Space, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let script = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", self.0.display());
        let rfs = space.rfs(args);
        command
            .args(["-c", &script, "sh"])
            .arg(rfs.get_program())
            .args(rfs.get_args())
            .current_dir(space.ws());
        for (name, value) in rfs.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
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
    let mut build = group.build(
        &space,
        &["build", "--explain", "--", "sh", "-c", &side_by_side],
    );
    let output = build.env("THERE", space.there()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!((1..=2).contains(&most_at_once(&space)), "{output:?}");
}

/// A group's processors change while a build runs in it: each step goes where it may then.
#[test]
fn pins_follow_a_control_group_that_changes() {
    let space = Space::new();
    space.write(
        "cc",
        "#!/bin/sh\nsed -n 's/Cpus_allowed_list:.//p' /proc/self/status\n",
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(space.ws().join("cc"), mode).unwrap();
    let machine = rfs::runner::topology::read(&rfs::runner::topology::Source::Here).unwrap();
    let cpus: Vec<usize> = machine.allowed.iter().collect();
    let (first, last) = (cpus[0], *cpus.last().unwrap());
    assert_ne!(first, last, "the test needs two processors");
    let group = Group::with_cpus(&format!("{first},{last}"));
    let turns = [last, first, last, last, first];
    let mut script = String::new();
    for (at, cpu) in turns.iter().enumerate() {
        let file = group.0.join("cpuset.cpus");
        script += &format!("echo {cpu} >{}; ./cc {at}; ", file.display());
    }
    let args = ["build", "--pin", "core", "-j2", "--", "sh", "-c", &script];
    let output = group.build(&space, &args).output().unwrap();
    let expected: String = turns.iter().map(|cpu| format!("{cpu}\n")).collect();
    assert_eq!(text(&output.stdout), expected, "{output:?}");
}

/// What may be used changes while a build runs: so does the budget of jobs that nobody has named.
#[test]
fn a_budget_follows_a_control_group_that_changes() {
    let space = Space::new();
    let machine = rfs::runner::topology::read(&rfs::runner::topology::Source::Here).unwrap();
    let cpus: Vec<usize> = machine.allowed.iter().collect();
    let (first, last) = (cpus[0], *cpus.last().unwrap());
    assert_ne!(first, last, "the test needs two processors");
    let group = Group::with_cpus(&format!("{first},{last}"));
    // Waits until so many tokens are there (FIONREAD), for a minute at most.
    let script = format!(
        "there() {{ timeout 60 perl -e 'my $there = pack(\"i\", -1);
         if ($ENV{{MAKEFLAGS}} =~ /fifo:(\\S+)/) {{ open(T, \"+<\", $1) }} else {{ open(T, \"<&=60\") }}
         do {{ ioctl(T, 0x541B, $there) or die $!; }} until unpack(\"i\", $there) == $ARGV[0];
         print \"$ARGV[0] \"' $1; }}
         there 1; echo {first} >{cpus}; there 0; echo {first},{last} >{cpus}; there 1",
        cpus = group.0.join("cpuset.cpus").display()
    );
    let build = |jobs: &str| {
        let args = ["build", "-q", jobs, "--", "sh", "-c", &script];
        text(&group.build(&space, &args).output().unwrap().stdout)
    };
    assert_eq!(build("-jauto"), "1 0 1 ");
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
