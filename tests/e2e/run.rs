//! A command to run, how to run it, and what came of it. Does not know what is expected.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{PoisonError, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A command that takes longer than this hangs, unless the test is more patient.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// Held shared while a process is being started, alone while a file is written: a child has the descriptors of all
/// threads until it runs a program, and a program that somebody can write cannot be run (ETXTBSY of execve(2)).
pub static STARTS: RwLock<()> = RwLock::new(());

/// Starts a process; see [`STARTS`].
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _shared = STARTS.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// What is done, apart from who does it (the bare shell or rfs).
#[derive(Clone, Debug)]
pub struct Cmd {
    pub argv: Vec<OsString>,
    /// Relative to the workspace.
    pub cwd: PathBuf,
    /// Set (or, with `None`, unset) on top of the environment of the space.
    pub env: Vec<(OsString, Option<OsString>)>,
    pub stdin: Input,
    /// A command that starts ours, or rfs with ours: `setsid`, `sh -c 'umask 077; exec "$@"' sh`.
    pub outer: Vec<OsString>,
    /// Standard error goes where standard output goes.
    pub merged: bool,
    /// Under rfs nothing is added to what the command says.
    pub plain: bool,
    /// After this time it is taken to hang.
    pub patience: Duration,
}

/// What a command reads as its standard input.
#[derive(Clone, Debug)]
pub enum Input {
    Null,
    /// A pipe with these bytes in it.
    Pipe(Vec<u8>),
}

impl Cmd {
    pub fn new<S: AsRef<OsStr>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv
                .into_iter()
                .map(|arg| arg.as_ref().to_owned())
                .collect(),
            cwd: PathBuf::new(),
            env: Vec::new(),
            stdin: Input::Null,
            outer: Vec::new(),
            merged: false,
            plain: false,
            patience: HANGS_AFTER,
        }
    }

    /// `sh -c SCRIPT`.
    pub fn sh(script: &str) -> Self {
        Self::new(["sh", "-c", script])
    }

    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = dir.into();
        self
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = Input::Pipe(bytes.to_vec());
        self
    }

    pub fn outer<S: AsRef<OsStr>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.outer = argv
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        self
    }

    /// The shell does `before` and then becomes the command (or rfs).
    pub fn after(self, before: &str) -> Self {
        self.outer(["sh", "-c", &format!("{before}\nexec \"$@\""), "sh"])
    }

    pub fn merged(mut self) -> Self {
        self.merged = true;
        self.plain()
    }

    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }
}

impl From<&str> for Cmd {
    fn from(line: &str) -> Self {
        Self::new(line.split_whitespace())
    }
}

/// How a command ended.
#[must_use]
pub struct Run {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    /// What the command itself said; the lines of `--explain` are cut off.
    pub stderr: Vec<u8>,
    pub explain: Vec<String>,
    pub summary: Option<Summary>,
}

/// The counts of `--summary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub steps: u64,
    pub hit: u64,
    pub ran: u64,
    pub refused: u64,
    pub whole_hit: bool,
}

/// The outputs as text, the end of them when they are long.
impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| {
            let end = &bytes[bytes.len().saturating_sub(2000)..];
            String::from_utf8_lossy(end).into_owned()
        };
        f.debug_struct("Run")
            .field("status", &format_args!("{}", self.status))
            .field("stdout", &shown(&self.stdout))
            .field("stderr", &shown(&self.stderr))
            .field("explain", &self.explain)
            .field("summary", &format_args!("{:?}", self.summary))
            .finish()
    }
}

impl Run {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The exit code, or 128 and the signal, as a shell has it.
    pub fn code(&self) -> i32 {
        let by_signal = || 128 + self.status.signal().unwrap();
        self.status.code().unwrap_or_else(by_signal)
    }

    /// Fails unless the exit code is `code`.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "exit code of {self:#?}");
        self
    }

    pub fn summary(&self) -> &Summary {
        self.summary
            .as_ref()
            .unwrap_or_else(|| panic!("no summary was written: {self:#?}"))
    }

    /// Fails unless the whole command was served.
    pub fn expect_hit(self) -> Self {
        let summary = self.summary();
        assert!(summary.whole_hit, "served as a whole: {self:#?}");
        assert_eq!(
            (summary.steps, summary.hit),
            (1, 1),
            "a whole hit is one step: {self:#?}"
        );
        self
    }

    /// Fails unless the command itself ran.
    pub fn expect_ran(self) -> Self {
        assert!(!self.summary().whole_hit, "ran: {self:#?}");
        self
    }
}

impl Summary {
    /// Reads the file of `--summary`, whose schema must be ours.
    pub fn parse(text: &str) -> Self {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["schema"], "rfs.summary/1", "{text}");
        let count = |name: &str| {
            value[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {text}"))
        };
        for seconds in ["saved_s", "wall_s"] {
            assert!(
                value[seconds].as_f64().is_some_and(|s| s >= 0.0),
                "{seconds}: {text}"
            );
        }
        let whole_hit = match value["whole"].as_str() {
            Some("hit") => true,
            Some("ran") => false,
            _ => panic!("whole: {text}"),
        };
        let summary = Self {
            steps: count("steps"),
            hit: count("hit"),
            ran: count("ran"),
            refused: count("refused"),
            whole_hit,
        };
        assert_eq!(
            summary.steps,
            summary.hit + summary.ran + summary.refused,
            "{text}"
        );
        summary
    }
}

/// A started command; it leads its own process group, so that a signal can be sent to all of it.
#[derive(Debug)]
pub struct Started {
    pub child: Child,
    pub what: String,
    pub patience: Duration,
}

/// Starts `command` with pipes (or, `merged`, one pipe as both outputs).
pub fn start(mut command: Command, merged: bool) -> (Started, Option<OwnedFd>) {
    let what = format!("{command:?}");
    command.process_group(0);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut reader = None;
    if merged {
        let (read_end, write_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        command
            .stdout(write_end.try_clone().unwrap())
            .stderr(write_end);
        reader = Some(read_end);
    }
    let child = spawn(&mut command).unwrap_or_else(|e| panic!("spawn {what}: {e}"));
    (Started::new(child, what), reader)
}

/// Starts `command`, whose outputs are somewhere already.
pub fn start_quietly(mut command: Command) -> Started {
    let what = format!("{command:?}");
    command.process_group(0);
    let child = spawn(&mut command).unwrap_or_else(|e| panic!("spawn {what}: {e}"));
    Started::new(child, what)
}

impl Started {
    pub fn new(child: Child, what: String) -> Self {
        Self {
            child,
            what,
            patience: HANGS_AFTER,
        }
    }

    /// Sends `signal` to the process group.
    pub fn signal(&self, signal: Signal) {
        killpg(self.pid(), signal).unwrap_or_else(|e| panic!("kill {}: {e}", self.what));
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Kills the group if it has not been told within the time limit that all is well.
    pub fn guard(&self) -> Guard {
        let (done, is_done) = mpsc::channel();
        let (group, what, patience) = (self.pid(), self.what.clone(), self.patience);
        let thread = thread::spawn(move || {
            let hangs = is_done.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout);
            if hangs {
                eprintln!("hangs, killed after {patience:?}: {what}");
                // The group may have ended in this moment, which is as good.
                let _gone = killpg(group, Signal::SIGKILL);
            }
            hangs
        });
        Guard { done, thread }
    }

    /// Waits for the end of the command and of everything that holds its outputs.
    pub fn finish(mut self, merged: Option<OwnedFd>) -> (ExitStatus, Vec<u8>, Vec<u8>) {
        let guard = self.guard();
        let stderr = self.child.stderr.take().map(read_aside);
        let mut stdout = Vec::new();
        if let Some(fd) = merged {
            std::fs::File::from(fd).read_to_end(&mut stdout).unwrap();
        } else if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_end(&mut stdout).unwrap();
        }
        let stderr = stderr
            .map(|thread| thread.join().unwrap())
            .unwrap_or_default();
        let status = self.child.wait().unwrap();
        guard.dismiss(&self.what);
        (status, stdout, stderr)
    }
}

/// See [`Started::guard`].
#[derive(Debug)]
pub struct Guard {
    done: mpsc::Sender<()>,
    thread: thread::JoinHandle<bool>,
}

impl Guard {
    /// All is well, unless the time was up before.
    pub fn dismiss(self, what: &str) {
        drop(self.done);
        assert!(!self.thread.join().unwrap(), "hangs: {what}");
    }
}

fn read_aside(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Writes `bytes` to the standard input of a command from a thread of its own; a reader that does
/// not want them is no error.
pub fn feed(child: &mut Child, bytes: Vec<u8>) {
    let mut pipe = child.stdin.take().unwrap();
    thread::spawn(move || {
        let _not_wanted = pipe.write_all(&bytes);
    });
}
