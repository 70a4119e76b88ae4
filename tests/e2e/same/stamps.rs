//! The order of the time stamps in a tree.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// When each name was changed, in nanoseconds.
#[derive(Debug)]
pub struct Stamps(Vec<(PathBuf, i128)>);

impl Stamps {
    /// Of everything but directories under `root`, `.rfs` left out, and of the `marks`.
    pub fn read(root: &Path, marks: &[PathBuf]) -> Self {
        let mut stamps = Vec::new();
        let mut stack = vec![root.to_path_buf()];
        while let Some(dir) = stack.pop() {
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
        let marks = marks.iter().map(|mark| (mark.clone(), stamp(mark)));
        Self(marks.chain(stamps).collect())
    }

    /// Pairs that are the other way round in `other`. Where things were done side by side only those
    /// with a mark have an order.
    pub fn turned(&self, other: &Self, n_marks: usize, in_order: bool) -> Vec<String> {
        let mut turned = Vec::new();
        if self.0.iter().zip(&other.0).any(|(a, b)| a.0 != b.0) || self.0.len() != other.0.len() {
            return turned;
        }
        for (i, (first, bare_first)) in self.0.iter().enumerate() {
            for (j, (second, bare_second)) in self.0.iter().enumerate() {
                let counts = in_order || (i < n_marks) != (j < n_marks);
                if counts && bare_first < bare_second && other.0[i].1 > other.0[j].1 {
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
