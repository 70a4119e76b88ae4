//! A program is about to start: everything that its run may depend on is gathered and told, and the
//! observer says whether it runs.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::call::{Decision, Stop, Verdict};
use crate::decode::{Caller, Decoded, Stopped, unreadable};
use crate::descriptors::StoppedFds;
use crate::event::{End, Event, Exec, ExecAnswer, Look, Part, Scope, Walk};
use crate::fast::Loading;
use crate::memory::{self, PtrSize};
use crate::proc_files::{self, Status};
use crate::process::{Counted, PendingExec};
use crate::program::{Program, inspect};
use crate::supervisor::{Busy, Shared, verdict};
use crate::table::{Last, Target};

/// The kernel goes through so many scripts before it gives up with `ELOOP`.
const MAX_SCRIPTS: usize = 5;
/// More than the kernel takes for arguments and environment together (3/4 of 8 MiB).
const MAX_STRINGS: usize = 8 << 20;

/// What a file turns out to be.
enum Kind {
    /// A program, the interpreters it needs, what `/proc/pid/exe` will be, and its loader.
    Program(Vec<Walk>, PathBuf, Option<Loader>),
    /// No program that is known: scripts that were read, and what was not found in the end.
    Nothing(Vec<Walk>, Option<Walk>),
}

/// What loads a dynamic program.
#[derive(Debug, Clone)]
struct Loader {
    /// As the program names it.
    name: Vec<u8>,
    /// Permissions of the program.
    mode: u32,
}

impl Shared {
    /// An exec. A file that cannot be executed is told at once: searching `PATH` must be cheap.
    pub(crate) fn exec(
        self: &Arc<Self>,
        caller: &Caller<'_>,
        target: Target,
        argv: u8,
        busy: Busy,
    ) -> Decoded<Decision> {
        let walk = match caller.name(target) {
            Ok(named) => named.walk,
            Err(Stopped::Unsaid) if caller.is_open(target) => {
                caller.taint(Scope::All, "executes a file without a name")?;
                return Ok(Decision::Now(Verdict::Go));
            }
            Err(stopped) => return Err(stopped),
        };
        match walk.end {
            End::Found(Look::File) => {}
            End::Own => {
                caller.taint(Scope::All, "executes a file without a name")?;
                return Ok(Decision::Now(Verdict::Go));
            }
            End::Found(_) | End::Absent | End::MissingDir | End::NotDir | End::Failed(_) => {
                caller.tell(Event::Access(walk, libc::X_OK))?;
                return Ok(Decision::Now(Verdict::Go));
            }
        }
        caller.check()?;
        let start = caller.known(&walk, argv)?;
        if let Some(verdict) = start.as_ref().and_then(|start| caller.start_at_once(start)) {
            return Ok(Decision::Now(verdict));
        }
        let call = *caller.call;
        Ok(Decision::Later(Box::new(move |stop| {
            let still_there = || stop.still_there();
            let caller = Caller::new(&busy.shared, &call, busy.pid, &still_there);
            let started = match start {
                Some(start) => caller.start(start, stop),
                None => caller.exec(walk, argv, stop),
            };
            match started {
                Ok(verdict) => verdict,
                Err(stopped) => verdict(&caller, Err(stopped)),
            }
        })))
    }
}

/// A program that is about to start, as far as it could be gathered.
struct Start {
    /// Without children, environment and descriptors.
    exec: Exec,
    /// What `/proc/pid/exe` will be.
    exe: PathBuf,
    loading: Loading,
    /// The argument that points to the environment.
    env: u8,
    /// All its descriptors are below this number.
    fd_size: i32,
}

/// Programs that nobody changes while processes are traced: their loaders and permissions, by path.
#[derive(Debug, Default)]
pub(crate) struct Programs(Mutex<HashMap<PathBuf, (u64, Loader)>>);

impl Programs {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, (u64, Loader)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process that waits where nobody is to wait for it.
struct AtTheDoor<'a>(&'a Caller<'a>);

impl Stop for AtTheDoor<'_> {
    fn still_there(&self) -> bool {
        (self.0.still_there)()
    }

    fn ready_to_exit(&self) -> bool {
        false
    }
}

impl Caller<'_> {
    /// Whether a file is named by a descriptor that is open.
    fn is_open(&self, target: Target) -> bool {
        match target {
            Target::AtFlags(dir, ..) | Target::At(dir, _) | Target::Fd(dir) => {
                self.fd_target(self.int(dir)).is_ok()
            }
            Target::Path(..) => false,
        }
    }

    fn exec(&self, program: Walk, argv: u8, stop: &dyn Stop) -> Decoded<Verdict> {
        let version = self.observer().version(&program.path);
        match self.kind(&program)? {
            Kind::Program(interpreters, exe, loader) => {
                if let (Some(loader), Some(version), true) = (&loader, version, exe == program.path)
                {
                    let mut programs = self.shared.programs.lock();
                    programs.insert(exe.clone(), (version, loader.clone()));
                }
                let start = self.gather(program, interpreters, exe, loader.as_ref(), argv)?;
                match self.start_at_once(&start) {
                    Some(verdict) => Ok(verdict),
                    None => self.start(start, stop),
                }
            }
            Kind::Nothing(scripts, end) => self.no_program(program, scripts, end),
        }
    }

    /// Gathers what the start of a program is made of whose file has been looked into before.
    fn known(&self, program: &Walk, argv: u8) -> Decoded<Option<Start>> {
        let known = self.shared.programs.lock().get(&program.path).cloned();
        let Some((version, loader)) = known else {
            return Ok(None);
        };
        if self.observer().version(&program.path) != Some(version) {
            return Ok(None);
        }
        let interpreter = self.name_text(libc::AT_FDCWD, &loader.name, Last::Follow)?;
        let (interpreters, exe) = (vec![interpreter.walk], program.path.clone());
        self.gather(program.clone(), interpreters, exe, Some(&loader), argv)
            .map(Some)
    }

    fn gather(
        &self,
        program: Walk,
        interpreters: Vec<Walk>,
        exe: PathBuf,
        loader: Option<&Loader>,
        argv: u8,
    ) -> Decoded<Start> {
        let env = argv + 1;
        let argv = self.strings(argv)?;
        let status = self.processes().get(self.pid).and_then(|p| p.status.take());
        let status = status.map_or_else(|| Status::read(self.call.tid), Ok);
        let status = status.map_err(|e| unreadable(&e))?;
        let cwd = self
            .processes()
            .cwd(self.pid, self.call.tid, self.prefixes().moves())
            .map_err(|e| unreadable(&e))?;
        self.recheck()?;
        let views = self.views();
        let loading = match (&self.shared.fast, loader) {
            // The library notes the names that a process uses.
            _ if views.is_some() => Loading::No,
            (Some(fast), Some(Loader { name, mode })) if fast.wants(name, *mode, &status) => {
                Loading::Asks
            }
            (None | Some(_), _) => Loading::No,
        };
        let cwd = match &views {
            Some(views) => views.real(&cwd).into_owned(),
            None => cwd.to_path_buf(),
        };
        let exec = Exec {
            pid: self.pid,
            program,
            interpreters,
            argv,
            env: Vec::new(),
            cwd,
            fds: Vec::new(),
            umask: status.umask,
            ids: status.ids,
            ignored: status.ignored,
            children: Vec::new(),
        };
        Ok(Start {
            exec,
            exe,
            loading,
            env,
            fd_size: status.fd_size,
        })
    }

    /// Lets a program start that is but a part of what runs already. None: it is to be told like others.
    fn start_at_once(&self, start: &Start) -> Option<Verdict> {
        let stop = AtTheDoor(self);
        let own = StoppedFds {
            caller: self,
            env: start.env,
            fd_size: start.fd_size,
            pidfd: None,
            stop: &stop,
        };
        let loading = match self.observer().starts_a_part(&start.exec, &own)? {
            Part::Brief => Loading::No,
            Part::Noted => start.loading,
        };
        self.expect(Some(start.exe.clone()), loading);
        Some(Verdict::Go)
    }

    /// Asks what is to become of a program that is more than a part.
    fn start(&self, start: Start, stop: &dyn Stop) -> Decoded<Verdict> {
        let Start {
            mut exec,
            exe,
            loading,
            env,
            fd_size,
        } = start;
        // Whoever is asked below may not be asked in between.
        let _known = self.views();
        let mut processes = self.processes();
        exec.children = self.shared.children(&mut processes, self.pid);
        let pidfd = processes.get(self.pid).and_then(|p| p.pidfd());
        drop(processes);
        self.recheck()?;
        let own = StoppedFds {
            caller: self,
            env,
            fd_size,
            pidfd,
            stop,
        };
        match self.observer().exec(exec, &own) {
            ExecAnswer::Exit(status) if stop.ready_to_exit() => {
                // What took the program's place may have made directories and links.
                self.shared.prefixes.forget();
                self.shared.end(self.pid, self.call.tid, status & 0xff);
                Ok(Verdict::Exit(status & 0xff))
            }
            // Its death is told when it is seen.
            ExecAnswer::Signal(signal) if stop.ready_to_exit() => Ok(Verdict::Signal(signal)),
            ExecAnswer::Run | ExecAnswer::Exit(_) | ExecAnswer::Signal(_) => {
                // The first program of a job with views was not known to be that before.
                let loading = match self.observer().views(self.pid) {
                    Some(_) => Loading::No,
                    None => loading,
                };
                self.expect(Some(exe), loading);
                Ok(Verdict::Go)
            }
        }
    }

    /// A vector of strings among the arguments.
    pub(crate) fn strings(&self, n: u8) -> Decoded<Vec<Vec<u8>>> {
        let size = PtrSize::of(self.call.abi);
        memory::str_vec(self.call.tid, self.arg(n), size, MAX_STRINGS).map_err(|e| unreadable(&e))
    }

    /// Finds out what the kernel will load for a file.
    fn kind(&self, program: &Walk) -> Decoded<Kind> {
        let mut interpreters: Vec<Walk> = Vec::new();
        loop {
            let file = interpreters.last().unwrap_or(program);
            let path = file.path.clone();
            let Some((opened, mode)) = self.open_program(file)? else {
                let end = interpreters.pop().unwrap_or_else(|| program.clone());
                return Ok(Kind::Nothing(interpreters, Some(end)));
            };
            let text = match inspect(&opened) {
                Ok(Program::Elf(None)) => return Ok(Kind::Program(interpreters, path, None)),
                Ok(Program::Elf(Some(name))) => {
                    interpreters.push(self.name_text(libc::AT_FDCWD, &name, Last::Follow)?.walk);
                    let loader = Some(Loader { name, mode });
                    return Ok(Kind::Program(interpreters, path, loader));
                }
                Ok(Program::Script(text)) if interpreters.len() < MAX_SCRIPTS => text,
                Ok(Program::Script(_) | Program::Unknown) => {
                    return Ok(Kind::Nothing(interpreters, None));
                }
                Err(_) => return Err(Stopped::Unreadable),
            };
            interpreters.push(self.name_text(libc::AT_FDCWD, &text, Last::Follow)?.walk);
        }
    }

    /// Opens a file that may be a program, with its permissions; none if it cannot be executed.
    fn open_program(&self, walk: &Walk) -> Decoded<Option<(File, u32)>> {
        if walk.end != End::Found(Look::File) {
            return Ok(None);
        }
        let Ok(file) = self.observer().open(&walk.path) else {
            return Err(Stopped::Unreadable);
        };
        let Ok(meta) = file.metadata() else {
            return Err(Stopped::Unreadable);
        };
        let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
        Ok((meta.is_file() && mode & 0o111 != 0).then_some((file, mode)))
    }

    /// The exec will fail, unless somebody has told the kernel how to run such files (binfmt_misc).
    fn no_program(&self, program: Walk, scripts: Vec<Walk>, end: Option<Walk>) -> Decoded<Verdict> {
        let first = (end.as_ref() != Some(&program)).then_some(program);
        for walk in first.into_iter().chain(scripts) {
            self.tell(Event::Open {
                walk,
                flags: libc::O_RDONLY,
                mode: 0,
            })?;
        }
        match end {
            Some(walk) => self.tell(Event::Access(walk, libc::X_OK))?,
            None => self.expect(None, Loading::No),
        }
        Ok(Verdict::Go)
    }

    /// Notes what the process is now, to see later whether the exec succeeded.
    fn expect(&self, expected: Option<PathBuf>, loading: Loading) {
        let (pid, tid) = (self.pid, self.call.tid);
        let Ok(before) = self.shared.links.read(pid, "exe") else {
            return;
        };
        let same = match self.views() {
            Some(views) => expected.as_deref() == Some(&*views.real(&before)),
            None => expected.as_ref() == Some(&before),
        };
        let stack = if same {
            proc_files::stack_start(pid)
        } else {
            None
        };
        let name = expected.as_deref().and_then(std::path::Path::file_name);
        let counted = Counted {
            program: name.map(|name| self.shared.tally.program(&name.to_string_lossy())),
            promised: loading != Loading::No,
        };
        let exec = PendingExec {
            tid,
            before,
            expected,
            stack,
            loading,
            counted,
        };
        self.processes().expect_exec(pid, exec);
    }
}
