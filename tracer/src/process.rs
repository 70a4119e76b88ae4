//! The model of the traced processes: which thread belongs to which process, who is whose child, who has
//! ended, and where each works.
//!
//! It learns from `/proc` at first sight and forgets when a pidfd says that a process is gone. It does
//! not know what calls mean.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::Pid;
use crate::fast::Loading;
use crate::links::Links;
use crate::pidfd;
use crate::proc_files;
use crate::tally::Program;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// The traced processes.
#[derive(Debug)]
pub(crate) struct Processes {
    links: Arc<Links>,
    by_pid: HashMap<Pid, Process>,
    by_tid: HashMap<i32, Pid>,
    /// Threads that ended without a word; see [`Processes::lost`].
    lost: Vec<i32>,
    /// Processes that a signal ended, which has been told.
    slain: HashSet<Pid>,
    /// Holds the pidfds: ready means gone.
    gone: Epoll,
    /// Processes without a pidfd.
    unwatched: usize,
    sweeps: u64,
    /// Some processes share a working directory, so none is kept.
    cwds_shared: bool,
    /// The process above all traced ones, which adopts orphans.
    outside: Option<Pid>,
    /// How many threads wait for a process whose call is in work.
    pub(crate) waiting: usize,
}

/// One traced process.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// The traced process that made it.
    parent: Option<Pid>,
    /// Its threads that have been seen, the first one left aside.
    threads: Vec<i32>,
    /// Threads that have asked to exit and may still be listed.
    leaving: HashSet<i32>,
    pidfd: Option<Arc<OwnedFd>>,
    /// Working directory, and the count of directory moves for which it holds.
    cwd: Option<(u64, Arc<Path>)>,
    /// The thread whose chdir is under way.
    cwd_changing: Option<i32>,
    /// Threads may have working directories of their own, or share them with other processes.
    cwd_apart: bool,
    /// An exec that has been let go and may have failed.
    exec: Option<PendingExec>,
    /// What was read when it was first seen, as long as it is in the same call.
    pub(crate) status: Option<proc_files::Status>,
    /// Whether its loader is to be given a library.
    pub(crate) loading: Loading,
    /// What its calls that stop are counted for.
    pub(crate) counted: Counted,
    /// A call of the process is in work.
    pub(crate) busy: bool,
    /// Its end has been told.
    pub(crate) end_told: bool,
    /// The thread whose exit_group is under way; the other threads are not to be let go any more.
    pub(crate) ending: Option<i32>,
    /// It has made a wait that stopped: nobody else tells what it hears of its children.
    waits: bool,
    /// It is gone, which is still to be told.
    gone: bool,
}

/// What the calls of a process that stop are counted for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// Its program.
    pub(crate) program: Option<Arc<Program>>,
    /// Its program was to be given a library.
    pub(crate) promised: bool,
}

/// What an exec that was let go should make of the process.
#[derive(Debug)]
pub(crate) struct PendingExec {
    /// The thread that called it.
    pub(crate) tid: i32,
    /// `/proc/pid/exe` before.
    pub(crate) before: PathBuf,
    /// `/proc/pid/exe` after; none where the file is no program that is known.
    pub(crate) expected: Option<PathBuf>,
    /// Where the stack began, when both are the same file.
    pub(crate) stack: Option<u64>,
    /// What its loader is to be given.
    pub(crate) loading: Loading,
    /// What is counted for it from then on.
    pub(crate) counted: Counted,
}

/// What has become of an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecResult {
    /// The program runs.
    Done,
    /// The old program goes on.
    Failed,
    /// The old program goes on, and no other one was told.
    NoProgram,
    /// A program runs that was not told as one.
    Unexpected,
}

impl PendingExec {
    fn result(&self, links: &Links, pid: Pid) -> ExecResult {
        let Ok(now) = links.read(pid, "exe") else {
            return ExecResult::Done;
        };
        let changed = now != self.before
            || (self.stack.is_some() && self.stack != proc_files::stack_start(pid));
        match (changed, &self.expected) {
            (false, Some(_)) => ExecResult::Failed,
            (false, None) => ExecResult::NoProgram,
            (true, Some(_)) => ExecResult::Done,
            (true, None) => ExecResult::Unexpected,
        }
    }
}

/// The end of a process that was not told, or was told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// It had not been told as ended. The signal that killed it, where known.
    Untold(Pid, Option<i32>),
    /// A child of the second, which hears of it, was killed by this signal although it was told as ended,
    /// or never made a call.
    Heard(Pid, Pid, i32),
}

/// A process seen for the first time, and its parent where that is a traced one.
pub(crate) type Birth = (Pid, Option<Pid>);

/// The children of a process, those of them that are new, and those of which it has still to be told how they
/// ended.
#[derive(Debug, Default)]
pub(crate) struct Children {
    pub(crate) all: Vec<Pid>,
    pub(crate) births: Vec<Birth>,
    pub(crate) deaths: Vec<Death>,
}

impl Processes {
    pub(crate) fn new(links: Arc<Links>) -> io::Result<Self> {
        Ok(Self {
            links,
            by_pid: HashMap::new(),
            by_tid: HashMap::new(),
            lost: Vec::new(),
            slain: HashSet::new(),
            gone: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            unwatched: 0,
            sweeps: 0,
            cwds_shared: false,
            outside: None,
            waiting: 0,
        })
    }

    /// The process of a thread that has been seen before.
    pub(crate) fn known(&self, tid: i32) -> Option<Pid> {
        self.by_tid.get(&tid).copied()
    }

    pub(crate) fn get(&mut self, pid: Pid) -> Option<&mut Process> {
        self.by_pid.get_mut(&pid)
    }

    /// Learns of a thread, its process and the ancestors that have not made a call yet. Tells the
    /// processes that are new, ancestors first.
    ///
    /// # Errors
    /// The thread is gone.
    pub(crate) fn sight(
        &mut self,
        tid: i32,
        still_there: &dyn Fn() -> bool,
    ) -> io::Result<(Pid, Vec<Birth>)> {
        // Only the first thread of a process has one.
        let opened = pidfd::open(tid);
        let (pid, ppid, status) = match opened.as_ref().and_then(pidfd::parent) {
            Some(ppid) => (tid, ppid, None),
            None => {
                let status = proc_files::Status::read(tid)?;
                (status.tgid, status.ppid, Some(status))
            }
        };
        if !still_there() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let mut births = Vec::new();
        if !self.by_pid.contains_key(&pid) {
            self.outside.get_or_insert(ppid);
            self.links.start(pid);
            let pidfd = opened.filter(|_| pid == tid).or_else(|| pidfd::open(pid));
            self.add(pid, ppid, pidfd, &mut births);
        }
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.status = status;
            if tid != pid {
                process.threads.push(tid);
                self.by_tid.insert(tid, pid);
            }
        }
        Ok((pid, births))
    }

    /// Learns of the children of a process that have not made a call yet, so that they are known as its
    /// own when it is gone.
    pub(crate) fn adopt(&mut self, pid: Pid) -> Children {
        let mut kin = Children {
            all: proc_files::children(pid),
            ..Children::default()
        };
        for child in &kin.all {
            if self.by_pid.contains_key(child) {
                continue;
            }
            match pidfd::signal_of_zombie(*child) {
                None => self.add(*child, pid, pidfd::open(*child), &mut kin.births),
                // Its end was told.
                Some(0) => {}
                Some(signal) => kin.deaths.extend(self.heard(*child, pid, signal)),
            }
        }
        kin
    }

    /// A process hears, or may, that a signal has ended a child of it. Tells that if it was not told.
    pub(crate) fn heard(&mut self, child: Pid, parent: Pid, signal: i32) -> Option<Death> {
        // Of one whose end was not told it will be.
        let known = self.by_pid.get(&child).is_some_and(|p| !p.end_told);
        (!known && self.slain.insert(child)).then_some(Death::Heard(child, parent, signal))
    }

    fn add(&mut self, pid: Pid, ppid: Pid, pidfd: Option<OwnedFd>, births: &mut Vec<Birth>) {
        let parent = self.parent(pid, ppid, births);
        let before = parent.and_then(|parent| self.by_pid.get(&parent));
        let mut process = Process {
            parent,
            counted: before
                .map(|parent| parent.counted.clone())
                .unwrap_or_default(),
            ..Process::default()
        };
        self.slain.remove(&pid);
        process.pidfd = pidfd.map(Arc::new);
        if let Some(pidfd) = &process.pidfd {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(pid.unsigned_abs()));
            if self.gone.add(&**pidfd, event).is_err() {
                process.pidfd = None;
            }
        }
        self.unwatched += usize::from(process.pidfd.is_none());
        self.by_pid.insert(pid, process);
        self.by_tid.insert(pid, pid);
        births.push((pid, parent));
    }

    /// The traced parent; one that is not known yet has forked and done nothing else.
    fn parent(&mut self, pid: Pid, ppid: Pid, births: &mut Vec<Birth>) -> Option<Pid> {
        if self.by_pid.contains_key(&ppid) {
            return Some(ppid);
        }
        if ppid <= 1 || ppid == pid || self.outside == Some(ppid) {
            return None;
        }
        // All descendants of the first process are traced, so the way up ends at a known one or outside.
        let pidfd = pidfd::open(ppid);
        let above = match pidfd.as_ref().and_then(pidfd::parent) {
            Some(above) => above,
            None => proc_files::Status::read(ppid).ok()?.ppid,
        };
        self.add(ppid, above, pidfd, births);
        Some(ppid)
    }

    /// Processes that have ended otherwise than was told. To be asked before every call that is
    /// told: it costs a tenth of a microsecond, and nobody sees a death before it is told.
    pub(crate) fn sweep(&mut self) -> Vec<Death> {
        let mut died = Vec::new();
        let mut events = [EpollEvent::empty(); 64];
        while let Ok(n @ 1..) = self.gone.wait(&mut events, EpollTimeout::ZERO) {
            for event in &events[..n] {
                let Ok(pid) = Pid::try_from(event.data()) else {
                    continue;
                };
                died.extend(self.bury(pid));
            }
        }
        // These cost a call each, so they are looked at from time to time.
        self.sweeps += 1;
        if self.unwatched > 0 && (self.sweeps % 64 == 0 || self.by_pid.len() == self.unwatched) {
            died.extend(self.sweep_unwatched());
        }
        died
    }

    /// Those without a pidfd (too many open files): gone when nothing has their number any more.
    fn sweep_unwatched(&mut self) -> Vec<Death> {
        let unwatched = self
            .by_pid
            .iter()
            .filter(|(_, p)| p.pidfd.is_none() && !p.gone);
        let mut pids: Vec<Pid> = unwatched.map(|(pid, _)| *pid).collect();
        pids.sort_unstable();
        pids.retain(|pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), None).is_err());
        pids.into_iter().filter_map(|pid| self.bury(pid)).collect()
    }

    /// Forgets a process that is gone, unless a call of it is still in work.
    fn bury(&mut self, pid: Pid) -> Option<Death> {
        let process = self.by_pid.get_mut(&pid)?;
        if process.busy {
            process.gone = true;
            if let Some(pidfd) = &process.pidfd {
                let _removed = self.gone.delete(&**pidfd);
            }
            // Who hears of it may be gone when its end has been dealt with.
            return self.ended_otherwise(pid);
        }
        let heard = self.ended_otherwise(pid);
        let process = self.by_pid.remove(&pid)?;
        for tid in process.threads.into_iter().chain([pid]) {
            self.by_tid.remove(&tid);
            self.lost.push(tid);
        }
        let mut signal = None;
        match &process.pidfd {
            Some(pidfd) => {
                let _removed = self.gone.delete(&**pidfd);
                if !process.end_told {
                    signal = pidfd::killed_by(pid, pidfd);
                }
            }
            None => self.unwatched -= 1,
        }
        if process.end_told {
            return heard;
        }
        self.slain.insert(pid);
        Some(Death::Untold(pid, signal))
    }

    /// Of a process whose end was told: whether it was killed before it came to that, and a parent hears of it
    /// that will not say so.
    fn ended_otherwise(&mut self, pid: Pid) -> Option<Death> {
        let process = self.by_pid.get(&pid).filter(|p| p.end_told)?;
        let parent = process.parent?;
        let listens = |p: &Process| p.waits && !p.end_told;
        self.by_pid.get(&parent).filter(|p| listens(p))?;
        let signal = pidfd::killed_by(pid, process.pidfd.as_deref()?)?;
        let new = self.slain.insert(pid);
        new.then_some(Death::Heard(pid, parent, signal))
    }

    /// A process is about to wait for its children without saying what it hears.
    pub(crate) fn waits(&mut self, pid: Pid) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.waits = true;
        }
    }

    /// Takes the threads that have ended since the last time without another call.
    pub(crate) fn lost(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.lost)
    }

    /// A call of a process is no longer in work. Tells it if it has meanwhile died.
    pub(crate) fn idle(&mut self, pid: Pid) -> Option<Death> {
        let process = self.by_pid.get_mut(&pid)?;
        process.busy = false;
        if process.gone { self.bury(pid) } else { None }
    }

    /// A thread asks to exit. Tells whether it is the last one of its process.
    pub(crate) fn leave(&mut self, pid: Pid, tid: i32) -> bool {
        let tasks = proc_files::tasks(pid);
        let Some(process) = self.by_pid.get_mut(&pid) else {
            return false;
        };
        process.leaving.insert(tid);
        let last = tasks.iter().all(|task| process.leaving.contains(task));
        if !last && tid != pid {
            self.by_tid.remove(&tid);
            process.threads.retain(|t| *t != tid);
        }
        last
    }

    /// An exec of the process has been let go.
    pub(crate) fn expect_exec(&mut self, pid: Pid, exec: PendingExec) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.exec = Some(exec);
        }
    }

    /// A thread makes a call: tells what has become of an exec of its process, if that is known now.
    pub(crate) fn exec_result(&mut self, pid: Pid, tid: i32) -> Option<ExecResult> {
        let process = self.by_pid.get_mut(&pid)?;
        let caller = process.exec.as_ref()?.tid;
        // After a successful exec the calling thread has become the first one.
        if tid != caller && tid != pid {
            return None;
        }
        let exec = process.exec.take()?;
        let result = exec.result(&self.links, pid);
        match result {
            ExecResult::Done | ExecResult::Unexpected => self.executed(pid, &exec),
            // It may still be under way.
            ExecResult::Failed | ExecResult::NoProgram if tid != caller => {
                process.exec = Some(exec);
                return None;
            }
            ExecResult::Failed | ExecResult::NoProgram => {}
        }
        Some(result)
    }

    /// One thread is left.
    fn executed(&mut self, pid: Pid, exec: &PendingExec) {
        let Some(process) = self.by_pid.get_mut(&pid) else {
            return;
        };
        process.loading = exec.loading;
        process.counted = exec.counted.clone();
        for tid in process.threads.drain(..) {
            self.by_tid.remove(&tid);
            self.lost.push(tid);
        }
        process.leaving.clear();
        process.cwd_apart = false;
    }

    /// Whether a process lives, as far as is known.
    pub(crate) fn is_alive(&self, pid: Pid) -> bool {
        self.by_pid
            .get(&pid)
            .is_some_and(|p| !p.gone && !p.end_told)
    }

    /// The working directory of a thread, as the kernel names it. `moves` counts moves of directories,
    /// none while one is under way.
    pub(crate) fn cwd(&mut self, pid: Pid, tid: i32, moves: Option<u64>) -> io::Result<Arc<Path>> {
        let Some(process) = self.by_pid.get_mut(&pid) else {
            return Ok(self.links.read(tid, "cwd")?.into());
        };
        if process.cwd_changing == Some(tid) {
            process.cwd_changing = None;
            process.cwd = None;
        }
        let settled = process.cwd_changing.is_none() && !process.cwd_apart && !self.cwds_shared;
        match (&process.cwd, moves) {
            (Some((at, cwd)), Some(now)) if *at == now && settled => return Ok(Arc::clone(cwd)),
            _ => {}
        }
        let cwd: Arc<Path> = self.links.read(tid, "cwd")?.into();
        process.cwd = moves.filter(|_| settled).map(|now| (now, Arc::clone(&cwd)));
        Ok(cwd)
    }

    /// A process makes working directories that are not one a process: of its threads, or, `with_others`,
    /// one shared with a process that is not known yet.
    pub(crate) fn work_apart(&mut self, pid: Pid, with_others: bool) {
        self.cwds_shared |= with_others;
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.cwd_apart = true;
        }
    }

    /// Whether a thread of a process is changing its working directory, or it is not one of the process alone.
    pub(crate) fn is_changing_cwd(&self, pid: Pid) -> bool {
        let changes = |p: &Process| p.cwd_apart || p.cwd_changing.is_some();
        self.cwds_shared || self.by_pid.get(&pid).is_none_or(changes)
    }

    /// A thread is about to change the working directory of its process.
    pub(crate) fn chdir(&mut self, pid: Pid, tid: i32) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.cwd = None;
            process.cwd_changing = Some(tid);
        }
    }
}

impl Process {
    pub(crate) fn pidfd(&self) -> Option<Arc<OwnedFd>> {
        self.pidfd.clone()
    }
}

#[cfg(test)]
mod tests;
