//! What a directory holds, in a form that two of them can be compared by. Knows nothing of rfs but
//! the name of the directory where it keeps its state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Time stamps outside of this (2024 to 2029) were set on purpose by somebody, so they are compared.
const BY_THE_CLOCK: std::ops::Range<i64> = 1_704_067_200..1_893_456_000;

/// One name in a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    /// Content of a file, or the text of a link, made printable.
    content: String,
    digest: Option<blake3::Hash>,
    /// The first name of the inode, when it has several.
    same_as: Option<PathBuf>,
    /// Only when it was set on purpose.
    mtime: Option<(i64, i64)>,
}

/// Every name under a directory, `.rfs` left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

impl Tree {
    /// Whether a symbolic link may lead out of it.
    pub fn leads_out(&self) -> bool {
        let mut links = self.0.values().filter(|entry| entry.kind == "link");
        links.any(|link| link.content.starts_with(['.', '/']))
    }

    /// Reads the tree under `root`.
    pub fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        let mut links = BTreeMap::new();
        let mut stack = vec![PathBuf::new()];
        while let Some(dir) = stack.pop() {
            let mut names: Vec<_> = fs::read_dir(root.join(&dir))
                .unwrap_or_else(|e| panic!("list {}: {e}", dir.display()))
                .map(|entry| entry.unwrap().file_name())
                .filter(|name| !(dir.as_os_str().is_empty() && name == ".rfs"))
                .collect();
            names.sort();
            for name in names {
                let path = dir.join(name);
                let entry = Entry::read(root, &path, &mut links);
                if entry.kind == "dir" {
                    stack.push(path.clone());
                }
                tree.0.insert(path, entry);
            }
        }
        tree.name_link_groups();
        tree
    }

    /// The walk's order is not the order of names: make the first name of each group its own.
    fn name_link_groups(&mut self) {
        let mut first: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        for (path, entry) in &self.0 {
            if let Some(group) = &entry.same_as {
                first.entry(group.clone()).or_insert_with(|| path.clone());
            }
        }
        for entry in self.0.values_mut() {
            entry.same_as = entry.same_as.take().map(|group| first[&group].clone());
        }
    }

    /// The paths that are not the same in both.
    pub fn differing(&self, other: &Self) -> Vec<PathBuf> {
        let both: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differ = both
            .into_iter()
            .filter(|path| self.0.get(*path) != other.0.get(*path));
        differ.cloned().collect()
    }

    /// What differs, one line a difference; empty when the trees are equal.
    pub fn diff(&self, other: &Self) -> String {
        let mut text = String::new();
        for (path, entry) in &self.0 {
            let path_shown = path.display();
            match other.0.get(path) {
                None => writeln!(text, "  - {path_shown}: {entry:?}").unwrap(),
                Some(found) if found != entry => {
                    writeln!(text, "  - {path_shown}: {entry:?}").unwrap();
                    writeln!(text, "  + {path_shown}: {found:?}").unwrap();
                }
                Some(_) => {}
            }
        }
        for (path, entry) in &other.0 {
            if !self.0.contains_key(path) {
                writeln!(text, "  + {}: {entry:?}", path.display()).unwrap();
            }
        }
        text
    }
}

impl Entry {
    fn read(root: &Path, path: &Path, links: &mut BTreeMap<(u64, u64), PathBuf>) -> Self {
        let full = root.join(path);
        let meta =
            fs::symlink_metadata(&full).unwrap_or_else(|e| panic!("lstat {}: {e}", full.display()));
        let kind = meta.file_type();
        let (mut content, mut digest) = (Vec::new(), None);
        if kind.is_symlink() {
            content = fs::read_link(&full)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec();
        } else if kind.is_file() {
            content = fs::read(&full).unwrap_or_else(|e| panic!("read {}: {e}", full.display()));
            digest = Some(blake3::hash(&content));
            content.truncate(200);
        }
        let same_as = (meta.nlink() > 1 && !kind.is_dir()).then(|| {
            let group = links.entry((meta.dev(), meta.ino()));
            group.or_insert_with(|| path.to_path_buf()).clone()
        });
        let kind = match () {
            () if kind.is_dir() => "dir",
            () if kind.is_file() => "file",
            () if kind.is_symlink() => "link",
            () if kind.is_fifo() => "fifo",
            () if kind.is_socket() => "socket",
            () => "device",
        };
        Self {
            kind,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            content: content.escape_ascii().to_string(),
            digest,
            same_as,
            mtime: (!BY_THE_CLOCK.contains(&meta.mtime()))
                .then(|| (meta.mtime(), meta.mtime_nsec())),
        }
    }
}

/// Fails with the differences when the trees are not equal.
pub fn assert_same(bare: &Tree, wrapped: &Tree, when: &str) {
    let diff = bare.diff(wrapped);
    assert!(
        diff.is_empty(),
        "{when}: the trees differ (- bare, + wrapped)\n{diff}"
    );
}
