//! Entering the view: private namespaces, the mount, and the way of the FUSE descriptor to its server.
//!
//! The child mounts because /dev/fuse must be opened in the user namespace that mounts; the parent serves
//! because it must stay outside. This file does not know what is served.

use crate::standing::{Standing, mount_standing};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::ffi::CString;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a child does to enter the view and its parent to be told of it; see [`MountError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "Display says which call each is")]
pub enum Step {
    Unshare,
    MapIds,
    Propagation,
    Device,
    Mount,
    Helper,
    Stat,
    Send,
    Receive,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Unshare,
        Self::MapIds,
        Self::Propagation,
        Self::Device,
        Self::Mount,
        Self::Helper,
        Self::Stat,
        Self::Send,
        Self::Receive,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unshare => "unshare",
            Self::MapIds => "write uid_map and gid_map",
            Self::Propagation => "mount --make-rslave",
            Self::Device => "open /dev/fuse",
            Self::Mount => "mount fuse",
            Self::Helper => "fusermount3",
            Self::Stat => "statx of the mount",
            Self::Send => "sendmsg of the fuse descriptor",
            Self::Receive => "recvmsg of the fuse descriptor",
        })
    }
}

/// The view could not be entered.
#[derive(Debug, thiserror::Error)]
#[error("{step}{}: {source}", of(root))]
pub struct MountError {
    /// The system call that failed.
    pub step: Step,
    /// Where the view was to be mounted; empty when that is not known to the one who tells.
    pub root: PathBuf,
    /// What the kernel said. `UnexpectedEof` when the child died first.
    pub source: io::Error,
}

fn of(root: &Path) -> String {
    if root.as_os_str().is_empty() {
        String::new()
    } else {
        format!(" for {}", root.display())
    }
}

/// How to enter the view.
#[derive(Debug, Clone, Default)]
pub struct EnterOptions {
    /// Make a user namespace even when the mount would be allowed without one.
    pub own_user_namespace: bool,
}

/// A FUSE connection that waits for its server.
#[derive(Debug)]
pub struct Connection {
    /// The open /dev/fuse.
    pub fuse: OwnedFd,
    /// Minor device number of the mount: the connection's name in /sys/fs/fuse/connections.
    pub minor: u32,
    /// The user and the group that alone exist in the mount's user namespace, if it has one of its own
    /// and the child had no privilege to map others.
    pub own_ids: Option<(u32, u32)>,
}

/// A socket pair between the process that will serve the view and its child that mounts it.
#[derive(Debug)]
pub struct Gate {
    server: OwnedFd,
    child: OwnedFd,
}

/// Mounted or the step that failed; minor or errno; whether ids follow; uid; gid.
const MESSAGE_LEN: usize = 14;
const MOUNTED: u8 = 0xff;

impl Gate {
    /// Makes the pair; to be called before the fork.
    pub fn new() -> io::Result<Self> {
        let (server, child) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self { server, child })
    }

    /// In the child, which must be single threaded: enters private namespaces and mounts over `root`.
    ///
    /// Any working directory below `root` is afterwards that of the covered tree: change into it again.
    /// The first access to the mount waits for the parent to [`serve`](crate::serve) it. An error is told
    /// to the parent as well.
    pub fn enter(&self, root: &Path, options: &EnterOptions) -> Result<(), MountError> {
        self.hand_over(root, enter(root, options))
    }

    /// In a process that stays where it is: mounts for all who are there too, and hands the connection to
    /// the one that will [`serve`](crate::serve) it, which must have [withdrawn](crate::withdraw).
    pub fn stand(&self, standing: &Standing) -> Result<(), MountError> {
        self.hand_over(&standing.at, mount_standing(standing))
    }

    fn hand_over(
        &self,
        root: &Path,
        made: Result<Connection, (Step, io::Error)>,
    ) -> Result<(), MountError> {
        match made {
            Ok(connection) => self.send(&connection).map_err(|source| MountError {
                step: Step::Send,
                root: root.to_owned(),
                source,
            }),
            Err((step, source)) => {
                let errno = source.raw_os_error().unwrap_or(0);
                let mut message = [0; MESSAGE_LEN];
                message[0] = step as u8;
                message[1..5].copy_from_slice(&errno.to_le_bytes());
                // A parent that is gone needs no news.
                rustix::net::send(&self.child, &message, SendFlags::NOSIGNAL).ok();
                Err(MountError {
                    step,
                    root: root.to_owned(),
                    source,
                })
            }
        }
    }

    fn send(&self, connection: &Connection) -> io::Result<()> {
        let mut message = [0; MESSAGE_LEN];
        message[0] = MOUNTED;
        message[1..5].copy_from_slice(&connection.minor.to_le_bytes());
        if let Some((uid, gid)) = connection.own_ids {
            message[5] = 1;
            message[6..10].copy_from_slice(&uid.to_le_bytes());
            message[10..14].copy_from_slice(&gid.to_le_bytes());
        }
        let fds = [connection.fuse.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(
            &self.child,
            &[IoSlice::new(&message)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// In the parent, after the fork: waits for the child to have mounted.
    pub fn receive(self) -> Result<Connection, MountError> {
        let failed = |step, source| MountError {
            step,
            root: PathBuf::new(),
            source,
        };
        let lost = |source| failed(Step::Receive, source);
        let Self { server, child } = self;
        drop(child);
        let mut message = [0; MESSAGE_LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(
                &server,
                &mut [IoSliceMut::new(&mut message)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        });
        match received.map_err(|e| lost(e.into()))?.bytes {
            MESSAGE_LEN => {}
            0 => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
            _ => return Err(lost(io::ErrorKind::InvalidData.into())),
        }
        let number = |at: usize| {
            [
                message[at],
                message[at + 1],
                message[at + 2],
                message[at + 3],
            ]
        };
        if message[0] != MOUNTED {
            let step = Step::ALL
                .get(usize::from(message[0]))
                .copied()
                .unwrap_or(Step::Receive);
            return Err(failed(
                step,
                io::Error::from_raw_os_error(i32::from_le_bytes(number(1))),
            ));
        }
        let mut fuse = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                fuse = fds.next();
            }
        }
        Ok(Connection {
            fuse: fuse.ok_or_else(|| lost(io::ErrorKind::InvalidData.into()))?,
            minor: u32::from_le_bytes(number(1)),
            own_ids: (message[5] != 0).then(|| {
                (
                    u32::from_le_bytes(number(6)),
                    u32::from_le_bytes(number(10)),
                )
            }),
        })
    }
}

fn enter(root: &Path, options: &EnterOptions) -> Result<Connection, (Step, io::Error)> {
    let at = |step: Step| move |e: rustix::io::Errno| (step, io::Error::from(e));
    let own_ids = private_namespaces(options)?;
    let downstream = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    match rustix::mount::mount_change("/", downstream) {
        // In a chroot `/` need not be a mount; the server looks whether ours has reached it.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(e) => return Err(at(Step::Propagation)(e)),
    }
    let fuse = mount_fuse("rfs", root, covered_flags(root))?;
    Ok(Connection {
        fuse,
        minor: minor(root)?,
        own_ids,
    })
}

/// Mounts a new connection, open to everybody as far as modes and owners allow.
pub(crate) fn mount_fuse(
    source: &str,
    root: &Path,
    flags: MountFlags,
) -> Result<OwnedFd, (Step, io::Error)> {
    let at = |step: Step| move |e: rustix::io::Errno| (step, io::Error::from(e));
    let fuse = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(at(Step::Device))?;
    let data = CString::new(format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        fuse.as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    ))
    .expect("BUG: a mount option with a NUL byte");
    rustix::mount::mount(source, root, "fuse.rfs", flags, data.as_c_str())
        .map_err(at(Step::Mount))?;
    Ok(fuse)
}

/// Minor device number of what is mounted at `root`.
pub(crate) fn minor(root: &Path) -> Result<u32, (Step, io::Error)> {
    // The server does not answer yet: ask for what the kernel knows without it.
    let stat = rustix::fs::statx(
        rustix::fs::CWD,
        root,
        AtFlags::from_bits_retain(AT_STATX_DONT_SYNC),
        StatxFlags::INO,
    )
    .map_err(|e| (Step::Stat, e.into()))?;
    Ok(stat.stx_dev_minor)
}

/// `AT_STATX_DONT_SYNC` of statx(2), which rustix does not name.
pub(crate) const AT_STATX_DONT_SYNC: u32 = 0x4000;

/// Enters a mount namespace, and a user namespace if need be. Tells the only ids in that, if it is so limited.
pub(crate) fn private_namespaces(
    options: &EnterOptions,
) -> Result<Option<(u32, u32)>, (Step, io::Error)> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    if !options.own_user_namespace {
        match unshare(CloneFlags::CLONE_NEWNS) {
            Ok(()) => return Ok(is_limited().then_some((uid, gid))),
            Err(nix::Error::EPERM) => {}
            Err(e) => return Err((Step::Unshare, e.into())),
        }
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|e| (Step::Unshare, e.into()))?;
    // Unprivileged, only the own ids may be mapped, and groups only when setgroups(2) is given up.
    let limited = uid != 0;
    let (users, groups) = if limited {
        write_map("/proc/self/setgroups", "deny")?;
        (format!("{uid} {uid} 1"), format!("{gid} {gid} 1"))
    } else {
        (ALL_IDS.to_owned(), ALL_IDS.to_owned())
    };
    write_map("/proc/self/uid_map", &users)?;
    write_map("/proc/self/gid_map", &groups)?;
    Ok(limited.then_some((uid, gid)))
}

/// Whether this user namespace knows one user only, as those that are made here without privilege.
fn is_limited() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut lines = map.lines();
    let only = lines.next().filter(|_| lines.next().is_none());
    only.is_some_and(|line| line.split_ascii_whitespace().nth(2) == Some("1"))
}

const ALL_IDS: &str = "0 0 4294967295";

fn write_map(path: &str, text: &str) -> Result<(), (Step, io::Error)> {
    rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::write(&file, text.as_bytes()))
        .map(drop)
        .map_err(|e| (Step::MapIds, e.into()))
}

/// What the covered filesystem forbids, the view forbids.
pub(crate) fn covered_flags(root: &Path) -> MountFlags {
    let Ok(covered) = rustix::fs::statvfs(root) else {
        return MountFlags::empty();
    };
    [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (
            StatVfsMountFlags::from_bits_retain(ST_NODEV),
            MountFlags::NODEV,
        ),
        (
            StatVfsMountFlags::from_bits_retain(ST_NOEXEC),
            MountFlags::NOEXEC,
        ),
    ]
    .into_iter()
    .filter(|(has, _)| covered.f_flag.contains(*has))
    .fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
}

/// `ST_NODEV` and `ST_NOEXEC` of statvfs(3), which POSIX and so rustix do not name.
const ST_NODEV: u64 = 4;
const ST_NOEXEC: u64 = 8;
