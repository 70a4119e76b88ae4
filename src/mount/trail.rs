//! Who did what: from requests of the mount to steps of commands.
//!
//! A process is read once from /proc, when it first comes up, and again when it has executed another program, which
//! is known by the old program's memory being gone. Each program that a process runs is a step; its parent is the
//! step that started it. Steps that started each other, up to the shell that somebody types into or to a process
//! that is elsewhere, are one command. Nothing is written here; `ledger` does that.

use super::process::Facts;
use crate::base::policy::{Policy, Times, plain};
use crate::base::{Access, Command as Run, Digest, Kind, Name, Seen};
use crate::world::see;
use rfs_fs::Deed;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Ancestors that are looked at.
const DEPTH: usize = 64;

/// How a step has dealt with a path.
#[derive(Debug, Clone)]
pub(super) struct Act {
    /// How it was looked at.
    pub access: Access,
    /// Whether it was changed.
    pub wrote: bool,
    /// What was there before.
    pub first: Arc<Seen>,
}

/// What a step has done and is not written down yet.
#[derive(Debug, Default)]
pub(super) struct Acts {
    pub paths: HashMap<PathBuf, Act>,
    /// When it changed something last.
    pub wrote: Option<Instant>,
}

/// A program that a process runs, or has run.
#[derive(Debug)]
pub(super) struct Image {
    /// Its number in its command, greater than that of who started it.
    pub number: u32,
    /// The step that started it.
    pub parent: Option<u32>,
    /// Its command's number.
    pub command: u64,
    /// For people.
    pub title: String,
    /// What it is known by from one run to the next.
    pub key: Digest,
    pub began: Instant,
    /// Microseconds since 1970 at its start.
    pub began_us: i64,
    /// What it is a run of.
    pub run: Run,
    /// Whether a part of what it did is written down already.
    pub noted: AtomicBool,
    name: String,
    /// Whether it compares time stamps.
    orders: bool,
    /// The step that it is a part of.
    within: Option<Arc<Self>>,
    acts: Mutex<Acts>,
}

impl Image {
    /// Whether it is a part of another step.
    pub(super) fn is_part(&self) -> bool {
        self.within.is_some()
    }

    pub(super) fn acts(&self) -> MutexGuard<'_, Acts> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self, deed: Deed, path: &Path) {
        let mut acts = self.acts();
        if deed == Deed::Write {
            acts.wrote = Some(Instant::now());
        }
        let act = match acts.paths.get_mut(path) {
            Some(act) => act,
            None => {
                let first = Arc::new(see(path));
                // On the way to something else.
                if deed == Deed::Look && first.kind == Kind::Dir {
                    return;
                }
                acts.paths.entry(path.to_owned()).or_insert(Act {
                    access: Access::NONE,
                    wrote: false,
                    first,
                })
            }
        };
        if act.wrote {
            // What it looks at now is its own work.
            return;
        }
        let orders = if self.orders {
            Access::ORDER
        } else {
            Access::NONE
        };
        match (deed, act.first.kind) {
            (Deed::Look, Kind::File) => act.access |= Access::STAT | orders,
            (Deed::Look, _) => act.access |= Access::KIND,
            (Deed::ReadLink, _) => act.access |= Access::LNK,
            (Deed::List, _) => act.access |= Access::LIST,
            (Deed::Read, _) => act.access |= Access::REG | Access::MODE,
            (Deed::Write, _) => act.wrote = true,
        }
    }
}

/// A process that is alive, as far as is known.
#[derive(Debug)]
struct Process {
    facts: Facts,
    image: Arc<Image>,
    /// /proc/PID/environ: nothing can be read from it once another program runs.
    memory: Option<File>,
    /// Whether it is a child that still runs its parent's program, as far as can be told: its step is the parent's.
    borrows: bool,
    _pidfd: Option<OwnedFd>,
}

/// Steps that belong together.
#[derive(Debug)]
pub(super) struct Command {
    pub title: String,
    pub began: SystemTime,
    pub since: Instant,
    /// Steps, with the last number that was given out.
    last: u32,
    /// Processes that are alive.
    pub alive: usize,
    /// Steps that have ended and are not written down yet.
    pub ended: Vec<Arc<Image>>,
    /// Steps that may still do something.
    pub running: Vec<Arc<Image>>,
}

#[derive(Debug, Default)]
struct Inner {
    processes: HashMap<i32, Process>,
    commands: HashMap<u64, Command>,
    last: u64,
}

/// What is known of who does what.
#[derive(Debug)]
pub(super) struct Trail {
    /// The workspace, by its real name and as those who use the mount call it.
    root: PathBuf,
    at: PathBuf,
    state: PathBuf,
    policy: Policy,
    own: i32,
    inner: Mutex<Inner>,
    /// Tells of processes that end.
    ends: OwnedFd,
    bell: OwnedFd,
}

impl Trail {
    pub(super) fn new(root: &Path, at: &Path, policy: Policy) -> io::Result<Self> {
        let trail = Self {
            root: root.to_owned(),
            at: at.to_owned(),
            state: root.join(".rfs"),
            policy,
            own: nix::unistd::getpid().as_raw(),
            inner: Mutex::default(),
            ends: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        };
        epoll::add(
            &trail.ends,
            &trail.bell,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )?;
        Ok(trail)
    }

    /// Wakes who [waits](Self::wait).
    pub(super) fn ring(&self) {
        let _rung = rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).is_ok();
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread did something.
    pub(super) fn did(&self, thread: u32, deed: Deed, path: &Path) {
        let Ok(thread @ 1..) = i32::try_from(thread) else {
            return;
        };
        if path.starts_with(&self.state) {
            return;
        }
        if let Some(image) = self.image(thread) {
            image.act(deed, path);
        }
    }

    /// What a thread runs.
    fn image(&self, thread: i32) -> Option<Arc<Image>> {
        let mut inner = self.lock();
        let pid = match inner.processes.contains_key(&thread) {
            true => thread,
            false => Facts::process_of(thread)?,
        };
        let image = self.process(&mut inner, pid, 0)?;
        Some(image.within.clone().unwrap_or(image))
    }

    /// What a process runs now.
    fn process(&self, inner: &mut Inner, pid: i32, depth: usize) -> Option<Arc<Image>> {
        if let Some(process) = inner.processes.get(&pid) {
            if process.is_same() {
                return Some(process.image.clone());
            }
        }
        let facts = Facts::of(pid)?;
        let before = inner.processes.remove(&pid);
        let starter = match before {
            Some(before) if before.facts.start == facts.start => {
                let alike = before.facts.argv == facts.argv && before.facts.exe == facts.exe;
                if alike && (before.borrows || before.memory.is_none()) {
                    let image = before.image.clone();
                    inner.processes.insert(pid, before);
                    return Some(image);
                }
                // It has executed another program.
                if !before.borrows {
                    inner.end(&before.image);
                }
                Some((before.image, before.facts, true))
            }
            Some(before) => {
                inner.leave(&before);
                self.starter(inner, &facts, depth)
            }
            None => self.starter(inner, &facts, depth),
        };
        Some(self.enter(inner, facts, starter))
    }

    /// The step that started a process, where it belongs to the same command.
    fn starter(
        &self,
        inner: &mut Inner,
        facts: &Facts,
        depth: usize,
    ) -> Option<(Arc<Image>, Facts, bool)> {
        if facts.parent <= 1 || facts.parent == self.own || depth == DEPTH {
            return None;
        }
        let known = inner.processes.contains_key(&facts.parent);
        let parent = match inner.processes.get(&facts.parent) {
            Some(parent) => parent.facts.clone(),
            None => Facts::of(facts.parent)?,
        };
        // A parent that started later has the number of one that is gone.
        if parent.start > facts.start
            || parent.is_interactive()
            || !(known || parent.goes_with(facts, &self.at))
        {
            return None;
        }
        let image = self.process(inner, facts.parent, depth + 1)?;
        let parent = inner.processes.get(&facts.parent)?;
        Some((image, parent.facts.clone(), false))
    }

    fn enter(
        &self,
        inner: &mut Inner,
        facts: Facts,
        starter: Option<(Arc<Image>, Facts, bool)>,
    ) -> Arc<Image> {
        let (parent, parents, is_exec) = match starter {
            Some((image, facts, is_exec)) => (Some(image), Some(facts), is_exec),
            None => (None, None, false),
        };
        let borrows = !is_exec
            && parents.is_some_and(|parent| parent.argv == facts.argv && parent.exe == facts.exe);
        let id = match &parent {
            Some(parent) => parent.command,
            None => inner.begin(&facts),
        };
        let shared = parent.clone().filter(|_| borrows);
        let image = shared.unwrap_or_else(|| self.step(inner, id, &facts, parent));
        if let Some(command) = inner.commands.get_mut(&id) {
            command.alive += usize::from(!is_exec);
        }
        let pidfd = self.follow(&facts);
        let has_ended = pidfd.is_none();
        let process = Process {
            memory: memory(facts.pid),
            borrows,
            image: image.clone(),
            _pidfd: pidfd,
            facts,
        };
        if has_ended {
            // An ancestor, meanwhile.
            inner.leave(&process);
        } else {
            inner.processes.insert(process.facts.pid, process);
        }
        image
    }

    fn step(
        &self,
        inner: &mut Inner,
        id: u64,
        facts: &Facts,
        parent: Option<Arc<Image>>,
    ) -> Arc<Image> {
        let name = facts.name();
        let number = inner.commands.get_mut(&id).map_or(0, |command| {
            command.last += 1;
            command.last
        });
        let within = parent.clone().filter(|parent| self.folds(&name, parent));
        let within = within.map(|parent| parent.within.clone().unwrap_or(parent));
        let image = Arc::new(Image {
            number,
            parent: parent.map(|parent| parent.number),
            command: id,
            title: facts.title(),
            key: key(facts),
            began: Instant::now(),
            began_us: micros(SystemTime::now()),
            run: Run {
                program: Name::of(&facts.exe, &self.at),
                argv: facts.argv.clone(),
                cwd: Name::of(&facts.cwd, &self.at),
            },
            noted: AtomicBool::new(false),
            orders: self.policy.times(plain(&name), &facts.argv) == Times::Order,
            name,
            within,
            acts: Mutex::default(),
        });
        if let Some(command) = inner.commands.get_mut(&id) {
            command.running.push(image.clone());
        }
        if let Ok(inside) = facts.exe.strip_prefix(&self.at) {
            image.act(Deed::Read, &self.root.join(inside));
        }
        image
    }

    /// Whether a program is a part of the step that starts it, as in a build under watch.
    fn folds(&self, name: &str, starter: &Image) -> bool {
        let is = |list: &[String], name: &str| list.iter().any(|known| known == name);
        is(&self.policy.fold, name)
            || is(&self.policy.parts, plain(name))
            || (is(&self.policy.driven, plain(name))
                && is(&self.policy.drivers, plain(&starter.name)))
    }

    /// Has the end of a process be told.
    fn follow(&self, facts: &Facts) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(facts.pid)?, PidfdFlags::empty()).ok()?;
        let data = epoll::EventData::new_u64(tag(facts));
        epoll::add(&self.ends, &pidfd, data, epoll::EventFlags::IN).ok()?;
        Some(pidfd)
    }

    /// Waits, but not for ever, until processes have ended, and takes note of it.
    pub(super) fn wait(&self, patience: std::time::Duration) {
        let mut events = Vec::with_capacity(64);
        let timeout = rustix::event::Timespec::try_from(patience).ok();
        let spare = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.ends, spare, timeout.as_ref()).is_err() {
            return;
        }
        let _silent = rustix::io::read(&self.bell, &mut [0; 8]).is_ok();
        let mut inner = self.lock();
        for event in &events {
            let tagged = event.data.u64();
            let pid = i32::try_from(tagged & u64::from(u32::MAX)).unwrap_or(0);
            let known = inner.processes.get(&pid);
            if known.is_some_and(|one| tag(&one.facts) == tagged) {
                if let Some(process) = inner.processes.remove(&pid) {
                    inner.leave(&process);
                }
            }
        }
    }

    /// The commands that there are.
    pub(super) fn commands(&self) -> Vec<u64> {
        let mut ids: Vec<_> = self.lock().commands.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Does something with a command; forgets it if that says so.
    pub(super) fn with<T>(
        &self,
        id: u64,
        act: impl FnOnce(&mut Command) -> (T, bool),
    ) -> Option<T> {
        let mut inner = self.lock();
        let (done, is_over) = act(inner.commands.get_mut(&id)?);
        if is_over {
            inner.commands.remove(&id);
        }
        Some(done)
    }

    /// A number for what a step does after it was written down.
    pub(super) fn number(command: &mut Command) -> u32 {
        command.last += 1;
        command.last
    }
}

impl Process {
    fn is_same(&self) -> bool {
        !self.borrows && self.memory.as_ref().is_some_and(can_be_read)
    }
}

impl Inner {
    fn begin(&mut self, facts: &Facts) -> u64 {
        self.last += 1;
        let command = Command {
            title: facts.title(),
            began: SystemTime::now(),
            since: Instant::now(),
            last: 0,
            alive: 0,
            ended: Vec::new(),
            running: Vec::new(),
        };
        self.commands.insert(self.last, command);
        self.last
    }

    /// A step has ended, with its process or by that executing another program.
    fn end(&mut self, image: &Arc<Image>) {
        if let Some(command) = self.commands.get_mut(&image.command) {
            command.running.retain(|one| !Arc::ptr_eq(one, image));
            command.ended.push(image.clone());
        }
    }

    /// A process has ended.
    fn leave(&mut self, process: &Process) {
        if !process.borrows {
            self.end(&process.image);
        }
        if let Some(command) = self.commands.get_mut(&process.image.command) {
            command.alive = command.alive.saturating_sub(1);
        }
    }
}

/// Of which process the kernel tells; not of one that had its number before.
fn tag(facts: &Facts) -> u64 {
    u64::from(facts.pid.unsigned_abs()) | facts.start << 32
}

/// Something that can be read from as long as the process runs what it runs now.
fn memory(pid: i32) -> Option<File> {
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    can_be_read(&file).then_some(file)
}

fn can_be_read(memory: &File) -> bool {
    matches!(memory.read_at(&mut [0], 0), Ok(1))
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// What a step is known by: program, arguments and working directory.
fn key(facts: &Facts) -> Digest {
    use std::os::unix::ffi::OsStrExt;
    let mut text = facts.exe.as_os_str().as_bytes().to_vec();
    for arg in &facts.argv {
        text.push(0);
        text.extend_from_slice(arg);
    }
    text.extend_from_slice(b"\0\0");
    text.extend_from_slice(facts.cwd.as_os_str().as_bytes());
    Digest::of(&text)
}
