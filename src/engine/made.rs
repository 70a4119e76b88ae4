//! What jobs have made in a workspace, so that the work of people is told from theirs.

use crate::base::Digest;
use crate::disk::{self, Disk};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The first bytes of the file; others are of another version and tell nothing.
const MAGIC: &[u8] = b"rfs made 1\n";

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Thing {
    /// What it contained; none for what is no regular file.
    pub digest: Option<Digest>,
    /// The job that made it, whatever its command was.
    pub job: Digest,
}

/// All files that were made, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MadeBefore {
    things: BTreeMap<String, Thing>,
    changed: bool,
}

impl MadeBefore {
    /// Reads what an earlier command wrote. What cannot be read tells nothing: then what is there is taken
    /// for people's.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        let things = bytes
            .strip_prefix(MAGIC)
            .and_then(|bytes| postcard::from_bytes(bytes).ok())
            .unwrap_or_default();
        let changed = false;
        Self { things, changed }
    }

    /// Writes it, if it is not as it was read.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn write(&self, path: &Path, disk: &dyn Disk) -> Result<(), disk::Error> {
        if !self.changed {
            return Ok(());
        }
        let things =
            postcard::to_stdvec(&self.things).expect("BUG: what was made cannot be encoded");
        let tmp = path.with_extension("new");
        drop(disk.unlink(&tmp));
        let file = disk.create(&tmp, 0o644)?;
        disk.write_at(&file, &tmp, &[MAGIC, &things].concat(), 0)?;
        disk.rename(&tmp, path)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Thing> {
        self.things.get(name)
    }

    pub(super) fn put(&mut self, name: &str, thing: Thing) {
        if self.things.get(name) != Some(&thing) {
            self.things.insert(name.to_owned(), thing);
            self.changed = true;
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.changed |= self.things.remove(name).is_some();
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.things.keys().map(String::as_str)
    }

    /// The names that a job made, whatever its command was.
    pub(super) fn of(&self, job: Digest) -> Vec<String> {
        let own = self.things.iter().filter(|(_, thing)| thing.job == job);
        own.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn what_was_made_is_known_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made");
        let mut made = MadeBefore::read(&path);
        assert_eq!(made, MadeBefore::default());
        let job = Digest::of(b"job");
        let thing = Thing { digest: None, job };
        made.put("a", thing.clone());
        made.put(
            "b",
            Thing {
                job: Digest::of(b"other"),
                ..thing.clone()
            },
        );
        made.write(&path, &RealDisk).unwrap();
        let again = MadeBefore::read(&path);
        assert_eq!(again.get("a"), Some(&thing));
        assert_eq!(again.of(job), ["a"]);
    }
}
