//! Path resolution as the kernel does it (path_resolution(7)), one name at a time.
//!
//! The kernel is never asked to resolve a path: every name is looked at through a function of the caller,
//! so that the supervisor cannot wait for a mount that it serves itself. Links below `/proc/self`, whose
//! target depends on who asks, are told by an [`Asker`]. This file keeps nothing; see `prefix` for that.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::event::{End, Look, Walk};
use crate::table::Last;

/// Links that the kernel follows in one walk (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// The process in whose name a path is walked.
pub(crate) trait Asker {
    /// Whether `/proc/<name>` is the process's own directory, `self` and `thread-self` left aside.
    fn is_own(&self, name: &[u8]) -> bool;
    /// Where a link of the process's own `/proc` directory leads (`cwd`, `root`, `exe`, `fd/N`), if it is
    /// a file that has a name.
    fn own_link(&self, name: &[u8]) -> Option<PathBuf>;
}

/// A walk and what only the supervisor needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) walk: Walk,
    /// The path named this descriptor of the process itself, through `/dev/fd` or the like.
    pub(crate) own_fd: Option<i32>,
    /// The path leads into the `/proc` directory of another process.
    pub(crate) foreign: bool,
}

/// Resolves `text` from directory `base`, which is absolute and free of links.
pub(crate) fn walk(
    look: &mut dyn FnMut(&Path) -> Look,
    asker: &dyn Asker,
    base: &Path,
    text: &[u8],
    last: Last,
) -> Outcome {
    let start = if text.first() == Some(&b'/') {
        Path::new("/")
    } else {
        base
    };
    let walker = Walker::new(look, asker, start, Vec::new());
    if text.is_empty() {
        return walker.end(End::Failed(libc::ENOENT));
    }
    if text.len() >= PATH_MAX {
        return walker.end(End::Failed(libc::ENAMETOOLONG));
    }
    walker.run(text, last)
}

/// Goes on from a directory that was reached through `links`; `text` is relative.
pub(crate) fn walk_on(
    look: &mut dyn FnMut(&Path) -> Look,
    asker: &dyn Asker,
    dir: &Path,
    links: Vec<PathBuf>,
    text: &[u8],
    last: Last,
) -> Outcome {
    Walker::new(look, asker, dir, links).run(text, last)
}

pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

struct Walker<'a> {
    look: &'a mut dyn FnMut(&Path) -> Look,
    asker: &'a dyn Asker,
    /// The directory reached; the root is empty.
    at: Vec<u8>,
    links: Vec<PathBuf>,
    n_links: usize,
    /// Length of the prefix of `at` that is the process's own `/proc` directory.
    own: Option<usize>,
    own_fd: Option<i32>,
    foreign: bool,
}

impl<'a> Walker<'a> {
    fn new(
        look: &'a mut dyn FnMut(&Path) -> Look,
        asker: &'a dyn Asker,
        start: &Path,
        links: Vec<PathBuf>,
    ) -> Self {
        let bytes = start.as_os_str().as_bytes();
        let at = bytes.strip_suffix(b"/").unwrap_or(bytes).to_vec();
        let n_links = links.len();
        let mut walker = Self {
            look,
            asker,
            at,
            links,
            n_links,
            own: None,
            own_fd: None,
            foreign: false,
        };
        if let Some(below) = bytes.strip_prefix(b"/proc/") {
            let name = below.split(|b| *b == b'/').next().unwrap_or_default();
            walker.enter_proc(name, b"/proc/".len() + name.len());
        }
        walker
    }

    fn run(mut self, text: &[u8], last: Last) -> Outcome {
        let mut todo = Cow::Borrowed(text);
        let mut pos = 0;
        loop {
            pos += todo[pos..].iter().take_while(|b| **b == b'/').count();
            let len = todo[pos..].iter().take_while(|b| **b != b'/').count();
            if len == 0 {
                let end = if self.own.is_some() {
                    End::Own
                } else {
                    End::Found(Look::Dir)
                };
                return self.end(end);
            }
            let name = pos..pos + len;
            pos += len;
            let rest = &todo[pos..];
            let is_last = rest.iter().all(|b| *b == b'/');
            let follow = match last {
                Last::Follow => true,
                Last::Stay => !is_last || !rest.is_empty(),
                Last::Name => !is_last,
            };
            let must_be_dir = !is_last || (!rest.is_empty() && last != Last::Name);
            let name = &todo[name];
            match name {
                b"." => continue,
                b".." => {
                    self.up();
                    continue;
                }
                _ => {}
            }
            if name.len() > NAME_MAX {
                self.push(name);
                return self.end(End::Failed(libc::ENAMETOOLONG));
            }
            if self.at == b"/proc" && self.enter_proc(name, b"/proc/".len() + name.len()) {
                self.push(name);
                continue;
            }
            self.push(name);
            let target = if self.own.is_some() {
                match self.step_own(follow, is_last) {
                    OwnStep::Plain => continue,
                    OwnStep::Leads(target) => {
                        self.links
                            .push(PathBuf::from(OsString::from_vec(self.at.clone())));
                        target
                    }
                    OwnStep::Ends => return self.end(End::Own),
                }
            } else {
                match (self.look)(as_path(&self.at)) {
                    Look::Dir if is_last => return self.end(End::Found(Look::Dir)),
                    Look::Dir => continue,
                    Look::File if must_be_dir => return self.end(End::NotDir),
                    Look::File => return self.end(End::Found(Look::File)),
                    Look::Absent if is_last => return self.end(End::Absent),
                    Look::Absent => return self.end(End::MissingDir),
                    Look::Unknown(errno) => return self.end(End::Failed(errno)),
                    Look::Link(target) => {
                        // A link of another process's directory is no text to be walked.
                        if !follow || self.foreign {
                            return self.end(End::Found(Look::Link(target)));
                        }
                        self.links
                            .push(PathBuf::from(OsString::from_vec(self.at.clone())));
                        target
                    }
                }
            };
            self.n_links += 1;
            if self.n_links > MAX_LINKS {
                return self.end(End::Failed(libc::ELOOP));
            }
            let mut next = target.into_os_string().into_vec();
            if next.first() == Some(&b'/') {
                self.at.clear();
                self.own = None;
            } else {
                self.up();
            }
            next.extend_from_slice(&todo[pos..]);
            todo = Cow::Owned(next);
            pos = 0;
        }
    }

    fn push(&mut self, name: &[u8]) {
        self.at.push(b'/');
        self.at.extend_from_slice(name);
    }

    fn up(&mut self) {
        let len = self.at.iter().rposition(|b| *b == b'/').unwrap_or(0);
        self.at.truncate(len);
        if self.own.is_some_and(|own| len < own) {
            self.own = None;
        }
    }

    /// Notes whether `/proc/<name>` is the process's own directory or that of another process.
    fn enter_proc(&mut self, name: &[u8], len: usize) -> bool {
        if name == b"self" || name == b"thread-self" || self.asker.is_own(name) {
            self.own = Some(len);
            return true;
        }
        if !name.is_empty() && name.iter().all(u8::is_ascii_digit) {
            self.foreign = true;
        }
        false
    }

    /// One name below the process's own directory, already pushed.
    fn step_own(&mut self, follow: bool, is_last: bool) -> OwnStep {
        let below = &self.at[self.own.unwrap_or(0)..];
        let mut name = below.strip_prefix(b"/").unwrap_or(below);
        if let Some(task) = name.strip_prefix(b"task/") {
            let Some(slash) = task.iter().position(|b| *b == b'/') else {
                return OwnStep::Plain;
            };
            name = &task[slash + 1..];
        }
        let fd = name
            .strip_prefix(b"fd/")
            .and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
        if fd.is_none() && !matches!(name, b"cwd" | b"root" | b"exe") {
            return OwnStep::Plain;
        }
        if !follow {
            return OwnStep::Ends;
        }
        if is_last {
            self.own_fd = fd;
        }
        self.asker
            .own_link(name)
            .map_or(OwnStep::Ends, OwnStep::Leads)
    }

    fn end(mut self, end: End) -> Outcome {
        if self.at.is_empty() {
            self.at.push(b'/');
        }
        let path = PathBuf::from(OsString::from_vec(self.at));
        let walk = Walk {
            path,
            links: self.links,
            end,
        };
        Outcome {
            walk,
            own_fd: self.own_fd,
            foreign: self.foreign,
        }
    }
}

enum OwnStep {
    /// A name without a meaning of its own: the walk goes on below it.
    Plain,
    /// A link to a file that has a name.
    Leads(PathBuf),
    /// The walk cannot or need not go on.
    Ends,
}

#[cfg(test)]
pub(crate) mod tests;
