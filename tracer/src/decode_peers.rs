//! Calls that reach other processes or the network, and calls that change what a process is.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::call::Abi;
use crate::decode::{Caller, Decoded, Named, Stopped};
use crate::descriptors::pointer_size;
use crate::event::{Event, Ipc, Peer, Scope};
use crate::prefix::Change;
use crate::proc_files::{FdInfo, Status};
use crate::table::{Data, Last, PeerOp};

/// All namespaces (`CLONE_NEW*`), and `CLONE_PARENT`.
const NAMESPACES: u64 = 0x7e02_0080;
const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;
const CLONE_FS: u64 = libc::CLONE_FS as u64;
const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;
/// Messages of one sendmmsg (`UIO_MAXIOV`).
const MAX_MESSAGES: u64 = 1024;

impl Caller<'_> {
    pub(crate) fn decode_peers(&self, op: PeerOp) -> Decoded {
        match op {
            PeerOp::Connect => self.address(self.arg(1), self.arg(2), Last::Follow),
            PeerOp::Bind => self.bind(self.int(0), self.arg(1), self.arg(2)),
            PeerOp::Listen => self.listen(self.int(0)),
            PeerOp::Sendto if self.arg(4) == 0 => self.write(self.int(0), Data::Buf(1, 2)),
            PeerOp::Sendto => self.address(self.arg(4), self.arg(5), Last::Follow),
            PeerOp::Sendmsg | PeerOp::Sendmmsg if (0..=2).contains(&self.int(0)) => {
                self.taint(Scope::All, "sends messages to a standard stream")
            }
            PeerOp::Sendmsg => self.message(self.arg(1)),
            PeerOp::Sendmmsg => {
                // struct mmsghdr: struct msghdr and a length, padded.
                let size = if pointer_size(self.call.abi) == 8 {
                    64
                } else {
                    32
                };
                (0..self.arg(2).min(MAX_MESSAGES))
                    .try_for_each(|n| self.message(self.arg(1).wrapping_add(n * size)))
            }
            PeerOp::Socketcall => self.socketcall(),
            PeerOp::Kill(pid, signal) => self.tell(Event::Kill(self.int(pid), self.int(signal))),
            PeerOp::Tkill(tid, signal) => {
                let tid = self.int(tid);
                let known = self.processes().known(tid);
                let pid = known.or_else(|| Some(Status::read(tid).ok()?.tgid));
                match pid {
                    None => Ok(()),
                    Some(pid) if pid == self.pid => Ok(()),
                    Some(pid) => self.tell(Event::Kill(pid, self.int(signal))),
                }
            }
            PeerOp::PidfdKill => match FdInfo::read(self.call.tid, self.int(0)) {
                Ok(FdInfo {
                    pidfd_of: Some(pid),
                    ..
                }) => self.tell(Event::Kill(pid, self.int(1))),
                Ok(_) | Err(_) => Ok(()),
            },
            PeerOp::Prlimit if self.int(0) != 0 && self.int(0) != self.pid => {
                self.taint(Scope::All, "sets a limit of another process")
            }
            PeerOp::Prlimit => self.limit(self.int(1), self.arg(2), 8),
            PeerOp::Setrlimit => self.limit(self.int(0), self.arg(1), pointer_size(self.call.abi)),
            // The low byte is a signal.
            PeerOp::Clone(flags) => self.cloned(self.arg(flags) & !0xff),
            PeerOp::Clone3 => {
                let mut flags = [0; 8];
                self.read(self.arg(0), &mut flags)?;
                self.cloned(u64::from_ne_bytes(flags))
            }
            PeerOp::Unshare => {
                if self.arg(0) & CLONE_FS != 0 {
                    self.work_apart(false);
                }
                self.namespaces(self.arg(0))
            }
            PeerOp::Chroot => {
                self.shared.someone_changes_root();
                self.taint(Scope::All, "changes its root")
            }
            PeerOp::Personality => {
                // 0xffffffff only asks.
                if self.arg(0) as u32 == u32::MAX || self.arg(0) & 0xff == 0 {
                    return Ok(());
                }
                self.taint(Scope::All, "changes its personality")
            }
            PeerOp::Users(count) => self.users(count),
            PeerOp::Msgget(key, flags) => self.ipc(Ipc::Queue, key, flags),
            PeerOp::Semget(key, flags) => self.ipc(Ipc::Semaphores, key, flags),
            PeerOp::Shmget(key, flags) => self.ipc(Ipc::Memory, key, flags),
            // The one call of i386 for all three, with a version in the upper half.
            PeerOp::Ipc => match self.arg(0) & 0xffff {
                2 => self.ipc(Ipc::Semaphores, 1, 3),
                13 => self.ipc(Ipc::Queue, 1, 2),
                23 => self.ipc(Ipc::Memory, 1, 3),
                _ => Ok(()),
            },
        }
    }

    /// An object without a key is known only to those whom its maker tells its number.
    fn ipc(&self, kind: fn(i32) -> Ipc, key: u8, flags: u8) -> Decoded {
        match self.int(key) {
            libc::IPC_PRIVATE => Ok(()),
            key => self.tell(Event::Ipc {
                object: kind(key),
                create: self.int(flags) & libc::IPC_CREAT != 0,
            }),
        }
    }

    fn cloned(&self, flags: u64) -> Decoded {
        if flags & (CLONE_FS | CLONE_THREAD) == CLONE_FS {
            self.work_apart(true);
        }
        if flags & CLONE_PARENT != 0 {
            self.taint(Scope::All, "makes a child of its parent")?;
        }
        self.namespaces(flags)
    }

    /// In a copy of the mounts a root that is no mount is told otherwise, so it is looked at from now on.
    fn namespaces(&self, flags: u64) -> Decoded {
        if flags & NAMESPACES == 0 {
            return Ok(());
        }
        self.shared.someone_changes_root();
        self.taint(Scope::All, "makes a namespace")
    }

    /// Root may go everywhere; what another user may is not looked at. An id of -1 stays as it is, which
    /// the oldest calls say in 16 bits.
    fn users(&self, count: u8) -> Decoded {
        let ids: Vec<u32> = (0..count).map(|n| self.arg(n) as u32).collect();
        let stays = |id: &u32| matches!(*id, 0 | 0xffff | u32::MAX);
        if ids.iter().all(stays) {
            return Ok(());
        }
        match Status::read(self.call.tid) {
            Ok(status) if status.ids[..2].contains(&0) => {
                self.taint(Scope::All, "acts as another user")
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Working directories are no longer one a process.
    fn work_apart(&self, with_others: bool) {
        self.processes().work_apart(self.pid, with_others);
        if let Some(fast) = &self.shared.fast {
            fast.works_apart(self.pid, with_others);
        }
    }

    fn limit(&self, resource: i32, address: u64, width: usize) -> Decoded {
        let mut limits = [0; 16];
        self.read(address, &mut limits[..2 * width])?;
        let limit = |n: usize| {
            let mut value = [0; 8];
            value[..width].copy_from_slice(&limits[n * width..(n + 1) * width]);
            match u64::from_le_bytes(value) {
                0xffff_ffff if width == 4 => u64::MAX,
                value => value,
            }
        };
        self.tell(Event::Limit(resource, limit(0), limit(1)))
    }

    fn pointer(&self, address: u64) -> Decoded<u64> {
        let mut pointer = [0; 8];
        self.read(address, &mut pointer[..pointer_size(self.call.abi)])?;
        Ok(u64::from_le_bytes(pointer))
    }

    /// The address of a struct msghdr, if it has one.
    fn message(&self, address: u64) -> Decoded {
        let name = self.pointer(address)?;
        if name == 0 {
            return Ok(());
        }
        let mut len = [0; 4];
        self.read(
            address.wrapping_add(pointer_size(self.call.abi) as u64),
            &mut len,
        )?;
        self.address(name, u32::from_le_bytes(len).into(), Last::Follow)
    }

    /// A stream socket with any port that is free: nobody can come in before it listens. That is how
    /// programs ask whether there is an IPv6.
    fn bind(&self, fd: i32, address: u64, len: u64) -> Decoded {
        let mut head = [0; 4];
        if len >= 4 {
            self.read(address, &mut head)?;
            let family = i32::from(u16::from_ne_bytes([head[0], head[1]]));
            let any_port = head[2..] == [0, 0];
            let is_stream = || {
                let socket = self.socket(fd);
                socket.and_then(|socket| Ok(sockopt::socket_type(socket)?))
            };
            if matches!(family, libc::AF_INET | libc::AF_INET6)
                && any_port
                && is_stream().is_ok_and(|kind| kind == SocketType::STREAM)
            {
                return Ok(());
            }
        }
        self.address(address, len, Last::Name)
    }

    /// The name of a local socket has been told when it was bound.
    fn listen(&self, fd: i32) -> Decoded {
        let socket = self.socket(fd);
        let family = socket.and_then(|socket| Ok(sockopt::socket_domain(socket)?));
        if family.is_ok_and(|family| family == AddressFamily::UNIX) {
            return Ok(());
        }
        self.tell(Event::Socket(Peer::Inet("listens".to_owned())))
    }

    /// A socket of the caller's.
    fn socket(&self, fd: i32) -> io::Result<OwnedFd> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let pid = rustix::process::Pid::from_raw(self.pid).ok_or(io::ErrorKind::NotFound)?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?)
    }

    /// A socket address; binding a name makes a file.
    fn address(&self, address: u64, len: u64, last: Last) -> Decoded {
        let mut bytes = [0; 128];
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len < 2 || len > bytes.len() {
            return Err(Stopped::Unsaid);
        }
        self.read(address, &mut bytes[..len])?;
        let body = &bytes[2..len];
        match i32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) {
            libc::AF_UNSPEC => Ok(()),
            libc::AF_UNIX => match body.first() {
                None => Ok(()),
                Some(0) => self.tell(Event::Socket(Peer::Abstract(body[1..].to_vec()))),
                Some(_) => {
                    let text = body.split(|b| *b == 0).next().unwrap_or_default();
                    let Named { walk, .. } = self.name_text(libc::AT_FDCWD, text, last)?;
                    if last == Last::Name {
                        let path = walk.path.clone();
                        self.tell(Event::Mknod(walk, libc::S_IFSOCK | 0o777))?;
                        self.changes(vec![Change {
                            path,
                            moves_dir: false,
                        }]);
                        return Ok(());
                    }
                    self.tell(Event::Socket(Peer::Unix(walk)))
                }
            },
            libc::AF_INET if body.len() >= 6 => {
                let port = u16::from_be_bytes([body[0], body[1]]);
                let ip = Ipv4Addr::new(body[2], body[3], body[4], body[5]);
                self.tell(Event::Socket(Peer::Inet(
                    SocketAddrV4::new(ip, port).to_string(),
                )))
            }
            libc::AF_INET6 if body.len() >= 22 => {
                let port = u16::from_be_bytes([body[0], body[1]]);
                let ip: [u8; 16] = body[6..22].try_into().unwrap_or_default();
                let socket = SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, 0);
                self.tell(Event::Socket(Peer::Inet(socket.to_string())))
            }
            family => self.tell(Event::Socket(Peer::Other(family))),
        }
    }

    /// The one socket call of old i386 programs: a number and the address of the real arguments.
    fn socketcall(&self) -> Decoded {
        if self.call.abi != Abi::I386 {
            return Ok(());
        }
        let arg = |n: u64| self.pointer(self.arg(1).wrapping_add(4 * n));
        match self.int(0) {
            2 => self.bind(arg(0)? as i32, arg(1)?, arg(2)?),
            4 => self.listen(arg(0)? as i32),
            3 => self.address(arg(1)?, arg(2)?, Last::Follow),
            11 if arg(4)? != 0 => self.address(arg(4)?, arg(5)?, Last::Follow),
            16 => self.message(arg(1)?),
            20 => {
                let (messages, n) = (arg(1)?, arg(2)?);
                (0..n.min(MAX_MESSAGES))
                    .try_for_each(|n| self.message(messages.wrapping_add(n * 32)))
            }
            // Standard streams that are sockets, of a 32-bit program that reads or writes them this way.
            9 | 10 | 11 | 12 | 17 if arg(0)? <= 2 => self.taint(
                Scope::All,
                "standard stream is a socket of a 32-bit program",
            ),
            _ => Ok(()),
        }
    }
}
