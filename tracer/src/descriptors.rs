//! The descriptors of a traced process: what they refer to, what it writes to them, and access to them
//! while it is stopped.
//!
//! No request ever reaches a filesystem from here but through a descriptor that was taken over.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::call::{Abi, Call, Stop};
use crate::decode::{Caller, Decoded};
use crate::event::{Exec, Fd, FdTarget, LAST_SEEN, OwnFds, Pid, WriteCall};
use crate::links::Links;
use crate::memory::{self, PtrSize};
use crate::proc_files::{self, FdInfo};
use crate::supervisor::verdict;
use crate::table::Data;
use crate::views::Views;

/// What a descriptor of a process with such views refers to.
///
/// # Errors
/// It is not open, or the process is gone.
pub(crate) fn target(
    links: &Links,
    views: Option<&Views>,
    tid: i32,
    fd: i32,
) -> io::Result<FdTarget> {
    let mut target = plain_target(links, tid, fd)?;
    if let Some(views) = views {
        views.target(&mut target);
    }
    Ok(target)
}

fn plain_target(links: &Links, tid: i32, fd: i32) -> io::Result<FdTarget> {
    let text = links.read(tid, format_args!("fd/{fd}"))?;
    let bytes = text.as_os_str().as_bytes();
    if bytes == b"/dev/null" {
        return Ok(FdTarget::Null);
    }
    if let Some(ino) = inode(bytes, b"pipe:[") {
        return Ok(FdTarget::Pipe(ino, 0));
    }
    if let Some(ino) = inode(bytes, b"socket:[") {
        return Ok(FdTarget::Socket(ino));
    }
    if bytes.first() != Some(&b'/') {
        return Ok(FdTarget::Other(text));
    }
    // What does not change with the file is asked for, so no filesystem needs to be woken for it.
    let Ok(stat) = statx(
        CWD,
        format!("/proc/{tid}/fd/{fd}"),
        AtFlags::STATX_DONT_SYNC,
        StatxFlags::BASIC_STATS,
    ) else {
        return Ok(FdTarget::Other(text));
    };
    let dev = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    Ok(match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => FdTarget::File {
            path: text,
            dev,
            ino: stat.stx_ino,
        },
        FileType::Directory => FdTarget::Dir(text),
        FileType::Fifo => FdTarget::Pipe(stat.stx_ino, dev),
        FileType::CharacterDevice if is_terminal(&stat) => FdTarget::Tty(rustix::fs::makedev(
            stat.stx_rdev_major,
            stat.stx_rdev_minor,
        )),
        FileType::Symlink
        | FileType::Socket
        | FileType::BlockDevice
        | FileType::CharacterDevice
        | FileType::Unknown => FdTarget::Other(text),
    })
}

/// Virtual consoles and serial lines (4), /dev/tty and /dev/console (5), ptys (136 to 143).
fn is_terminal(stat: &Statx) -> bool {
    matches!(stat.stx_rdev_major, 4 | 5 | 136..=143 | 204)
}

fn inode(text: &[u8], kind: &[u8]) -> Option<u64> {
    let number = text.strip_prefix(kind)?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The descriptors from one number on that survive an exec.
pub(crate) fn inherited(links: &Links, views: Option<&Views>, pid: Pid, from: i32) -> Vec<Fd> {
    let mut fds = Vec::new();
    let from = proc_files::descriptors(pid)
        .into_iter()
        .skip_while(|fd| *fd < from);
    for fd in from {
        let Ok(FdInfo { pos, flags, .. }) = FdInfo::read(pid, fd) else {
            continue;
        };
        if flags & libc::O_CLOEXEC != 0 {
            continue;
        }
        let Ok(target) = target(links, views, pid, fd) else {
            continue;
        };
        let flags = flags & (libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK);
        fds.push(Fd {
            fd,
            target,
            flags,
            pos,
        });
    }
    fds
}

/// A write that is about to be made.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    links: &'a Links,
    views: Option<Arc<Views>>,
    call: &'a Call,
    fd: i32,
    data: Data,
    iovecs: OnceCell<Vec<(u64, u64)>>,
}

impl<'a> Writing<'a> {
    pub(crate) fn new(
        links: &'a Links,
        views: Option<Arc<Views>>,
        call: &'a Call,
        fd: i32,
        data: Data,
    ) -> Self {
        Self {
            links,
            views,
            call,
            fd,
            data,
            iovecs: OnceCell::new(),
        }
    }

    fn arg(&self, n: u8) -> u64 {
        self.call.args[usize::from(n)]
    }

    fn parts(&self) -> io::Result<Vec<(u64, u64)>> {
        match self.data {
            Data::Buf(address, len) => Ok(vec![(self.arg(address), self.arg(len))]),
            Data::Iov(address, count) => {
                if let Some(iovecs) = self.iovecs.get() {
                    return Ok(iovecs.clone());
                }
                let size = PtrSize::of(self.call.abi);
                let (address, count) = (self.arg(address), self.arg(count));
                let iovecs = memory::iovecs(self.call.tid, address, count, size)?;
                Ok(self.iovecs.get_or_init(|| iovecs).clone())
            }
            Data::Unseen(_) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }
}

impl WriteCall for Writing<'_> {
    fn fd(&self) -> i32 {
        self.fd
    }

    fn target(&self) -> FdTarget {
        target(self.links, self.views.as_deref(), self.call.tid, self.fd)
            .unwrap_or_else(|_| FdTarget::Other(PathBuf::new()))
    }

    fn len(&self) -> usize {
        let len = match self.data {
            Data::Unseen(len) => self.arg(len),
            Data::Buf(..) | Data::Iov(..) => match self.parts() {
                Ok(parts) => parts
                    .iter()
                    .fold(0_u64, |sum, (_, len)| sum.saturating_add(*len)),
                Err(_) => 0,
            },
        };
        usize::try_from(len).unwrap_or(usize::MAX)
    }

    fn data(&self) -> io::Result<Vec<u8>> {
        // No write transfers more than this (write(2)).
        const MAX: u64 = 0x7fff_f000;
        let mut data = Vec::new();
        for (address, len) in self.parts()? {
            let len = len.min(MAX - data.len() as u64);
            let mut done = 0;
            while done < len {
                let from = data.len();
                // What a length says is not believed before the bytes are there.
                data.resize(from + (len - done).min(1 << 20) as usize, 0);
                let n = memory::read(self.call.tid, address.wrapping_add(done), &mut data[from..])?;
                done += n as u64;
                // The kernel stops at the first byte that it cannot read, too.
                if from + n < data.len() {
                    data.truncate(from + n);
                    return Ok(data);
                }
            }
        }
        Ok(data)
    }
}

/// Bytes of a pointer.
pub(crate) fn pointer_size(abi: Abi) -> usize {
    match PtrSize::of(abi) {
        PtrSize::Eight => 8,
        PtrSize::Four => 4,
    }
}

/// The descriptors and the memory of a process that waits in an exec.
pub(crate) struct StoppedFds<'a> {
    pub(crate) caller: &'a Caller<'a>,
    /// The argument that points to the environment.
    pub(crate) env: u8,
    /// All its descriptors are below this number.
    pub(crate) fd_size: i32,
    pub(crate) pidfd: Option<Arc<OwnedFd>>,
    pub(crate) stop: &'a dyn Stop,
}

impl StoppedFds<'_> {
    fn given(&self) -> Decoded<(Vec<Vec<u8>>, Vec<Fd>)> {
        let env = self.caller.strings(self.env)?;
        let fds = self.inherited(0);
        self.caller.recheck()?;
        Ok((env, fds))
    }

    /// What could be read, unless the process is gone or may not go on.
    fn read<T>(&self, given: Decoded<T>) -> Option<T> {
        match given {
            Ok(given) => Some(given),
            Err(stopped) => {
                // What it would be told to do is up to who asks.
                let _told = verdict(self.caller, Err(stopped));
                None
            }
        }
    }

    fn inherited(&self, from: i32) -> Vec<Fd> {
        let views = self.caller.views();
        let links = &self.caller.shared.links;
        inherited(links, views.as_deref(), self.caller.call.tid, from)
    }

    fn take(&self, fd: i32) -> io::Result<OwnedFd> {
        let pidfd = self
            .pidfd
            .as_ref()
            .ok_or(io::Error::from_raw_os_error(libc::EMFILE))?;
        Ok(pidfd_getfd(&**pidfd, fd, PidfdGetfdFlags::empty())?)
    }
}

impl OwnFds for StoppedFds<'_> {
    fn complete(&self, exec: &mut Exec) -> bool {
        let Some((env, fds)) = self.read(self.given()) else {
            return false;
        };
        (exec.env, exec.fds) = (env, fds);
        true
    }

    fn environment(&self, exec: &mut Exec) -> bool {
        let env = self.caller.strings(self.env);
        let env = env.and_then(|env| self.caller.recheck().map(|()| env));
        let Some(env) = self.read(env) else {
            return false;
        };
        exec.env = env;
        true
    }

    fn high(&self) -> Vec<Fd> {
        let from = LAST_SEEN + 1;
        match self.fd_size <= from {
            true => Vec::new(),
            false => self.inherited(from),
        }
    }

    fn ready_to_exit(&self) -> bool {
        self.stop.ready_to_exit()
    }

    fn reach(&self, fd: i32) -> io::Result<()> {
        self.take(fd).map(drop)
    }

    fn write_all(&self, fd: i32, bytes: &[u8]) -> io::Result<()> {
        let file = self.take(fd)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match nix::unistd::write(&file, rest) {
                Ok(n) => rest = &rest[n..],
                Err(nix::Error::EINTR) => {}
                // The description is shared: whoever made it non-blocking wants it so.
                Err(nix::Error::EAGAIN) => {
                    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                    let _ready = poll(&mut fds, PollTimeout::NONE);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn seek(&self, fd: i32, pos: u64) -> io::Result<()> {
        rustix::fs::seek(self.take(fd)?, rustix::fs::SeekFrom::Start(pos))?;
        Ok(())
    }
}

/// A path of a removed file as a process sees it.
pub(crate) fn own_name(fd: i32) -> PathBuf {
    Path::new("/proc/self/fd").join(fd.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsRawFd;

    fn of(fd: &impl AsRawFd) -> FdTarget {
        target(
            &Links::default(),
            None,
            std::process::id() as i32,
            fd.as_raw_fd(),
        )
        .unwrap()
    }

    #[test]
    fn targets_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = fs::File::create(&path).unwrap();
        let FdTarget::File {
            path: name,
            ino,
            dev,
        } = of(&file)
        else {
            panic!("{:?}", of(&file))
        };
        let meta = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
        assert_eq!((name, ino), (path, meta));
        assert_eq!(
            dev,
            std::os::unix::fs::MetadataExt::dev(&file.metadata().unwrap())
        );
        assert_eq!(of(&fs::File::open("/dev/null").unwrap()), FdTarget::Null);
        assert_eq!(
            of(&fs::File::open(dir.path()).unwrap()),
            FdTarget::Dir(dir.path().into())
        );
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert_eq!(of(&reader), of(&writer));
        assert!(matches!(of(&reader), FdTarget::Pipe(_, 0)));
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(of(&one), FdTarget::Socket(_)));
        assert!(matches!(
            of(&fs::File::open("/dev/zero").unwrap()),
            FdTarget::Other(_)
        ));
        let pty = nix::pty::openpty(None, None);
        if let Ok(pty) = pty {
            assert!(matches!(of(&pty.slave), FdTarget::Tty(_)));
        }
    }

    #[test]
    fn a_write_is_copied_out() {
        let links = Links::default();
        let (one, two) = (b"hello ".to_vec(), b"world".to_vec());
        let iovecs = [one.as_ptr() as u64, 6, two.as_ptr() as u64, 5];
        let me = std::process::id() as i32;
        let call = |a1: u64, a2: u64| Call {
            tid: me,
            abi: Abi::X86_64,
            nr: 0,
            args: [1, a1, a2, 0, 0, 0],
        };
        let plain = call(two.as_ptr() as u64, 5);
        let write = Writing::new(&links, None, &plain, 1, Data::Buf(1, 2));
        assert_eq!((write.len(), write.data().unwrap()), (5, two.clone()));
        let vector = call(iovecs.as_ptr() as u64, 2);
        let write = Writing::new(&links, None, &vector, 1, Data::Iov(1, 2));
        assert_eq!(
            (write.len(), write.data().unwrap()),
            (11, b"hello world".to_vec())
        );
        let wild = call(8, u64::MAX);
        assert!(
            Writing::new(&links, None, &wild, 1, Data::Iov(1, 2))
                .data()
                .is_err()
        );
    }
}
