//! Whether time stamps can tell a file from the same file changed a moment later.

use crate::base::Identity;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Two clock ticks at the slowest usual rate (100 Hz), in ns.
const TICKS: i64 = 20_000_000;

/// How fine the time stamps of a workspace's filesystem are.
#[derive(Debug)]
pub(super) struct Clock {
    /// The filesystem gives a file a new time stamp at the first change after every look
    /// (multigrain time stamps: Linux 6.13 for ext4, xfs, btrfs and tmpfs).
    fine: Option<u64>,
}

impl Clock {
    /// The clock of the filesystem that holds `root`.
    pub(super) fn of(root: &Path) -> Self {
        use nix::sys::statfs::{
            BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs,
        };
        use std::os::unix::fs::MetadataExt;
        let kinds = [
            EXT4_SUPER_MAGIC,
            XFS_SUPER_MAGIC,
            BTRFS_SUPER_MAGIC,
            TMPFS_MAGIC,
        ];
        let known = statfs(root).is_ok_and(|fs| kinds.contains(&fs.filesystem_type()));
        let dev = std::fs::metadata(root).map(|meta| meta.dev()).ok();
        Self {
            fine: dev.filter(|_| known && kernel() >= (6, 13)),
        }
    }

    /// Whether a file that is changed after it was hashed is sure to get another identity than this.
    pub(super) fn tells_apart(&self, id: &Identity) -> bool {
        if self.fine == Some(id.dev) {
            return true;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
        let last = id.mtime.max(id.ctime);
        now.saturating_sub(last) > TICKS
    }
}

/// Major and minor number of the running kernel.
fn kernel() -> (u32, u32) {
    let names = nix::sys::utsname::uname();
    let release = names
        .map(|n| n.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
