//! What a reading of the rules has asked of environment and tree: as long as the answers are the same, so
//! are the rules.

use super::sources::find;
use crate::base::{Digest, Identity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Two clock ticks at the slowest usual rate, in ns: what was changed since may change again unseen.
const TICKS: i64 = 20_000_000;

/// Questions, and their answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asked {
    files: BTreeMap<PathBuf, Option<Identity>>,
    env: BTreeMap<String, Option<String>>,
    globs: Vec<Glob>,
    /// Something changed while it was read, or a moment before.
    unsure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Glob {
    root: PathBuf,
    pattern: String,
    exclude: Vec<String>,
    found: Digest,
    /// The directories that were read for it.
    dirs: Vec<(PathBuf, Option<Identity>)>,
}

impl Asked {
    /// A file is about to be read.
    pub(super) fn file(&mut self, path: &Path) {
        let id = identity(path);
        self.unsure |= id.is_some_and(|id| is_young(&id));
        let before = self.files.insert(path.to_owned(), id);
        self.unsure |= before.is_some_and(|before| before != id);
    }

    /// A variable of the environment was asked for.
    pub(super) fn variable(&mut self, name: &str, value: Option<&str>) {
        self.env.insert(name.to_owned(), value.map(str::to_owned));
    }

    /// The files that a glob pattern names, sorted.
    ///
    /// # Errors
    /// What is wrong with a pattern.
    pub(super) fn glob(
        &mut self,
        root: &Path,
        pattern: &str,
        exclude: &[String],
    ) -> Result<Vec<String>, String> {
        let mut dirs = Vec::new();
        let found = find(root, pattern, exclude, &mut |dir| {
            dirs.push((dir.to_owned(), identity(dir)));
        })?;
        let young = |(_, id): &(PathBuf, Option<Identity>)| id.is_some_and(|id| is_young(&id));
        self.unsure |= dirs.iter().any(young);
        self.globs.push(Glob {
            root: root.to_owned(),
            pattern: pattern.to_owned(),
            exclude: exclude.to_vec(),
            found: digest(&found),
            dirs,
        });
        Ok(found)
    }

    /// Whether the answers can be relied on to be told from others.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        !self.unsure
    }

    /// Whether the answers are the same now.
    #[must_use]
    pub fn holds(&self, env: &BTreeMap<String, String>) -> bool {
        self.env
            .iter()
            .all(|(name, value)| env.get(name) == value.as_ref())
            && self.files.iter().all(|(path, id)| identity(path) == *id)
            && self.globs.iter().all(Glob::holds)
    }
}

impl Glob {
    fn holds(&self) -> bool {
        let same = |(dir, id): &(PathBuf, Option<Identity>)| identity(dir) == *id;
        self.dirs.iter().all(same)
            || find(&self.root, &self.pattern, &self.exclude, &mut |_| {})
                .is_ok_and(|found| digest(&found) == self.found)
    }
}

fn digest(names: &[String]) -> Digest {
    Digest::of(names.join("\n").as_bytes())
}

/// Of what a path leads to.
fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|meta| Identity::of(&meta))
}

fn is_young(id: &Identity) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
    now.saturating_sub(id.mtime.max(id.ctime)) <= TICKS
}
