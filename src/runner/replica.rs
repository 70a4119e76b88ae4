//! A place of its own to run a command in: a file tree that holds what it is told to and nothing else, in
//! memory, for this process and those that it starts.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, chroot};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is at a path.
#[derive(Debug)]
pub enum Piece {
    /// A directory.
    Dir(Looks),
    /// A symbolic link.
    Link(PathBuf),
    /// A file with the content of another one.
    Copy(File, Looks),
    /// A file with this content.
    Text(Vec<u8>, Looks),
    /// A file of which only its size is known.
    Hollow(u64, Looks),
    /// What this machine has at the same path, not to be written to.
    Host,
}

/// What stat(2) is to tell of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// Permission bits.
    pub mode: u32,
    /// User and group, as far as they are known and this process may give files away.
    pub owner: Option<(u32, u32)>,
    /// Time of last modification, nanoseconds since 1970; 0 for any.
    pub mtime: i64,
}

/// That a tree cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{call} {}: {error}", path.display())]
pub struct Error {
    call: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// Directories of the machine that are there in every tree: processes and devices are no files.
const MACHINE: [&str; 2] = ["/proc", "/dev"];

/// Moves this process, which must have one thread, into a tree of these pieces, by absolute path. `on` is an
/// empty directory that is used to mount it on; who is not there does not see it.
///
/// # Errors
/// The kernel does not allow it, or a piece cannot be made. The process is then of no more use.
pub fn enter(on: &Path, pieces: BTreeMap<PathBuf, Piece>) -> Result<(), Error> {
    namespaces()?;
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).map_err(at("mount", Path::new("/")))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("rfs"), on, Some("tmpfs"), flags, Some("mode=0755")).map_err(at("mount", on))?;
    for dir in MACHINE {
        let place = below(on, Path::new(dir));
        fs::create_dir_all(&place).map_err(at("mkdir", &place))?;
        let tree = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(dir), &place, none, tree, none).map_err(at("mount", &place))?;
    }
    // Programs expect to be able to put things there.
    let temporary = below(on, Path::new("/tmp"));
    fs::create_dir_all(&temporary).map_err(at("mkdir", &temporary))?;
    permit(&temporary, 0o1777)?;
    let mut later = Vec::new();
    // What leads somewhere else comes when that is there.
    let (links, rest): (Vec<_>, Vec<_>) = pieces
        .into_iter()
        .partition(|(_, piece)| matches!(piece, Piece::Link(_)));
    for (path, piece) in rest.into_iter().chain(links) {
        if MACHINE.iter().any(|dir| path.starts_with(dir)) {
            continue;
        }
        let place = below(on, &path);
        if let Some(dir) = place.parent() {
            fs::create_dir_all(dir).map_err(at("mkdir", dir))?;
        }
        if let Piece::Dir(looks) = piece {
            fs::create_dir_all(&place).map_err(at("mkdir", &place))?;
            later.push((place, looks));
        } else {
            make(&path, &place, piece)?;
        }
    }
    // Now that all is in them.
    for (place, looks) in later {
        let dir = File::open(&place).map_err(at("open", &place))?;
        dress(&dir, &place, looks)?;
    }
    chroot(on).map_err(at("chroot", on))?;
    chdir("/").map_err(at("chdir", Path::new("/")))
}

fn make(path: &Path, place: &Path, piece: Piece) -> Result<(), Error> {
    match piece {
        Piece::Dir(_) => Ok(()),
        Piece::Link(text) => symlink(text, place).map_err(at("symlink", place)),
        Piece::Copy(mut from, looks) => {
            let mut to = File::create(place).map_err(at("open", place))?;
            from.rewind().map_err(at("lseek", path))?;
            let _size = io::copy(&mut from, &mut to).map_err(at("write", place))?;
            dress(&to, place, looks)
        }
        Piece::Text(bytes, looks) => {
            let mut to = File::create(place).map_err(at("open", place))?;
            to.write_all(&bytes).map_err(at("write", place))?;
            dress(&to, place, looks)
        }
        Piece::Hollow(size, looks) => {
            let to = File::create(place).map_err(at("open", place))?;
            to.set_len(size).map_err(at("ftruncate", place))?;
            dress(&to, place, looks)
        }
        Piece::Host => {
            drop(File::create(place).map_err(at("open", place))?);
            let none: Option<&str> = None;
            let bind = MsFlags::MS_BIND;
            mount(Some(path), place, none, bind, none).map_err(at("mount", place))?;
            let locked = covered(path);
            let flags = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | locked;
            mount(none, place, none, flags, none).map_err(at("remount", place))
        }
    }
}

/// What the mount that a file lies on forbids must stay forbidden.
fn covered(path: &Path) -> MsFlags {
    let Ok(found) = statvfs(path) else {
        return MsFlags::empty();
    };
    let pairs = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let has = pairs
        .into_iter()
        .filter(|(flag, _)| found.flags().contains(*flag));
    has.fold(MsFlags::empty(), |all, (_, flag)| all | flag)
}

fn dress(file: &File, place: &Path, looks: Looks) -> Result<(), Error> {
    if let Some((user, group)) = looks.owner.filter(|_| nix::unistd::geteuid().is_root()) {
        // Before the permissions: this takes some of them away.
        match fchown(file, Some(user), Some(group)) {
            // No id of this user namespace.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => {}
            done => done.map_err(at("fchown", place))?,
        }
    }
    let mode = Permissions::from_mode(looks.mode);
    file.set_permissions(mode).map_err(at("fchmod", place))?;
    match u64::try_from(looks.mtime) {
        Ok(mtime) if mtime > 0 => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(mtime);
            file.set_modified(time).map_err(at("futimens", place))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn permit(place: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(place, Permissions::from_mode(mode)).map_err(at("chmod", place))
}

/// A mount namespace, and a user namespace with the own ids alone for who may not have it otherwise.
fn namespaces() -> Result<(), Error> {
    let here = Path::new("");
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => return Ok(()),
        Err(nix::Error::EPERM) => (),
        Err(error) => return Err(at("unshare", here)(error)),
    }
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(at("unshare", here))?;
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ];
    for (path, text) in maps {
        let path = Path::new(path);
        let file = File::options().write(true).open(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(at("write", path))?;
    }
    Ok(())
}

fn below(on: &Path, path: &Path) -> PathBuf {
    on.join(path.strip_prefix("/").unwrap_or(path))
}

fn at<E: Into<io::Error>>(call: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    move |error| Error {
        call,
        path: path.to_owned(),
        error: error.into(),
    }
}
