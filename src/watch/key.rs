//! The weak key: all that is known of a program before it runs.

use super::Watch;
use super::descriptors::is_unseen;
use crate::base::makeflags::{self, is_jobs, without_jobs};
use crate::base::{Digest, Kind, Name, Start, digest::Framed};
use rfs_tracer::event::{Exec, Fd, FdTarget};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Signals that nohup(1) and a shell's `&` ignore: whether they would kill does not change the outcome of
/// a program that nobody interrupts.
const KEYBOARD: u64 = 1 << (libc::SIGHUP - 1) | 1 << (libc::SIGINT - 1) | 1 << (libc::SIGQUIT - 1);
/// Signals that the C library keeps for itself: its posix_spawn(3) leaves them ignored, where a program that
/// was started by fork(2) finds them as they were.
const OF_THE_LIBRARY: u64 = 1 << (32 - 1) | 1 << (33 - 1);
const UNTOLD: u64 = KEYBOARD | OF_THE_LIBRARY;

impl Watch {
    /// The key of a program that is about to start.
    ///
    /// # Errors
    /// Why it cannot be looked up: a reason for people.
    pub(super) fn key(
        &self,
        exec: &Exec,
        name: &str,
        limits: Option<Digest>,
    ) -> Result<Digest, String> {
        let mut key = Framed::new("rfs weak key 1");
        key.part(self.config.machine.as_bytes());
        for walk in std::iter::once(&exec.program).chain(&exec.interpreters) {
            key.part(Name::of(&walk.path, self.world.root()).bytes());
            key.part(&self.program(&walk.path)?.0);
        }
        self.arguments(&mut key, exec, name);
        self.environment(&mut key, exec);
        // Every program can ask where it is, and many write it down.
        key.part(exec.cwd.as_os_str().as_bytes());
        key.number(u64::from(exec.umask));
        exec.ids.iter().for_each(|id| {
            key.number(u64::from(*id));
        });
        key.number(exec.ignored & !UNTOLD);
        key.part(limits.as_ref().map_or(&[], |limits| &limits.0));
        self.descriptors(&mut key, exec)?;
        Ok(key.finish())
    }

    /// What a step is given beside its command, for people.
    pub(super) fn given(&self, exec: &Exec) -> Start {
        let [uid, euid, gid, egid] = exec.ids;
        let mut around = vec![
            format!("umask {:03o}", exec.umask),
            format!("user {uid} {euid}, group {gid} {egid}"),
            format!("ignored signals {:x}", exec.ignored & !UNTOLD),
            format!("directory {}", exec.cwd.display()),
            format!(
                "machine {}",
                self.config.machine.lines().next().unwrap_or_default()
            ),
        ];
        let fds = exec.fds.iter();
        around.extend(fds.map(|fd| format!("descriptor {}: {}", fd.fd, kind(fd))));
        Start {
            env: exec.env.clone(),
            around,
        }
    }

    fn program(&self, path: &Path) -> Result<Digest, String> {
        let seen = self.world.last(path).seen;
        if seen.kind != Kind::File {
            return Err(format!("{} is not a regular file", path.display()));
        }
        self.world
            .digest(path, &seen)
            .map_err(|errno| format!("{} cannot be read (errno {errno})", path.display()))
    }

    /// How many jobs a builder runs at once does not change what it builds.
    fn arguments(&self, key: &mut Framed, exec: &Exec, name: &str) {
        let builder = self
            .config
            .policy
            .jobs_ignore
            .iter()
            .any(|known| known == name);
        let mut args: Vec<&[u8]> = Vec::new();
        let mut words = exec.argv.iter().peekable();
        while let Some(word) = words.next() {
            if builder && !args.is_empty() && is_jobs(word) {
                let detached = matches!(word.as_slice(), b"-j" | b"-l" | b"--jobs");
                let is_number =
                    |next: &&Vec<u8>| next.iter().all(|b| b.is_ascii_digit() || *b == b'.');
                if detached {
                    let _ = words.next_if(is_number).is_some();
                }
                continue;
            }
            args.push(word);
        }
        key.number(args.len() as u64);
        for arg in args {
            key.part(arg);
        }
    }

    fn environment(&self, key: &mut Framed, exec: &Exec) {
        let mut env: Vec<(&[u8], Vec<u8>)> = Vec::with_capacity(exec.env.len());
        for entry in &exec.env {
            let at = entry.iter().position(|b| *b == b'=').unwrap_or(entry.len());
            let (name, value) = (&entry[..at], &entry[at..]);
            if !self.config.policy.env_counts(name) {
                continue;
            }
            let flags = makeflags::NAMES.contains(&name);
            let value = if flags {
                without_jobs(value.strip_prefix(b"=").unwrap_or(value))
            } else {
                value.to_vec()
            };
            // A make that was told nothing but the number of jobs is like none.
            if !(flags && value.is_empty()) {
                env.push((name, value));
            }
        }
        env.sort();
        key.number(env.len() as u64);
        for (name, value) in env {
            key.part(name).part(&value);
        }
    }

    fn descriptors(&self, key: &mut Framed, exec: &Exec) -> Result<(), String> {
        for entry in &exec.fds {
            if is_unseen(entry) {
                let fd = entry.fd;
                return Err(format!("can write to inherited descriptor {fd} unseen"));
            }
            let readable = entry.flags & libc::O_ACCMODE != libc::O_WRONLY;
            key.number(entry.fd.unsigned_abs().into());
            if entry.fd > 0 {
                key.number((entry.flags & libc::O_ACCMODE).unsigned_abs().into());
            }
            let kind = kind(entry);
            key.part(kind.as_bytes());
            if entry.fd > 0 {
                key.number(alias(&exec.fds, entry).unsigned_abs().into());
            }
            match &entry.target {
                FdTarget::File { path, .. } if readable && entry.fd > 2 => {
                    key.part(Name::of(path, self.world.root()).bytes())
                        .number(entry.pos);
                }
                FdTarget::Dir(path) => {
                    key.part(Name::of(path, self.world.root()).bytes());
                }
                FdTarget::Pipe(..) | FdTarget::Socket(_) | FdTarget::Other(_)
                    if entry.fd > 2 && readable && !twin(&exec.fds, entry) =>
                {
                    return Err(format!(
                        "can read from inherited descriptor {} ({kind})",
                        entry.fd
                    ));
                }
                FdTarget::Null
                | FdTarget::Tty(_)
                | FdTarget::Pipe(..)
                | FdTarget::Socket(_)
                | FdTarget::File { .. }
                | FdTarget::Other(_) => (),
            }
        }
        Ok(())
    }
}

/// What kind of thing a descriptor is, as far as it counts.
fn kind(entry: &Fd) -> &'static str {
    match &entry.target {
        FdTarget::Tty(_) => "tty",
        // What it holds counts only if it is read, and then the record says so.
        _ if entry.fd == 0 => "something",
        FdTarget::Null => "null",
        // Where output goes to, if not to a terminal, can only be asked by name, and that is refused.
        FdTarget::Pipe(..) | FdTarget::Socket(_) | FdTarget::File { .. } => "stream",
        FdTarget::Dir(_) => "dir",
        FdTarget::Other(_) => "other",
    }
}

/// The first output descriptor that refers to the same thing: `2>&1` can be seen.
fn alias(fds: &[Fd], entry: &Fd) -> i32 {
    let same = |other: &&Fd| other.fd > 0 && other.target == entry.target;
    fds.iter().find(same).map_or(entry.fd, |other| other.fd)
}

/// Whether a descriptor is a second number of one of the standard ones.
fn twin(fds: &[Fd], entry: &Fd) -> bool {
    fds.iter()
        .any(|other| other.fd <= 2 && other.target == entry.target)
}
