//! Changes of names that touch more than one path: links, renames, whole trees that move; and calls that
//! fail because a directory does not let names be changed.

use super::Watch;
use crate::base::{Access, Kind, PathId};
use crate::record::Wrote;
use crate::world;
use rfs_tracer::event::{End, Look, Pid, Scope, Walk};
use std::path::Path;

/// More files than this are not followed through the rename of a directory.
const MAX_MOVED: usize = 20_000;

impl Watch {
    pub(super) fn link(&self, pid: Pid, from: &Walk, to: &Walk) {
        if to.end != End::Absent {
            self.read(pid, from, Access::KIND);
            return self.read(pid, to, Access::KIND);
        }
        // What is read under the new name is the old one's.
        let access = Access::KIND | Access::MODE | Access::REG | Access::MTIME;
        self.read(pid, from, access);
        if from.end == End::Found(Look::File) {
            // While it has the number of names with which it was seen.
            let old = self.world.last(&from.path);
            let _known = self.world.digest(&from.path, &old.seen);
        }
        if from.end == End::Own {
            // The file has no name yet (O_TMPFILE), or one that only its opener knows: what was set of it as well.
            let mut how = Wrote::WHOLE;
            how |= Wrote::TIMES;
            self.change(pid, to, how, Access::KIND, false);
            return;
        }
        if matches!(from.end, End::Found(_)) {
            let new = self.change(pid, to, Wrote::WHOLE, Access::KIND, false);
            self.inherit(pid, self.world.last(&from.path).id, new.map(|look| look.id));
        }
    }

    pub(super) fn rename(&self, pid: Pid, from: &Walk, to: &Walk, flags: u32) {
        if !matches!(from.end, End::Found(_)) {
            return self.read(pid, from, Access::KIND);
        }
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        let dir = |walk: &Walk| walk.end == End::Found(Look::Dir);
        let other = matches!(to.end, End::Found(_)) && dir(from) != dir(to);
        let taken = flags & libc::RENAME_NOREPLACE != 0 && matches!(to.end, End::Found(_));
        let nowhere = !matches!(to.end, End::Found(_) | End::Absent);
        let nested = from.path.starts_with(&to.path) || to.path.starts_with(&from.path);
        if taken || nowhere || nested || (!exchange && other) {
            // Nowhere to move it to, or the name is taken: a directory takes only an empty
            // directory's place, anything else no directory's. Nothing moves into itself or to where it is.
            self.read(pid, from, Access::KIND);
            return self.read(pid, to, Access::KIND);
        }
        if self.stuck(pid, from) || (matches!(to.end, End::Found(_)) && self.stuck(pid, to)) {
            return;
        }
        let old = self.world.last(&from.path);
        if old.seen.kind == Kind::Dir || exchange {
            return self.rename_tree(pid, from, to, exchange);
        }
        let access = Access::KIND | Access::MODE | Access::REG | Access::MTIME;
        let blind = flags & libc::RENAME_NOREPLACE == 0;
        self.change(pid, from, Wrote::REMOVED, access, false);
        let new = self.change(
            pid,
            to,
            Wrote::WHOLE,
            if blind { Access::OUST } else { Access::KIND },
            false,
        );
        self.inherit(pid, old.id, new.map(|look| look.id));
    }

    /// What was set of a file goes with it to another name, if it gets that.
    fn inherit(&self, pid: Pid, from: PathId, to: Option<PathId>) {
        let mut model = self.model();
        if let (Some(at), Some(to)) = (model.step_of(pid), to) {
            model.inherit(at, from, to);
        }
    }

    /// A directory moves: everything below it vanishes here and appears there.
    fn rename_tree(&self, pid: Pid, from: &Walk, to: &Walk, exchange: bool) {
        let mut names = Vec::new();
        if !below(&from.path, Path::new(""), &mut names) {
            let why = format!("moves the large directory {}", from.path.display());
            return self.taint(pid, Scope::All, &why);
        }
        self.list_tree(pid, &from.path, &names);
        self.list_dir(pid, to);
        let mut back = Vec::new();
        if exchange && !below(&to.path, Path::new(""), &mut back) {
            let why = format!("exchanges the large directory {}", to.path.display());
            return self.taint(pid, Scope::All, &why);
        }
        let content = Access::KIND | Access::MODE | Access::REG | Access::MTIME;
        let target = if exchange { content } else { Access::KIND };
        let old = self.change(
            pid,
            from,
            if exchange {
                Wrote::WHOLE
            } else {
                Wrote::REMOVED
            },
            content,
            false,
        );
        let new = self.change(pid, to, Wrote::WHOLE, target, false);
        if let (Some(old), Some(new)) = (old, new) {
            self.inherit(pid, old.id, Some(new.id));
            if exchange {
                self.inherit(pid, new.id, Some(old.id));
            }
        }
        for (names, here, there) in [(names, from, to), (back, to, from)] {
            for name in names {
                let (old, new) = (here.path.join(&name), there.path.join(&name));
                let old = self.change_below(pid, &old, Wrote::REMOVED, content);
                let new = self.change_below(pid, &new, Wrote::WHOLE, Access::NONE);
                self.inherit(pid, old, Some(new));
            }
        }
    }

    /// All that is in a directory moves with it.
    fn list_tree(&self, pid: Pid, dir: &Path, names: &[std::path::PathBuf]) {
        self.list(pid, dir);
        for path in names.iter().map(|name| dir.join(name)) {
            if self.world.look(&path).seen.kind == Kind::Dir {
                self.list(pid, &path);
            }
        }
    }

    /// A call succeeds or fails by the names in the directory that it was given.
    pub(super) fn list_dir(&self, pid: Pid, walk: &Walk) {
        if matches!(walk.end, End::Found(Look::Dir)) {
            self.list(pid, &walk.path);
        }
    }

    fn change_below(&self, pid: Pid, path: &Path, how: Wrote, access: Access) -> PathId {
        let before = self.world.look(path);
        let before = world::Look {
            seen: self.world.change(path, false).seen,
            ..before
        };
        let mut model = self.model();
        if let Some(at) = model.changing(pid) {
            let parents = self.parents(path);
            let seen = (&before.seen, before.changes);
            model.write(at, before.id, how, access, seen, &parents);
        }
        before.id
    }

    /// Whether names may not be made or removed where the walk ends, so that the call fails.
    pub(super) fn shut(&self, pid: Pid, walk: &Walk) -> bool {
        let Some(dir) = walk.path.parent().filter(|dir| !may_write(dir)) else {
            return false;
        };
        let mut model = self.model();
        if let Some(at) = model.step_of(pid) {
            self.read_at(&mut model, at, walk, Access::KIND);
            let look = self.world.last(dir);
            self.note(&mut model, at, dir, &look, Access::KIND | Access::MODE);
        }
        true
    }

    /// Whether the name may not be removed since it lies in a sticky directory (`/tmp`) and neither is this
    /// user's, so that the call fails. Whose they are decides in any case.
    pub(super) fn stuck(&self, pid: Pid, walk: &Walk) -> bool {
        let me = rustix::process::geteuid();
        let Some(dir) = walk.path.parent().filter(|_| !me.is_root()) else {
            return false;
        };
        let (file, above) = (self.world.last(&walk.path), self.world.last(dir));
        if above.seen.mode[0] & 0o1000 == 0 || file.seen.is_absent() {
            return false;
        }
        let mut model = self.model();
        if let Some(at) = model.step_of(pid) {
            let access = Access::KIND | Access::MODE;
            self.read_at(&mut model, at, walk, access);
            self.note(&mut model, at, dir, &above, access);
        }
        let owners = [file.seen.mode[1], above.seen.mode[1]];
        !owners.contains(&me.as_raw())
    }
}

/// Whether this user may write here. Root always may.
pub(super) fn may_write(path: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    rustix::process::geteuid().is_root()
        || accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS) != Err(rustix::io::Errno::ACCESS)
}

/// All names below a directory, or false when there are too many.
fn below(dir: &Path, prefix: &Path, names: &mut Vec<std::path::PathBuf>) -> bool {
    let Ok(entries) = std::fs::read_dir(dir.join(prefix)) else {
        return true;
    };
    for entry in entries.flatten() {
        let name = prefix.join(entry.file_name());
        names.push(name.clone());
        if names.len() > MAX_MOVED {
            return false;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !below(dir, &name, names) {
            return false;
        }
    }
    true
}
