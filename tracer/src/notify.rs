//! The default backend: trapped calls come as seccomp notifications, and nobody is ptraced.
//!
//! One thread receives and asks the decider; what comes while it is busy others do (`standby`), as many as
//! there are CPUs. Work that may take time each does itself, and another takes its seat. Only a process that
//! is to end in place of its call is attached to, for that moment: debuggers keep working inside the build.
//! Knows nothing of what calls mean.

use crate::call::{Call, Decide, Decision, Stop, Verdict};
use crate::crew::{Crew, Turn};
use crate::filter::abi_of;
use crate::ptrace::{self, Change, Stopped, Whom};
use crate::regs::{self, Next};
use crate::seccomp::{Listener, Notice, Reply};
use crate::standby::{Standby, hasten};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

/// More CPUs than this are not kept busy by answers.
const MOST_SEATS: usize = 8;

/// The threads that answer one listener, by seat.
#[derive(Debug)]
pub(crate) struct Backend(Vec<Crew>);

struct Shared {
    listener: Arc<Listener>,
    standby: Standby,
    cookie: u64,
    decide: Arc<dyn Decide>,
    /// Whoever receives is told when no process is left (Linux 6.11).
    tells_end: bool,
    /// Decided calls that are made once more because their thread had been attached to.
    again: Mutex<Vec<Call>>,
}

impl Backend {
    /// Starts to answer. Ends by itself when no process has the filter any more.
    pub(crate) fn start(
        listener: Listener,
        cookie: u64,
        decide: Arc<dyn Decide>,
    ) -> io::Result<Self> {
        let again = Mutex::default();
        let listener = Arc::new(listener);
        let standby = Standby::new(Arc::clone(&listener))?;
        let shared = Arc::new(Shared {
            listener,
            standby,
            cookie,
            decide,
            tells_end: tells_end(),
            again,
        });
        let cpus = available_parallelism().map_or(1, usize::from);
        let assistants = (1..cpus.clamp(2, MOST_SEATS)).map(|_| {
            let shared = Arc::clone(&shared);
            Crew::start("rfs-assist", hasten, move || shared.assist())
        });
        let mut crews = assistants.collect::<io::Result<Vec<_>>>()?;
        crews.push(Crew::start("rfs-notify", hasten, move || shared.lead())?);
        Ok(Self(crews))
    }

    /// Waits until every decision has been taken. To be called when the traced processes are gone.
    pub(crate) fn finish(self) {
        self.0.iter().for_each(Crew::finish);
    }
}

impl Shared {
    /// Takes the next call and decides about it, if that can be done at once.
    fn lead(self: &Arc<Self>) -> Turn {
        if let Some(notice) = self.standby.next() {
            return self.take(notice, Seat::Leader);
        }
        if !self.tells_end && !self.wait(PollTimeout::NONE) {
            return Turn::Over;
        }
        match self.listener.receive() {
            Ok(Some(notice)) => {
                self.standby.busy();
                self.take(notice, Seat::Leader)
            }
            Ok(None) if self.wait(PollTimeout::ZERO) => Turn::Again,
            Ok(None) | Err(_) => Turn::Over,
        }
    }

    /// The same with a call that came while the leader was busy.
    fn assist(self: &Arc<Self>) -> Turn {
        match self.standby.wait() {
            Some(notice) => self.take(notice, Seat::Assistant),
            None => Turn::Over,
        }
    }

    /// Waits for a notification. False when no process is left that could send one.
    fn wait(&self, timeout: PollTimeout) -> bool {
        loop {
            let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return true,
                Ok(_) => {
                    let seen = fds[0].revents().unwrap_or(PollFlags::POLLERR);
                    return seen.contains(PollFlags::POLLIN);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn take(self: &Arc<Self>, notice: Notice, seat: Seat) -> Turn {
        let (abi, nr) = abi_of(notice.arch, notice.nr);
        let call = Call {
            tid: notice.tid,
            abi,
            nr,
            args: notice.args,
        };
        let held = Held {
            shared: self.clone(),
            call,
            id: notice.id,
            seized: Cell::new(None),
        };
        if self.goes_again(&call) {
            held.finish(Verdict::Go);
            return Turn::Again;
        }
        let still_there = || self.listener.is_valid(notice.id);
        let decision = catch_unwind(AssertUnwindSafe(|| self.decide.call(&call, &still_there)));
        match decision.unwrap_or(Decision::Now(Verdict::Fail(libc::EIO))) {
            Decision::Now(verdict @ (Verdict::Go | Verdict::Fail(_))) => {
                self.decided(seat);
                held.finish(verdict);
                Turn::Again
            }
            Decision::Now(verdict @ (Verdict::Exit(_) | Verdict::Signal(_))) => {
                Turn::Aside(Box::new(move || held.finish(verdict)))
            }
            Decision::Return(value) => {
                self.decided(seat);
                held.reply(Reply::Return(value));
                Turn::Again
            }
            Decision::Give(fd) => {
                // What cannot be given (too many open files) is as if it were not there.
                if self.listener.give(notice.id, fd.as_fd()).is_err() {
                    held.reply(Reply::Fail(libc::ENOENT));
                }
                Turn::Again
            }
            Decision::Later(work) => Turn::Aside(Box::new(move || {
                let verdict = catch_unwind(AssertUnwindSafe(|| work(&held)));
                held.finish(verdict.unwrap_or(Verdict::Fail(libc::EIO)));
            })),
        }
    }

    /// To be called before a decision is told.
    fn decided(&self, seat: Seat) {
        if seat == Seat::Leader {
            self.standby.rest();
        }
    }

    fn again(&self) -> MutexGuard<'_, Vec<Call>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_again(&self, call: &Call) -> bool {
        let mut again = self.again();
        let found = again.iter().position(|c| c == call);
        found.map(|at| again.swap_remove(at)).is_some()
    }
}

/// Whether this kernel tells whoever waits for a notification that none will come (Linux 6.11).
fn tells_end() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 11),
        _ => false,
    }
}

/// Where a thread that decides has received the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// It waits at the listener, so that it is woken directly on the caller's CPU.
    Leader,
    /// It is woken when the leader is busy.
    Assistant,
}

/// A thread that waits for the answer to one notification.
struct Held {
    shared: Arc<Shared>,
    call: Call,
    id: u64,
    /// Whether this worker has attached to the thread, once it has tried.
    seized: Cell<Option<bool>>,
}

impl Stop for Held {
    fn still_there(&self) -> bool {
        self.shared.listener.is_valid(self.id)
    }

    fn ready_to_exit(&self) -> bool {
        if self.seized.get().is_none() {
            self.seized.set(Some(self.seize()));
        }
        self.seized.get() == Some(true) && self.still_there()
    }
}

impl Held {
    fn seize(&self) -> bool {
        // A thread id means the thread of this call only as long as the call waits.
        regs::can_redirect(self.call.abi)
            && self.still_there()
            && ptrace::seize(self.call.tid, 0).is_ok()
    }

    fn finish(self, verdict: Verdict) {
        let must_end = matches!(verdict, Verdict::Exit(_) | Verdict::Signal(_));
        if must_end && !self.ready_to_exit() {
            if self.still_there() {
                kill(self.call.tid, libc::SIGKILL);
            }
            self.reply(Reply::Fail(libc::EINTR));
        }
        if self.seized.get() == Some(true) {
            self.redirect(verdict);
            return;
        }
        self.reply(match verdict {
            Verdict::Go => Reply::Continue,
            Verdict::Fail(errno) => Reply::Fail(errno),
            Verdict::Exit(_) | Verdict::Signal(_) => return,
        });
    }

    /// An error means that the caller was killed meanwhile: there is nobody left to answer.
    fn reply(&self, reply: Reply) {
        self.shared.listener.reply(self.id, reply).ok();
    }

    /// Carries out a verdict on a thread that is attached to: stops it where its call has returned an
    /// error without being carried out, changes what it does next, and lets it go.
    fn redirect(&self, verdict: Verdict) {
        let tid = self.call.tid;
        let interrupted = ptrace::interrupt(tid);
        // Before Linux 5.19 a signal may have ended the wait; then the call is asked about once more.
        let waits = self.still_there();
        self.reply(Reply::Fail(libc::EINTR));
        if interrupted.is_err() {
            return;
        }
        let signal = match wait_for_stop(tid) {
            Some(Change::Stopped(signal, 0)) => signal,
            Some(Change::Stopped(..)) => 0,
            Some(Change::Exited(_) | Change::Killed(_) | Change::Continued) | None => return,
        };
        let cookie = self.shared.cookie;
        let next = match verdict {
            Verdict::Go => {
                if waits {
                    self.shared.again().push(self.call);
                }
                Next::Call
            }
            Verdict::Fail(errno) => Next::Return(errno),
            Verdict::Exit(code) => Next::Exit { code, cookie },
            Verdict::Signal(signal) => Next::Exit {
                code: 128 + signal,
                cookie,
            },
        };
        let stopped = Stopped::new(tid);
        let changed = regs::after_call(&stopped, &self.call, next);
        if let Verdict::Signal(signal) = verdict {
            // Delivered before the thread's next instruction. Where the process ignores, blocks or
            // survives it, that instruction ends it with the status by which shells report it.
            kill(tid, signal);
        }
        if changed.is_err() {
            kill(tid, libc::SIGKILL);
        }
        stopped.detach(signal).ok();
    }
}

fn wait_for_stop(tid: i32) -> Option<Change> {
    loop {
        match ptrace::wait(Whom::Tid(tid), true) {
            Ok(changed) => return changed.map(|(_, change)| change),
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Sends a signal to the thread (its process, for the signals that end one). It may be gone: no error.
fn kill(tid: i32, signal: i32) {
    ptrace::tkill(tid, signal).ok();
}
