//! Runs a closure inside a view: a server process, as the tool will be, and its child in private namespaces.
//!
//! The child must be forked from a single-threaded process, hence two forks: of the test, which has threads,
//! and of the server before it starts any.
#![allow(unsafe_code, reason = "fork(2) has no safe form")]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test says why it fails, or skips"
)]

pub mod mapping;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use rfs_fs::{Config, EnterOptions, Gate, Mounted, Observer, Op, Passthrough};
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A user that owns nothing.
pub const NOBODY: u32 = 65534;

/// A group of theirs, besides the own one, in mode Unprivileged.
pub const TEAM: u32 = 4242;

/// How the view is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By root; the kernel reads and writes backing files itself.
    Passthrough,
    /// By root; bytes pass through the server.
    Cached,
    /// By an unprivileged user in a namespace of its own.
    Unprivileged,
}

/// The modes that this machine allows. Those that it does not are named on stderr.
pub fn modes() -> Vec<Mode> {
    if nix::unistd::geteuid().is_root() {
        vec![Mode::Passthrough, Mode::Cached, Mode::Unprivileged]
    } else {
        eprintln!("not root: skipped modes Passthrough and Cached");
        vec![Mode::Unprivileged]
    }
}

/// Remembers what an observer is told.
#[derive(Debug, Default)]
pub struct Log(Mutex<Vec<PathBuf>>);

impl Log {
    /// What was told since the last call.
    pub fn take(&self) -> Vec<PathBuf> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Log {
    fn changed(&self, path: &Path) {
        self.0.lock().unwrap().push(path.to_owned());
    }
}

/// One end of a conversation between the server's process and the inside.
#[derive(Debug)]
pub struct Talk(UnixStream);

impl Talk {
    /// Lets the other side go on.
    pub fn say(&self) {
        (&self.0).write_all(b".").unwrap();
    }

    /// Waits for the other side.
    pub fn hear(&self) {
        (&self.0).read_exact(&mut [0]).unwrap();
    }
}

/// What the server's process has to work with.
pub struct Host<'a> {
    /// The mount.
    pub mounted: &'a Mounted,
    /// What its observer was told.
    pub log: &'a Log,
    /// The backing directory, not covered here.
    pub root: &'a Path,
    /// To the inside.
    pub talk: &'a Talk,
}

impl Host<'_> {
    /// Files that were opened or made, and not yet released.
    pub fn n_open_files(&self) -> u64 {
        let stats = self.mounted.stats();
        let released = stats.of(Op::Release);
        (stats.of(Op::Open) + stats.of(Op::Create)).saturating_sub(released)
    }
}

/// What the inside has to work with. Its working directory is the root of the view.
pub struct Inside<'a> {
    /// The root of the view.
    pub root: &'a Path,
    /// How it is mounted.
    pub mode: Mode,
    /// To the server's process.
    pub talk: &'a Talk,
}

/// Runs `inside` in a view of a new directory, in every mode.
pub fn everywhere(inside: impl Fn(&Inside<'_>)) {
    for mode in modes() {
        with_host(mode, |_| {}, |_| {}, &inside);
    }
}

static ALONE: Mutex<()> = Mutex::new(());

/// Keeps other tests of this binary from forking.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `inside` in a view of a new directory and `host` at the same time in the process that serves it.
/// `prepare` fills the directory first, and may change the configuration.
pub fn with_host(
    mode: Mode,
    prepare: impl FnOnce(&mut Config),
    host: impl FnOnce(&Host<'_>),
    inside: impl FnOnce(&Inside<'_>),
) {
    with_strangers(mode, |_| {}, prepare, host, inside);
}

/// As [`with_host`], but `strangers` puts files of others there first, with the privileges of the test.
pub fn with_strangers(
    mode: Mode,
    strangers: impl FnOnce(&Path),
    prepare: impl FnOnce(&mut Config),
    host: impl FnOnce(&Host<'_>),
    inside: impl FnOnce(&Inside<'_>),
) {
    // Held while anything is forked and while a failure is printed, for which locks are taken that a child
    // would inherit locked.
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("work");
    std::fs::create_dir(&root).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::fs::set_permissions("/dev/fuse", Permissions::from_mode(0o666)).unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        if mode == Mode::Unprivileged {
            std::os::unix::fs::chown(&root, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    strangers(&root);
    let server = in_child(|| {
        if mode == Mode::Unprivileged && nix::unistd::geteuid().is_root() {
            become_nobody();
        }
        serve(mode, &root, prepare, host, inside);
    });
    server.join(mode);
}

fn serve(
    mode: Mode,
    root: &Path,
    prepare: impl FnOnce(&mut Config),
    host: impl FnOnce(&Host<'_>),
    inside: impl FnOnce(&Inside<'_>),
) {
    let mut config = Config::new(root);
    config.hide = vec![".rfs".into()];
    if mode == Mode::Cached {
        config.passthrough = Passthrough::Off;
    }
    prepare(&mut config);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut ours, theirs) = (Some(Talk(ours)), Talk(theirs));
    let gate = Gate::new().unwrap();
    let child = in_child(|| {
        let options = EnterOptions {
            own_user_namespace: mode == Mode::Unprivileged,
        };
        drop(ours.take());
        gate.enter(root, &options).unwrap();
        std::env::set_current_dir(root).unwrap();
        inside(&Inside {
            root,
            mode,
            talk: &theirs,
        });
    });
    drop(theirs);
    let ours = ours.expect("BUG: taken in the child only");
    let connection = gate.receive().unwrap();
    let log = Arc::new(Log::default());
    let mounted = rfs_fs::serve(connection, config, log.clone()).unwrap();
    let host = || {
        host(&Host {
            mounted: &mounted,
            log: &log,
            root,
            talk: &ours,
        });
    };
    // What went wrong inside is to be told first: the host may only have waited in vain.
    let result = catch_unwind(AssertUnwindSafe(host));
    drop(ours);
    child.join(mode);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    mounted.finish().unwrap();
}

/// Gives up every privilege but that of reading its own /proc/self.
fn become_nobody() {
    nix::unistd::setgroups(&[TEAM.into()]).unwrap();
    nix::unistd::setresgid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
    nix::unistd::setresuid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
    nix::sys::prctl::set_dumpable(true).unwrap();
}

/// A forked process and the pipe on which it says why it failed.
struct Child {
    pid: Pid,
    failure: UnixStream,
}

impl Child {
    fn join(self, mode: Mode) {
        let mut failure = String::new();
        (&self.failure).read_to_string(&mut failure).unwrap();
        let status = waitpid(self.pid, None).unwrap();
        assert!(failure.is_empty(), "{mode:?}: {failure}");
        assert_eq!(status, WaitStatus::Exited(self.pid, 0), "{mode:?}");
    }
}

fn in_child(run: impl FnOnce()) -> Child {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // SAFETY: a lock that another thread holds is never released in the child. Only the harness has
    // threads that run now, and prints; the child does not print, and glibc keeps malloc usable.
    let forked = unsafe { nix::unistd::fork() }.unwrap();
    if let ForkResult::Parent { child } = forked {
        drop(theirs);
        return Child {
            pid: child,
            failure: ours,
        };
    }
    drop(ours);
    let said = theirs.try_clone().unwrap();
    std::panic::set_hook(Box::new(move |panic| {
        (&said).write_all(panic.to_string().as_bytes()).ok();
    }));
    let code = i32::from(catch_unwind(AssertUnwindSafe(run)).is_err());
    // SAFETY: ends this process at once; nothing of it is used any more.
    unsafe { libc::_exit(code) }
}

/// Runs a shell command in the working directory and returns what it printed.
pub fn sh(command: &str) -> String {
    let output = std::process::Command::new("sh")
        .arg("-ec")
        .arg(command)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    assert!(
        output.status.success(),
        "`{command}` gave {:?}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
