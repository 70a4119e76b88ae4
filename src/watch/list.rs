//! What reading the names in a directory says of the steps around it.

use super::Watch;
use super::model::Model;
use super::places::nobody_s;
use crate::base::{Access, Digest, Kind, PathId};
use crate::record::{Step, Wrote};
use crate::world::listing;
use rfs_tracer::event::{Pid, Scope};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

impl Watch {
    pub(super) fn list(&self, pid: Pid, dir: &Path) {
        if nobody_s(dir) {
            return;
        }
        let names = match listing::read(dir, self.world.root()) {
            Ok(names) => names,
            Err(error) => {
                let why = format!(
                    "lists {}, which cannot be read here: {error}",
                    dir.display()
                );
                return self.taint(pid, Scope::All, &why);
            }
        };
        let mut model = self.model();
        if let Some(at) = model.step_of(pid) {
            self.list_at(&mut model, at, dir, &names);
        }
    }

    /// Notes that the names in a directory were read. Each step gets those that were there before it
    /// changed any itself; they must be the same each time.
    pub(super) fn list_at(&self, model: &mut Model, at: usize, dir: &Path, names: &listing::Names) {
        let look = self.world.last(dir);
        let parents = self.parents(dir);
        let mut now = None;
        model.up(at, |step| {
            if step.made.contains(&look.id) || parents.iter().any(|above| step.made.contains(above))
            {
                return true;
            }
            let before = match step.changed_in.get(&look.id) {
                None => *now.get_or_insert_with(|| listing::digest(names)),
                Some(inside) => self.before(step, &inside.paths, names),
            };
            step.read(
                look.id,
                Access::KIND | Access::LIST,
                &look.seen,
                look.changes,
            );
            let Some(entry) = step.paths.get_mut(&look.id) else {
                return true;
            };
            entry.access |= Access::LIST;
            if *entry.listed.get_or_insert(before) != before && entry.wrote == Wrote::NOTHING {
                step.refuse(format!(
                    "the names in {} changed while they were used",
                    dir.display()
                ));
            }
            true
        });
    }

    /// The names in a directory before a step changed some of them.
    fn before(&self, step: &Step, changed: &[PathId], names: &listing::Names) -> Digest {
        let mut before = names.clone();
        for id in changed {
            let path = self.world.path(*id);
            let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
            let first = step.paths.get(id);
            match first.and_then(|entry| letter(entry.first.kind)) {
                Some(letter) => before.insert(name.to_vec(), letter),
                None => before.remove(name),
            };
        }
        listing::digest(&before)
    }
}

fn letter(kind: Kind) -> Option<u8> {
    match kind {
        Kind::Absent | Kind::Unknown(_) => None,
        Kind::File => Some(b'f'),
        Kind::Dir => Some(b'd'),
        Kind::Link => Some(b'l'),
        Kind::Fifo => Some(b'p'),
        Kind::Socket => Some(b's'),
        Kind::Device => Some(b'c'),
    }
}
