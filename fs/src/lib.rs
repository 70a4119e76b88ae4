//! The mount: a view of a directory tree over FUSE, shown at the tree's own path.
//!
//! A child process enters private namespaces and mounts ([`Gate`]); its parent, which stays outside and so
//! still reaches the real files by their plain paths, answers the kernel ([`serve`]). This crate mirrors a
//! directory with the semantics of a local disk and tells an [`Observer`] what changes; it knows nothing of
//! steps, records or caches.

mod descriptors;
mod error;
mod fuse;
mod handles;
mod inode;
mod mount;
mod session;
mod standing;
mod vfs;
mod view;

pub use error::{FsError, Op};
pub use mount::{Connection, EnterOptions, Gate, MountError};
pub use session::{Config, Mounted, Passthrough, Stats, serve};
pub use standing::{Removal, Standing, lies_on, real, step_behind, take_away, withdraw};
pub use view::{Deed, Observer};
