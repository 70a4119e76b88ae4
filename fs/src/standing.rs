//! Mounts that stand by themselves: seen by everybody in a namespace, and served by a process that has withdrawn
//! into a namespace of its own, where the plain paths still lead to the real files.
//!
//! It knows neither what is served nor for how long.

use crate::mount::{
    AT_STATX_DONT_SYNC, Connection, EnterOptions, MountError, Step, covered_flags, minor,
    mount_fuse, private_namespaces,
};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::{Errno, FdFlags};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mount for everybody in the namespace of the one who makes it.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Where it is mounted.
    pub at: PathBuf,
    /// The directory that it will show; the list of mounts names it as the source.
    pub backing: PathBuf,
    /// Whether other users may use it where fusermount3 mounts it. What root mounts they may.
    pub others: bool,
}

/// The program that mounts for ordinary users, see fusermount3(1).
const HELPER: &str = "fusermount3";

pub(crate) fn mount_standing(standing: &Standing) -> Result<Connection, (Step, io::Error)> {
    let source = standing.backing.to_string_lossy();
    let own = match rustix::process::geteuid().is_root() {
        true => mount_fuse(&source, &standing.at, covered_flags(&standing.backing)),
        false => Err((Step::Mount, Errno::PERM.into())),
    };
    let fuse = match own {
        Err((Step::Mount, error)) if error.raw_os_error() == Some(libc::EPERM) => {
            mount_by_helper(standing, &source).map_err(|error| (Step::Helper, error))?
        }
        own => own?,
    };
    Ok(Connection {
        fuse,
        minor: minor(&standing.at)?,
        own_ids: None,
    })
}

/// Has the helper mount. It sends the connection over the socket whose number it is told.
fn mount_by_helper(standing: &Standing, source: &str) -> io::Result<OwnedFd> {
    let (ours, its) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::fcntl_setfd(&its, FdFlags::empty())?;
    // Its list of options has commas and backslashes of its own.
    let source = source.replace('\\', "\\\\").replace(',', "\\,");
    let mut options = format!("fsname={source},subtype=rfs,default_permissions");
    if standing.others {
        options.push_str(",allow_other");
    }
    let mut command = Command::new(HELPER);
    command
        .args(["-o", &options, "--"])
        .arg(&standing.at)
        .env("_FUSE_COMMFD", its.as_raw_fd().to_string());
    run(&mut command)?;
    drop(its);
    receive(ours.as_fd())
}

/// Runs the helper, which says on standard error what is wrong.
fn run(command: &mut Command) -> io::Result<()> {
    let done = command.output().map_err(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            return error;
        }
        let what = format!("{HELPER} is not installed (Debian: apt-get install fuse3)");
        io::Error::new(io::ErrorKind::NotFound, what)
    })?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    if said.contains("resource busy") {
        return Err(Errno::BUSY.into());
    }
    Err(io::Error::other(said.trim().to_owned()))
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = control.drain().filter_map(|message| {
        let RecvAncillaryMessage::ScmRights(mut fds) = message else {
            return None;
        };
        fds.next()
    });
    fds.next()
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// How a mount is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Now; `EBUSY` where somebody uses it.
    Now,
    /// From the tree of names now, for those who use it when they are done.
    Lazy,
    /// Now, whoever uses it: what waits for its server fails, and so does every later use.
    Abort,
}

/// Takes a mount away, see umount2(2), or fusermount3(1) for an ordinary user.
pub fn take_away(at: &Path, how: Removal) -> io::Result<()> {
    let flags = match how {
        Removal::Now => UnmountFlags::empty(),
        Removal::Lazy => UnmountFlags::DETACH,
        Removal::Abort => {
            // Aborts the connection and then says that it is busy.
            let _aborted = rustix::mount::unmount(at, UnmountFlags::FORCE).is_ok();
            UnmountFlags::DETACH
        }
    };
    match rustix::mount::unmount(at, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => {}
        // The forced attempt was enough.
        Err(Errno::INVAL) if how == Removal::Abort => return Ok(()),
        done => return Ok(done?),
    }
    let mut command = Command::new(HELPER);
    command.arg("-u");
    if how != Removal::Now {
        command.arg("-z");
    }
    run(command.arg("--").arg(at))
}

/// Whether what this path leads to lies on the mount with this minor device number. Its server is not asked.
#[must_use]
pub fn lies_on(path: &Path, mount: u32) -> bool {
    let flags = AtFlags::from_bits_retain(AT_STATX_DONT_SYNC);
    rustix::fs::statx(CWD, path, flags, StatxFlags::INO)
        .is_ok_and(|stat| (stat.stx_dev_major, stat.stx_dev_minor) == (0, mount))
}

/// Has this process, which must have one thread, see no mount that is made from now on. Returns the only ids
/// that there are for it, if it needed a user namespace for that.
pub fn withdraw() -> Result<Option<(u32, u32)>, MountError> {
    enter(MountPropagationFlags::PRIVATE)
}

/// The directory at `root` with what is mounted below it, as [`step_behind`] wants it. To be called by one who sees
/// the real files.
pub fn real(root: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, root, flags)?)
}

/// Has this process, which must have one thread, see a [`real`] directory at `at` instead of what is mounted
/// there. Any working directory below it is afterwards that of the covered tree.
pub fn step_behind(real: BorrowedFd<'_>, at: &Path) -> Result<(), MountError> {
    enter(MountPropagationFlags::DOWNSTREAM)?;
    move_mount(real, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| failed(Step::Mount, error.into()))
}

fn enter(propagation: MountPropagationFlags) -> Result<Option<(u32, u32)>, MountError> {
    let own_ids = private_namespaces(&EnterOptions::default())
        .map_err(|(step, source)| failed(step, source))?;
    match mount_change("/", MountPropagationFlags::REC | propagation) {
        // In a chroot `/` need not be a mount.
        Ok(()) | Err(Errno::INVAL) => Ok(own_ids),
        Err(error) => Err(failed(Step::Propagation, error.into())),
    }
}

fn failed(step: Step, source: io::Error) -> MountError {
    MountError {
        step,
        root: PathBuf::new(),
        source,
    }
}
