//! The links below `/proc/<tid>`: working directory, program, descriptors, as the process names them.
//!
//! The kernel tells them from the root of the mount namespace where that is not the reader's. So what
//! the first process has for a root, say a chroot that its namespace has copied, is cut off.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
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
        let at = format!("/proc/{tid}/{name}");
        let text = fs::read_link(&at)?;
        match self.root.get().and_then(Option::as_ref) {
            None => Ok(text),
            // What was opened before the namespace was made is told from our own root, which is theirs.
            Some(root) if !text.starts_with(root) && is_same(&text, &at) => Ok(text),
            Some(root) => Ok(below(root, text)),
        }
    }

    /// The same of a file that has a name.
    pub(crate) fn named(&self, tid: i32, name: impl Display) -> io::Result<Option<PathBuf>> {
        let at = format!("/proc/{tid}/{name}");
        let link = self.read(tid, name)?;
        Ok(is_named(&link, &at).then_some(link))
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

/// Whether a name is that of the file behind a link of `/proc`.
fn is_same(name: &Path, at: &str) -> bool {
    let id = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    name.is_absolute() && id(name).is_some_and(|found| Some(found) == id(Path::new(at)))
}

/// Whether a link is the name of a file: pipes, sockets and removed files have none. One that was removed
/// is told with a mark at its end, which others may have for a name.
pub(crate) fn is_named(link: &Path, at: &str) -> bool {
    let bytes = link.as_os_str().as_bytes();
    if bytes.first() != Some(&b'/') {
        return false;
    }
    !bytes.ends_with(b" (deleted)") || (fs::symlink_metadata(link).is_ok() && is_linked(at))
}

/// Whether the file behind a link of `/proc` has a name. No filesystem is woken for it.
fn is_linked(at: &str) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    statx(CWD, at, AtFlags::STATX_DONT_SYNC, StatxFlags::NLINK).is_ok_and(|stat| stat.stx_nlink > 0)
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
        assert!(!is_named(&below(root, "/tmp".into()), ""));
    }

    #[test]
    fn what_was_opened_in_our_own_root_has_its_name() {
        use std::os::fd::AsRawFd;
        let file = tempfile::NamedTempFile::new().unwrap();
        let links = Links {
            root: OnceLock::from(Some("/srv/root".into())),
        };
        let pid = i32::try_from(std::process::id()).unwrap();
        let read = || links.read(pid, format_args!("fd/{}", file.as_file().as_raw_fd()));
        assert_eq!(read().unwrap(), file.path());
        // Another file has the name now.
        fs::remove_file(file.path()).unwrap();
        let _other = fs::File::create(file.path()).unwrap();
        assert!(!read().unwrap().is_absolute());
    }

    #[test]
    fn what_has_no_name_is_left_out() {
        use std::os::fd::AsRawFd;
        let links = Links::default();
        let me = i32::try_from(std::process::id()).unwrap();
        let named = |file: &dyn AsRawFd| {
            let fd = file.as_raw_fd();
            links.named(me, format_args!("fd/{fd}")).unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "a (deleted)"] {
            let path = dir.path().join(name);
            let file = fs::File::create(&path).unwrap();
            assert_eq!(named(&file), Some(path.clone()));
            fs::remove_file(&path).unwrap();
            assert_eq!(named(&file), None, "{name}");
        }
        assert_eq!(named(&nix::unistd::pipe().unwrap().0), None);
    }
}
