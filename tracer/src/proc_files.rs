//! Readers of the files below `/proc/<pid>` (proc(5)) that the process model and the gathering of an exec
//! need. It keeps nothing.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use crate::event::Pid;

/// A small file, read by one call: its size is not asked for, since `/proc` never knows.
struct Text {
    bytes: [u8; 4096],
    len: usize,
}

impl Text {
    fn read(path: &str) -> io::Result<Self> {
        let mut file = fs::File::open(path)?;
        let mut text = Self {
            bytes: [0; 4096],
            len: 0,
        };
        text.len = file.read(&mut text.bytes)?;
        Ok(text)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Its lines, but those that are no text: a process may call itself anything.
    fn lines(&self) -> impl Iterator<Item = &str> {
        self.as_bytes()
            .split(|b| *b == b'\n')
            .filter_map(|l| std::str::from_utf8(l).ok())
    }
}

/// What `/proc/<tid>/status` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) tgid: Pid,
    pub(crate) ppid: Pid,
    /// Somebody traces it (ptrace(2)).
    pub(crate) traced: bool,
    pub(crate) umask: u32,
    /// Real, effective user ids; real, effective group ids.
    pub(crate) ids: [u32; 4],
    /// Ignored signals, signal 1 lowest.
    pub(crate) ignored: u64,
    /// All its descriptors are below this number.
    pub(crate) fd_size: i32,
}

impl Status {
    pub(crate) fn read(tid: i32) -> io::Result<Self> {
        let text = Text::read(&format!("/proc/{tid}/status"))?;
        Self::parse(text.lines()).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }

    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        let (mut tgid, mut ppid, mut umask, mut uid, mut gid) = (None, None, 0, [0; 2], [0; 2]);
        let (mut ignored, mut traced, mut fd_size) = (0, false, i32::MAX);
        for line in lines {
            let Some((key, value)) = line.split_once(":\t") else {
                continue;
            };
            let two = || {
                let mut ids = value.split('\t').map_while(|id| id.parse().ok());
                Some([ids.next()?, ids.next()?])
            };
            match key {
                "Umask" => umask = u32::from_str_radix(value, 8).ok()?,
                "Tgid" => tgid = value.parse().ok(),
                "PPid" => ppid = value.parse().ok(),
                "TracerPid" => traced = value != "0",
                "Uid" => uid = two()?,
                "Gid" => gid = two()?,
                "FDSize" => fd_size = value.parse().unwrap_or(i32::MAX),
                "SigIgn" => {
                    ignored = u64::from_str_radix(value, 16).ok()?;
                    break;
                }
                _ => {}
            }
        }
        Some(Self {
            tgid: tgid?,
            ppid: ppid?,
            traced,
            umask,
            ids: [uid[0], uid[1], gid[0], gid[1]],
            ignored,
            fd_size,
        })
    }
}

/// Thread ids of a process; empty when it is gone.
pub(crate) fn tasks(pid: Pid) -> Vec<i32> {
    let dir = format!("/proc/{pid}/task");
    match fs::metadata(&dir) {
        // Two links of any directory and one a thread.
        Ok(meta) if meta.nlink() == 3 => vec![pid],
        Ok(_) => numbers(&dir),
        Err(_) => Vec::new(),
    }
}

/// Open descriptors of a process, ascending.
pub(crate) fn descriptors(pid: Pid) -> Vec<i32> {
    let mut fds = numbers(&format!("/proc/{pid}/fd"));
    fds.sort_unstable();
    fds
}

fn numbers(dir: &str) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Children of a process, zombies included, ascending.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let mut children = Vec::new();
    for task in tasks(pid) {
        // There is no bound on its length.
        let Ok(mut file) = fs::File::open(format!("/proc/{pid}/task/{task}/children")) else {
            continue;
        };
        let mut text = String::with_capacity(256);
        let Ok(_) = (&mut file).take(u64::MAX).read_to_string(&mut text) else {
            continue;
        };
        children.extend(
            text.split_ascii_whitespace()
                .filter_map(|c| c.parse::<Pid>().ok()),
        );
    }
    children.sort_unstable();
    children
}

/// The environment that a program was started with, each entry ended by a zero, if nobody has changed it.
pub(crate) fn environment(tid: i32) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(format!("/proc/{tid}/environ"))?;
    let mut env = Vec::with_capacity(16 << 10);
    file.read_to_end(&mut env)?;
    Ok(env)
}

/// Where the stack of a process begins: another place after each exec, unless addresses are not random.
pub(crate) fn stack_start(pid: Pid) -> Option<u64> {
    let text = Text::read(&format!("/proc/{pid}/stat")).ok()?;
    let text = text.as_bytes();
    let after_name = text.iter().rposition(|b| *b == b')')? + 2;
    // startstack is field 28; the first after the name is field 3.
    let field = text[after_name..].split(|b| *b == b' ').nth(28 - 3)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Offset and flags of an open descriptor, or another line of its fdinfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FdInfo {
    pub(crate) pos: u64,
    /// `O_*` flags, `O_CLOEXEC` included.
    pub(crate) flags: i32,
    /// The process that a pidfd refers to.
    pub(crate) pidfd_of: Option<Pid>,
}

impl FdInfo {
    pub(crate) fn read(tid: i32, fd: i32) -> io::Result<Self> {
        let text = Text::read(&format!("/proc/{tid}/fdinfo/{fd}"))?;
        let mut info = Self {
            pos: 0,
            flags: 0,
            pidfd_of: None,
        };
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim_start();
            match key {
                "pos" => info.pos = value.parse().unwrap_or(0),
                "flags" => info.flags = i32::from_str_radix(value, 8).unwrap_or(0),
                "Pid" => info.pidfd_of = value.parse().ok(),
                _ => {}
            }
        }
        Ok(info)
    }
}

/// The tests share one process: those that make children of it come alone, those that ask for its children together.
#[cfg(test)]
pub(crate) static CHILDREN: std::sync::RwLock<()> = std::sync::RwLock::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_this_process() {
        let me = std::process::id() as Pid;
        let status = Status::read(nix::unistd::gettid().as_raw()).unwrap();
        assert_eq!(
            (status.tgid, status.ppid),
            (me, nix::unistd::getppid().as_raw())
        );
        assert_eq!(status.ids[1], nix::unistd::geteuid().as_raw());
        assert_eq!(status.ids[2], nix::unistd::getgid().as_raw());
        assert!(tasks(me).contains(&nix::unistd::gettid().as_raw()));
        assert!(stack_start(me).is_some_and(|a| a > 0x1000));
    }

    #[test]
    fn a_process_may_call_itself_anything() {
        let _alone = CHILDREN.write().unwrap_or_else(|e| e.into_inner());
        let wait = std::process::Command::new("perl")
            .args([
                "-e",
                "$0 = qq{\\xff\\xfeTgid:\\t7\\n}; print qq{x}; close STDOUT; <STDIN>",
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn();
        let mut child = wait.unwrap();
        let mut said = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(
            Status::read(child.id() as i32).unwrap().tgid,
            child.id() as i32
        );
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn hostile_status_is_refused() {
        assert_eq!(Status::parse("".lines()), None);
        assert_eq!(Status::parse("Tgid:\t1\n".lines()), None);
        assert_eq!(
            Status::parse("Umask:\t9\nTgid:\t1\nPPid:\t1\n".lines()),
            None
        );
    }

    #[test]
    fn children_are_listed() {
        let _alone = CHILDREN.write().unwrap_or_else(|e| e.into_inner());
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(children(std::process::id() as Pid).contains(&(child.id() as Pid)));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn flags_and_offset_of_a_descriptor() {
        use std::io::{Read, Seek};
        use std::os::fd::AsRawFd;
        let mut file = fs::File::open("/proc/self/status").unwrap();
        file.read_exact(&mut [0; 10]).unwrap();
        let pos = file.stream_position().unwrap();
        let info = FdInfo::read(std::process::id() as i32, file.as_raw_fd()).unwrap();
        assert_eq!(info.pos, pos);
        assert_ne!(info.flags & libc::O_CLOEXEC, 0);
    }
}
