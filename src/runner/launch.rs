//! Starts pinned processes side by side and waits for them. They are plain processes: nothing is watched
//! or recorded.

use super::bind::{Binding, Placement};
use super::pmi::{Server, Wish};
use super::spawn::{self, Usage};
use super::{Ended, Error};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{ForkResult, Pid, pipe2};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// A process to start.
#[derive(Debug)]
pub struct Process {
    /// The command.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it is to run.
    pub binding: Binding,
    /// A descriptor that it inherits.
    pub inherits: Option<OwnedFd>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Started {
    pid: Pid,
    /// Where it runs, as the kernel tells.
    pub placement: Placement,
}

/// How one has ended.
#[derive(Debug, Clone, Copy)]
pub struct Over {
    /// Status or signal.
    pub ended: Ended,
    /// What it has used.
    pub usage: Usage,
}

/// Starts them all, each with the signal mask `mask`. To be called while the process has one thread.
///
/// # Errors
/// When one cannot be bound or executed; those started before are killed then.
pub fn start(processes: &[Process], mask: &SigSet) -> Result<Vec<Started>, Error> {
    let mut started: Vec<Started> = Vec::new();
    for process in processes {
        match start_one(process, mask) {
            Ok(one) => started.push(one),
            Err(error) => {
                for one in &started {
                    let _gone = kill(one.pid, Signal::SIGKILL);
                }
                return Err(error);
            }
        }
    }
    Ok(started)
}

fn start_one(process: &Process, mask: &SigSet) -> Result<Started, Error> {
    let name = process.argv.first().cloned().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let no = |error| Error::Exec(name.clone(), error);
    let argv = strings(process.argv.iter()).map_err(no)?;
    let env: Vec<OsString> = process
        .env
        .iter()
        .map(|(name, value)| assignment(name, value))
        .collect();
    let env = strings(env.iter()).map_err(no)?;
    let failed =
        |call: &str, error: &dyn std::fmt::Display| Error::Trace(format!("{call}: {error}"));
    let (word, told) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("pipe2", &errno))?;
    match spawn::fork().map_err(|error| failed("fork", &error))? {
        ForkResult::Child => {
            drop(word);
            let mut told = File::from(told);
            if let Some(fd) = &process.inherits {
                let _kept = fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()));
            }
            let last = become_it(&process.binding, mask, &argv, &env, &mut told);
            let _heard = told.write_all(last.as_bytes());
            spawn::leave(127)
        }
        ForkResult::Parent { child } => {
            drop(told);
            let mut text = String::new();
            File::from(word)
                .read_to_string(&mut text)
                .map_err(|error| failed("read", &error))?;
            let placement = hear(&text, &name, &process.binding)?;
            Ok(Started {
                pid: child,
                placement,
            })
        }
    }
}

/// In the child: binds it, tells what came of that, and executes. Returns what is to be told of a failure.
fn become_it(
    binding: &Binding,
    mask: &SigSet,
    argv: &[CString],
    env: &[CString],
    told: &mut File,
) -> String {
    let errno = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    if let Err(error) = binding.take() {
        return format!("bind {}\n", errno(&error));
    }
    let placed = Placement::of_this_process().and_then(
        |Placement {
             cpus,
             nodes,
             memory,
         }| { told.write_all(format!("placed {cpus} {nodes} {memory}\n").as_bytes()) },
    );
    if let Err(error) = placed {
        return format!("bind {}\n", errno(&error));
    }
    let _as_before = mask.thread_set_mask();
    match nix::unistd::execvpe(&argv[0], argv, env) {
        Err(error) => format!("exec {}\n", error as i32),
    }
}

/// What the child has told before it executed, or why it could not.
fn hear(text: &str, name: &str, binding: &Binding) -> Result<Placement, Error> {
    let mut placement = None;
    for line in text.lines() {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let error = || io::Error::from_raw_os_error(rest.parse().unwrap_or(libc::EIO));
        match what {
            "placed" => {
                // The last may have a blank in it.
                let mut fields = rest.splitn(3, ' ');
                let mut set = || {
                    fields
                        .next()
                        .unwrap_or_default()
                        .parse()
                        .unwrap_or_default()
                };
                placement = Some(Placement {
                    cpus: set(),
                    nodes: set(),
                    memory: fields.next().unwrap_or_default().to_owned(),
                });
            }
            "exec" => return Err(Error::Exec(name.to_owned(), error())),
            _ => return Err(Error::Bind(binding.clone(), error())),
        }
    }
    placement.ok_or_else(|| Error::Trace(format!("{name}: was killed before it could start")))
}

fn assignment(name: &OsString, value: &OsString) -> OsString {
    let mut text = name.clone();
    text.push("=");
    text.push(value);
    text
}

fn strings<'a>(texts: impl Iterator<Item = &'a OsString>) -> io::Result<Vec<CString>> {
    let string = |text: &OsString| CString::new(text.as_bytes()).map_err(io::Error::other);
    texts.map(string).collect()
}

/// Waits for them all, and serves them meanwhile. Signals that come by `coming` and were sent to us alone are passed on; those of the
/// terminal have reached the processes too.
///
/// # Errors
/// When the kernel does not let us wait.
pub fn wait(
    started: &[Started],
    coming: &SignalFd,
    mut server: Option<Server>,
) -> io::Result<Vec<Over>> {
    let mut over: Vec<Option<Over>> = vec![None; started.len()];
    loop {
        while over.iter().any(Option::is_none) {
            let Some((pid, ended, usage)) = spawn::ended_child()? else {
                break;
            };
            if let Some(at) = started.iter().position(|one| one.pid == pid) {
                over[at] = Some(Over { ended, usage });
            }
        }
        if let Some(all) = over.iter().copied().collect::<Option<Vec<_>>>() {
            return Ok(all);
        }
        let wires = server.as_ref().map(Server::wires).unwrap_or_default();
        let mut fds = vec![PollFd::new(coming.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            wires
                .iter()
                .map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN)),
        );
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let heard = wires.iter().zip(&fds[1..]);
        let heard = heard.filter(|(_, fd)| fd.any().unwrap_or(false));
        let heard: Vec<usize> = heard.map(|((rank, _), _)| *rank).collect();
        if let Some(server) = &mut server {
            for rank in heard {
                if server.hear(rank) != Wish::Abort {
                    continue;
                }
                // Also the one who says so: it waits for that.
                for (one, over) in started.iter().zip(&over) {
                    if over.is_none() {
                        let _gone = kill(one.pid, Signal::SIGKILL);
                    }
                }
            }
        }
        while let Some(info) = coming.read_signal()? {
            let number = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
            let signal = Signal::try_from(number)?;
            if signal == Signal::SIGCHLD || info.ssi_code == libc::SI_KERNEL {
                continue;
            }
            for (one, over) in started.iter().zip(&over) {
                if over.is_none() {
                    let _gone = kill(one.pid, signal);
                }
            }
        }
    }
}
