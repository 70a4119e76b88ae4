//! The file of `--summary`: there whole or not at all, and never one of an earlier build.

use crate::disk::{self, At, Disk};
use crate::report::Summary;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Writes the counts: a regular file by rename, anything else (a fifo, `/dev/stderr`) as it is.
///
/// # Errors
/// A system call fails; the path told is the one that the user gave.
pub(super) fn write(path: &Path, summary: &Summary, disk: &dyn Disk) -> disk::Result<()> {
    let json = summary.json();
    if is_special(path) {
        let mut file = OpenOptions::new().write(true).open(path).at("open", path)?;
        return file.write_all(json.as_bytes()).at("write", path);
    }
    replace(path, &json, disk).map_err(|error| disk::Error {
        path: path.to_owned(),
        ..error
    })
}

/// Puts a text in the place of a file in one moment.
pub(super) fn replace(path: &Path, text: &str, disk: &dyn Disk) -> disk::Result<()> {
    disk.replace(path, text.as_bytes(), 0o644)
}

/// Removes the one of an earlier build, where this build will write none.
pub(super) fn remove(path: &Path, disk: &dyn Disk) {
    if !is_special(path) {
        let _not_there = disk.unlink(path);
    }
}

fn is_special(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| !meta.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FaultyDisk, RealDisk, Temper};
    use std::fs;
    use std::time::Duration;

    #[test]
    fn a_failure_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.json");
        let summary = Summary::of(&[], Duration::ZERO);
        write(&path, &summary, &RealDisk).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(first, summary.json());
        for k in 0..4 {
            let disk = FaultyDisk::new(k, Temper::Torn(libc::ENOSPC));
            write(&path, &Summary::of(&[], Duration::from_secs(9)), &disk).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), first, "fault at {k}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "fault at {k}");
        }
        remove(&path, &RealDisk);
        assert!(!path.exists());
    }

    #[test]
    fn a_device_is_written_to_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        write(&link, &Summary::of(&[], Duration::ZERO), &RealDisk).unwrap();
        remove(&link, &RealDisk);
        assert!(link.symlink_metadata().unwrap().is_symlink());
    }
}
