//! What looking at a path or changing it says of the steps around it.

use super::Watch;
use super::descriptors::looked_at_descriptor;
use super::model::Model;
use super::names::may_write;
use super::places::{Device, device, nobody_s};
use crate::base::policy::Times;
use crate::base::{Access, Kind, PathId};
use crate::record::Wrote;
use crate::record::fold::is_random;
use crate::world;
use rfs_tracer::event::{End, Event, FdTarget, Look, Pid, Scope, Walk};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The kernel takes no longer names (path_resolution(7)).
const PATH_MAX: usize = libc::PATH_MAX as usize;

impl Watch {
    pub(super) fn path_event(&self, pid: Pid, event: Event<'_>) {
        match event {
            Event::Stat(walk) => self.stat(pid, &walk),
            Event::Access(walk, libc::F_OK) => self.glance(pid, &walk, Access::KIND),
            Event::Access(walk, _) => self.glance(pid, &walk, Access::KIND | Access::MODE),
            Event::Readlink(walk) => self.glance(pid, &walk, Access::LNK),
            Event::Chdir(walk) => self.read(pid, &walk, Access::KIND),
            Event::Open { walk, flags, mode } => self.open(pid, &walk, flags, mode),
            Event::List(dir) => self.list(pid, &dir),
            Event::Differs(path) => self.differs(pid, &path),
            Event::Unlink { walk, dir } => self.unlink(pid, &walk, dir),
            Event::Mkdir(walk, _) | Event::Mknod(walk, _) | Event::Symlink(walk, _)
                if matches!(walk.end, End::Found(_)) =>
            {
                self.read(pid, &walk, Access::KIND);
            }
            Event::Mkdir(walk, _) => {
                let absent = walk.end == End::Absent;
                let mut how = Wrote::WHOLE;
                how |= Wrote::FRESH;
                let before = self.change(pid, &walk, how, Access::KIND, false);
                if let Some(look) = before.filter(|_| absent) {
                    self.made(pid, look.id);
                }
            }
            Event::Mknod(walk, mode) => {
                let before = self.change(pid, &walk, Wrote::WHOLE, Access::KIND, false);
                if let Some(look) = before.filter(|_| mode & libc::S_IFMT == libc::S_IFSOCK) {
                    self.bind(pid, look.id, &walk);
                }
            }
            Event::Symlink(walk, _) => {
                self.change(pid, &walk, Wrote::WHOLE, Access::KIND, false);
            }
            Event::Link { from, to } => self.link(pid, &from, &to),
            Event::Rename { from, to, flags } => self.rename(pid, &from, &to, flags),
            Event::Chmod(walk) | Event::Chown(walk) => {
                let access = Access::KIND | Access::MODE;
                self.change(pid, &walk, Wrote::ATTRIBUTES, access, false);
            }
            Event::Utime { walk, .. } => {
                let access = Access::KIND | Access::MODE;
                self.change(pid, &walk, Wrote::TIMES, access, false);
            }
            Event::Truncate(walk) => {
                let access = Access::KIND | Access::MODE | Access::REG;
                self.change(pid, &walk, Wrote::PART, access, true);
            }
            Event::Getxattr(walk) => self.attributes(pid, &walk),
            Event::Xattr(walk) => {
                self.attributes(pid, &walk);
                let access = Access::KIND | Access::MODE;
                self.change(pid, &walk, Wrote::XATTRS, access, false);
            }
            Event::Write(_)
            | Event::WriteDirect(_)
            | Event::ReadStdin(_)
            | Event::Dup { .. }
            | Event::Socket(_)
            | Event::Kill(..)
            | Event::Ipc { .. }
            | Event::Limit(..)
            | Event::Chance(_)
            | Event::Process(_)
            | Event::Taint(..) => (),
        }
    }

    /// Notes the links that a walk crossed, and tells whether it leads to something worth noting.
    fn crossed(&self, model: &mut Model, at: usize, walk: &Walk) -> bool {
        for link in &walk.links {
            if link.starts_with("/proc") {
                looked_at_descriptor(model, at, link, Some(&walk.path));
                continue;
            }
            let look = self.world.last(link);
            self.note(model, at, link, &look, Access::LNK);
        }
        match walk.end {
            End::Own => {
                looked_at_descriptor(model, at, &walk.path, None);
                false
            }
            End::Failed(libc::ENAMETOOLONG) if walk.path.as_os_str().len() >= PATH_MAX => {
                // The process got there step by step; by its whole name it cannot be looked at.
                model.up(at, |step| {
                    step.refuse("uses a file whose name is too long");
                    true
                });
                false
            }
            End::Failed(_) | End::Found(_) | End::Absent | End::MissingDir | End::NotDir => {
                !nobody_s(&walk.path) && !model.jobservers.contains(&walk.path)
            }
        }
    }

    pub(super) fn note(
        &self,
        model: &mut Model,
        at: usize,
        path: &Path,
        look: &world::Look,
        access: Access,
    ) {
        if access.has(Access::REG) && look.seen.kind == Kind::File {
            self.keep_content(model, at, path, look);
        }
        model.read(at, look.id, access, &look.seen, look.changes, &|| {
            self.parents(path)
        });
    }

    /// A file is read after a step has given it other attributes: it is the version of the step's first
    /// look, which can no longer be found by its identity.
    fn keep_content(&self, model: &mut Model, at: usize, path: &Path, look: &world::Look) {
        model.up(at, |step| {
            let entry = step.paths.get(&look.id).filter(|entry| {
                entry.wrote != Wrote::NOTHING
                    && !entry.wrote.content()
                    && entry.first.digest.get().is_none()
                    && !entry.first.is_saving()
            });
            if let Some(entry) = entry {
                let digest = self.world.digest(path, &look.seen);
                let _ = entry.first.digest.set(digest).is_ok();
            }
            true
        });
    }

    /// Extended attributes are read: a record can only say that there are none.
    fn attributes(&self, pid: Pid, walk: &Walk) {
        let mut model = self.model();
        let Some(at) = model.step_of(pid) else { return };
        if !self.crossed(&mut model, at, walk) {
            return;
        }
        let look = self.world.last(&walk.path);
        self.note(
            &mut model,
            at,
            &walk.path,
            &look,
            Access::KIND | Access::PLAIN,
        );
        if self.world.has_attributes(&walk.path, &look.seen) {
            let why = format!("uses extended attributes of {}", walk.path.display());
            model.up(at, |step| {
                step.refuse(why.as_str());
                true
            });
        }
    }

    /// Notes a look at the end of a walk and at the links on the way.
    pub(super) fn read(&self, pid: Pid, walk: &Walk, access: Access) {
        let mut model = self.model();
        let Some(at) = model.step_of(pid) else { return };
        self.read_at(&mut model, at, walk, access);
    }

    pub(super) fn read_at(&self, model: &mut Model, at: usize, walk: &Walk, access: Access) {
        if self.crossed(model, at, walk) {
            let look = self.world.last(&walk.path);
            self.note(model, at, &walk.path, &look, access | Access::KIND);
        }
    }

    /// A look at a path that is not by stat(2). By a program that replaces its outputs it may be a look
    /// at an old one.
    fn glance(&self, pid: Pid, walk: &Walk, access: Access) {
        let mut model = self.model();
        let Some(proc) = model.procs.get(&pid) else {
            return;
        };
        let at = proc.step;
        let replaces = proc.tool.replaces
            && !self.by_link(walk)
            && matches!(
                walk.end,
                End::Absent | End::Found(Look::File | Look::Link(_))
            );
        if !replaces {
            self.read_at(&mut model, at, walk, access);
        } else if self.crossed(&mut model, at, walk) {
            let look = self.world.last(&walk.path);
            self.note(&mut model, at, &walk.path, &look, Access::PEEK);
        }
    }

    /// Whether a path may end in a symbolic link of the workspace. Who replaces his outputs writes through it where
    /// it leads to nothing, and else removes it.
    fn by_link(&self, walk: &Walk) -> bool {
        let mut links = walk.links.iter();
        links.any(|link| link.starts_with(self.world.root()))
    }

    fn stat(&self, pid: Pid, walk: &Walk) {
        let mut model = self.model();
        let Some(proc) = model.procs.get(&pid) else {
            return;
        };
        let (at, times, dirs) = (proc.step, proc.tool.times, proc.tool.dirs);
        let (replaces, shell) = (proc.tool.replaces && !self.by_link(walk), proc.tool.shell);
        let stores = proc.tool.stores;
        if !self.crossed(&mut model, at, walk) {
            return;
        }
        let look = self.world.last(&walk.path);
        if replaces && matches!(look.seen.kind, Kind::Absent | Kind::File | Kind::Link) {
            if let Some(proc) = model.procs.get_mut(&pid) {
                proc.peeked.insert(look.id);
            }
            return self.note(&mut model, at, &walk.path, &look, Access::PEEK);
        }
        let dir = look.seen.kind == Kind::Dir;
        // The time stamp of a directory that everybody writes to (/tmp) tells nothing about the build.
        let shared = dir && look.seen.mode[0] & 0o1000 != 0;
        let time = match times {
            Times::Exact if shared || (dir && !stores) => Access::NONE,
            Times::Exact => Access::MTIME,
            Times::Order if !dir => Access::ORDER,
            Times::Order | Times::Ignore => Access::NONE,
        };
        let names = if stores && times == Times::Exact && look.seen.kind == Kind::File {
            Access::SINGLE
        } else {
            Access::NONE
        };
        let access = Access::STAT | time | names;
        self.note(&mut model, at, &walk.path, &look, access);
        // A shell stats the directories above it to know where it is.
        let above = shell && model.steps[at].cwd.starts_with(&walk.path);
        if dir && !shared && !above && dirs && times == Times::Order {
            self.count(&mut model, at, look.id, 1);
        }
    }

    /// Counts stats (+1) and opens (-1) of a directory by a program that compares time stamps.
    fn count(&self, model: &mut Model, at: usize, id: PathId, by: i32) {
        model.up(at, |step| {
            if let Some(entry) = step.paths.get_mut(&id) {
                entry.stats += by;
            }
            true
        });
    }

    fn open(&self, pid: Pid, walk: &Walk, flags: i32, mode: u32) {
        if walk.path == Path::new("/dev/tty") && self.only_asks_terminal(pid) {
            return;
        }
        match device(&walk.path) {
            Device::None => (),
            Device::Chance(how) => self.chance(pid, how),
            Device::Outside => {
                let why = format!("opens the device {}", walk.path.display());
                self.taint(pid, Scope::All, &why);
            }
        }
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY
            || flags & (libc::O_CREAT | libc::O_TRUNC) != 0;
        if flags & libc::O_TMPFILE == libc::O_TMPFILE {
            self.read(pid, walk, Access::KIND);
        } else if flags & libc::O_PATH != 0 || !writes {
            self.open_to_read(pid, walk, flags);
        } else {
            self.open_to_write(pid, walk, flags, mode);
        }
    }

    /// Whether a process that opens its terminal cannot get or does not want more than its size: it has
    /// none, or it is one of those that ask at every start.
    fn only_asks_terminal(&self, pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let tty = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(4));
        let asks = &self.config.policy.asks_terminal;
        tty == Some("0")
            || self
                .model()
                .procs
                .get(&pid)
                .is_some_and(|proc| asks.contains(&proc.tool.driver))
    }

    fn open_to_read(&self, pid: Pid, walk: &Walk, flags: i32) {
        let mut model = self.model();
        let Some(proc) = model.procs.get(&pid) else {
            return;
        };
        let (at, dirs) = (proc.step, proc.tool.dirs);
        let opened = proc.tool.opened();
        let tool = proc.tool.driver.clone();
        if !self.crossed(&mut model, at, walk) {
            return;
        }
        let look = self.world.last(&walk.path);
        let access = match look.seen.kind {
            Kind::File if flags & libc::O_PATH == 0 => opened,
            Kind::File | Kind::Dir => Access::STAT,
            Kind::Link => Access::LNK,
            Kind::Absent | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown(_) => {
                Access::KIND
            }
        };
        self.note(&mut model, at, &walk.path, &look, access | Access::KIND);
        if access.has(Access::REG) {
            self.source(&mut model, at, &tool, &walk.path, &look);
        }
        if look.seen.kind == Kind::Dir && dirs {
            self.count(&mut model, at, look.id, -1);
        }
        if look.seen.kind == Kind::Fifo {
            self.open_fifo(&mut model, at, look.id, walk);
        }
    }

    /// What was seen is not there any more. Whoever writes the file itself knows.
    fn differs(&self, pid: Pid, path: &Path) {
        let mut model = self.model();
        let Some(at) = model.step_of(pid) else { return };
        let id = self.world.last(path).id;
        let why = format!("{} changed while it was used", path.display());
        model.up(at, |step| {
            if step.wrote(id) == Wrote::NOTHING {
                step.refuse(why.as_str());
            }
            true
        });
    }

    fn open_to_write(&self, pid: Pid, walk: &Walk, flags: i32, mode: u32) {
        if !matches!(walk.end, End::Absent | End::Found(_)) {
            return self.read(pid, walk, Access::KIND);
        }
        let look = self.world.last(&walk.path);
        let create = flags & libc::O_CREAT != 0;
        match look.seen.kind {
            Kind::Fifo => {
                let mut model = self.model();
                let Some(at) = model.step_of(pid) else { return };
                if model.jobservers.contains(&walk.path) {
                    return;
                }
                return self.open_fifo(&mut model, at, look.id, walk);
            }
            Kind::Dir | Kind::Socket | Kind::Link | Kind::Device | Kind::Unknown(_) => {
                return self.read(pid, walk, Access::KIND);
            }
            Kind::Absent if !create => return self.read(pid, walk, Access::KIND),
            Kind::Absent | Kind::File => (),
        }
        if nobody_s(&walk.path) {
            return;
        }
        let absent = look.seen.is_absent();
        if !absent && !may_write(&walk.path) {
            return self.read(pid, walk, Access::KIND | Access::MODE);
        }
        if create && flags & libc::O_EXCL != 0 {
            if absent {
                let mut how = Wrote::WHOLE;
                how |= Wrote::FRESH;
                self.change(pid, walk, how, Access::KIND, false);
            } else {
                self.read(pid, walk, Access::KIND);
            }
        } else if flags & libc::O_TRUNC != 0 || absent {
            let blind = create && flags & libc::O_TRUNC != 0 && {
                let umask = self.umask(pid);
                absent || look.seen.mode[0] == mode & !umask & 0o7777
            };
            let access = if blind {
                Access::OVER
            } else if absent {
                Access::KIND
            } else {
                Access::KIND | Access::MODE
            };
            let mut how = Wrote::WHOLE;
            if blind && !self.has_peeked(pid, look.id) {
                how |= Wrote::INTO;
            }
            self.change(pid, walk, how, access, true);
        } else {
            let access = Access::KIND | Access::MODE | Access::REG;
            self.change(pid, walk, Wrote::PART, access, true);
        }
    }

    fn replaces(&self, pid: Pid) -> bool {
        self.model()
            .procs
            .get(&pid)
            .is_some_and(|proc| proc.tool.replaces)
    }

    fn has_peeked(&self, pid: Pid, id: PathId) -> bool {
        let model = self.model();
        let proc = model.procs.get(&pid);
        proc.is_some_and(|proc| proc.peeked.contains(&id))
    }

    fn umask(&self, pid: Pid) -> u32 {
        let model = self.model();
        model.step_of(pid).map_or(0o022, |at| model.steps[at].umask)
    }

    /// Notes a change that is about to happen at the end of a walk. Gives what was there before.
    pub(super) fn change(
        &self,
        pid: Pid,
        walk: &Walk,
        how: Wrote,
        access: Access,
        in_place: bool,
    ) -> Option<world::Look> {
        if !matches!(walk.end, End::Absent | End::Found(_)) || nobody_s(&walk.path) {
            self.read(pid, walk, Access::KIND);
            return None;
        }
        if walk.end == End::Absent && !how.any(Wrote::WHOLE) {
            // The call fails, and that is all the step learns.
            self.read(pid, walk, access);
            return None;
        }
        if (walk.end == End::Absent || how.any(Wrote::REMOVED)) && self.shut(pid, walk) {
            return None;
        }
        let before = self.world.change(&walk.path, in_place);
        let mut model = self.model();
        let at = model.changing(pid)?;
        self.crossed(&mut model, at, walk);
        let parents = self.parents(&walk.path);
        if let (End::Absent, Some(dir)) = (&walk.end, walk.path.parent()) {
            // What is made and removed again needs no name, but a directory to be made in.
            let look = self.world.last(dir);
            self.note(&mut model, at, dir, &look, Access::KIND);
        }
        let mut how = how;
        if how.content() && (!in_place || before.seen.is_absent()) {
            how |= Wrote::NAME;
        }
        model.write(
            at,
            before.id,
            how,
            access,
            (&before.seen, before.changes),
            &parents,
        );
        let goes = how.any(Wrote::REMOVED) || how.any(Wrote::WHOLE);
        if goes && before.seen.kind == Kind::File {
            self.scrap(&mut model, at, &walk.path, &before);
        }
        Some(before)
    }

    /// A file goes: what it said is kept with the step that had made it, where others have read it.
    fn scrap(&self, model: &mut Model, at: usize, path: &Path, before: &world::Look) {
        let Some((digest, text)) = self.world.text(&before.seen) else {
            return;
        };
        let made = |at: &usize| {
            let entry = model.steps[*at].paths.get(&before.id);
            entry.is_some_and(|entry| entry.first.is_absent())
        };
        if let Some(at) = model.chain(at).into_iter().find(made) {
            if !is_random(path.as_os_str().as_bytes()) {
                model.steps[at].scraps.add(digest, text);
            }
        }
    }

    fn unlink(&self, pid: Pid, walk: &Walk, dir: bool) {
        let fails = match &walk.end {
            End::Found(Look::Dir) => !dir,
            End::Found(Look::File | Look::Link(_)) => dir,
            End::Found(Look::Absent | Look::Unknown(_))
            | End::Absent
            | End::MissingDir
            | End::NotDir
            | End::Failed(_)
            | End::Own => false,
        };
        if fails {
            return self.read(pid, walk, Access::KIND);
        }
        if self.stuck(pid, walk) {
            return;
        }
        // A directory goes only when it is empty.
        self.list_dir(pid, walk);
        let access = if self.replaces(pid) {
            Access::PEEK
        } else {
            Access::KIND
        };
        self.change(pid, walk, Wrote::REMOVED, access, false);
    }

    fn made(&self, pid: Pid, id: PathId) {
        let mut model = self.model();
        let Some(at) = model.step_of(pid) else { return };
        model.up(at, |step| {
            if step
                .paths
                .get(&id)
                .is_some_and(|entry| entry.first.is_absent())
            {
                step.made.insert(id);
            }
            true
        });
    }

    /// The directories above a path, nearest first.
    pub(super) fn parents(&self, path: &Path) -> Vec<PathId> {
        path.ancestors()
            .skip(1)
            .map(|dir| self.world.last(dir).id)
            .collect()
    }

    /// Notes that a regular file that a step was started with was or may be read.
    pub(super) fn note_file(
        &self,
        model: &mut Model,
        at: usize,
        opened: Access,
        target: &FdTarget,
    ) {
        if let FdTarget::File { path, .. } = target {
            let look = self.world.look(path);
            if look.seen.kind != Kind::File {
                let why = format!("reads a file that has no name: {}", path.display());
                return model.steps[at].refuse(why);
            }
            self.note(model, at, path, &look, Access::KIND | opened);
        }
    }
}
