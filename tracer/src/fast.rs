//! The fast path: processes whose preload library notes what they look at, and what becomes of the notes.
//!
//! The library comes into a program by the loader's own question for libraries to load before all others:
//! while it is asked, the supervisor answers. Notes are taken up before anything that may depend on them
//! is let happen, and each is compared with what is there now: what a process saw and we do not find has
//! been changed meanwhile. doc/preload.md says why that is enough. Knows nothing of what notes mean for a
//! build.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::Pid as NixPid;

use crate::call::{Call, Decision, Verdict};
use crate::cwd::Cwd;
use crate::decode::{Caller, Named, Stopped};
use crate::event::{End, Event, Look, Observer, Pid, Scope, Sight, Walk, Why};
use crate::memory;
use crate::proc_files::{self, Status};
use crate::regs::NATIVE;
use crate::slab::{Pool, Slab};
use crate::supervisor::Shared;
use crate::table::{Last, Mode, NameOp, Op, Row, Target};
use crate::tally::Tally;
use rfs_preload::wire::{self, Entry, Kind, Object};

/// The library; empty where it could not be made.
static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload.so"));

/// The loaders whose question for libraries we know how to answer.
const LOADERS: [&[u8]; 2] = [b"ld-linux-x86-64.so.2", b"ld-linux-aarch64.so.1"];
/// With these in the environment the loader does not just load, or tells what it loads.
const NOT_WITH: [&[u8]; 5] = [
    b"LD_TRACE_LOADED_OBJECTS",
    b"LD_DEBUG",
    b"LD_AUDIT",
    b"LD_PROFILE",
    b"LD_VERBOSE",
];
/// The calls that the library makes with the secret. All have an argument to spare.
pub(crate) const PASS: [u32; 8] = [
    libc::SYS_wait4 as u32,
    libc::SYS_waitid as u32,
    libc::SYS_openat as u32,
    libc::SYS_newfstatat as u32,
    libc::SYS_statx as u32,
    libc::SYS_faccessat as u32,
    libc::SYS_faccessat2 as u32,
    libc::SYS_readlinkat as u32,
];
/// Bytes of notes that take some hundred microseconds.
const MUCH: usize = 8 << 10;
/// Bytes that a note may need at most.
const MOST_OF_ONE: usize = 4096 + 256;
/// Where the structure of a greeting has cookie and offset.
const GREETING: u64 = 16;

/// Whether a loader with this environment, its entries ended by zeros, loads and says nothing of it.
fn just_loads(env: &[u8]) -> bool {
    let special = |entry: &[u8]| {
        let name = entry.split(|b| *b == b'=').next().unwrap_or_default();
        NOT_WITH.contains(&name) && name.len() < entry.len()
    };
    !env.split(|b| *b == 0).any(special)
}

/// Whether the preload library was made, and is carried along.
#[must_use]
pub fn has_library() -> bool {
    !LIBRARY.is_empty()
}

/// How far the loader of a new program has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Loading {
    /// It is not to be answered.
    #[default]
    No,
    /// It will ask whether there is a list of libraries.
    Asks,
    /// It was told that there is, and will open it.
    Opens,
    /// It was given one, and will open the library.
    Loads,
}

/// All processes on the fast path.
#[derive(Debug)]
pub(crate) struct Fast {
    cookie: u64,
    /// The name that paths have which are not noted.
    guard: Vec<u8>,
    /// Of so many programs that could have the library one gets it.
    each: usize,
    /// Programs that could have it.
    asked: AtomicUsize,
    pool: Arc<Pool>,
    library: File,
    members: Mutex<BTreeMap<Pid, Arc<Member>>>,
    tally: Arc<Tally>,
    /// From now on everybody goes the slow way.
    closed: AtomicBool,
}

/// One process with a slab.
#[derive(Debug)]
struct Member {
    pid: Pid,
    slab: Slab,
    reader: Mutex<Reader>,
}

#[derive(Debug, Default)]
struct Reader {
    head: u32,
    cwd: Cwd,
    /// It wrote what it should not.
    broken: bool,
    bytes: Vec<u8>,
}

impl Member {
    /// Nobody can say any more what its relative paths start from.
    fn lose_cwd(&self) {
        self.slab.stop();
        self.reader().cwd = Cwd::Unsure;
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fast {
    /// The fast path for processes whose calls pass with this cookie, but where a path has that name in it; each
    /// so many-th program gets it.
    pub(crate) fn new(
        (cookie, guard, each): (u64, Vec<u8>, usize),
        tally: Arc<Tally>,
    ) -> io::Result<Self> {
        let mut library = File::from(memfd_create(c"rfs-preload", MFdFlags::MFD_CLOEXEC)?);
        library.write_all(LIBRARY)?;
        Ok(Self {
            cookie,
            guard,
            each,
            asked: AtomicUsize::new(0),
            pool: Pool::new()?,
            library,
            members: Mutex::default(),
            tally,
            closed: AtomicBool::new(false),
        })
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<Pid, Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self, pid: Pid) -> Option<Arc<Member>> {
        self.members().get(&pid).cloned()
    }

    /// Whether a program that is about to start gets the library. A debugger would tell of it.
    pub(crate) fn wants(&self, loader: &[u8], mode: u32, status: &Status) -> bool {
        let name = loader.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let could = LOADERS.contains(&name) && mode & 0o6000 == 0 && !status.traced;
        could && self.asked.fetch_add(1, Ordering::Relaxed) % self.each == 0
    }

    /// Answers the loader, or a library that asks for a slab. None: the call is like any other.
    pub(crate) fn serve(
        &self,
        caller: &Caller<'_>,
        row: &Row,
        loading: &mut Loading,
    ) -> Option<Decision> {
        if caller.call.abi != NATIVE {
            return None;
        }
        match (*loading, row.op) {
            (_, Op::Names(NameOp::Open(Target::At(..), _))) if caller.int(0) == wire::HELLO => {
                Some(self.attach(caller))
            }
            (Loading::No, _) => None,
            (Loading::Asks, Op::Names(NameOp::Access(target, _))) => {
                let is_list = caller.path_is(target, wire::LIST);
                if !is_list {
                    return None;
                }
                // Here the kernel has put the environment in one place.
                if !proc_files::environment(caller.call.tid).is_ok_and(|env| just_loads(&env)) {
                    *loading = Loading::No;
                    return None;
                }
                *loading = Loading::Opens;
                let told = caller.decode(row.op);
                told.is_ok().then_some(Decision::Return(0))
            }
            (Loading::Opens, Op::Names(NameOp::Open(target, _))) => {
                *loading = Loading::No;
                if !caller.path_is(target, wire::LIST) {
                    return None;
                }
                let list = self.list(caller, row).ok()?;
                *loading = Loading::Loads;
                Some(Decision::Give(list))
            }
            (Loading::Loads, Op::Names(NameOp::Open(target, _))) => {
                if !caller.path_is(target, wire::LIBRARY.as_bytes()) {
                    return None;
                }
                *loading = Loading::No;
                // Each loader reads with an offset of its own.
                let file = File::open(format!("/proc/self/fd/{}", self.library.as_raw_fd()));
                self.tally.loaded.fetch_add(1, Ordering::Relaxed);
                Some(Decision::Give(file.ok()?.into()))
            }
            (Loading::Asks | Loading::Opens | Loading::Loads, _) => None,
        }
    }

    /// The machine's own list of libraries, if it has one, and ours.
    fn list(&self, caller: &Caller<'_>, row: &Row) -> io::Result<OwnedFd> {
        let path = Path::new("/etc/ld.so.preload");
        let mut text = Vec::new();
        if caller.observer().look(path) != Look::Absent {
            // It would have been opened.
            let _told = caller.decode(row.op);
            caller.observer().open(path)?.read_to_end(&mut text)?;
            text.push(b'\n');
        }
        text.extend_from_slice(wire::LIBRARY.as_bytes());
        let mut list = File::from(memfd_create(c"ld.so.preload", MFdFlags::MFD_CLOEXEC)?);
        list.write_all(&text)?;
        Ok(list.into())
    }

    /// The child of which a library tells that a signal ended it, and the signal.
    pub(crate) fn killed(&self, caller: &Caller<'_>, row: &Row) -> Option<(Pid, i32)> {
        let is_open = matches!(row.op, Op::Names(NameOp::Open(Target::At(..), _)));
        let tells = is_open && caller.call.abi == NATIVE && caller.int(0) == wire::KILLED;
        tells.then(|| (caller.int(2), caller.int(3)))
    }

    /// A process asks for a slab.
    fn attach(&self, caller: &Caller<'_>) -> Decision {
        let denied = |errno| Decision::Now(Verdict::Fail(errno));
        let (pid, tid) = (caller.pid, caller.call.tid);
        if self.closed.load(Ordering::Acquire) {
            return denied(libc::EBADF);
        }
        let fit = caller.arg(2) == u64::from(wire::VERSION)
            && parent_in_memory(tid).is_ok_and(|p| p.is_none());
        if !fit || caller.processes().is_changing_cwd(pid) {
            return denied(libc::EAGAIN);
        }
        let Some(slab) = self.pool.take() else {
            return denied(libc::EBADF);
        };
        slab.guard(&self.guard);
        let greeting = [self.cookie, slab.offset()].map(u64::to_le_bytes);
        let greeting = greeting.as_flattened();
        let to = caller
            .arg(1)
            .checked_add(GREETING)
            .and_then(|to| usize::try_from(to).ok());
        let base = to.unwrap_or_default();
        let len = greeting.len();
        let written = process_vm_writev(
            NixPid::from_raw(tid),
            &[IoSlice::new(greeting)],
            &[RemoteIoVec { base, len }],
        );
        let Ok(fd) = self.pool.as_fd().try_clone_to_owned() else {
            return denied(libc::EBADF);
        };
        if written != Ok(len) || caller.check().is_err() {
            return denied(libc::EBADF);
        }
        let member = Arc::new(Member {
            pid,
            slab,
            reader: Mutex::default(),
        });
        self.members().insert(pid, member);
        self.tally.attached.fetch_add(1, Ordering::Relaxed);
        Decision::Give(fd)
    }

    /// A process is about to change its working directory.
    pub(crate) fn changes_cwd(&self, pid: Pid, tid: i32) {
        if let Some(member) = self.member(pid) {
            if proc_files::tasks(pid).len() > 1 {
                member.lose_cwd();
            } else {
                member.reader().cwd.changes();
                member.slab.next_cwd();
            }
        }
        // A child of vfork(2) notes in the memory of the process that it will leave.
        let mut child = tid;
        while let Ok(Some(parent)) = parent_in_memory(child) {
            if let Some(member) = self.member(parent) {
                member.lose_cwd();
            }
            child = parent;
        }
    }

    /// A working directory is no longer one of one process: of this one, or, `with_others`, of any.
    pub(crate) fn works_apart(&self, pid: Pid, with_others: bool) {
        if with_others {
            return self.close();
        }
        if let Some(member) = self.member(pid) {
            member.lose_cwd();
        }
    }

    /// Everybody goes the slow way from now on, where a look is one at the files as they are.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for member in self.members().values() {
            member.lose_cwd();
        }
    }

    /// Once somebody heard from outside of the build, files may change that nobody here has changed.
    pub(crate) fn heed(&self, observer: &dyn Observer) {
        if observer.hears_outside() && !self.closed.swap(true, Ordering::AcqRel) {
            for member in self.members().values() {
                member.slab.stop();
            }
        }
    }

    /// Whether so much is to be taken up before a call that others should not wait for it.
    pub(crate) fn is_much(&self, caller: &Caller<'_>, row: Option<&Row>) -> bool {
        let members = self.members();
        let waiting = |member: &Arc<Member>| member.slab.waiting() as usize;
        let much = if row.is_none_or(|row| changes(caller, row.op)) {
            members.values().map(waiting).sum()
        } else {
            members.get(&caller.pid).map_or(0, waiting)
        };
        much > MUCH
    }

    /// Takes up what must be known before a call is looked at, and what it may change.
    pub(crate) fn before(&self, shared: &Shared, caller: &Caller<'_>, row: Option<&Row>) {
        if let Some(member) = self.member(caller.pid) {
            self.drain(shared, &member);
        }
        if row.is_none_or(|row| changes(caller, row.op)) {
            self.drain_all(shared);
        }
    }

    /// Takes up everything that was noted.
    pub(crate) fn drain_all(&self, shared: &Shared) {
        let members: Vec<_> = self.members().values().cloned().collect();
        for member in members {
            self.drain(shared, &member);
        }
    }

    /// A program has taken the place of the one that had the slab.
    pub(crate) fn release(&self, pid: Pid) {
        self.members().remove(&pid);
    }

    /// A process is gone. What it noted last is told.
    pub(crate) fn died(&self, shared: &Shared, pid: Pid) {
        let member = self.members().remove(&pid);
        if let Some(member) = member {
            self.drain(shared, &member);
            // A child of vfork may outlive it and still write there.
            std::mem::forget(member);
        }
    }

    /// Tells what a process has noted.
    fn drain(&self, shared: &Shared, member: &Member) {
        let mut reader = member.reader();
        let tail = member.slab.tail();
        if tail == reader.head || reader.broken {
            return;
        }
        let call = Call {
            tid: member.pid,
            abi: NATIVE,
            nr: 0,
            args: [0; 6],
        };
        let caller = Caller::new(shared, &call, member.pid, &|| true);
        let mut bytes = std::mem::take(&mut reader.bytes);
        let sound = member.slab.copy(reader.head, tail, &mut bytes)
            && self.tell(&caller, &mut reader.cwd, &bytes);
        if !sound {
            reader.broken = true;
            member.slab.stop();
            let _told = caller.taint(
                Scope::All,
                "damaged the memory that it shares with the tracer",
            );
        }
        reader.bytes = bytes;
        reader.head = tail;
        member.slab.set_head(tail);
    }

    /// Tells entries in order. False: they are no entries.
    fn tell(&self, caller: &Caller<'_>, cwd: &mut Cwd, mut bytes: &[u8]) -> bool {
        let mut noted = 0;
        let sound = loop {
            if bytes.is_empty() {
                break true;
            }
            let Some((entry, len)) = Entry::read(bytes) else {
                break false;
            };
            bytes = &bytes[len..];
            if let Some(entry) = entry {
                noted += 1;
                // What cannot be told is a reason to keep nothing.
                if let Err(why) = tell_one(caller, cwd, &entry) {
                    let _told = caller.taint(Scope::All, why);
                }
            }
        };
        self.tally.noted.fetch_add(noted, Ordering::Relaxed);
        sound
    }

    /// Why a call stops that the library could have noted, of a process that gets one if `promised`.
    pub(crate) fn why(&self, pid: Pid, promised: bool) -> Why {
        match self.members().get(&pid) {
            None if promised => Why::Loader,
            None => Why::NoLibrary,
            Some(member) if member.slab.is_stopped() => Why::Shut,
            Some(member) if member.slab.waiting() as usize > wire::RING - MOST_OF_ONE => Why::Full,
            Some(_) => Why::Inside,
        }
    }
}

/// Whether the library never makes a call of this kind with the secret.
pub(crate) fn always_stops(caller: &Caller<'_>, op: Op) -> bool {
    changes(caller, op) || matches!(op, Op::Fds(_) | Op::Chance(_) | Op::Nothing)
}

/// Whether a call may change what others look at, or ends something.
fn changes(caller: &Caller<'_>, op: Op) -> bool {
    const CHANGING: i32 =
        libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY);
    match op {
        Op::Names(NameOp::Open(_, Mode::Args(flags, _))) => caller.int(flags) & CHANGING != 0,
        Op::Names(
            NameOp::Stat(_)
            | NameOp::Access(..)
            | NameOp::Readlink(_)
            | NameOp::List
            | NameOp::Chdir(_),
        )
        | Op::Nothing
        | Op::Wait
        | Op::Chance(_)
        | Op::Fds(_) => false,
        Op::Names(_) | Op::Taint(..) | Op::Exec(..) | Op::Exit | Op::ExitGroup | Op::Peers(_) => {
            true
        }
    }
}

/// Tells one entry, or why nothing that depends on it can be kept.
fn tell_one(caller: &Caller<'_>, cwd: &mut Cwd, entry: &Entry<'_>) -> Result<(), String> {
    let shown = || String::from_utf8_lossy(entry.path).into_owned();
    let base = if entry.path.first() == Some(&b'/') {
        Arc::from(Path::new("/"))
    } else {
        cwd.get(caller.shared, caller.pid)
            .map_err(|why| format!("looks at {} and {why}", shown()))?
    };
    let stays = match entry.kind {
        Kind::Lstat | Kind::Readlink => true,
        Kind::Open => entry.arg as i32 & libc::O_NOFOLLOW != 0,
        Kind::Stat | Kind::Access => false,
    };
    let last = if stays { Last::Stay } else { Last::Follow };
    let named = caller.walk_from(&base, entry.path, last);
    let Named { walk, own_fd } = named.map_err(|_unsaid| format!("looks at {}", shown()))?;
    if own_fd.is_some() {
        return Err(format!("looks at {}, which is its own", shown()));
    }
    let differs = walk.end != End::Own && !agrees(caller, entry, &walk);
    let path = differs.then(|| walk.path.clone());
    let event = match entry.kind {
        Kind::Open => Event::Open {
            walk,
            flags: entry.arg as i32,
            mode: 0,
        },
        Kind::Stat | Kind::Lstat => Event::Stat(walk),
        Kind::Access => Event::Access(walk, entry.arg as i32),
        Kind::Readlink => Event::Readlink(walk),
    };
    let told = match caller.tell(event) {
        Ok(()) | Err(Stopped::Refused(_)) => {
            path.map_or(Ok(()), |p| caller.tell(Event::Differs(p)))
        }
        Err(stopped) => Err(stopped),
    };
    told.map_err(|_unsaid| format!("looks at {}", shown()))
}

/// The parent of a thread's process, if they live in the same memory, as a child of vfork(2) does with its own.
fn parent_in_memory(tid: i32) -> io::Result<Option<Pid>> {
    let parent = Status::read(tid)?.ppid;
    match memory::is_shared(tid, parent) {
        // It is gone, or out of sight.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        shared => Ok(shared.unwrap_or(true).then_some(parent)),
    }
}

/// Whether what the process was told is what is there now.
fn agrees(caller: &Caller<'_>, entry: &Entry<'_>, walk: &Walk) -> bool {
    let found = match &walk.end {
        End::Found(look) => look,
        End::Absent | End::MissingDir => return i32::from(entry.errno) == libc::ENOENT,
        End::NotDir => return i32::from(entry.errno) == libc::ENOTDIR,
        End::Failed(_) | End::Own => return false,
    };
    let errno = i32::from(entry.errno);
    match (entry.kind, found) {
        (Kind::Readlink, Look::Link(text)) => {
            let text = text.as_os_str().as_bytes();
            errno == 0 && wire::text_hash(text) == entry.arg
        }
        (Kind::Readlink, Look::File | Look::Dir) => errno == libc::EINVAL,
        (_, Look::Absent | Look::Unknown(_)) => false,
        (Kind::Open, Look::File | Look::Link(_)) if errno == libc::ENOTDIR => {
            entry.arg as i32 & libc::O_DIRECTORY != 0
        }
        (_, Look::File | Look::Dir | Look::Link(_)) => {
            let sight = |object: Object| Sight {
                mode: object.mode,
                size: object.size,
                mtime: object.mtime,
                ctime: object.ctime,
            };
            let is_still = |sight| caller.observer().is_still(&walk.path, &sight);
            errno == 0 && entry.object.map(sight).is_some_and(is_still)
        }
    }
}
