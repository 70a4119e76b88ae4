//! The order of the time stamps in a tree.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// When each name was changed, in nanoseconds.
#[derive(Debug)]
pub struct Stamps {
    /// Of everything but directories, and of the marks.
    files: Vec<(PathBuf, i128)>,
    dirs: Vec<(PathBuf, i128)>,
}

impl Stamps {
    /// Of everything but directories under `root`, `.rfs` left out, and of the `marks`.
    pub fn read(root: &Path, marks: &[PathBuf]) -> Self {
        let (mut stamps, mut dirs) = (Vec::new(), Vec::new());
        let mut stack = vec![root.to_path_buf()];
        while let Some(dir) = stack.pop() {
            dirs.push((dir.clone(), stamp(&dir)));
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().is_some_and(|name| name == ".rfs") {
                    continue;
                }
                match path.symlink_metadata().unwrap().is_dir() {
                    true => stack.push(path),
                    false => stamps.push((path.clone(), stamp(&path))),
                }
            }
        }
        stamps.sort();
        dirs.sort();
        let marks = marks.iter().map(|mark| (mark.clone(), stamp(mark)));
        let files = marks.chain(stamps).collect();
        Self { files, dirs }
    }

    /// Whether all pairs compare as in `other`, marks apart, directories included.
    pub fn is_ordered_as(&self, other: &Self) -> bool {
        let ranks = |stamps: &Self| -> Vec<(PathBuf, usize)> {
            let inside = |(path, _): &&(PathBuf, i128)| !is_mark(path);
            let all: Vec<_> = stamps
                .files
                .iter()
                .chain(&stamps.dirs)
                .filter(inside)
                .collect();
            let times: BTreeSet<i128> = all.iter().map(|(_, time)| *time).collect();
            let rank = |time: &i128| times.range(..time).count();
            all.iter()
                .map(|(path, time)| (path.clone(), rank(time)))
                .collect()
        };
        ranks(self) == ranks(other)
    }

    /// Pairs that are the other way round in `other`, directories included but for the workspace's own, in
    /// which `.rfs` is made. Where things were done side by side only those with a mark have an order.
    pub fn turned(&self, other: &Self, n_marks: usize, in_order: bool) -> Vec<String> {
        let mut turned = Vec::new();
        let all = |stamps: &Self| -> Vec<(PathBuf, i128)> {
            let below = stamps.dirs.iter().skip(1);
            stamps.files.iter().chain(below).cloned().collect()
        };
        let (these, others) = (all(self), all(other));
        if these.len() != others.len() || these.iter().zip(&others).any(|(a, b)| a.0 != b.0) {
            return turned;
        }
        for (i, (first, bare_first)) in these.iter().enumerate() {
            for (j, (second, bare_second)) in these.iter().enumerate() {
                let counts = in_order || (i < n_marks) != (j < n_marks);
                if counts && bare_first < bare_second && others[i].1 > others[j].1 {
                    turned.push(format!(
                        "{} older than {}",
                        first.display(),
                        second.display()
                    ));
                }
            }
        }
        turned
    }
}

fn is_mark(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b"mark.")
}

fn stamp(path: &Path) -> i128 {
    let meta = fs::symlink_metadata(path).unwrap();
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// Writes a mark that is younger than everything that was changed before, and not younger than
/// anything that is changed after.
pub fn mark(path: &Path) {
    let write = || {
        fs::write(path, "mark").unwrap();
        stamp(path)
    };
    let before = write();
    while write() == before {}
}
