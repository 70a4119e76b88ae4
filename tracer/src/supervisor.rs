//! The supervisor: takes each trapped call to its process, tells what it means, and says what becomes of it.
//!
//! Calls come from a few threads that receive; what may take its time (an exec, an exit) goes to workers.
//! Of one process one call is in work at a time: its other threads wait. How calls are stopped is not known
//! here.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::call::{Abi, Call, Decide, Decision, Stop, Verdict};
use crate::decode::{Caller, Decoded, Stopped};
use crate::event::{Counts, Event, Observer, Pid, Scope, Why};
use crate::exec::Programs;
use crate::fast::{self, Fast};
use crate::links::Links;
use crate::prefix::Prefixes;
use crate::process::{Birth, Counted, Death, ExecResult, Processes};
use crate::table::{self, Index, Op, Row};
use crate::tally::Tally;

/// Decides about the calls of a process tree by telling them to an observer.
#[derive(Debug)]
pub struct Supervisor(Arc<Shared>);

impl Supervisor {
    /// A supervisor of processes that are yet to start.
    ///
    /// # Errors
    /// epoll_create1(2) fails.
    pub fn new(observer: Arc<dyn Observer>) -> io::Result<Self> {
        Self::with(observer, None)
    }

    /// The same, with a fast path for processes whose calls pass by a cookie.
    ///
    /// # Errors
    /// As above, and where the memory for the fast path cannot be had.
    pub(crate) fn with(
        observer: Arc<dyn Observer>,
        fast: Option<(u64, Vec<u8>, usize)>,
    ) -> io::Result<Self> {
        let links = Arc::new(Links::default());
        let tally = Arc::new(Tally::new(table::stopping()));
        Ok(Self(Arc::new(Shared {
            observer,
            links: Arc::clone(&links),
            prefixes: Prefixes::default(),
            fast: fast
                .map(|fast| Fast::new(fast, Arc::clone(&tally)))
                .transpose()?,
            tally,
            programs: Programs::default(),
            processes: Mutex::new(Processes::new(links)?),
            idle: Condvar::new(),
            index: Index::new(),
            roots_changed: AtomicBool::new(false),
        })))
    }

    /// To be called when somebody else than the traced processes moved a directory or changed a link.
    pub fn forget_names(&self) {
        self.0.prefixes.forget();
    }

    /// How many calls came which way.
    pub(crate) fn counts(&self) -> Counts {
        self.0.tally.counts()
    }

    /// To be called when no traced process is left: tells those that ended unseen.
    pub fn finish(&self) {
        self.0.sweep(&mut self.0.processes());
    }
}

impl Decide for Supervisor {
    fn call(&self, call: &Call, still_there: &dyn Fn() -> bool) -> Decision {
        self.0.decide(call, still_there, At::Door)
    }

    fn stillborn(&self, child: i32, parent: i32, signal: i32) {
        self.0.stillborn(child, parent, signal);
    }
}

/// What all calls share.
pub(crate) struct Shared {
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) links: Arc<Links>,
    pub(crate) prefixes: Prefixes,
    pub(crate) fast: Option<Fast>,
    pub(crate) programs: Programs,
    pub(crate) tally: Arc<Tally>,
    processes: Mutex<Processes>,
    /// A call is no longer in work.
    idle: Condvar,
    index: Index,
    roots_changed: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("processes", &self.processes)
            .finish_non_exhaustive()
    }
}

/// Who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Whoever receives calls: nothing may take long.
    Door,
    /// A worker; whether the call is counted.
    Desk(bool),
}

/// How a call comes in.
enum Entry {
    /// Its process, which is ours until the call is dealt with.
    Ready(Busy),
    /// Its process is busy or ending.
    Wait,
    /// Its thread is gone.
    Gone,
}

impl Shared {
    pub(crate) fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Some process changes its root directory, so that its paths no longer mean what they say.
    pub(crate) fn someone_changes_root(&self) {
        self.roots_changed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_rooted_elsewhere(&self, tid: i32) -> bool {
        self.roots_changed.load(Ordering::Relaxed) && self.links.is_rooted_elsewhere(tid)
    }

    fn decide(self: &Arc<Self>, call: &Call, still_there: &dyn Fn() -> bool, at: At) -> Decision {
        let place = self.index.find(call.abi, call.nr);
        let row = place.map(|(_, row)| row);
        let is_end = row.is_some_and(|r| r.op == Op::ExitGroup);
        let busy = match self.enter(call.tid, is_end, still_there) {
            Entry::Ready(busy) => busy,
            Entry::Gone => return Decision::Now(Verdict::Go),
            Entry::Wait => return self.later(call, at == At::Desk(true)),
        };
        let caller = Caller::new(self, call, busy.pid, still_there);
        if at != At::Desk(true) {
            self.count(&caller, place, &busy.counted);
        }
        if let Some(fast) = &self.fast {
            if let Some((child, signal)) = row.and_then(|row| fast.killed(&caller, row)) {
                self.heard(caller.pid, child, signal);
                return Decision::Now(Verdict::Fail(libc::EBADF));
            }
            if let Some(decision) = self.serve(fast, &caller, row) {
                return decision;
            }
            if at == At::Door && fast.is_much(&caller, row) {
                return self.later(call, true);
            }
            fast.before(self, &caller, row);
        }
        let Some(row) = row else {
            return now(&caller, caller.taint(Scope::All, unknown(call)));
        };
        let decision = self.act(&caller, row, busy);
        if let Some(fast) = &self.fast {
            fast.heed(caller.observer());
        }
        decision
    }

    /// Leaves a call to a worker. Whether it is counted.
    fn later(self: &Arc<Self>, call: &Call, counted: bool) -> Decision {
        let (shared, call) = (Arc::clone(self), *call);
        Decision::Later(Box::new(move |stop| shared.wait(&call, counted, stop)))
    }

    /// Counts a call that has stopped.
    fn count(&self, caller: &Caller<'_>, place: Option<(usize, &Row)>, of: &Counted) {
        let why = match (place, &self.fast) {
            (None, _) => Why::Acts,
            (Some((_, row)), _) if fast::always_stops(caller, row.op) => Why::Acts,
            (Some(_), None) => Why::NoLibrary,
            (Some(_), Some(fast)) => fast.why(caller.pid, of.promised),
        };
        if let Some(program) = &of.program {
            program.stopped(place.map(|(at, _)| at), why);
        }
    }

    fn act(self: &Arc<Self>, caller: &Caller<'_>, row: &Row, busy: Busy) -> Decision {
        let (pid, tid) = (caller.pid, caller.call.tid);
        match row.op {
            Op::Exec(target, argv) => match self.exec(caller, target, argv, busy) {
                Ok(decision) => decision,
                Err(Stopped::Held) => self.hold(caller),
                Err(stopped) => now(caller, Err(stopped)),
            },
            Op::ExitGroup => self.exit(busy, tid, caller.int(0)),
            Op::Exit if self.processes().leave(pid, tid) => self.exit(busy, tid, caller.int(0)),
            Op::Exit => Decision::Now(Verdict::Go),
            Op::Wait => {
                let mut processes = self.processes();
                processes.waits(pid);
                self.children(&mut processes, pid);
                Decision::Now(Verdict::Go)
            }
            op @ (Op::Nothing
            | Op::Taint(..)
            | Op::Chance(_)
            | Op::Names(_)
            | Op::Fds(_)
            | Op::Peers(_)) => match caller.decode(op) {
                Err(Stopped::Held) => self.hold(caller),
                told => now(caller, told),
            },
        }
    }

    /// Answers a loader or a library.
    fn serve(&self, fast: &Fast, caller: &Caller<'_>, row: Option<&Row>) -> Option<Decision> {
        let now = self.processes().get(caller.pid)?.loading;
        let mut next = now;
        let decision = fast.serve(caller, row?, &mut next);
        if next != now {
            self.processes().get(caller.pid)?.loading = next;
        }
        decision
    }

    /// Finds the process of a call, and settles what its last call left open.
    fn enter(self: &Arc<Self>, tid: i32, is_end: bool, still_there: &dyn Fn() -> bool) -> Entry {
        self.prefixes.settle(tid);
        let mut processes = self.processes();
        // Before the thread is taken for one that is known: its number may be a dead one's.
        self.sweep(&mut processes);
        let pid = match processes.known(tid) {
            Some(pid) => {
                if let Some(process) = processes.get(pid) {
                    process.status = None;
                }
                pid
            }
            None => {
                let Ok((pid, births)) = processes.sight(tid, still_there) else {
                    return Entry::Gone;
                };
                self.tell_births(&births);
                pid
            }
        };
        let Some(process) = processes.get(pid) else {
            return Entry::Gone;
        };
        if process.busy || process.ending.is_some_and(|ending| ending != tid) {
            return Entry::Wait;
        }
        process.busy = true;
        if !is_end {
            // A signal handler ran instead of the exit that was told.
            process.ending = None;
        }
        let result = processes.exec_result(pid, tid);
        let counted = processes.get(pid).map(|process| process.counted.clone());
        for lost in processes.lost() {
            self.prefixes.settle(lost);
            if let Some(fast) = &self.fast {
                fast.release(lost);
            }
        }
        drop(processes);
        let busy = Busy {
            shared: Arc::clone(self),
            pid,
            counted: counted.unwrap_or_default(),
        };
        if let (Some(ExecResult::Done | ExecResult::Unexpected), Some(fast)) = (&result, &self.fast)
        {
            fast.release(pid);
        }
        match result {
            None | Some(ExecResult::Done | ExecResult::NoProgram) => {}
            Some(ExecResult::Failed) => self.observer.exec_failed(pid),
            Some(ExecResult::Unexpected) => {
                let why = "runs a program of an unknown format".to_owned();
                self.observer.event(pid, Event::Taint(Scope::All, why));
            }
        }
        Entry::Ready(busy)
    }

    /// Waits until the process of a call is free for it.
    fn wait(self: &Arc<Self>, call: &Call, counted: bool, stop: &dyn Stop) -> Verdict {
        let mut processes = self.processes();
        while let Some(process) = processes.known(call.tid).and_then(|pid| processes.get(pid)) {
            if !process.busy && process.ending.is_none_or(|ending| ending == call.tid) {
                break;
            }
            if !stop.still_there() {
                return Verdict::Go;
            }
            // Nobody tells when a process is gone, so this looks from time to time.
            processes.waiting += 1;
            let wait = self.idle.wait_timeout(processes, Duration::from_millis(20));
            processes = wait.unwrap_or_else(PoisonError::into_inner).0;
            processes.waiting -= 1;
        }
        drop(processes);
        self.decide_there(call, counted, stop)
    }

    /// Decides on a worker.
    fn decide_there(self: &Arc<Self>, call: &Call, counted: bool, stop: &dyn Stop) -> Verdict {
        match self.decide(call, &|| stop.still_there(), At::Desk(counted)) {
            Decision::Now(verdict) => verdict,
            Decision::Later(work) => work(stop),
            // A worker cannot answer so. The call is as it would be without a fast path.
            Decision::Return(_) | Decision::Give(_) => Verdict::Go,
        }
    }

    /// Lets a call wait until the name that it looks at is ready, and decides then. Other threads of its
    /// process go on.
    fn hold(self: &Arc<Self>, caller: &Caller<'_>) -> Decision {
        let (shared, call) = (Arc::clone(self), *caller.call);
        let (pid, path) = (caller.pid, caller.held());
        Decision::Later(Box::new(move |stop| {
            let still_there = || stop.still_there();
            shared.observer.wait(pid, &path, &still_there);
            if !still_there() {
                return Verdict::Go;
            }
            shared.decide_there(&call, true, stop)
        }))
    }

    fn exit(&self, busy: Busy, tid: i32, status: i32) -> Decision {
        let mut processes = self.processes();
        match processes.get(busy.pid) {
            Some(process) if !process.end_told => process.ending = Some(tid),
            Some(_) | None => {
                drop(processes);
                return Decision::Now(Verdict::Go);
            }
        }
        drop(processes);
        if self.observer.ends_as_a_part(busy.pid) {
            self.end(busy.pid, tid, status & 0xff);
            return Decision::Now(Verdict::Go);
        }
        Decision::Later(Box::new(move |_| {
            busy.shared.end(busy.pid, tid, status & 0xff);
            Verdict::Go
        }))
    }

    /// Tells the end of a process that is still there.
    pub(crate) fn end(&self, pid: Pid, tid: i32, status: i32) {
        let mut processes = self.processes();
        let children = self.children(&mut processes, pid);
        if let Some(process) = processes.get(pid) {
            process.end_told = true;
            process.ending = Some(tid);
        }
        let children: Vec<_> = children
            .into_iter()
            .map(|c| (c, processes.is_alive(c)))
            .collect();
        drop(processes);
        self.observer.exit(pid, status, &children);
    }

    /// The children of a process, after telling of those that are new and those that are gone.
    pub(crate) fn children(&self, processes: &mut Processes, pid: Pid) -> Vec<Pid> {
        let kin = processes.adopt(pid);
        self.tell_births(&kin.births);
        for death in &kin.deaths {
            self.tell_death(death);
        }
        self.sweep(processes);
        kin.all
    }

    /// A process has waited for a child and heard that a signal has ended it.
    fn heard(&self, parent: Pid, child: Pid, signal: i32) {
        let mut processes = self.processes();
        if let Some(death) = processes.heard(child, parent, signal) {
            self.tell_death(&death);
        }
    }

    /// Births and deaths are told under the lock, so that no number is born before its last bearer died,
    /// nor makes a call before it is born.
    fn tell_births(&self, births: &[Birth]) {
        for (pid, parent) in births {
            self.observer.born(*pid, *parent);
        }
    }

    /// Tells the death of a process that nobody has heard of.
    fn stillborn(&self, child: i32, parent: i32, signal: i32) {
        let mut processes = self.processes();
        if processes.known(child).is_some() {
            return;
        }
        let parent = match processes.known(parent) {
            Some(pid) => pid,
            None => match processes.sight(parent, &|| true) {
                Ok((pid, births)) => {
                    self.tell_births(&births);
                    pid
                }
                // Its own end is told.
                Err(_) => return,
            },
        };
        if let Some(death) = processes.heard(child, parent, signal) {
            self.tell_death(&death);
        }
    }

    fn sweep(&self, processes: &mut Processes) {
        for death in processes.sweep() {
            self.tell_death(&death);
        }
    }

    fn tell_death(&self, death: &Death) {
        match *death {
            Death::Untold(pid, signal) => {
                if let Some(fast) = &self.fast {
                    fast.died(self, pid);
                }
                self.observer.died(pid, signal);
            }
            Death::Heard(pid, parent, signal) => {
                self.observer.born(pid, Some(parent));
                self.observer.died(pid, Some(signal));
            }
        }
    }
}

/// The hold on a process while one of its calls is in work. Not to be dropped where the processes are locked.
pub(crate) struct Busy {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pid: Pid,
    counted: Counted,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut processes = self.shared.processes();
        if let Some(death) = processes.idle(self.pid) {
            self.shared.tell_death(&death);
        }
        let waited_for = processes.waiting > 0;
        drop(processes);
        if waited_for {
            self.shared.idle.notify_all();
        }
    }
}

/// The verdict on a call that has been told.
fn now(caller: &Caller<'_>, told: Decoded) -> Decision {
    Decision::Now(verdict(caller, told))
}

pub(crate) fn verdict(caller: &Caller<'_>, told: Decoded) -> Verdict {
    match told {
        Ok(()) | Err(Stopped::Unsaid | Stopped::Gone | Stopped::Held) => Verdict::Go,
        Err(Stopped::Refused(errno)) => Verdict::Fail(errno),
        Err(Stopped::Unreadable) => match caller.taint(Scope::All, hidden(caller)) {
            Err(Stopped::Refused(errno)) => Verdict::Fail(errno),
            Ok(()) | Err(Stopped::Unsaid | Stopped::Gone | Stopped::Unreadable | Stopped::Held) => {
                Verdict::Go
            }
        },
    }
}

fn hidden(caller: &Caller<'_>) -> String {
    let row = caller.shared.index.get(caller.call.abi, caller.call.nr);
    format!(
        "arguments of {} cannot be read",
        row.map_or("a call", |r| r.name)
    )
}

fn unknown(call: &Call) -> String {
    match call.abi {
        Abi::X86_64 | Abi::Aarch64 | Abi::I386 => format!("unknown system call {}", call.nr),
        Abi::X32 => "x32 program".to_owned(),
        Abi::Arm => "32-bit ARM program".to_owned(),
        Abi::Unknown(arch) => format!("program for architecture {arch:#x}"),
    }
}

#[cfg(test)]
mod tests;
