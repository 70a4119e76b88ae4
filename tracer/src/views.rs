//! Directories that a process sees in the place of others, by bind mounts in a mount namespace of its own.
//!
//! Its paths are walked by the names that it uses, which are also those that `/proc` tells of it; what is looked
//! at and told are the files themselves. This file mounts nothing.

use crate::event::{Exec, FdTarget, Walk};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// What is seen where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Views(Vec<(PathBuf, PathBuf)>);

impl Views {
    /// Pairs of a directory and what is seen in its place: absolute, free of links, and none of them within
    /// another one.
    #[must_use]
    pub fn new(pairs: Vec<(PathBuf, PathBuf)>) -> Self {
        Self(pairs)
    }

    /// The file that a path of the process leads to, where the path is absolute and free of links.
    #[must_use]
    pub fn real<'p>(&self, path: &'p Path) -> Cow<'p, Path> {
        let inside = self
            .0
            .iter()
            .find_map(|(at, real)| Some((real, path.strip_prefix(at).ok()?)));
        match inside {
            Some((real, rest)) if rest.as_os_str().is_empty() => Cow::Owned(real.clone()),
            Some((real, rest)) => Cow::Owned(real.join(rest)),
            None => Cow::Borrowed(path),
        }
    }

    /// Whether a program, or what loads it, was walked to at a place where something else is seen.
    #[must_use]
    pub fn hide(&self, exec: &Exec) -> bool {
        let mut walks = exec.interpreters.iter().chain([&exec.program]);
        walks.any(|walk| matches!(self.real(&walk.path), Cow::Owned(_)))
    }

    fn replace(&self, path: &mut PathBuf) {
        if let Cow::Owned(real) = self.real(path) {
            *path = real;
        }
    }

    pub(crate) fn walk(&self, walk: &mut Walk) {
        self.replace(&mut walk.path);
        for link in &mut walk.links {
            self.replace(link);
        }
    }

    pub(crate) fn target(&self, target: &mut FdTarget) {
        if let FdTarget::File { path, .. } | FdTarget::Dir(path) | FdTarget::Other(path) = target {
            self.replace(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::End;

    #[test]
    fn what_is_told_are_the_files_themselves() {
        let views = Views::new(vec![("/w/cur".into(), "/w/v/one".into())]);
        for (seen, real) in [
            ("/w/cur", "/w/v/one"),
            ("/w/cur/a/b", "/w/v/one/a/b"),
            ("/w/current", "/w/current"),
            ("/w", "/w"),
            ("/w/v/one/a", "/w/v/one/a"),
        ] {
            assert_eq!(views.real(Path::new(seen)), Path::new(real));
        }
        let mut walk = Walk {
            path: "/w/cur/f".into(),
            links: vec!["/w/l".into(), "/w/cur/l".into()],
            end: End::Absent,
        };
        views.walk(&mut walk);
        assert_eq!(walk.path, Path::new("/w/v/one/f"));
        assert_eq!(walk.links, [Path::new("/w/l"), Path::new("/w/v/one/l")]);
        let mut target = FdTarget::Dir("/w/cur".into());
        views.target(&mut target);
        assert_eq!(target, FdTarget::Dir("/w/v/one".into()));
    }
}
