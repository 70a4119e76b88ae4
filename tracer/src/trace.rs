//! The fallback backend: every process of the build is ptraced, and trapped calls come as ptrace events.
//!
//! All tracees belong to one thread, for ptrace allows no other. It must never wait for anything but
//! them: what may take time runs on the pool while its tracee stays stopped, and the verdict is handed
//! back. Signals, job control and exit statuses pass through. Knows nothing of what calls mean.

use crate::call::{Call, Decide, Decision, Stop, Verdict};
use crate::filter::abi_of;
use crate::pool::Pool;
use crate::ptrace::{self, Change, Stopped, Whom};
use crate::regs::{self, Next};
use std::collections::{HashMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError::Timeout;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a verdict may lie before the bell is rung again.
const RING_AGAIN: Duration = Duration::from_millis(1);

const OPTIONS: i32 = libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

/// The threads that trace one command.
#[derive(Debug)]
pub(crate) struct Backend {
    owner: JoinHandle<()>,
    pool: Pool,
}

impl Backend {
    /// Attaches to process `pid`, which then is told to `go` on, and starts to answer for it and all that
    /// it starts. Ends by itself with the last of them.
    ///
    /// Returns when the process has made its first trapped call, which must be before its first execve
    /// is over. If that has not been seen, an outer supervisor hides calls from us, for of the answers of
    /// several filters that of a listener comes first: then the process is killed, and this fails with
    /// `EBUSY`, as where we had asked for a listener of our own.
    pub(crate) fn start(
        pid: i32,
        cookie: u64,
        decide: Arc<dyn Decide>,
        go: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Self> {
        let bell = ptrace::Bell::install()?;
        let pool = Pool::default();
        let (tell, told) = mpsc::channel();
        let workers = pool.clone();
        let owner = thread::Builder::new()
            .name("rfs-ptrace".into())
            .spawn(move || {
                let line = Line {
                    bell: bell.here(),
                    verdicts: mpsc::channel(),
                };
                let seized = ptrace::seize(pid, OPTIONS);
                let ours = seized.is_ok();
                if tell.send(seized).is_ok() && ours {
                    let (held, newborn) = Default::default();
                    Owner {
                        cookie,
                        decide,
                        pool: workers,
                        line,
                        held,
                        newborn,
                        first: Some(tell),
                    }
                    .run();
                }
            })?;
        let gone = |_| io::Error::from_raw_os_error(libc::ESRCH);
        told.recv().map_err(gone)??;
        go()?;
        told.recv().map_err(gone)??;
        Ok(Self { owner, pool })
    }

    /// Waits until every decision has been taken. To be called when the traced processes are gone.
    pub(crate) fn finish(self) {
        self.owner.join().ok();
        self.pool.finish();
    }
}

/// How workers reach the owner.
struct Line {
    bell: ptrace::Bell,
    verdicts: (Sender<Given>, Receiver<Given>),
}

/// A verdict from a worker.
struct Given {
    tid: i32,
    /// Tells this very stop from another of a thread with the same id.
    gone: Arc<AtomicBool>,
    verdict: Verdict,
    /// Dropped when the owner has taken the verdict.
    taken: Sender<()>,
}

/// A tracee that stays stopped at the entry of a call while a worker decides.
struct Held {
    stopped: Stopped,
    call: Call,
    gone: Arc<AtomicBool>,
}

struct Owner {
    cookie: u64,
    decide: Arc<dyn Decide>,
    pool: Pool,
    line: Line,
    held: HashMap<i32, Held>,
    newborn: Newborn,
    /// Is told once how the first execve went.
    first: Option<Sender<io::Result<()>>>,
}

impl Owner {
    fn run(mut self) {
        loop {
            while let Ok(given) = self.line.verdicts.1.try_recv() {
                self.take(given);
            }
            match ptrace::wait(Whom::Mine, true) {
                Ok(Some((tid, change))) => self.changed(tid, change),
                Ok(None) => {}
                // The bell.
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
                // ECHILD: the last tracee has ended.
                Err(_) => break,
            }
        }
    }

    fn changed(&mut self, tid: i32, change: Change) {
        let (signal, event) = match change {
            Change::Stopped(signal, event) => (signal, event),
            Change::Killed(signal) => {
                self.newborn.killed(tid, signal, &*self.decide);
                return self.forget(tid);
            }
            Change::Exited(_) => return self.forget(tid),
            Change::Continued => return,
        };
        let stopped = Stopped::new(tid);
        // A request fails only where the tracee has been killed meanwhile; its end is reported next.
        match event {
            libc::PTRACE_EVENT_SECCOMP => self.called(stopped),
            libc::PTRACE_EVENT_STOP if is_stop(signal) => {
                stopped.listen().ok();
            }
            libc::PTRACE_EVENT_EXEC => {
                // Of a threaded process only one thread is left, and it has taken the id of the first.
                self.forget(tid);
                if let Ok(former) = stopped.message() {
                    self.forget(former);
                }
                if let Some(first) = self.first.take() {
                    ptrace::tkill(tid, libc::SIGKILL).ok();
                    first
                        .send(Err(io::Error::from_raw_os_error(libc::EBUSY)))
                        .ok();
                }
                stopped.resume(0).ok();
            }
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                if let Ok(child) = stopped.message() {
                    self.newborn.born(child, tid, &*self.decide);
                }
                stopped.resume(0).ok();
            }
            0 => {
                stopped.resume(signal).ok();
            }
            _ => {
                stopped.resume(0).ok();
            }
        }
    }

    fn forget(&mut self, tid: i32) {
        self.newborn.grown.remove(&tid);
        if let Some(held) = self.held.remove(&tid) {
            held.gone.store(true, Ordering::Release);
        }
    }

    fn called(&mut self, stopped: Stopped) {
        let Ok(Some(entry)) = stopped.entry() else {
            stopped.resume(0).ok();
            return;
        };
        if let Some(first) = self.first.take() {
            first.send(Ok(())).ok();
        }
        self.newborn.calls(stopped.tid());
        let (abi, nr) = abi_of(entry.arch, entry.nr);
        let call = Call {
            tid: stopped.tid(),
            abi,
            nr,
            args: entry.args,
        };
        let decision = catch_unwind(AssertUnwindSafe(|| self.decide.call(&call, &|| true)));
        match decision.unwrap_or(Decision::Now(Verdict::Fail(libc::EIO))) {
            Decision::Now(verdict) => self.carry_out(stopped, &call, verdict),
            Decision::Return(_) | Decision::Give(_) => {
                self.carry_out(stopped, &call, Verdict::Go);
            }
            Decision::Later(work) => {
                let gone = Arc::new(AtomicBool::new(false));
                self.held.insert(
                    call.tid,
                    Held {
                        stopped,
                        call,
                        gone: gone.clone(),
                    },
                );
                let (bell, verdicts) = (self.line.bell, self.line.verdicts.0.clone());
                self.pool.run(move || {
                    let stop = Waiting {
                        call,
                        gone: gone.clone(),
                    };
                    let verdict = catch_unwind(AssertUnwindSafe(|| work(&stop)))
                        .unwrap_or(Verdict::Fail(libc::EIO));
                    let (taken, wait) = mpsc::channel();
                    let given = Given {
                        tid: call.tid,
                        gone,
                        verdict,
                        taken,
                    };
                    if verdicts.send(given).is_ok() {
                        bell.ring_until(|| wait.recv_timeout(RING_AGAIN) != Err(Timeout));
                    }
                });
            }
        }
    }

    fn take(&mut self, given: Given) {
        drop(given.taken);
        let same = |held: &Held| Arc::ptr_eq(&held.gone, &given.gone);
        if self.held.get(&given.tid).is_some_and(same) {
            if let Some(held) = self.held.remove(&given.tid) {
                self.carry_out(held.stopped, &held.call, given.verdict);
            }
        }
    }

    fn carry_out(&self, stopped: Stopped, call: &Call, verdict: Verdict) {
        let (tid, cookie) = (stopped.tid(), self.cookie);
        let changed = match verdict {
            Verdict::Go => Ok(()),
            Verdict::Fail(errno) => regs::at_entry(&stopped, call, Next::Return(errno)),
            Verdict::Exit(code) => regs::at_entry(&stopped, call, Next::Exit { code, cookie }),
            Verdict::Signal(signal) => {
                // Delivered before the thread's next instruction. Where the process ignores, blocks or
                // survives it, that instruction ends it with the status by which shells report it.
                let next = Next::Exit {
                    code: 128 + signal,
                    cookie,
                };
                let changed = regs::leave_entry(&stopped, call, next);
                changed.and_then(|()| ptrace::tkill(tid, signal))
            }
        };
        if changed.is_err() {
            ptrace::tkill(tid, libc::SIGKILL).ok();
        }
        stopped.resume(0).ok();
    }
}

/// The processes that have not made a call yet, whose death would be noticed by nobody but their parents.
#[derive(Default)]
struct Newborn {
    /// Their parents' threads.
    parents: HashMap<i32, i32>,
    /// Threads that have made a call.
    grown: HashSet<i32>,
    /// The signals of those that were dead before their birth was heard of.
    dead: HashMap<i32, i32>,
}

impl Newborn {
    fn born(&mut self, child: i32, parent: i32, decide: &dyn Decide) {
        match self.dead.remove(&child) {
            Some(signal) => decide.stillborn(child, parent, signal),
            None if self.grown.contains(&child) => {}
            None => {
                self.parents.insert(child, parent);
            }
        }
    }

    fn calls(&mut self, tid: i32) {
        if self.grown.insert(tid) {
            self.parents.remove(&tid);
        }
    }

    fn killed(&mut self, tid: i32, signal: i32, decide: &dyn Decide) {
        if self.grown.contains(&tid) {
            return;
        }
        match self.parents.remove(&tid) {
            Some(parent) => decide.stillborn(tid, parent, signal),
            None => {
                self.dead.insert(tid, signal);
            }
        }
    }
}

fn is_stop(signal: i32) -> bool {
    [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal)
}

/// What a worker sees of a held tracee.
struct Waiting {
    call: Call,
    gone: Arc<AtomicBool>,
}

impl Stop for Waiting {
    fn still_there(&self) -> bool {
        !self.gone.load(Ordering::Acquire)
    }

    fn ready_to_exit(&self) -> bool {
        regs::can_redirect(self.call.abi) && self.still_there()
    }
}
