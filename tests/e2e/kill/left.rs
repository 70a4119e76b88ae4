//! What a build has left running or mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::space::TestSpace;

/// A process that is not gone after this time hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// A process of a build.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    /// Its name and its parent (proc_pid_stat(5)).
    pub name: String,
    pub parent: i32,
}

/// The living processes that were started in a space: their environment has its path in it.
pub fn processes(s: &TestSpace) -> Vec<Process> {
    let mark = mark(s);
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        is_of(pid, &mark).then_some(pid)
    });
    pids.filter_map(process).collect()
}

fn process(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
    Some(Process {
        pid,
        name: name.to_owned(),
        parent: rest.split(' ').nth(1)?.parse().ok()?,
    })
}

/// The children of a process's first thread, theirs, and so on (proc_pid_children(5)).
pub fn descendants(pid: i32) -> Vec<Process> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let mut all = Vec::new();
    for child in children.split_whitespace() {
        let child = child.parse().unwrap();
        all.extend(process(child));
        all.extend(descendants(child));
    }
    all
}

fn mark(s: &TestSpace) -> Vec<u8> {
    let home = s.root().join("home");
    format!("HOME={}", home.display()).into_bytes()
}

fn is_of(pid: i32, mark: &[u8]) -> bool {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|entry| entry == mark)
}

/// Whether the process still is one of the space's, whatever number it has.
pub fn is_there(s: &TestSpace, process: &Process) -> bool {
    is_of(process.pid, &mark(s))
}

/// Waits until no process of the space is left.
pub fn wait_gone(s: &TestSpace, when: &str) {
    let since = Instant::now();
    loop {
        let left = processes(s);
        if left.is_empty() {
            return;
        }
        if since.elapsed() > HANGS_AFTER {
            let told: Vec<String> = left.iter().map(describe).collect();
            for process in &left {
                let pid = nix::unistd::Pid::from_raw(process.pid);
                let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            panic!("{when}: left running:\n{}", told.join("\n"));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn describe(process: &Process) -> String {
    let pid = process.pid;
    let of = |file: &str| {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .replace('\0', " ")
            .trim()
            .to_owned()
    };
    let stat = of("stat");
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let brief: String = rest.chars().take(20).collect();
    format!(
        "{pid} {} ({brief}): {}; in {}",
        process.name,
        of("cmdline"),
        of("wchan")
    )
}

/// The number of the FUSE connection behind the workspace, as a process sees it.
pub fn connection(s: &TestSpace, pid: i32) -> Option<String> {
    let ws = s.ws().to_str().unwrap();
    mounts(pid).into_iter().find_map(|(device, at)| {
        let minor = device.strip_prefix("0:")?;
        (at == Path::new(ws)).then(|| minor.to_owned())
    })
}

/// Device and place of what a process has mounted (proc_pid_mountinfo(5)); fuse only.
fn mounts(pid: i32) -> Vec<(String, PathBuf)> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains(" - fuse"))
        .filter_map(|line| {
            let mut words = line.split(' ').skip(2);
            Some((words.next()?.to_owned(), words.nth(1)?.into()))
        })
        .collect()
}

/// Fails when something has a view of the space mounted, or when one of these connections is still there
/// and nobody's mount.
pub fn assert_unmounted(s: &TestSpace, connections: &[String], when: &str) {
    let since = Instant::now();
    loop {
        let mut mounted = Vec::new();
        for entry in fs::read_dir("/proc").unwrap() {
            let name = entry.unwrap().file_name();
            if let Some(Ok(pid)) = name.to_str().map(str::parse) {
                mounted.extend(mounts(pid));
            }
        }
        let stale = mounted.iter().find(|(_, at)| at.starts_with(s.root()));
        let there = listed();
        let orphan = connections.iter().find(|number| {
            let device = format!("0:{number}");
            there.contains(number) && !mounted.iter().any(|(mounted, _)| *mounted == device)
        });
        if stale.is_none() && orphan.is_none() {
            return;
        }
        assert!(
            since.elapsed() < HANGS_AFTER,
            "{when}: still mounted: {stale:?}, still connected: {orphan:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// The FUSE connections of the machine.
fn listed() -> Vec<String> {
    let script = "cd /sys/fs/fuse/connections && { [ -n \"$(ls)\" ] || mount -t fusectl none . ; } && \
                  ls /sys/fs/fuse/connections";
    let listed = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}
