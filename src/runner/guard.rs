//! A process that outlives the one that runs jobs, to clean up when that was killed.
//!
//! It waits at the end of a pipe. Knows nothing of what there is to clean up.

use nix::fcntl::OFlag;
use nix::unistd::{getppid, pipe2};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is said when nothing is to be done.
const ALL_IS_WELL: u8 = b'.';

/// How long a killed process is waited for.
const DYING: Duration = Duration::from_secs(10);

/// The other end of the pipe. If it is dropped without a word, the guard goes to work.
#[derive(Debug)]
pub struct Guard(File);

impl Guard {
    /// Starts a guard: a program that is to call [`watch`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(argv: &[OsString]) -> io::Result<Self> {
        let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
        let (program, args) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        Command::new(program)
            .args(args)
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The terminal's signals are not for it.
            .process_group(0)
            .spawn()?;
        Ok(Self(ours.into()))
    }

    /// Nothing is to be cleaned up.
    pub fn dismiss(mut self) {
        let _gone = self.0.write_all(&[ALL_IS_WELL]);
    }
}

/// Waits on standard input until the guarded process is done or dead. Whether there is work to do.
#[must_use]
pub fn watch() -> bool {
    let guarded = getppid();
    let mut word = Vec::new();
    if io::stdin().read_to_end(&mut word).is_err() || word == [ALL_IS_WELL] {
        return false;
    }
    // The pipe may be closed before the locks are; we are given to another parent after both.
    let begun = Instant::now();
    while getppid() == guarded && begun.elapsed() < DYING {
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}
