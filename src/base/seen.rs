//! What one look at a path saw. Shared by all who saw the same version of it.

use super::{Access, Digest, Identity, State};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A path, by number. Numbers are given out by `world` and mean nothing beyond one build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub u32);

/// A job of a rule, by its number in one command of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u32);

/// What kind of object a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Absent,
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
    /// It cannot be looked at: errno.
    Unknown(i32),
}

/// One version of a path, as lstat(2) told it. The content's digest is filled in when it is wanted.
#[derive(Debug)]
pub struct Seen {
    /// What it is.
    pub kind: Kind,
    /// Stat identity; all zero for an absent path.
    pub id: Identity,
    /// Permission bits (07777), owner and group.
    pub mode: [u32; 3],
    /// Device number of a device.
    pub rdev: u64,
    /// Number of hard links.
    pub nlink: u64,
    /// Text of a symbolic link.
    pub text: Vec<u8>,
    /// Digest of a regular file's content, or the errno that kept it from being read.
    pub digest: OnceLock<Result<Digest, i32>>,
    /// Whether it has extended attributes (xattr(7)), where somebody wanted to know.
    pub attributes: OnceLock<bool>,
    saving: AtomicBool,
}

impl Seen {
    /// A look that found nothing.
    #[must_use]
    pub fn absent() -> Self {
        Self::new(Kind::Absent, Identity::default())
    }

    /// A look that found an object of this kind and identity; the rest is zero.
    #[must_use]
    pub fn new(kind: Kind, id: Identity) -> Self {
        Self {
            kind,
            id,
            mode: [0; 3],
            rdev: 0,
            nlink: 0,
            text: Vec::new(),
            digest: OnceLock::new(),
            attributes: OnceLock::new(),
            saving: AtomicBool::new(false),
        }
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.kind == Kind::Absent
    }

    /// Whether its content is on its way into the cache, so that it must not be written in place yet.
    #[must_use]
    pub fn is_saving(&self) -> bool {
        self.saving.load(Ordering::Acquire) && self.digest.get().is_none()
    }

    /// Says that its content is on its way into the cache.
    pub fn set_saving(&self) {
        self.saving.store(true, Ordering::Release);
    }

    /// What a record says of it, as far as `access` goes. `listed` is the digest of a directory's names.
    ///
    /// # Errors
    /// The errno that keeps it from being looked at in these ways.
    pub fn state(&self, access: Access, listed: Option<Digest>) -> Result<State, i32> {
        Ok(match self.kind {
            Kind::Absent => State::Absent,
            Kind::File if access.has(Access::SINGLE) && self.nlink > 1 => return Err(libc::EMLINK),
            Kind::File => State::File {
                mode: self.mode,
                size: self.id.size,
                mtime: self.id.mtime,
                digest: match self.digest.get() {
                    Some(digest) if access.has(Access::REG) => Some((*digest)?),
                    Some(_) | None => None,
                },
            },
            Kind::Dir => State::Dir {
                mode: self.mode,
                mtime: self.id.mtime,
                list: listed,
            },
            Kind::Link => State::Link(self.text.clone(), self.id.mtime),
            Kind::Fifo | Kind::Socket | Kind::Device => State::Other(self.mode, self.rdev),
            Kind::Unknown(errno) => State::Hidden(errno),
        })
    }
}
