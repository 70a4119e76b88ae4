//! Whether a file has extended attributes.

use rustix::io::Errno;
use std::path::Path;

/// Attributes that every file of a system or a filesystem has, whatever a build does: labels and sums of
/// security modules, and what NFS 4 makes of the permissions.
const EVERYWHERE: [&[u8]; 5] = [
    b"security.selinux",
    b"security.SMACK64",
    b"security.ima",
    b"security.evm",
    b"system.nfs4_acl",
];

/// Whether there are any but those that are everywhere. A link is not followed.
pub(super) fn any(path: &Path) -> bool {
    let mut names = vec![0; 64 << 10];
    match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(len) => names[..len]
            .split(|byte| *byte == 0)
            .any(|name| !name.is_empty() && !EVERYWHERE.contains(&name)),
        Err(Errno::OPNOTSUPP | Errno::NOENT | Errno::NOTDIR) => false,
        Err(_) => true,
    }
}
