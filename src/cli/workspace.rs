//! Which directory is the workspace, and its `.rfs/`.

use super::error::CommandError;
use crate::disk::{self, At, Disk};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The directory of a workspace that holds what rfs keeps there.
pub(super) const STATE: &str = ".rfs";

const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory was made by rfs. It can be removed when no build is running.\n\
    # For information about cache directory tags see https://bford.info/cachedir/\n";

/// The workspace of a directory, both without symbolic links: the nearest ancestor that has `.rfs`,
/// `.git` or an `Rfsfile`, else the directory itself.
pub(super) fn find(cwd: &Path) -> PathBuf {
    let marked = |dir: &&Path| {
        [STATE, ".git", crate::rules::load::RFSFILE]
            .iter()
            .any(|mark| dir.join(mark).symlink_metadata().is_ok())
    };
    cwd.ancestors().find(marked).unwrap_or(cwd).to_owned()
}

/// Makes `.rfs/` in the workspace where it is not there yet; whether it has made it.
///
/// # Errors
/// The system call that failed, with its path.
pub(super) fn prepare(root: &Path, disk: &dyn Disk) -> Result<bool, disk::Error> {
    let state = root.join(STATE);
    let made = unless(ErrorKind::AlreadyExists, disk.mkdir(&state, 0o755))?.is_some();
    // A link, as a repository can bring one along, would have us write somewhere else.
    if !state.symlink_metadata().at("lstat", &state)?.is_dir() {
        return Err(io::Error::from(ErrorKind::NotADirectory)).at("mkdir", &state);
    }
    // Also where a run that was cut short has left the directory without them, or them without their text.
    for (name, text) in [("CACHEDIR.TAG", CACHEDIR_TAG), (".gitignore", "*\n")] {
        let path = state.join(name);
        let found = path.symlink_metadata();
        if found.is_ok_and(|found| found.is_file() && found.len() < text.len() as u64) {
            unless(ErrorKind::NotFound, disk.unlink(&path))?;
        }
        if let Some(file) = unless(ErrorKind::AlreadyExists, disk.create(&path, 0o644))? {
            disk.write_at(&file, &path, text.as_bytes(), 0)?;
        }
    }
    Ok(made)
}

/// Nothing where the call failed for this reason: somebody else has done it.
fn unless<T>(reason: ErrorKind, done: disk::Result<T>) -> disk::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.source.kind() == reason => Ok(None),
        Err(error) => Err(error),
    }
}

/// The workspace of a directory, for who is about to work in it.
///
/// # Errors
/// It is one that nobody wants.
pub(super) fn of(cwd: &Path) -> Result<PathBuf, CommandError> {
    let root = find(cwd);
    refuse_root(&root)?;
    Ok(root)
}

/// A workspace that nobody wants.
pub(super) fn refuse_root(root: &Path) -> Result<(), CommandError> {
    if root != Path::new("/") {
        return Ok(());
    }
    Err(
        CommandError::new("the root directory of the system cannot be a workspace")
            .hint("change to the project's directory; `rfs init` there makes it a workspace"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FaultyDisk, RealDisk, Temper};
    use std::fs;

    #[test]
    fn the_nearest_marked_ancestor_is_the_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(dir.path().join(".rfs")).unwrap();
        assert_eq!(find(&deep), dir.path());
        // A git worktree has a file there.
        fs::File::create(dir.path().join("a/.git")).unwrap();
        assert_eq!(find(&deep), dir.path().join("a"));
    }

    #[test]
    fn state_is_made_once_and_completed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(prepare(dir.path(), &RealDisk).unwrap());
        let tag = dir.path().join(".rfs/CACHEDIR.TAG");
        fs::remove_file(&tag).unwrap();
        assert!(!prepare(dir.path(), &RealDisk).unwrap());
        assert_eq!(fs::read_to_string(tag).unwrap(), CACHEDIR_TAG);
        assert_eq!(
            fs::read_to_string(dir.path().join(".rfs/.gitignore")).unwrap(),
            "*\n"
        );
    }

    #[test]
    fn every_write_may_fail_and_is_made_up_for() {
        for temper in [
            Temper::Once(libc::ENOSPC),
            Temper::Torn(libc::EIO),
            Temper::Dead,
        ] {
            for k in 0..5 {
                let dir = tempfile::tempdir().unwrap();
                let disk = FaultyDisk::new(k, temper);
                let error = prepare(dir.path(), &disk).unwrap_err();
                assert!(error.path.starts_with(dir.path()), "{error}");
                let _made = prepare(dir.path(), &RealDisk).unwrap();
                for (name, text) in [("CACHEDIR.TAG", CACHEDIR_TAG), (".gitignore", "*\n")] {
                    let found = fs::read_to_string(dir.path().join(STATE).join(name));
                    assert_eq!(found.unwrap(), text, "{name} after {temper:?} {k}");
                }
            }
        }
    }

    #[test]
    fn the_system_is_no_workspace() {
        assert!(refuse_root(Path::new("/")).is_err());
        assert!(refuse_root(Path::new("/w")).is_ok());
    }
}
