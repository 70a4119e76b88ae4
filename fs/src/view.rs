//! The seam of the mount: what those outside learn of what happens in it.
//!
//! It knows no FUSE; the mount knows nothing of who listens.

use crate::error::FsError;
use std::path::Path;

/// What a process does by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Asks what the name is; it may be that there is none.
    Look,
    /// Reads the text of a link.
    ReadLink,
    /// Lists a directory.
    List,
    /// Opens a file to read or execute it.
    Read,
    /// Makes the name mean something else, or nothing; opens a file to write to it; or changes its attributes.
    Write,
}

/// Learns what happens through the mount.
///
/// It is called on the thread that serves the request, after the change and before the requester hears of
/// its success. It must not wait for anything that may itself wait for the mount, in particular
/// not for a call of [`Mounted::invalidate`](crate::Mounted::invalidate). That thread has a umask of its own, the
/// last requester's: an observer creates no files.
pub trait Observer: Send + Sync {
    /// The name at this absolute backing path was created, removed or renamed, or what it names was
    /// opened for writing, closed after having been, truncated, or had its attributes changed. A file that
    /// is known by several names is told by each.
    ///
    /// Of writes nothing is told, for they may not pass through the mount's server; they lie between the
    /// opening and the closing. close(2) does not wait for the closing to be told.
    fn changed(&self, path: &Path);

    /// Whether it wants to know [who did what](Self::did), which costs each request the making of a path.
    fn attends(&self) -> bool {
        false
    }

    /// The thread with this number, in the server's pid namespace, did this to the name at this absolute backing
    /// path, or failed to. It waits until this returns, so that it can be looked at.
    fn did(&self, thread: u32, deed: Deed, path: &Path) {
        let _: (u32, Deed, &Path) = (thread, deed, path);
    }

    /// A request failed for a reason that its requester cannot be blamed for.
    fn failed(&self, error: &FsError) {
        let _: &FsError = error;
    }
}
