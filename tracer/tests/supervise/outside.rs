//! Starting hosts, and looking at processes from outside.

use std::fmt;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// How to start a supervised command.
#[derive(Debug, Clone)]
pub struct Host {
    pub backend: &'static str,
    pub tables: &'static str,
    pub nobody: bool,
    /// A copy of this program that every user can execute.
    program: PathBuf,
    _dir: Arc<TempDir>,
}

impl Host {
    /// All combinations that this user can run.
    pub fn all() -> Vec<Self> {
        let dir = Arc::new(public_dir());
        let program = dir.path().join("host");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let users: &[bool] = if nix::unistd::geteuid().is_root() {
            &[false, true]
        } else {
            &[true]
        };
        let one = |backend, nobody| Self {
            backend,
            tables: "few",
            nobody,
            program: program.clone(),
            _dir: dir.clone(),
        };
        users
            .iter()
            .flat_map(|&nobody| ["notify", "ptrace"].map(|backend| one(backend, nobody)))
            .collect()
    }

    pub fn command(&self, command: &[&str]) -> Command {
        self.logging("", command)
    }

    /// With a file to which each decided call is noted.
    pub fn logging(&self, log: &str, command: &[&str]) -> Command {
        let mut host = Command::new(&self.program);
        host.args(["host", self.backend, self.tables, log])
            .args(command);
        // A directory and programs that nobody can use.
        host.current_dir("/")
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        self.become_user(&mut host);
        host
    }

    /// Makes `command` run as the user of this host.
    pub fn become_user(&self, command: &mut Command) {
        if self.nobody && nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
    }

    /// The same with other calls that trap.
    pub fn with(&self, tables: &'static str) -> Self {
        Self {
            tables,
            ..self.clone()
        }
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn run(&self, command: &[&str]) -> (i32, String) {
        said(self.command(command).output().unwrap())
    }

    pub fn sh(&self, script: &str) -> (i32, String) {
        self.run(&["sh", "-c", script])
    }

    pub fn python(&self, script: &str) -> (i32, String) {
        self.run(&["python3", "-c", script])
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}::{}",
            self.backend,
            if self.nobody { "nobody" } else { "root" }
        )
    }
}

/// A host that is killed, and its command with it, if the case fails.
pub struct Started(pub Child);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Exit status and output; the diagnostics are shown.
pub fn said(output: Output) -> (i32, String) {
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

pub fn is(status: i32, output: &str) -> (i32, String) {
    (status, output.to_owned())
}

/// A directory that every user can write to.
pub fn public_dir() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until `what` gives a value, however long the machine takes for it.
pub fn eventually<T>(mut what: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = what() {
            return value;
        }
        std::thread::yield_now();
    }
}

/// The state letter of a process in `/proc`, `X` once it is gone.
pub fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next())
        .unwrap_or('X')
}
