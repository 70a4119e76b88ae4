//! Directories that a program sees in the place of others: bind mounts in a mount namespace of its own.
//!
//! What the child does makes system calls only: its memory is its parent's.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, write};
use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use std::ffi::{CStr, CString};

/// What is to be seen where.
#[derive(Debug)]
pub struct Views {
    /// Where, and which directory: absolute, free of links, none of them within another one.
    pairs: Vec<(CString, CString)>,
    /// What says who we are in a user namespace; none for who may mount without.
    ids: Option<[(&'static CStr, String); 3]>,
}

impl Views {
    /// Of the place and the directory of each.
    #[must_use]
    pub fn new(pairs: Vec<(CString, CString)>) -> Self {
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let ids = (!user.is_root()).then(|| {
            [
                (c"/proc/self/setgroups", "deny".to_owned()),
                (c"/proc/self/uid_map", format!("{user} {user} 1")),
                (c"/proc/self/gid_map", format!("{group} {group} 1")),
            ]
        });
        Self { pairs, ids }
    }

    /// Flags of clone(2) for a child that is to see them.
    #[must_use]
    pub fn namespaces(&self) -> i32 {
        match self.ids {
            Some(_) => libc::CLONE_NEWNS | libc::CLONE_NEWUSER,
            None => libc::CLONE_NEWNS,
        }
    }

    /// Has the calling process see them, which is such a child.
    ///
    /// # Errors
    /// Those of mount(2), and of writing to the maps of user_namespaces(7).
    pub fn enter(&self) -> Result<(), Errno> {
        for (file, text) in self.ids.iter().flatten() {
            let file = open(*file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            write(&file, text.as_bytes())?;
        }
        mount_change(
            c"/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        for (at, real) in &self.pairs {
            mount_bind_recursive(real.as_c_str(), at.as_c_str())?;
        }
        Ok(())
    }
}
