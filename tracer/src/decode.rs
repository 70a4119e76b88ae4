//! One trapped call, from its arguments to the events that tell it.
//!
//! Here is what all kinds of calls share: reading the caller's memory, finding the directory that a path
//! starts from, walking, telling. What calls mean is in `decode_names`, `decode_fds` and `decode_peers`.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::call::Call;
use crate::descriptors;
use crate::event::{Answer, End, Event, FdTarget, Look, Observer, Pid, Scope, Walk};
use crate::links;
use crate::memory;
use crate::prefix::{Change, Prefixes};
use crate::process::Processes;
use crate::supervisor::Shared;
use crate::table::{Last, Op, Target};
use crate::views::Views;
use crate::walk::{Asker, Outcome, as_path, walk};

const PATH_MAX: usize = 4096;
const AT_EMPTY_PATH: u64 = libc::AT_EMPTY_PATH as u64;
const AT_SYMLINK_NOFOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;
const AT_SYMLINK_FOLLOW: u64 = libc::AT_SYMLINK_FOLLOW as u64;

/// Why a call is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It fails of itself (a bad pointer or descriptor), or it concerns nothing that has a name.
    Unsaid,
    /// The caller waits no longer, so nothing that was read is to be trusted.
    Gone,
    /// Its arguments cannot be read.
    Unreadable,
    /// The observer lets it fail.
    Refused(i32),
    /// It must wait until a name may be looked at.
    Held,
}

pub(crate) type Decoded<T = ()> = Result<T, Stopped>;

/// A file as a call names it.
pub(crate) struct Named {
    pub(crate) walk: Walk,
    pub(crate) own_fd: Option<i32>,
}

/// The process that makes a call.
pub(crate) struct Caller<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) call: &'a Call,
    pub(crate) pid: Pid,
    pub(crate) still_there: &'a dyn Fn() -> bool,
    /// It was still there after all that is used was read.
    checked: Cell<bool>,
    /// The name that it must wait for.
    held: RefCell<Option<PathBuf>>,
    /// What it sees in the place of other directories, once that was asked for.
    views: OnceCell<Option<Arc<Views>>>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        call: &'a Call,
        pid: Pid,
        still_there: &'a dyn Fn() -> bool,
    ) -> Self {
        Self {
            shared,
            call,
            pid,
            still_there,
            checked: Cell::new(false),
            held: RefCell::default(),
            views: OnceCell::new(),
        }
    }

    /// Tells what a call means.
    pub(crate) fn decode(&self, op: Op) -> Decoded {
        match op {
            Op::Nothing | Op::Exec(..) | Op::Exit | Op::ExitGroup | Op::Wait => Ok(()),
            Op::Taint(scope, why) => self.taint(scope, why),
            Op::Chance(how) => self.tell(Event::Chance(how)),
            Op::Names(op) => self.decode_names(op),
            Op::Fds(op) => self.decode_fds(op),
            Op::Peers(op) => self.decode_peers(op),
        }
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.shared.observer
    }

    pub(crate) fn prefixes(&self) -> &Prefixes {
        &self.shared.prefixes
    }

    pub(crate) fn processes(&self) -> std::sync::MutexGuard<'_, Processes> {
        self.shared.processes()
    }

    pub(crate) fn arg(&self, n: u8) -> u64 {
        self.call.args[usize::from(n)]
    }

    pub(crate) fn int(&self, n: u8) -> i32 {
        self.arg(n) as i32
    }

    /// Tells an event, unless the caller has gone meanwhile.
    pub(crate) fn tell(&self, event: Event<'_>) -> Decoded {
        self.check()?;
        match self.observer().event(self.pid, event) {
            Answer::Go => Ok(()),
            Answer::Fail(errno) => Err(Stopped::Refused(errno)),
        }
    }

    pub(crate) fn taint(&self, scope: Scope, why: impl Into<String>) -> Decoded {
        self.tell(Event::Taint(scope, why.into()))
    }

    /// Makes sure that what was read belongs to this call.
    pub(crate) fn check(&self) -> Decoded {
        if !self.checked.get() {
            if !(self.still_there)() {
                return Err(Stopped::Gone);
            }
            self.checked.set(true);
        }
        Ok(())
    }

    /// The same, whatever was found before.
    pub(crate) fn recheck(&self) -> Decoded {
        self.checked.set(false);
        self.check()
    }

    /// Bytes of the caller's memory, as many as `buf` has room for.
    pub(crate) fn read(&self, address: u64, buf: &mut [u8]) -> Decoded {
        self.checked.set(false);
        match memory::read(self.call.tid, address, buf) {
            Ok(n) if n == buf.len() => Ok(()),
            Ok(_) => Err(Stopped::Unsaid),
            Err(e) => Err(unreadable(&e)),
        }
    }

    /// A path in the caller's memory.
    pub(crate) fn text(&self, address: u64) -> Decoded<Vec<u8>> {
        self.checked.set(false);
        memory::c_str(self.call.tid, address, PATH_MAX).map_err(|e| unreadable(&e))
    }

    /// The file that a call names. Tells nothing, but that it looks into another process.
    pub(crate) fn name(&self, target: Target) -> Decoded<Named> {
        match target {
            Target::Path(path, last) => self.name_at(libc::AT_FDCWD, path, last),
            Target::At(dir, last) => self.name_at(self.int(dir), dir + 1, last),
            Target::Fd(fd) => self.name_fd(self.int(fd)),
            Target::AtFlags(dir, flags, last) => {
                let flags = self.arg(flags);
                let by_fd = flags & AT_EMPTY_PATH != 0
                    && (self.arg(dir + 1) == 0 || self.text(self.arg(dir + 1))?.is_empty());
                if by_fd {
                    return self.name_fd(self.int(dir));
                }
                let last = if flags & AT_SYMLINK_NOFOLLOW != 0 {
                    Last::Stay
                } else if flags & AT_SYMLINK_FOLLOW != 0 {
                    Last::Follow
                } else {
                    last
                };
                self.name_at(self.int(dir), dir + 1, last)
            }
        }
    }

    /// Whether a call names its file by this path.
    pub(crate) fn path_is(&self, target: Target, text: &[u8]) -> bool {
        let path = match target {
            Target::Path(path, _) => path,
            Target::At(dir, _) | Target::AtFlags(dir, ..) => dir + 1,
            Target::Fd(_) => return false,
        };
        self.text(self.arg(path)).is_ok_and(|path| path == text)
    }

    fn name_at(&self, dir: i32, path: u8, last: Last) -> Decoded<Named> {
        let text = self.text(self.arg(path))?;
        self.name_text(dir, &text, last)
    }

    /// Walks a path from a directory descriptor.
    pub(crate) fn name_text(&self, dir: i32, text: &[u8], last: Last) -> Decoded<Named> {
        let base = if text.first() == Some(&b'/') {
            Arc::from(Path::new("/"))
        } else if dir == libc::AT_FDCWD {
            self.cwd()?
        } else {
            match self.file_name(dir) {
                Ok(Some(path)) => Arc::from(path),
                Ok(None) => return Err(Stopped::Unsaid),
                Err(error) => {
                    self.unnamed(&error)?;
                    return Err(Stopped::Unsaid);
                }
            }
        };
        self.walk_from(&base, text, last)
    }

    /// Walks a path from a directory.
    pub(crate) fn walk_from(&self, base: &Path, text: &[u8], last: Last) -> Decoded<Named> {
        if self.shared.is_rooted_elsewhere(self.call.tid) {
            self.taint(Scope::All, "works below another root")?;
            return Err(Stopped::Unsaid);
        }
        let look = |path: &Path| {
            if self.observer().is_ready(self.pid, path) {
                return self.observer().look(path);
            }
            self.held.replace(Some(path.to_owned()));
            Look::Unknown(libc::EAGAIN)
        };
        let views = self.views();
        let Outcome {
            walk,
            own_fd,
            foreign,
        } = match &views {
            None => {
                self.prefixes().hear(self.observer().news());
                self.prefixes().walk(&look, self, base, text, last)
            }
            // Others have walked to the same names elsewhere.
            Some(views) => {
                let mut look = |path: &Path| look(&views.real(path));
                let mut outcome = walk(&mut look, self, base, text, last);
                views.walk(&mut outcome.walk);
                outcome
            }
        };
        if walk.end == End::MissingDir {
            // What is to be made there may bring its directory along.
            let mut whole = lexical(&base.join(as_path(text)));
            if let Some(views) = &views {
                whole = views.real(&whole).into_owned();
            }
            if !self.observer().is_ready(self.pid, &whole) {
                self.held.replace(Some(whole));
            }
        }
        if self.held.borrow().is_some() {
            return Err(Stopped::Held);
        }
        if foreign {
            self.tell(Event::Process(walk.path.clone()))?;
        }
        Ok(Named { walk, own_fd })
    }

    /// What the caller sees in the place of other directories.
    pub(crate) fn views(&self) -> Option<Arc<Views>> {
        let ask = || self.observer().views(self.pid);
        self.views.get_or_init(ask).clone()
    }

    /// The name that the call must wait for.
    pub(crate) fn held(&self) -> PathBuf {
        self.held.take().unwrap_or_default()
    }

    /// The file that a descriptor refers to.
    pub(crate) fn name_fd(&self, fd: i32) -> Decoded<Named> {
        let path = if fd == libc::AT_FDCWD {
            self.cwd()?.to_path_buf()
        } else {
            self.checked.set(false);
            match self.file_name(fd) {
                Ok(Some(path)) => path,
                Ok(None) => return Err(Stopped::Unsaid),
                Err(error) => {
                    self.unnamed(&error)?;
                    return Err(Stopped::Unsaid);
                }
            }
        };
        if path.starts_with("/proc/self") || path.starts_with(format!("/proc/{}", self.pid)) {
            return Ok(Named {
                walk: Walk {
                    path,
                    links: vec![],
                    end: End::Own,
                },
                own_fd: None,
            });
        }
        let path = match self.views() {
            Some(views) => views.real(&path).into_owned(),
            None => path,
        };
        let end = End::Found(self.observer().look(&path));
        Ok(Named {
            walk: Walk {
                path,
                links: vec![],
                end,
            },
            own_fd: None,
        })
    }

    /// The name of the file that a descriptor refers to, if it has one.
    fn file_name(&self, fd: i32) -> io::Result<Option<PathBuf>> {
        let links = &self.shared.links;
        links.named(self.call.tid, format_args!("fd/{fd}"))
    }

    /// The working directory.
    fn cwd(&self) -> Decoded<Arc<Path>> {
        let cwd = self
            .processes()
            .cwd(self.pid, self.call.tid, self.prefixes().moves());
        let cwd = match cwd {
            Ok(cwd) => cwd,
            Err(error) => {
                self.unnamed(&error)?;
                return Err(unreadable(&error));
            }
        };
        if !links::is_named(&cwd, &format!("/proc/{}/cwd", self.call.tid)) {
            self.taint(Scope::All, "works in a removed directory")?;
            return Err(Stopped::Unsaid);
        }
        Ok(cwd)
    }

    /// The kernel does not tell what a link in `/proc` leads to. Names may be longer than `PATH_MAX` where
    /// directories are entered one by one.
    fn unnamed(&self, error: &io::Error) -> Decoded {
        if error.raw_os_error() == Some(libc::ENAMETOOLONG) {
            return self.taint(Scope::All, "works in a directory whose name is too long");
        }
        Ok(())
    }

    /// What one of the caller's descriptors refers to.
    pub(crate) fn fd_target(&self, fd: i32) -> Decoded<FdTarget> {
        self.checked.set(false);
        let views = self.views();
        descriptors::target(&self.shared.links, views.as_deref(), self.call.tid, fd)
            .map_err(|_closed| Stopped::Unsaid)
    }

    /// The call is about to make, remove or replace a name.
    pub(crate) fn changes(&self, changes: Vec<Change>) {
        self.prefixes().change(self.call.tid, changes);
    }
}

impl Asker for Caller<'_> {
    fn is_own(&self, name: &[u8]) -> bool {
        let number = std::str::from_utf8(name)
            .ok()
            .and_then(|n| n.parse::<i32>().ok());
        number.is_some_and(|n| n == self.pid || n == self.call.tid)
    }

    fn own_link(&self, name: &[u8]) -> Option<PathBuf> {
        if name == b"root" {
            return Some(PathBuf::from("/"));
        }
        self.checked.set(false);
        let name = std::str::from_utf8(name).ok()?;
        self.shared.links.named(self.call.tid, name).ok()?
    }
}

/// A path without `.` and `..`, links left aside.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

/// What an error in reading a caller's memory or `/proc` says about its call.
pub(crate) fn unreadable(error: &io::Error) -> Stopped {
    match error.raw_os_error() {
        Some(libc::EFAULT | libc::ENAMETOOLONG | libc::E2BIG | libc::EINVAL) => Stopped::Unsaid,
        Some(libc::ESRCH | libc::ENOENT) => Stopped::Gone,
        _ => Stopped::Unreadable,
    }
}

pub(crate) fn path_buf(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}
