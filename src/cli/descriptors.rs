//! The descriptors that the program was started with. They are the command's; ours is to hold none of
//! them longer than needed, since a pipe ends when its last holder has gone.

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, IntoRawFd, RawFd};

/// Puts `/dev/null` where descriptors 0 to 2 are closed, so that no file of ours takes their number and
/// gets what is meant for the user. Closed by execve(2): the command finds them closed.
pub(super) fn occupy_standard() {
    for fd in [
        &std::io::stdin().as_fd(),
        &std::io::stdout().as_fd(),
        &std::io::stderr().as_fd(),
    ] {
        if fcntl(fd, FcntlArg::F_GETFD).is_err() {
            // The lowest free number is the closed one's.
            if let Ok(null) = null() {
                let _kept = null.into_raw_fd();
            }
        }
    }
}

/// Descriptors above 2 that are not closed by execve(2): all that there are when the program starts.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<RawFd>);

impl Inherited {
    /// What there is now. To be called before anything of ours is open.
    pub(super) fn list() -> Self {
        let Ok(entries) = std::fs::read_dir("/proc/self/fdinfo") else {
            return Self(Vec::new());
        };
        let numbers = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|fd: &RawFd| *fd > 2 && survives_exec(*fd))
            .collect();
        Self(numbers)
    }

    /// Closes them in this process.
    pub(super) fn close(self) {
        for fd in self.0 {
            let _closed = nix::unistd::close(fd);
        }
    }
}

fn survives_exec(fd: RawFd) -> bool {
    let Ok(info) = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")) else {
        return false;
    };
    info.lines()
        .filter_map(|line| line.strip_prefix("flags:"))
        .filter_map(|flags| i32::from_str_radix(flags.trim(), 8).ok())
        .any(|flags| flags & OFlag::O_CLOEXEC.bits() == 0)
}

/// Gives up standard input and output: the command has its own.
pub(super) fn leave_input_and_output() {
    if let Ok(null) = null() {
        let _in = nix::unistd::dup2_stdin(&null);
        let _out = nix::unistd::dup2_stdout(&null);
    }
}

/// Gives up standard error: nothing more is said.
pub(super) fn leave_errors() {
    if let Ok(null) = null() {
        let _err = nix::unistd::dup2_stderr(&null);
    }
}

fn null() -> nix::Result<std::os::fd::OwnedFd> {
    open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
}
