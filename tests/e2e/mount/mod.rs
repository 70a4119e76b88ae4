//! Workspaces that stay mounted: `rfs mount`, `rfs umount`, `rfs status`, and ordinary commands in between.
//! Root mounts for everybody; an ordinary user needs fusermount3.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{self, Cmd, Run, Started};
use crate::space::{Setting, TestSpace};

mod death;
mod hard;
mod lack;
mod leave;
mod life;
mod tools;
mod trail;
mod users;
mod work;

/// A workspace that is mounted until the test ends, however it ends.
pub struct Mounted {
    pub space: TestSpace,
    pub at: PathBuf,
}

impl Mounted {
    /// Over its own directory.
    pub fn new(fill: impl FnOnce(&TestSpace)) -> Self {
        Self::with(Setting::default(), &[], fill)
    }

    pub fn with(setting: Setting, options: &[&str], fill: impl FnOnce(&TestSpace)) -> Self {
        let space = TestSpace::with(setting);
        fill(&space);
        let at = space.ws().to_owned();
        let mounted = Self { space, at };
        let _mounted = mounted.mount(options).expect_code(0);
        mounted
    }

    pub fn mount(&self, options: &[&str]) -> Run {
        let ws = self.space.ws().to_str().unwrap();
        self.space.tool(&[&["mount", ws][..], options].concat())
    }

    pub fn umount(&self, options: &[&str]) -> Run {
        let at = self.at.to_str().unwrap();
        self.space.tool(&[&["umount", at][..], options].concat())
    }

    /// `rfs status --json` of it.
    pub fn status(&self) -> serde_json::Value {
        let run = self
            .space
            .tool(&["status", "--json", self.at.to_str().unwrap()]);
        serde_json::from_str(&run.out()).unwrap_or_else(|error| panic!("{error}: {run:#?}"))
    }

    pub fn pid(&self) -> i32 {
        let status = self.status();
        let pid = status["pid"]
            .as_i64()
            .unwrap_or_else(|| panic!("no process: {status}"));
        pid.try_into().unwrap()
    }

    /// Whether something is mounted there, as the kernel tells it.
    pub fn is_mounted(&self) -> bool {
        is_mount(&self.at)
    }

    /// A shell command in the mount; it must succeed.
    pub fn sh(&self, script: &str) -> String {
        self.space.bare(Cmd::sh(script)).expect_code(0).out()
    }
}

/// A shell command in a mount namespace of its own, whose mounts nobody else sees.
pub fn in_own_namespace(script: &str) -> Cmd {
    let unshare = ["unshare", "-m", "--propagation", "private"];
    Cmd::new([&unshare[..], &["sh", "-c", script]].concat())
}

pub fn is_mount(at: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.any(|point| Path::new(point) == at)
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A mount that is left over would keep the test's directory from being removed.
        if self.is_mounted() {
            let _gone = self.umount(&["--force"]);
        }
    }
}

/// As systemd starts it: in the foreground, with a socket for what it has to tell, and every 0.3 s.
pub fn service(space: &TestSpace) -> (Started, UnixDatagram) {
    let path = space.root().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = Command::new(space.program());
    command.args(["mount", "--foreground"]).arg(space.ws());
    command
        .env_clear()
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    (run::start(command, false).0, socket)
}

/// What a service tells next; none where it is silent for longer than the socket waits.
pub fn hear(socket: &UnixDatagram) -> Option<String> {
    let mut bytes = [0; 256];
    let len = socket.recv(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

/// Whether a process has ended, be it that nobody has asked how.
pub fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// Waits for what must happen.
pub fn wait_until(done: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed().as_secs() < 60, "it never happens");
        std::thread::yield_now();
    }
}
