//! Files that jobs made once and that no rule makes any more.

use super::ledger::Ledger;
use super::rescue::digest;
use crate::disk::{self, Disk};
use crate::rules::Rules;
use std::fs::FileType;
use std::path::Path;
use std::sync::Arc;

/// A file that no rule makes any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obsolete {
    /// Its name in the workspace.
    pub name: String,
    /// Whether it is as the job made it; if not, it is somebody's work by now, and stays.
    pub is_as_made: bool,
}

/// Finds what no rule makes any more, below a directory of the workspace (its name, empty for the root), and
/// removes it, if `remove` says so.
///
/// # Errors
/// The system call that failed.
pub fn collect(
    (root, state): (&Path, &Path),
    disk: Arc<dyn Disk>,
    rules: &Rules,
    below: &str,
    remove: bool,
) -> disk::Result<Vec<Obsolete>> {
    let mut ledger = Ledger::open(state, disk.clone())?;
    // An anti-rule recognises what nobody is to make.
    let is_over = |name: &&str| rules.candidates(name).is_empty() && !rules.sources.names(name);
    let names = ledger.names().filter(is_over);
    let names = names.filter(|name| Path::new(name).starts_with(below));
    let names: Vec<String> = names.map(str::to_owned).collect();
    let mut found = Vec::new();
    for name in names {
        let path = root.join(&name);
        let kind = path.symlink_metadata().map(|meta| meta.file_type());
        let made = ledger.get(&name).and_then(|thing| thing.digest);
        let is_as_made = match (&kind, made) {
            (Ok(kind), Some(made)) => kind.is_file() && digest(&path) == Some(made),
            (Ok(kind), None) => FileType::is_symlink(kind),
            (Err(_gone), _) => true,
        };
        if kind.is_ok() {
            found.push(Obsolete {
                name: name.clone(),
                is_as_made,
            });
        }
        if remove && is_as_made {
            if kind.is_ok() {
                disk.unlink(&path)?;
            }
            ledger.remove(&name);
        }
    }
    ledger.write()?;
    Ok(found)
}
