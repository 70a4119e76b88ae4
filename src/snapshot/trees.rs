//! Trees by digest: each directory of a snapshot is an object, so that equal ones lie on the disk once and the digest
//! of the outermost one names the whole.

use super::{Entry, Error, Shelf, What};
use crate::base::Digest;
use crate::disk::At;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The first bytes of a directory. Its digest is of all of it.
const MAGIC: &[u8] = b"rfs tree 1\n";

/// A name of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leaf {
    pub(super) entry: Entry,
    /// What is in it, if it is a directory.
    pub(super) tree: Option<Digest>,
}

/// A directory: what is in it, by name.
pub(super) type Branch = BTreeMap<OsString, Leaf>;

impl Shelf {
    fn tree(&self, digest: &Digest) -> PathBuf {
        self.object("trees", digest)
    }

    /// Keeps a tree. Its digest depends on names, contents and attributes only.
    pub(super) fn plant(&self, entries: &BTreeMap<PathBuf, Entry>) -> Result<Digest, Error> {
        self.mkdir(&self.dir().join("trees"))?;
        let mut branches: BTreeMap<&Path, Branch> = BTreeMap::new();
        // From behind, all that is in a directory comes before it.
        for (path, entry) in entries.iter().rev() {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                continue;
            };
            let tree = match entry.what {
                What::Dir => {
                    let branch = branches.remove(path.as_path()).unwrap_or_default();
                    Some(self.keep_branch(branch)?)
                }
                What::Link(_) | What::File { .. } => None,
            };
            let leaf = Leaf {
                entry: entry.clone(),
                tree,
            };
            let branch = branches.entry(parent).or_default();
            branch.insert(name.to_owned(), leaf);
        }
        let root = branches.remove(Path::new("")).unwrap_or_default();
        self.keep_branch(root)
    }

    fn keep_branch(&self, branch: Branch) -> Result<Digest, Error> {
        let plain: Vec<(Vec<u8>, Leaf)> = branch
            .into_iter()
            .map(|(name, leaf)| (name.into_vec(), leaf))
            .collect();
        let damaged = |error: postcard::Error| Error::Damaged {
            path: self.dir().join("trees"),
            why: error.to_string(),
        };
        let body = postcard::to_stdvec(&plain).map_err(damaged)?;
        let whole = [MAGIC, &body].concat();
        let digest = Digest::of(&whole);
        let path = self.tree(&digest);
        // One that is not what its name says is made anew.
        if self.branch(&digest).is_ok() {
            return Ok(digest);
        }
        if let Some(dir) = path.parent() {
            self.mkdir(dir)?;
        }
        self.write_whole(&whole, &path)?;
        Ok(digest)
    }

    /// A directory of a tree.
    pub(super) fn branch(&self, digest: &Digest) -> Result<Branch, Error> {
        let path = self.tree(digest);
        let bytes = fs::read(&path).at("read", &path)?;
        let damaged = |why: &str| Error::Damaged {
            path: path.clone(),
            why: why.to_owned(),
        };
        if Digest::of(&bytes) != *digest {
            return Err(damaged("its content has another digest"));
        }
        let body = bytes.strip_prefix(MAGIC);
        let body = body.ok_or_else(|| damaged("it is none of this version"))?;
        let plain: Vec<(Vec<u8>, Leaf)> =
            postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))?;
        let is_name = |name: &[u8]| {
            !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
        };
        let is_whole = |leaf: &Leaf| (leaf.entry.what == What::Dir) == leaf.tree.is_some();
        if !plain
            .iter()
            .all(|(name, leaf)| is_name(name) && is_whole(leaf))
        {
            return Err(damaged("it has names that no directory has"));
        }
        let owned = |(name, leaf): (Vec<u8>, Leaf)| (OsString::from_vec(name), leaf);
        Ok(plain.into_iter().map(owned).collect())
    }

    /// All names of a tree.
    pub(super) fn grow(&self, root: &Digest) -> Result<BTreeMap<PathBuf, Entry>, Error> {
        let mut entries = BTreeMap::new();
        let mut open = vec![(PathBuf::new(), *root)];
        while let Some((dir, digest)) = open.pop() {
            for (name, leaf) in self.branch(&digest)? {
                let path = dir.join(name);
                if let Some(tree) = leaf.tree {
                    open.push((path.clone(), tree));
                }
                entries.insert(path, leaf.entry);
            }
        }
        Ok(entries)
    }

    /// Where all that a tree is made of lies, unless it is among `found` already.
    pub(super) fn reach(&self, root: &Digest, found: &mut HashSet<PathBuf>) -> Result<(), Error> {
        let mut open = vec![*root];
        while let Some(digest) = open.pop() {
            if !found.insert(self.tree(&digest)) {
                continue;
            }
            for leaf in self.branch(&digest)?.into_values() {
                if let What::File { digest, .. } = leaf.entry.what {
                    found.insert(self.blob(&digest));
                }
                open.extend(leaf.tree);
            }
        }
        Ok(())
    }
}

/// The bytes of a path.
pub(super) fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
