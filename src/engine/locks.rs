//! Which jobs commands of one workspace are at, so that no job is run by two of them at a time.
//!
//! A lock is a byte of a file, held by the open file: whoever dies has released all of his.

use crate::base::Digest;
use crate::disk::{self, Disk};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::path::Path;

/// The byte that every command shares as long as it lives.
const COMMANDS: i64 = 0;

/// The locks that one command holds.
#[derive(Debug)]
pub(super) struct Locks(File);

impl Locks {
    pub(super) fn open(path: &Path, disk: &dyn Disk) -> disk::Result<Self> {
        disk.open_shared(path).map(Self)
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Counts this command among those at work.
    pub(super) fn enter(&self) {
        let _shared = fcntl(
            &self.0,
            FcntlArg::F_OFD_SETLK(&byte(COMMANDS, libc::F_RDLCK)),
        );
    }

    /// Whether no other command is at work. In doubt there is one.
    pub(super) fn alone(&self) -> bool {
        let mut lock = byte(COMMANDS, libc::F_WRLCK);
        let asked = fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut lock));
        asked.is_ok() && i32::from(lock.l_type) == libc::F_UNLCK
    }

    /// Takes the lock of a job, unless another command has it.
    pub(super) fn take(&self, job: Digest) -> bool {
        let lock = byte(number(job), libc::F_WRLCK);
        fcntl(&self.0, FcntlArg::F_OFD_SETLK(&lock)).is_ok()
    }

    /// Gives the lock of a job back.
    pub(super) fn release(&self, job: Digest) {
        let lock = byte(number(job), libc::F_UNLCK);
        let _released = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&lock));
    }
}

/// The byte of a job. Two that share one run one after the other.
fn number(job: Digest) -> i64 {
    let [a, b, c, d, e, f, g, ..] = job.0;
    1 + i64::from_le_bytes([a, b, c, d, e, f, g, 0])
}

fn byte(at: i64, kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_one_commands_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Locks::open(&dir.path().join("jobs"), &crate::disk::RealDisk).unwrap();
        let (one, two) = (open(), open());
        one.enter();
        assert!(one.alone() && !two.alone());
        two.enter();
        assert!(!one.alone());
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert!(one.take(a) && one.take(a), "it has it already");
        assert!(!two.take(a) && two.take(b));
        one.release(a);
        assert!(two.take(a));
        drop(two);
        assert!(one.take(a) && one.take(b) && one.alone());
    }
}
