//! What the host tells the front, and the wire for it.

use crate::runner;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// The command runs: its process id.
    Started(i32),
    /// It did not run.
    Failed(Failure),
    /// It ran, but sight of it was lost.
    Lost(String),
    /// It has exited with this status, and everything is recorded.
    Exited(i32),
    /// It has died by this signal, and everything is recorded.
    Died(i32),
}

/// Why the command did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    /// View or tracer cannot be had.
    Watch(String),
    /// The command cannot be executed: its name and errno.
    Exec(String, i32),
}

impl From<runner::Error> for Failure {
    fn from(error: runner::Error) -> Self {
        match error {
            runner::Error::Mount(..) | runner::Error::Trace(_) | runner::Error::Bind(..) => {
                Self::Watch(short(&error.to_string()))
            }
            runner::Error::Exec(name, source) => {
                Self::Exec(short(&name), source.raw_os_error().unwrap_or(libc::EACCES))
            }
        }
    }
}

/// So that every message fits.
fn short(text: &str) -> String {
    text.chars().take(LONGEST / 8).collect()
}

impl Word {
    /// What is to be said when waiting for the command is over.
    pub(super) fn of(how: Result<runner::Ended, runner::Error>) -> Self {
        match how.map_err(Failure::from) {
            Ok(runner::Ended::Exit(status)) => Self::Exited(status),
            Ok(runner::Ended::Signal(signal)) => Self::Died(signal),
            Err(failure @ Failure::Exec(..)) => Self::Failed(failure),
            Err(Failure::Watch(reason)) => Self::Lost(reason),
        }
    }
}

/// One end: messages arrive whole, and the end of the other side is seen.
#[derive(Debug)]
pub(super) struct End(OwnedFd);

/// No message is longer.
const LONGEST: usize = 16 * 1024;

/// Both ends, closed by execve(2).
pub(super) fn pair() -> io::Result<(End, End)> {
    let (one, other) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    Ok((End(one), End(other)))
}

impl End {
    /// Sends one message. It is no error when nobody is there to read it.
    pub(super) fn say(&self, word: &Word) {
        let bytes = postcard::to_stdvec(word).expect("BUG: a message of ours cannot be encoded");
        let _gone = send(self.0.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL);
    }

    /// Waits for a message; none when the other side has gone.
    pub(super) fn hear(&self) -> io::Result<Option<Word>> {
        let mut buffer = vec![0; LONGEST];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) | Err(nix::Error::ECONNRESET) => return Ok(None),
                Ok(n) => {
                    return postcard::from_bytes(&buffer[..n])
                        .map(Some)
                        .map_err(io::Error::other);
                }
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_and_so_does_the_end() {
        let (front, host) = pair().unwrap();
        let words = [
            Word::Started(7),
            Word::Failed(Failure::Exec("mkae".into(), 2)),
            Word::Died(15),
        ];
        for word in &words {
            host.say(word);
        }
        drop(host);
        for word in words {
            assert_eq!(front.hear().unwrap(), Some(word));
        }
        assert_eq!(front.hear().unwrap(), None);
        front.say(&Word::Started(1));
    }
}
