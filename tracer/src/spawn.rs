//! Starts the command under the filter, and waits for it.
//!
//! ```text
//! host ---fork---> reaper ---fork---> command
//! ```
//! The reaper is a process of one thread that holds nothing but its line to the host. It adopts and reaps
//! whatever the command leaves behind, tells how the command ended, and, when the host is gone, kills
//! everything: a call that stopped for a dead supervisor would fail with `ENOSYS` and spoil the build.
//! Between fork and execve the command's process tells the host how far it has come over a socket that
//! close-on-exec closes; after the filter is installed it can still do so by the cookie.
#![allow(unsafe_code)]

use crate::call::Decide;
use crate::filter::{self, Action, Insn, Pass, Table};
use crate::line::{self, Line, Message};
use crate::notify;
use crate::reaper::{self, Ended};
use crate::regs::{EXIT_GROUP, NATIVE};
use crate::seccomp::{self, Listener};
use crate::trace;
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Which way of stopping calls to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Notification, else ptrace.
    #[default]
    Auto,
    /// Seccomp user notification.
    Notify,
    /// Ptrace.
    Ptrace,
}

/// A command to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its argument vector. The first is looked up as execvp(3) does.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory, entered after the preparation.
    pub cwd: PathBuf,
    /// The signals that it finds blocked. Dispositions it inherits from the host.
    pub mask: SigSet,
    /// How to stop its calls.
    pub backend: Backend,
    /// Which calls stop.
    pub tables: Vec<Table>,
    /// Calls of this machine's own table that pass for who knows the cookie, besides those that we need.
    pub pass: Vec<u32>,
}

/// The command could not be started or supervised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument, environment entry or path holds a NUL byte, or there is no argument.
    #[error("the command line or environment cannot be passed to execve: {0}")]
    Argument(&'static str),
    /// The rules make no filter.
    #[error(transparent)]
    Filter(#[from] filter::Error),
    /// The host could not make what it needs.
    #[error("{call}: {source}")]
    Sys {
        /// System call.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The caller's preparation failed in the new process.
    #[error("{0}")]
    Prepare(String),
    /// The working directory cannot be entered.
    #[error("{0}: cannot enter directory: {1}")]
    Cwd(PathBuf, io::Error),
    /// The kernel refuses the filter. `EBUSY`: an outer supervisor has a listener already.
    #[error("cannot install the seccomp filter: {0}")]
    Refused(io::Error),
    /// The process that was to become the command cannot be traced.
    #[error("cannot ptrace the command: {0}")]
    Trace(io::Error),
    /// The command cannot be executed. [`Error::status`] is what a shell would exit with.
    #[error("{}: {source}", .program.display())]
    Exec {
        /// As in the argument vector.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something killed the processes between the host and the command.
    #[error("the command's process was killed before it ended")]
    Lost,
}

impl Error {
    /// The exit status that a shell gives: 127 for a command that is not found, 126 for one that cannot
    /// be executed, 125 where we failed.
    pub fn status(&self) -> i32 {
        match self {
            Self::Exec { source, .. } if source.raw_os_error() == Some(libc::ENOENT) => 127,
            Self::Exec { .. } => 126,
            Self::Argument(_)
            | Self::Filter(_)
            | Self::Sys { .. }
            | Self::Prepare(_)
            | Self::Cwd(..)
            | Self::Refused(_)
            | Self::Trace(_)
            | Self::Lost => 125,
        }
    }
}

fn sys(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Sys {
        call,
        source: errno.into(),
    }
}

/// A command that exists as a process, but has not been executed yet.
#[derive(Debug)]
pub struct Launched {
    launch: Launch,
    cookie: u64,
    command: Line,
    reaper: reaper::Handle,
}

/// A command that runs supervised. Dropping it kills what is left of it.
#[derive(Debug)]
pub struct Running {
    program: PathBuf,
    /// Held to learn whether the execve failed.
    command: Line,
    reaper: reaper::Handle,
    threads: Threads,
}

/// The backend that was to be had.
#[derive(Debug)]
enum Threads {
    Notify(notify::Backend),
    Ptrace(trace::Backend),
}

/// Forks the process that is to become the command, which then runs `prepare` (to make namespaces and
/// mounts, say) and enters the working directory.
///
/// Returns without waiting for that, so that the host can serve a mount made by `prepare`; whatever goes
/// wrong is told by [`Launched::attach`]. To be called while the host has one thread and its signal
/// dispositions are as it got them, for the command inherits them. The host's soft limit of open files is
/// raised, the command's is not.
///
/// # Errors
/// When the arguments cannot be passed or no process can be made.
pub fn launch(launch: Launch, prepare: impl FnOnce() -> io::Result<()>) -> Result<Launched, Error> {
    let cookie = cookie().map_err(|source| Error::Sys {
        call: "getrandom",
        source,
    })?;
    let plan = Plan::new(&launch, cookie)?;
    let (host_line, commands_end) = Line::pair().map_err(sys("socketpair"))?;
    let (reaper_line, reapers_end) = Line::pair().map_err(sys("socketpair"))?;

    // No signal may end the reaper.
    let mut ours = SigSet::empty();
    sigprocmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut ours),
    )
    .map_err(sys("sigprocmask"))?;
    let child = Child {
        plan,
        line: commands_end,
        mask: launch.mask,
        files: raise_files(),
    };
    let forked = fork(|| {
        // Held by nobody but the host, so that its end is seen.
        host_line.close_copy();
        reaper_line.close_copy();
        let reaper = nix::unistd::getpid();
        let command = fork(|| {
            reapers_end.close_copy();
            match child.start(prepare, reaper) {
                Ok(never) => match never {},
                Err(status) => status,
            }
        });
        reaper::main(&reapers_end, command)
    });
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&ours), None).map_err(sys("sigprocmask"))?;
    // So that the end of the reaper is seen.
    drop(reapers_end);
    let reaper = reaper::Handle::new(forked.map_err(sys("fork"))?, reaper_line)?;
    Ok(Launched {
        launch,
        cookie,
        command: host_line,
        reaper,
    })
}

impl Launched {
    /// Process id of the command.
    pub fn pid(&self) -> i32 {
        self.reaper.command()
    }

    /// The secret by which calls pass.
    pub(crate) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Waits for the preparation, takes over supervision and lets the command be executed: its execve is
    /// the first call that `decide` may be asked about.
    ///
    /// # Errors
    /// When the preparation failed or the command cannot be supervised; it has not run then.
    pub fn attach(self, decide: Arc<dyn Decide>) -> Result<Running, Error> {
        let threads = match self.command.receive().map_err(sys("recvmsg"))? {
            Some(Message::Listener(fd)) => {
                let backend = Listener::new(fd)
                    .and_then(|listener| notify::Backend::start(listener, self.cookie, decide));
                Threads::Notify(backend.map_err(|source| Error::Sys {
                    call: "seccomp",
                    source,
                })?)
            }
            Some(Message::Ready) => {
                let go = || Ok(self.command.send(&Message::Go, self.cookie)?);
                match trace::Backend::start(self.pid(), self.cookie, decide, go) {
                    Ok(backend) => Threads::Ptrace(backend),
                    Err(error) => return Err(self.untraced(error)),
                }
            }
            Some(Message::Failed(stage, errno, text)) => {
                return Err(self.failed(stage, errno, text));
            }
            Some(Message::Go | Message::Forked(_) | Message::Ended(_)) | None => {
                return Err(Error::Lost);
            }
        };
        let program = self
            .launch
            .argv
            .into_iter()
            .next()
            .unwrap_or_default()
            .into();
        Ok(Running {
            program,
            command: self.command,
            reaper: self.reaper,
            threads,
        })
    }

    fn untraced(&self, error: io::Error) -> Error {
        match self.command.receive_now() {
            Ok(Some(Message::Failed(stage, errno, text))) => self.failed(stage, errno, text),
            Ok(_) | Err(_) if error.raw_os_error() == Some(libc::EBUSY) => Error::Refused(error),
            Ok(_) | Err(_) => Error::Trace(error),
        }
    }

    fn failed(&self, stage: line::Stage, errno: i32, text: String) -> Error {
        let source = io::Error::from_raw_os_error(errno);
        match stage {
            line::Stage::Prepare => Error::Prepare(text),
            line::Stage::Cwd => Error::Cwd(self.launch.cwd.clone(), source),
            line::Stage::Filter => Error::Refused(source),
            line::Stage::Exec => Error::Lost,
        }
    }
}

impl Running {
    /// Process id of the command.
    pub fn pid(&self) -> i32 {
        self.reaper.command()
    }

    /// The backend that was to be had.
    pub fn backend(&self) -> Backend {
        match self.threads {
            Threads::Notify(_) => Backend::Notify,
            Threads::Ptrace(_) => Backend::Ptrace,
        }
    }

    /// Waits until the command itself has ended. What it left behind goes on and is supervised.
    ///
    /// # Errors
    /// [`Error::Exec`] when it could not be executed.
    pub fn wait(&mut self) -> Result<Ended, Error> {
        let ended = self.reaper.wait()?;
        // A failed execve is told before the process ends, a good one closes the line without a word.
        match self.command.receive_now() {
            Ok(Some(Message::Failed(line::Stage::Exec, errno, _))) => {
                let source = io::Error::from_raw_os_error(errno);
                Err(Error::Exec {
                    program: self.program.clone(),
                    source,
                })
            }
            Ok(_) | Err(_) => Ok(ended),
        }
    }

    /// Waits until the last supervised process has ended and every decision has been taken.
    pub fn drain(self) {
        self.reaper.drain();
        match self.threads {
            Threads::Notify(backend) => backend.finish(),
            Threads::Ptrace(backend) => backend.finish(),
        }
    }
}

fn cookie() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the kernel writes at most 8 bytes through the pointer.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == 8 {
        Ok(u64::from_le_bytes(bytes))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Raises the soft limit of open files to the hard one and returns what both were at first.
fn raise_files() -> Option<(rlim_t, rlim_t)> {
    static BEFORE: OnceLock<Option<(rlim_t, rlim_t)>> = OnceLock::new();
    *BEFORE.get_or_init(|| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
        Some((soft, hard))
    })
}

/// Runs `body` in a new process, which exits with what it returns.
pub(crate) fn fork(body: impl FnOnce() -> i32) -> Result<i32, Errno> {
    // SAFETY: the child shares no memory with us. It may allocate although the parent may have had other
    // threads, because fork(3) of glibc and musl leaves malloc usable; it takes no other lock.
    let ret = unsafe { libc::fork() };
    if ret != 0 {
        return Errno::result(ret);
    }
    let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(125);
    // SAFETY: ends the process without running what the parent has registered for its own exit.
    unsafe { libc::_exit(status) }
}

/// Everything that the command's process needs after the fork, made before it.
struct Plan {
    cwd: CString,
    notify: Option<Vec<Insn>>,
    trace: Option<Vec<Insn>>,
    cookie: u64,
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Plan {
    fn new(launch: &Launch, cookie: u64) -> Result<Self, Error> {
        let text = |s: Vec<u8>| {
            CString::new(s)
                .ok()
                .ok_or(Error::Argument("it holds a NUL byte"))
        };
        let argv = launch.argv.iter().map(|a| text(a.as_bytes().to_vec()));
        let env = launch
            .env
            .iter()
            .map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()));
        let name = launch
            .argv
            .first()
            .ok_or(Error::Argument("there is no command"))?;
        let sendmsg = u32::try_from(libc::SYS_sendmsg).unwrap_or(u32::MAX);
        let more = launch.pass.iter().map(|nr| (NATIVE, *nr));
        let calls = EXIT_GROUP.into_iter().chain([(NATIVE, sendmsg)]);
        let calls = calls.chain(more).collect();
        let pass = Pass { cookie, calls };
        let program = |action, for_: &[Backend]| {
            let wanted = for_.contains(&launch.backend);
            wanted
                .then(|| filter::program(&launch.tables, action, Some(&pass)))
                .transpose()
        };
        Ok(Self {
            cwd: text(launch.cwd.as_os_str().as_bytes().to_vec())?,
            notify: program(Action::Notify, &[Backend::Auto, Backend::Notify])?,
            trace: program(Action::Trace, &[Backend::Auto, Backend::Ptrace])?,
            cookie,
            programs: candidates(launch, name.as_bytes())
                .into_iter()
                .map(text)
                .collect::<Result<_, _>>()?,
            argv: argv.collect::<Result<_, _>>()?,
            env: env.collect::<Result<_, _>>()?,
        })
    }
}

/// The files that execvp(3) would try in turn.
fn candidates(launch: &Launch, name: &[u8]) -> Vec<Vec<u8>> {
    if name.is_empty() || name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    let path = launch
        .env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value.as_bytes());
    path.unwrap_or(b"/bin:/usr/bin")
        .split(|&b| b == b':')
        .map(|dir| {
            if dir.is_empty() {
                name.to_vec()
            } else {
                [dir, b"/", name].concat()
            }
        })
        .collect()
}

/// The process that becomes the command.
struct Child {
    plan: Plan,
    line: Line,
    mask: SigSet,
    files: Option<(rlim_t, rlim_t)>,
}

/// Exit status of the child where the host says what went wrong.
const FAILED: i32 = 125;

impl Child {
    fn start(
        self,
        prepare: impl FnOnce() -> io::Result<()>,
        reaper: Pid,
    ) -> Result<Infallible, i32> {
        let cookie = self.plan.cookie;
        let fail = |stage, error: &io::Error| {
            let errno = error.raw_os_error().unwrap_or(0);
            self.line
                .send(&Message::Failed(stage, errno, error.to_string()), cookie)
                .ok();
            FAILED
        };
        let prepared = catch_unwind(AssertUnwindSafe(prepare))
            .unwrap_or_else(|_panic| Err(io::Error::other("the preparation panicked")));
        prepared.map_err(|e| fail(line::Stage::Prepare, &e))?;
        // Where host and reaper are killed together nobody is left to end it, nor to serve what it enters
        // now. Not before the preparation: new credentials forget it.
        set_pdeathsig(Signal::SIGKILL).ok();
        if nix::unistd::getppid() != reaper {
            return Err(FAILED);
        }
        let entered = nix::unistd::chdir(self.plan.cwd.as_c_str());
        entered.map_err(|e| fail(line::Stage::Cwd, &e.into()))?;
        if let Some((soft, hard)) = self.files {
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).ok();
        }
        let exec = Exec::new(&self.plan);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None).ok();
        self.filter().map_err(|e| fail(line::Stage::Filter, &e))?;
        // From here to the execve no call may be made that could stop, and the first is the execve.
        let error = exec.run();
        let failed = Message::Failed(line::Stage::Exec, error as i32, String::new());
        self.line.send(&failed, cookie).ok();
        Err(if error == Errno::ENOENT { 127 } else { 126 })
    }

    fn filter(&self) -> io::Result<()> {
        let mut refused = None;
        if let Some(program) = &self.plan.notify {
            let listener = match seccomp::install_listener(program, seccomp::WAIT_KILLABLE) {
                // Linux before 5.19.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    seccomp::install_listener(program, 0)
                }
                installed => installed,
            };
            match listener {
                Ok(listener) => {
                    // Not to be closed by a call of its own: the execve does it.
                    let message = ManuallyDrop::new(Message::Listener(listener));
                    return Ok(self.line.send(&message, self.plan.cookie)?);
                }
                Err(e) => refused = Some(e),
            }
        }
        if let Some(program) = &self.plan.trace {
            self.line.send(&Message::Ready, self.plan.cookie)?;
            return match self.line.receive()? {
                Some(Message::Go) => seccomp::install(program),
                Some(_) | None => Err(io::ErrorKind::InvalidData.into()),
            };
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
    }
}

/// Errors at which execvp(3) tries the next directory.
const PASSED_OVER: [Errno; 5] = [
    Errno::ENOENT,
    Errno::ENOTDIR,
    Errno::ESTALE,
    Errno::ENODEV,
    Errno::ETIMEDOUT,
];

/// Vectors of pointers into a [`Plan`], made while allocating is still nobody's business.
struct Exec<'a> {
    plan: &'a Plan,
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    /// `/bin/sh FILE ARGUMENT...`, for a script without an interpreter line.
    script: Vec<*const libc::c_char>,
}

impl<'a> Exec<'a> {
    fn new(plan: &'a Plan) -> Self {
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings
                .iter()
                .map(|s| s.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        let argv = pointers(&plan.argv);
        let script = [c"/bin/sh".as_ptr(), std::ptr::null()].into_iter();
        let script = script.chain(argv.iter().skip(1).copied()).collect();
        Self {
            plan,
            argv,
            env: pointers(&plan.env),
            script,
        }
    }

    /// Tries every candidate as execvp(3) does. Returns only if none can be executed.
    fn run(mut self) -> Errno {
        let mut result = Errno::ENOENT;
        for program in &self.plan.programs {
            let mut errno = self.execve(program.as_ptr(), &self.argv);
            if errno == Errno::ENOEXEC {
                self.script[1] = program.as_ptr();
                errno = self.execve(c"/bin/sh".as_ptr(), &self.script);
            }
            if errno == Errno::EACCES {
                result = errno;
            } else if !PASSED_OVER.contains(&errno) {
                return errno;
            }
        }
        result
    }

    fn execve(&self, program: *const libc::c_char, argv: &[*const libc::c_char]) -> Errno {
        // SAFETY: all pointers are to strings of the plan, which outlives us, in vectors that end with
        // a null pointer.
        unsafe { libc::execve(program, argv.as_ptr(), self.env.as_ptr()) };
        Errno::last()
    }
}
