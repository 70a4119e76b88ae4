//! One budget of jobs for all tools of a build: a jobserver as GNU make makes one, which make, cargo, rustc,
//! gcc's LTO and ninja (from 1.13 on) take their tokens from.
//!
//! A tool that is killed takes the tokens with it that it holds. Those are put back, as soon as it is certain
//! that nobody else holds them.

use crate::base::makeflags::with_jobs;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{dup, mkfifo, pipe2, write};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The first number for the ends of the pipe: scripts use small ones for themselves.
const FIRST_FD: RawFd = 60;
/// Any byte does.
const TOKEN: u8 = b'+';
/// More tokens than a pipe surely holds cannot be had: writing them would block.
pub const MAX_JOBS: usize = 4096;

/// How tools find the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Two inherited descriptors: any make, cargo, gcc; no ninja.
    Pipe,
    /// A name: GNU make from 4.4 on, cargo, gcc from 13 on, ninja from 1.13 on. Nobody inherits anything.
    Fifo,
}

impl Style {
    /// What suits the command: a fifo unless an older make than 4.4 might be at work in it.
    #[must_use]
    pub fn suiting(argv: &[OsString], env: &[(OsString, OsString)]) -> Self {
        let name = argv.first().map(Path::new).and_then(Path::file_name);
        match name.and_then(OsStr::to_str) {
            Some("ninja" | "samu") => return Self::Fifo,
            Some("make" | "gmake") => {}
            _ => return Self::of_make(OsStr::new("make"), env),
        }
        Self::of_make(&argv[0], env)
    }

    fn of_make(make: &OsStr, env: &[(OsString, OsString)]) -> Self {
        let asked = Command::new(make)
            .arg("--version")
            .env_clear()
            .envs(env.iter().filter(|(name, _)| name == "PATH").cloned())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        match asked {
            Ok(output) if knows_fifos(&output.stdout) => Self::Fifo,
            Ok(_) => Self::Pipe,
            Err(_) => Self::Fifo,
        }
    }
}

/// What a make says of its version.
fn knows_fifos(says: &[u8]) -> bool {
    let text = String::from_utf8_lossy(says);
    let version = text.strip_prefix("GNU Make ").unwrap_or_default();
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) >= (4, 4))
}

/// The tokens of one build.
#[derive(Debug)]
pub struct Jobserver {
    tokens: Mutex<Tokens>,
    read: OwnedFd,
    write: OwnedFd,
    way: Way,
}

#[derive(Debug)]
struct Tokens {
    /// How many jobs may run at once.
    jobs: usize,
    /// Tokens beyond that, which are still with somebody.
    over: usize,
}

#[derive(Debug)]
enum Way {
    /// The ends that the command inherits, until they are closed here.
    Pipe(RawFd, RawFd),
    /// A fifo in a directory of its own.
    Fifo(tempdir::Dir),
}

impl Jobserver {
    /// With a token for each of `jobs` jobs but one, which everyone has. Descriptors that the next child
    /// inherits are open until [`Self::started`].
    ///
    /// # Errors
    /// When a system call fails.
    pub fn new(jobs: usize, style: Style, temporary: &Path) -> io::Result<Self> {
        let (read, write, way) = match style {
            Style::Pipe => {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                let first = fcntl(&read, FcntlArg::F_DUPFD(FIRST_FD))?;
                let second = fcntl(&write, FcntlArg::F_DUPFD(FIRST_FD))?;
                (read, write, Way::Pipe(first, second))
            }
            Style::Fifo => {
                let dir = tempdir::Dir::new(temporary)?;
                let both = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
                mkfifo(&dir.fifo(), Mode::S_IRUSR | Mode::S_IWUSR)?;
                let read = nix::fcntl::open(&dir.fifo(), both, Mode::empty())?;
                let write = dup(&read)?;
                fcntl(&write, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
                (read, write, Way::Fifo(dir))
            }
        };
        let jobs = jobs.clamp(1, MAX_JOBS);
        let server = Self {
            tokens: Mutex::new(Tokens { jobs, over: 0 }),
            read,
            write,
            way,
        };
        server.give(jobs - 1)?;
        Ok(server)
    }

    /// Makes an environment tell of it.
    pub fn tell(&self, env: &mut Vec<(OsString, OsString)>) {
        let mut jobs = format!("-j{} --jobserver-auth=", self.tokens().jobs).into_bytes();
        match &self.way {
            Way::Pipe(read, write) => jobs.extend(format!("{read},{write}").bytes()),
            Way::Fifo(dir) => {
                jobs.extend(b"fifo:");
                jobs.extend(dir.fifo().as_os_str().as_bytes());
            }
        }
        let is_it = |(name, _): &&(OsString, OsString)| name == "MAKEFLAGS";
        let before = env.iter().find(is_it).map(|(_, value)| value.clone());
        // An older one would be asked first.
        env.retain(|(name, _)| {
            name != "MAKEFLAGS" && name != "CARGO_MAKEFLAGS" && name != "MFLAGS"
        });
        let flags = with_jobs(before.unwrap_or_default().as_bytes(), &jobs);
        env.push(("MAKEFLAGS".into(), OsString::from_vec(flags)));
    }

    /// The command has inherited what it needs.
    pub fn started(&self) {
        if let Way::Pipe(read, write) = self.way {
            let _closed = nix::unistd::close(read);
            let _closed = nix::unistd::close(write);
        }
    }

    /// Inode number of the pipe that the command inherits, if it does.
    #[must_use]
    pub fn inherited(&self) -> Option<u64> {
        match self.way {
            Way::Pipe(..) => fstat(&self.read).map(|stat| stat.st_ino).ok(),
            Way::Fifo(_) => None,
        }
    }

    /// Puts back what has been lost for certain, when `n_held` is the most that anybody can hold. To be asked
    /// again and again, with all answers kept in `seen`: a token is lost if it was so for some time.
    pub fn recover(&self, n_held: usize, seen: &mut Missing) -> io::Result<usize> {
        let there = rustix::io::ioctl_fionread(&self.read)?;
        let there = usize::try_from(there).unwrap_or(usize::MAX);
        let all = {
            let tokens = self.tokens();
            tokens.jobs - 1 + tokens.over
        };
        let missing = all.saturating_sub(there.saturating_add(n_held));
        let lost = seen.add(missing);
        self.give(lost)?;
        Ok(lost)
    }

    /// From now on so many jobs may run at once. Tokens that are too many are taken as they come back: to be
    /// called again and again.
    ///
    /// # Errors
    /// When a system call fails.
    pub fn resize(&self, jobs: usize) -> io::Result<()> {
        let mut tokens = self.tokens();
        let jobs = jobs.clamp(1, MAX_JOBS);
        let all = tokens.jobs + tokens.over;
        tokens.jobs = jobs;
        tokens.over = all.saturating_sub(jobs);
        self.give(jobs.saturating_sub(all))?;
        if tokens.over > 0 {
            tokens.over -= self.take(tokens.over)?;
        }
        Ok(())
    }

    /// Takes at most `n` tokens, without waiting for any.
    fn take(&self, n: usize) -> io::Result<usize> {
        // Of its own, since whether reading waits is the same for all who share an open file.
        let path = format!("/proc/self/fd/{}", self.read.as_raw_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let own = nix::fcntl::open(path.as_str(), flags, Mode::empty())?;
        match nix::unistd::read(&own, &mut vec![0; n]) {
            Ok(taken) => Ok(taken),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, n: usize) -> io::Result<()> {
        if n > 0 {
            write(&self.write, &vec![TOKEN; n])?;
        }
        Ok(())
    }
}

/// How many tokens were missing at the last looks.
#[derive(Debug, Default)]
pub struct Missing(Vec<usize>);

impl Missing {
    /// Between taking a token and starting a job, or the end of one and giving the token back, a tool holds
    /// a token that nobody sees; that does not last for so many looks.
    const LOOKS: usize = 4;

    fn add(&mut self, missing: usize) -> usize {
        self.0.push(missing);
        if self.0.len() < Self::LOOKS {
            return 0;
        }
        let lost = self.0.iter().copied().min().unwrap_or(0);
        match lost {
            0 => drop(self.0.remove(0)),
            _ => self.0.clear(),
        }
        lost
    }

    /// Whether nothing was missing for some time.
    #[must_use]
    pub fn nothing(&self) -> bool {
        self.0.len() + 1 >= Self::LOOKS && self.0.iter().all(|&missing| missing == 0)
    }
}

/// A directory that nobody else can look into.
mod tempdir {
    use std::io;
    use std::path::{Path, PathBuf};

    #[derive(Debug)]
    pub(super) struct Dir(PathBuf);

    impl Dir {
        pub(super) fn new(parent: &Path) -> io::Result<Self> {
            Ok(Self(nix::unistd::mkdtemp(&parent.join("rfs-jobs-XXXXXX"))?))
        }

        pub(super) fn fifo(&self) -> PathBuf {
            self.0.join("tokens")
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _gone = nix::unistd::unlink(&self.fifo());
            let _gone = nix::unistd::unlinkat(
                nix::fcntl::AT_FDCWD,
                &self.0,
                nix::unistd::UnlinkatFlags::RemoveDir,
            );
        }
    }
}

/// Where an environment wants temporary files.
#[must_use]
pub fn temporary(env: &[(OsString, OsString)]) -> PathBuf {
    let named = env.iter().find(|(name, _)| name == "TMPDIR");
    let named = named.map(|(_, value)| PathBuf::from(value));
    // A name with a space would end the word in the flags.
    let fits = |path: &PathBuf| path.is_absolute() && !path.as_os_str().as_bytes().contains(&b' ');
    named.filter(fits).unwrap_or_else(|| PathBuf::from("/tmp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_make() {
        assert!(!knows_fifos(b"GNU Make 4.3\nBuilt for x"));
        assert!(knows_fifos(b"GNU Make 4.4.1\n") && knows_fifos(b"GNU Make 5.0\n"));
        assert!(!knows_fifos(b"bmake") && !knows_fifos(b""));
    }

    #[test]
    fn what_is_missing_for_long_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        for style in [Style::Fifo, Style::Pipe] {
            let server = Jobserver::new(4, style, dir.path()).unwrap();
            server.started();
            let mut seen = Missing::default();
            let mut recover = |n| server.recover(n, &mut seen).unwrap();
            assert_eq!([recover(0), recover(0), recover(0), recover(0)], [0; 4]);
            let mut two = [0; 2];
            assert_eq!(nix::unistd::read(&server.read, &mut two).unwrap(), 2);
            assert_eq!([recover(2), recover(2), recover(1), recover(2)], [0; 4]);
            assert_eq!([recover(1), recover(1), recover(0)], [0; 3]);
            assert_eq!(recover(0), 1, "for one of them there is no holder");
            assert_eq!(
                [recover(0), recover(0), recover(0), recover(0)],
                [0, 0, 0, 1]
            );
            assert_eq!([recover(0), recover(0), recover(0), recover(0)], [0; 4]);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_budget_that_changes() {
        let dir = tempfile::tempdir().unwrap();
        for style in [Style::Fifo, Style::Pipe] {
            let server = Jobserver::new(4, style, dir.path()).unwrap();
            server.started();
            let there = || rustix::io::ioctl_fionread(&server.read).unwrap();
            let mut two = [0; 2];
            assert_eq!(nix::unistd::read(&server.read, &mut two).unwrap(), 2);
            server.resize(1).unwrap();
            assert_eq!(there(), 0, "two are still held");
            server.give(1).unwrap();
            server.resize(2).unwrap();
            assert_eq!(there(), 0, "one of them is the one that may be");
            server.give(1).unwrap();
            server.resize(2).unwrap();
            assert_eq!(there(), 1);
            let mut seen = Missing::default();
            for _ in 0..8 {
                assert_eq!(server.recover(0, &mut seen).unwrap(), 0);
            }
            server.resize(9).unwrap();
            assert_eq!(there(), 8);
            server.resize(0).unwrap();
            assert_eq!(there(), 0);
        }
    }

    #[test]
    fn the_environment_names_one_jobserver() {
        let dir = tempfile::tempdir().unwrap();
        let server = Jobserver::new(3, Style::Fifo, dir.path()).unwrap();
        let mut env = vec![
            ("CARGO_MAKEFLAGS".into(), "-j --jobserver-auth=8,9".into()),
            ("MAKEFLAGS".into(), "k --jobserver-auth=3,4".into()),
            ("TMPDIR".into(), "/a b".into()),
        ];
        assert_eq!(temporary(&env), Path::new("/tmp"));
        server.tell(&mut env);
        assert_eq!(env.len(), 2);
        let flags = env[1].1.to_str().unwrap();
        assert!(
            flags.starts_with("k -j3 --jobserver-auth=fifo:/"),
            "{flags}"
        );
        assert_eq!(server.inherited(), None);
    }
}
