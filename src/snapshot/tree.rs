//! A tree as it is now.

use super::{Entry, Error, What};
use crate::base::{Kind, Seen};
use crate::disk::At;
use crate::world::{OURS, World};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What version control keeps by itself, wherever it lies.
const FOREIGN: [&str; 5] = [".git", ".hg", ".jj", ".svn", ".bzr"];

/// How often a file may change while it is read.
const PATIENCE: usize = 5;

/// What is there, and what a snapshot cannot keep.
#[derive(Debug, Default)]
pub struct Tree {
    /// Names relative to the root.
    pub entries: BTreeMap<PathBuf, (Entry, Arc<Seen>)>,
    /// What is left out, and why.
    pub left_out: BTreeMap<PathBuf, String>,
}

/// Looks at everything in a workspace but what is ours and what is kept by version control.
///
/// # Errors
/// A directory cannot be read, or a file changes all the time.
pub fn look(world: &World) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    let root = world.root().to_owned();
    let device = world.look(&root).seen.id.dev;
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        let at = root.join(&dir);
        for entry in std::fs::read_dir(&at).at("getdents", &at)? {
            let name = entry.at("getdents", &at)?.file_name();
            let path = dir.join(&name);
            if path == Path::new(OURS) {
                continue;
            }
            if FOREIGN.iter().any(|foreign| name == *foreign) {
                let why = "version control keeps it";
                tree.left_out.insert(path, why.to_owned());
                continue;
            }
            match entry_of(world, &root.join(&path), device)? {
                Found::Entry(entry, seen) => {
                    if entry.what == What::Dir {
                        open.push(path.clone());
                    }
                    tree.entries.insert(path, (entry, seen));
                }
                Found::Not(why) => {
                    tree.left_out.insert(path, why);
                }
                Found::Nothing => {}
            }
        }
    }
    Ok(tree)
}

enum Found {
    Entry(Entry, Arc<Seen>),
    Not(String),
    /// It has gone since.
    Nothing,
}

fn entry_of(world: &World, path: &Path, device: u64) -> Result<Found, Error> {
    for _ in 0..PATIENCE {
        let seen = world.look(path).seen;
        let what = match seen.kind {
            Kind::Dir if seen.id.dev != device => {
                return Ok(Found::Not("something is mounted there".to_owned()));
            }
            Kind::Dir => What::Dir,
            Kind::Link => What::Link(seen.text.clone()),
            Kind::File => match world.digest(path, &seen) {
                Ok(digest) => What::File {
                    digest,
                    size: seen.id.size,
                },
                Err(libc::ESTALE | libc::ENOENT) => {
                    world.forget(path);
                    continue;
                }
                Err(errno) => {
                    let why = std::io::Error::from_raw_os_error(errno);
                    return Ok(Found::Not(format!("it cannot be read: {why}")));
                }
            },
            Kind::Fifo => return Ok(Found::Not("it is a fifo".to_owned())),
            Kind::Socket => return Ok(Found::Not("it is a socket".to_owned())),
            Kind::Device => return Ok(Found::Not("it is a device".to_owned())),
            Kind::Absent => return Ok(Found::Nothing),
            Kind::Unknown(errno) => {
                let why = std::io::Error::from_raw_os_error(errno);
                return Ok(Found::Not(format!("it cannot be looked at: {why}")));
            }
        };
        let [mode, uid, gid] = seen.mode;
        let entry = Entry {
            mode: match what {
                What::Link(_) => 0,
                What::Dir | What::File { .. } => mode,
            },
            what,
            owner: [uid, gid],
            mtime: seen.id.mtime,
        };
        return Ok(Found::Entry(entry, seen));
    }
    Err(Error::Restless(path.to_owned()))
}
