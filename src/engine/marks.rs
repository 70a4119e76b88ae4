//! What people have said of single files: that they are to be made anew, left as they are, or that their
//! changes are nobody's reason to run. One line each in `.rfs/marks`.

use crate::disk::{self, At, Disk};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

/// What is said of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The job that makes it is to run again.
    Forgotten,
    /// No job makes it: it is taken as it is.
    Frozen,
    /// A change of it is no reason to run anything.
    Quiet,
}

impl Mark {
    const ALL: [Self; 3] = [Self::Forgotten, Self::Frozen, Self::Quiet];

    fn word(self) -> &'static str {
        match self {
            Self::Forgotten => "forgotten",
            Self::Frozen => "frozen",
            Self::Quiet => "quiet",
        }
    }
}

/// The marks of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks(BTreeSet<(Mark, String)>);

impl Marks {
    /// Reads them.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn read(path: &Path) -> disk::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.at("read", path)?,
        };
        let marks = text.lines().filter_map(|line| {
            let (word, name) = line.split_once(' ')?;
            let mark = Mark::ALL.into_iter().find(|mark| mark.word() == word)?;
            Some((mark, name.to_owned()))
        });
        Ok(Self(marks.collect()))
    }

    /// Writes them.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn write(&self, path: &Path, disk: &dyn Disk) -> disk::Result<()> {
        let lines = self
            .0
            .iter()
            .map(|(mark, name)| format!("{} {name}\n", mark.word()));
        let text: String = lines.collect();
        disk.replace(path, text.as_bytes(), 0o644)
    }

    /// Whether a file has a mark.
    #[must_use]
    pub fn has(&self, mark: Mark, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&(mark, name.to_owned()))
    }

    /// The files that have a mark, sorted.
    pub fn of(&self, mark: Mark) -> impl Iterator<Item = &str> {
        let those = self.0.iter().filter(move |(other, _)| *other == mark);
        those.map(|(_, name)| name.as_str())
    }

    /// Gives a file a mark, or takes it away. Whether that changes anything.
    pub fn set(&mut self, mark: Mark, name: &str, on: bool) -> bool {
        let entry = (mark, name.to_owned());
        if on {
            self.0.insert(entry)
        } else {
            self.0.remove(&entry)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn marks_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("marks");
        let mut marks = Marks::read(&path).unwrap();
        assert!(marks.set(Mark::Frozen, "a b", true) && !marks.set(Mark::Frozen, "a b", true));
        assert!(marks.set(Mark::Quiet, "c", true));
        marks.write(&path, &RealDisk).unwrap();
        let mut again = Marks::read(&path).unwrap();
        assert_eq!(again, marks);
        assert!(again.has(Mark::Frozen, "a b") && !again.has(Mark::Quiet, "a b"));
        assert!(again.set(Mark::Frozen, "a b", false));
        assert_eq!(again.of(Mark::Frozen).count(), 0);
        assert_eq!(again.of(Mark::Quiet).collect::<Vec<_>>(), ["c"]);
    }
}
