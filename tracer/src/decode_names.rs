//! Calls that name files: looking, opening, making, removing, changing.

use crate::decode::{Caller, Decoded, Named, Stopped, path_buf};
use crate::descriptors;
use crate::event::{End, Event, Look, Scope, Walk};
use crate::prefix::Change;
use crate::table::{Last, Mode, NameOp, Target, Times};

/// `RESOLVE_BENEATH` and `RESOLVE_IN_ROOT` of openat2(2).
const RESOLVE_SCOPED: u64 = 0x08 | 0x10;
const AT_REMOVEDIR: u64 = libc::AT_REMOVEDIR as u64;
const AT_EMPTY_PATH: u64 = libc::AT_EMPTY_PATH as u64;

impl Caller<'_> {
    pub(crate) fn decode_names(&self, op: NameOp) -> Decoded {
        match op {
            NameOp::Open(target, mode) => self.open(target, mode),
            NameOp::Stat(target) => self.tell(Event::Stat(self.name(target)?.walk)),
            NameOp::Access(target, mode) => {
                let walk = self.name(target)?.walk;
                self.tell(Event::Access(walk, self.int(mode)))
            }
            NameOp::Readlink(target) => self.tell(Event::Readlink(self.name(target)?.walk)),
            NameOp::List => {
                let walk = self.name_fd(self.int(0))?.walk;
                if walk.end == End::Own {
                    Ok(())
                } else {
                    self.tell(Event::List(walk.path))
                }
            }
            NameOp::Chdir(target) => {
                let walk = self.name(target)?.walk;
                self.tell(Event::Chdir(walk))?;
                self.processes().chdir(self.pid, self.call.tid);
                if let Some(fast) = &self.shared.fast {
                    fast.changes_cwd(self.pid, self.call.tid);
                }
                Ok(())
            }
            NameOp::Unlink(target, dir) => self.unlink(target, dir),
            NameOp::Unlinkat => {
                self.unlink(Target::At(0, Last::Name), self.arg(2) & AT_REMOVEDIR != 0)
            }
            NameOp::Mkdir(target, mode) => {
                let mode = self.arg(mode) as u32;
                self.make(target, |walk| Event::Mkdir(walk, mode))
            }
            NameOp::Mknod(target, mode) => {
                let mode = self.arg(mode) as u32;
                self.make(target, |walk| Event::Mknod(walk, mode))
            }
            NameOp::Symlink(text, target) => {
                let text = path_buf(self.text(self.arg(text))?);
                self.make(target, |walk| Event::Symlink(walk, text))
            }
            NameOp::Link(from, to) => {
                let from = self.link_source(from)?;
                self.make(to, |to| Event::Link { from, to })
            }
            NameOp::Rename(from, to, flags) => self.rename(from, to, flags),
            NameOp::Chmod(target) => self.tell(Event::Chmod(self.name(target)?.walk)),
            NameOp::Chown(target) => self.tell(Event::Chown(self.name(target)?.walk)),
            NameOp::Truncate(target) => self.tell(Event::Truncate(self.name(target)?.walk)),
            NameOp::Xattr(target) => self.tell(Event::Xattr(self.name(target)?.walk)),
            NameOp::Getxattr(target) => self.tell(Event::Getxattr(self.name(target)?.walk)),
            NameOp::Utime(target, times) => {
                let explicit = self.times_given(times)?;
                let walk = self.stamped(target)?;
                self.tell(Event::Utime { walk, explicit })
            }
        }
    }

    fn open(&self, target: Target, mode: Mode) -> Decoded {
        let (flags, mode, resolve) = match mode {
            Mode::Args(flags, mode) => (self.int(flags), self.arg(mode) as u32, 0),
            Mode::Creat(mode) => (
                libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
                self.arg(mode) as u32,
                0,
            ),
            Mode::How(how) => {
                let mut fields = [0; 24];
                self.read(self.arg(how), &mut fields)?;
                let field = |n: usize| {
                    let bytes = fields.get(n * 8..n * 8 + 8).and_then(|b| b.try_into().ok());
                    u64::from_ne_bytes(bytes.unwrap_or_default())
                };
                (field(0) as i32, field(1) as u32, field(2))
            }
        };
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        let stays = flags & libc::O_NOFOLLOW != 0 || flags & exclusive == exclusive;
        let last = if stays { Last::Stay } else { Last::Follow };
        let target = match target {
            Target::Path(path, _) => Target::Path(path, last),
            Target::At(dir, _) => Target::At(dir, last),
            Target::AtFlags(..) | Target::Fd(_) => target,
        };
        if resolve & RESOLVE_SCOPED != 0 && !self.is_plain(target)? {
            return self.taint(Scope::All, "opens below a root of its own");
        }
        let Named { walk, own_fd } = self.name(target)?;
        if let Some(from @ 0..=2) = own_fd {
            let target = self.fd_target(from)?;
            self.tell(Event::Dup {
                from,
                to: -1,
                target,
            })?;
        }
        // O_TMPFILE includes O_DIRECTORY, so all its bits are needed.
        if flags & libc::O_PATH != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE {
            return self.tell(Event::Stat(walk));
        }
        let made = (flags & libc::O_CREAT != 0 && walk.end == End::Absent).then(|| Change {
            path: walk.path.clone(),
            moves_dir: false,
        });
        self.tell(Event::Open { walk, flags, mode })?;
        if let Some(made) = made {
            self.changes(vec![made]);
        }
        Ok(())
    }

    /// Whether a path means the same wherever its root is: relative, without `..` and links.
    fn is_plain(&self, target: Target) -> Decoded<bool> {
        let Target::At(_, last) = target else {
            return Ok(false);
        };
        let text = self.text(self.arg(1))?;
        let climbs = text.first() == Some(&b'/') || text.split(|b| *b == b'/').any(|n| n == b"..");
        Ok(!climbs
            && self
                .name_text(self.int(0), &text, last)?
                .walk
                .links
                .is_empty())
    }

    fn unlink(&self, target: Target, dir: bool) -> Decoded {
        let walk = self.name(target)?.walk;
        let change = Change {
            path: walk.path.clone(),
            moves_dir: false,
        };
        self.tell(Event::Unlink { walk, dir })?;
        self.changes(vec![change]);
        Ok(())
    }

    /// A call that makes a name.
    pub(crate) fn make<'e>(
        &self,
        target: Target,
        event: impl FnOnce(Walk) -> Event<'e>,
    ) -> Decoded {
        let walk = self.name(target)?.walk;
        let change = Change {
            path: walk.path.clone(),
            moves_dir: false,
        };
        self.tell(event(walk))?;
        self.changes(vec![change]);
        Ok(())
    }

    /// The file that gets another name. One without a name (`O_TMPFILE`) is told as `/proc/self/fd/N`.
    fn link_source(&self, from: Target) -> Decoded<Walk> {
        let by_fd = match from {
            Target::AtFlags(dir, flags, _) if self.arg(flags) & AT_EMPTY_PATH != 0 => self
                .text(self.arg(dir + 1))?
                .is_empty()
                .then(|| self.int(dir)),
            Target::AtFlags(..) | Target::At(..) | Target::Path(..) | Target::Fd(_) => None,
        };
        let nameless = |fd| Walk {
            path: descriptors::own_name(fd),
            links: vec![],
            end: End::Own,
        };
        match (self.name(from), by_fd) {
            (
                Ok(Named {
                    walk,
                    own_fd: Some(fd),
                }),
                _,
            ) if walk.end == End::Own => Ok(nameless(fd)),
            (Ok(named), _) => Ok(named.walk),
            (Err(Stopped::Unsaid), Some(fd)) if fd >= 0 => Ok(nameless(fd)),
            (Err(e), _) => Err(e),
        }
    }

    fn rename(&self, from: Target, to: Target, flags: Option<u8>) -> Decoded {
        let flags = flags.map_or(0, |n| self.arg(n) as u32);
        let (from, to) = (self.name(from)?.walk, self.name(to)?.walk);
        let is_dir = |walk: &Walk| walk.end == End::Found(Look::Dir);
        let moves_dir = is_dir(&from) || (flags & libc::RENAME_EXCHANGE != 0 && is_dir(&to));
        let change = |walk: &Walk| Change {
            path: walk.path.clone(),
            moves_dir,
        };
        let changes = vec![change(&from), change(&to)];
        self.tell(Event::Rename { from, to, flags })?;
        self.changes(changes);
        Ok(())
    }

    /// The file of utimensat and futimesat, whose path may be null.
    fn stamped(&self, target: Target) -> Decoded<Walk> {
        match target {
            Target::AtFlags(dir, ..) | Target::At(dir, _) if self.arg(dir + 1) == 0 => {
                Ok(self.name_fd(self.int(dir))?.walk)
            }
            Target::AtFlags(..) | Target::At(..) | Target::Path(..) | Target::Fd(_) => {
                Ok(self.name(target)?.walk)
            }
        }
    }

    /// Whether a time stamp is given: `UTIME_NOW` and `UTIME_OMIT` are none.
    fn times_given(&self, times: Times) -> Decoded<bool> {
        let (address, width) = match times {
            Times::Ptr(n) => return Ok(self.arg(n) != 0),
            Times::Native(n) => (self.arg(n), descriptors::pointer_size(self.call.abi)),
            Times::Wide(n) => (self.arg(n), 8),
        };
        if address == 0 {
            return Ok(false);
        }
        let mut specs = [0; 32];
        self.read(address, &mut specs[..4 * width])?;
        let special = |n: usize| {
            let nsec = specs
                .get(n * width..n * width + 4)
                .and_then(|b| b.try_into().ok());
            let nsec = i64::from(u32::from_ne_bytes(nsec.unwrap_or_default()));
            nsec == libc::UTIME_NOW || nsec == libc::UTIME_OMIT
        };
        Ok(!(special(1) && special(3)))
    }
}
