//! The links below `/proc/<tid>`: working directory, program, descriptors, as the process names them.
//!
//! The kernel tells them from the root of the mount namespace where that is not the reader's. So what
//! the first process has for a root, say a chroot that its namespace has copied, is cut off.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Reads links.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// The root of the first process as the kernel tells it; none for `/`.
    root: OnceLock<Option<PathBuf>>,
}

impl Links {
    /// Notes the root that all processes are supposed to have.
    pub(crate) fn start(&self, pid: i32) {
        let root = || {
            fs::read_link(format!("/proc/{pid}/root"))
                .ok()
                .filter(|r| r != Path::new("/"))
        };
        self.root.get_or_init(root);
    }

    /// What a link says. A file that the process cannot name has a text that is no absolute path.
    pub(crate) fn read(&self, tid: i32, name: impl Display) -> io::Result<PathBuf> {
        let text = fs::read_link(format!("/proc/{tid}/{name}"))?;
        match self.root.get().and_then(Option::as_ref) {
            None => Ok(text),
            Some(root) => Ok(below(root, text)),
        }
    }

    /// Whether a thread has another root than the first process.
    pub(crate) fn is_rooted_elsewhere(&self, tid: i32) -> bool {
        let root = self
            .root
            .get()
            .and_then(Option::as_deref)
            .unwrap_or(Path::new("/"));
        fs::read_link(format!("/proc/{tid}/root")).is_ok_and(|own| own != root)
    }
}

fn below(root: &Path, text: PathBuf) -> PathBuf {
    if !text.is_absolute() {
        return text;
    }
    match text.strip_prefix(root) {
        Ok(rest) => Path::new("/").join(rest),
        Err(_) => {
            let mut told = OsString::from("(unreachable)");
            told.push(text);
            told.into()
        }
    }
}

/// Leaves out what has no name: pipes, sockets, removed files. Who really calls a file `x (deleted)` is
/// not told apart.
pub(crate) fn named(link: PathBuf) -> Option<PathBuf> {
    is_named(&link).then_some(link)
}

pub(crate) fn is_named(link: &Path) -> bool {
    let bytes = link.as_os_str().as_bytes();
    bytes.first() == Some(&b'/') && !bytes.ends_with(b" (deleted)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_below_the_root() {
        let root = Path::new("/srv/root");
        for (told, name) in [
            ("/srv/root/etc/x", "/etc/x"),
            ("/srv/root", "/"),
            ("/srv/rootless", "(unreachable)/srv/rootless"),
            ("pipe:[7]", "pipe:[7]"),
        ] {
            assert_eq!(below(root, told.into()), Path::new(name));
        }
        assert!(!is_named(&below(root, "/tmp".into())));
    }

    #[test]
    fn what_has_no_name_is_left_out() {
        for (told, has) in [("/a", true), ("/a (deleted)", false), ("socket:[1]", false)] {
            assert_eq!(named(told.into()).is_some(), has);
        }
    }
}
