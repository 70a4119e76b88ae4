//! The descriptors of a GNU make jobserver. How many jobs run at once decides nothing of what they make, so
//! to a step they are nothing that it was started with: tokens are neither inputs nor outputs.

use super::Watch;
use super::close::alive;
use rfs_tracer::event::{Exec, Fd, FdTarget, Pid};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

impl Watch {
    /// At most how many tokens live processes hold: of what a process has started, each but the first needs
    /// one, and so does each of its threads but the first.
    #[must_use]
    pub fn n_held(&self) -> usize {
        let model = self.model();
        let procs: Vec<(Pid, Option<Pid>)> = model
            .procs
            .iter()
            .map(|(pid, proc)| (*pid, proc.parent))
            .collect();
        drop(model);
        let mut children: HashMap<Pid, usize> = HashMap::new();
        let mut n_held = 0;
        for (pid, parent) in procs.into_iter().filter(|(pid, _)| alive(*pid)) {
            n_held += std::fs::read_dir(format!("/proc/{pid}/task"))
                .map_or(0, |threads| threads.count().saturating_sub(1));
            if let Some(parent) = parent {
                let children = children.entry(parent).or_default();
                n_held += usize::from(*children > 0);
                *children += 1;
            }
        }
        n_held
    }

    /// How many processes were killed so far: they have not given back what they held.
    #[must_use]
    pub fn n_killed(&self) -> usize {
        self.n_killed.load(Ordering::Relaxed)
    }
}

/// Takes the descriptors of a jobserver out of those that the program starts with; `ours` is the inode number
/// of the pipe that we made. Gives the fifos that serve as one.
pub(super) fn leave_out(exec: &mut Exec, ours: Option<u64>) -> Vec<PathBuf> {
    let mut fifos = Vec::new();
    if let Some(ours) = ours {
        let is_it = |entry: &Fd| matches!(entry.target, FdTarget::Pipe(ino, _) if ino == ours);
        exec.fds.retain(|entry| entry.fd <= 2 || !is_it(entry));
    }
    for jobserver in named(&exec.env) {
        match jobserver {
            Jobserver::Fifo(path) => fifos.extend(exec.cwd.join(path).canonicalize()),
            Jobserver::Pipe(read, write) => {
                if let Some(pipe) = is_jobserver(&exec.fds, read, write) {
                    exec.fds.retain(|entry| entry.target != pipe);
                }
            }
        }
    }
    fifos
}

/// What the flags of make say of a jobserver.
#[derive(Debug, PartialEq, Eq)]
enum Jobserver {
    /// The descriptors to read from and to write to.
    Pipe(i32, i32),
    /// The name of a fifo (GNU make 4.4).
    Fifo(PathBuf),
}

/// The pipe of which `read` and `write` are the ends, unless it is a standard stream: the variable outlives
/// the descriptors, whose numbers may have come to mean something else.
fn is_jobserver(fds: &[Fd], read: i32, write: i32) -> Option<FdTarget> {
    let end = |number: i32, closed_to: i32| {
        let entry = fds.iter().find(|entry| entry.fd == number)?;
        (entry.flags & libc::O_ACCMODE != closed_to).then_some(&entry.target)
    };
    let pipe = end(read, libc::O_WRONLY)?;
    let same = end(write, libc::O_RDONLY)? == pipe && matches!(pipe, FdTarget::Pipe(..));
    let standard = fds
        .iter()
        .any(|entry| entry.fd <= 2 && entry.target == *pipe);
    (same && !standard).then(|| pipe.clone())
}

/// What `--jobserver-auth` or, before GNU make 4.2, `--jobserver-fds` names in an environment.
fn named(env: &[Vec<u8>]) -> Vec<Jobserver> {
    let flags = env
        .iter()
        .filter(|entry| entry.starts_with(b"MAKEFLAGS=") || entry.starts_with(b"CARGO_MAKEFLAGS="));
    let words = flags.flat_map(|entry| entry.split(|byte| *byte == b' ' || *byte == b'='));
    words.filter_map(jobserver).collect()
}

fn jobserver(word: &[u8]) -> Option<Jobserver> {
    if let Some(path) = word.strip_prefix(b"fifo:") {
        return Some(Jobserver::Fifo(OsStr::from_bytes(path).into()));
    }
    let (read, write) = std::str::from_utf8(word).ok()?.split_once(',')?;
    Some(Jobserver::Pipe(read.parse().ok()?, write.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd(fd: i32, target: FdTarget, flags: i32) -> Fd {
        Fd {
            fd,
            target,
            flags,
            pos: 0,
        }
    }

    #[test]
    fn a_jobserver_is_named_by_the_flags_of_make() {
        let env = [b"MAKEFLAGS= -j2 --jobserver-auth=3,4".to_vec()];
        assert_eq!(named(&env), [Jobserver::Pipe(3, 4)]);
        let old = [b"MAKEFLAGS=w --jobserver-fds=5,6 -j -- CC=gcc".to_vec()];
        assert_eq!(named(&old), [Jobserver::Pipe(5, 6)]);
        let fifo = [b"MAKEFLAGS=--jobserver-auth=fifo:/tmp/x".to_vec()];
        assert_eq!(named(&fifo), [Jobserver::Fifo("/tmp/x".into())]);
    }

    #[test]
    fn it_is_both_ends_of_one_pipe() {
        let (pipe, other) = (FdTarget::Pipe(1, 7), FdTarget::Pipe(1, 8));
        let ends = [
            fd(3, pipe.clone(), libc::O_RDONLY),
            fd(4, pipe.clone(), libc::O_WRONLY),
        ];
        assert_eq!(is_jobserver(&ends, 3, 4), Some(pipe.clone()));
        assert_eq!(is_jobserver(&ends, 4, 3), None, "the wrong way round");
        let two = [ends[0].clone(), fd(4, other, libc::O_WRONLY)];
        assert_eq!(is_jobserver(&two, 3, 4), None, "two pipes");
        let mut output = ends.to_vec();
        output.push(fd(1, pipe, libc::O_WRONLY));
        assert_eq!(is_jobserver(&output, 3, 4), None, "standard output");
    }
}
