//! What is different between two trees. Pure.

use super::{Entry, What};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// How a name of one tree differs from that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Another kind, content, or text of a link.
    Content,
    /// Only other permissions.
    Mode,
    /// Only another time of modification.
    Time,
}

/// A name that is not the same in two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The name.
    pub path: PathBuf,
    /// What is different.
    pub change: Change,
    /// Whether it is a directory, in the second where both have it.
    pub is_dir: bool,
}

/// All names that are different, in order. Owners are not compared.
#[must_use]
pub fn compare(
    one: &BTreeMap<PathBuf, Entry>,
    other: &BTreeMap<PathBuf, Entry>,
) -> Vec<Difference> {
    let paths: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let difference = |path: &PathBuf| {
        let (one, other) = (one.get(path), other.get(path));
        let change = match (one, other) {
            (Some(one), Some(other)) => change(one, other)?,
            (Some(_), None) => Change::Removed,
            (None, _) => Change::Added,
        };
        Some(Difference {
            path: path.clone(),
            change,
            is_dir: other.or(one).is_some_and(|entry| entry.what == What::Dir),
        })
    };
    paths.into_iter().filter_map(difference).collect()
}

fn change(one: &Entry, other: &Entry) -> Option<Change> {
    match () {
        () if one.what != other.what => Some(Change::Content),
        () if one.mode != other.mode => Some(Change::Mode),
        () if one.mtime != other.mtime => Some(Change::Time),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;

    fn file(text: &str, mode: u32, mtime: i64) -> Entry {
        Entry {
            what: What::File {
                digest: Digest::of(text.as_bytes()),
                size: text.len() as u64,
            },
            mode,
            owner: [0, 0],
            mtime,
        }
    }

    #[test]
    fn each_difference_is_told_once_and_the_greatest() {
        let tree = |entries: &[(&str, Entry)]| -> BTreeMap<PathBuf, Entry> {
            let owned = |(path, entry): &(&str, Entry)| (PathBuf::from(path), entry.clone());
            entries.iter().map(owned).collect()
        };
        let one = tree(&[
            ("a", file("a", 0o644, 1)),
            ("b", file("b", 0o644, 1)),
            ("c", file("c", 0o644, 1)),
            ("d", file("d", 0o644, 1)),
            ("e", file("e", 0o644, 1)),
        ]);
        let other = tree(&[
            ("a", file("a", 0o644, 1)),
            ("b", file("B", 0o600, 2)),
            ("c", file("c", 0o600, 2)),
            ("d", file("d", 0o644, 2)),
            ("f", file("f", 0o644, 1)),
        ]);
        let found: Vec<_> = compare(&one, &other)
            .into_iter()
            .map(|one| (one.path.display().to_string(), one.change))
            .collect();
        let expected = [
            ("b", Change::Content),
            ("c", Change::Mode),
            ("d", Change::Time),
            ("e", Change::Removed),
            ("f", Change::Added),
        ];
        assert_eq!(
            found,
            expected.map(|(path, change)| (path.to_owned(), change))
        );
    }
}
