//! Path names as records hold them: relative to the workspace inside it, absolute outside.

use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A path name in bytes, without `.`, `..` or symbolic links that were not looked at as such.
///
/// INVARIANT: absolute names lie outside the workspace; the empty name is the workspace's root.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// The name of an absolute path, given the workspace's root.
    #[must_use]
    pub fn of(path: &Path, root: &Path) -> Self {
        let inside = path.strip_prefix(root).unwrap_or(path);
        Self(inside.as_os_str().as_bytes().into())
    }

    /// What [`Self::bytes`] gave. From elsewhere it is to be asked whether it [is clean](Self::is_clean).
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The absolute path of the name, given the workspace's root.
    #[must_use]
    pub fn at(&self, root: &Path) -> PathBuf {
        if self.0.is_empty() {
            root.to_owned()
        } else {
            root.join(self.as_path())
        }
    }

    /// Whether the name lies in the workspace.
    #[must_use]
    pub fn inside(&self) -> bool {
        self.0.first() != Some(&b'/')
    }

    /// The name as a path, relative inside the workspace.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a record from elsewhere may carry it: no empty, `.` or `..` component, no NUL byte.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let rest = self.0.strip_prefix(b"/").unwrap_or(&self.0);
        !self.0.contains(&0)
            && (rest.is_empty()
                || rest
                    .split(|b| *b == b'/')
                    .all(|part| !matches!(part, b"" | b"." | b"..")))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.0.is_empty() { b"." } else { &*self.0 };
        write!(f, "{}", text.escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_inside_only() {
        let root = Path::new("/w/s");
        assert_eq!(
            Name::of(Path::new("/w/s/a/b"), root).as_path(),
            Path::new("a/b")
        );
        assert_eq!(
            Name::of(Path::new("/w/sa"), root).as_path(),
            Path::new("/w/sa")
        );
        assert_eq!(Name::of(root, root).at(root), root);
        assert_eq!(
            Name::of(Path::new("/w/s/a/b"), root).at(root),
            Path::new("/w/s/a/b")
        );
    }

    #[test]
    fn unclean_names_are_known() {
        let name = |bytes: &[u8]| Name(bytes.into());
        assert!(name(b"a/b").is_clean() && name(b"/a").is_clean() && name(b"").is_clean());
        for bad in [
            &b"a/../b"[..],
            b"../x",
            b"a//b",
            b"/..",
            b"a/./b",
            b"a\0b",
            b"a/",
        ] {
            assert!(!name(bad).is_clean(), "{bad:?}");
        }
    }
}
