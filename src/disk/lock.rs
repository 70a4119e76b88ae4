//! Files that several processes hold locks on, and waiting for a lock, but not for ever.

use super::{At, Disk, Result};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long is waited: whoever has the lock may have been stopped (Ctrl-Z) at the wrong moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens a file that several processes hold locks on, and makes it where there is none. Neither a link nor a fifo
/// in its place is followed or waited for.
///
/// # Errors
/// open(2) fails.
pub fn open_shared(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .at("open", path)
}

/// Takes an exclusive flock(2), which is held until `file` is closed.
///
/// # Errors
/// Nobody released it in two seconds (`TimedOut`), or the system call fails.
pub fn lock(disk: &dyn Disk, file: &File, path: &Path) -> Result<()> {
    let start = Instant::now();
    while !disk.try_lock(file, path)? {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::from(io::ErrorKind::TimedOut)).at("flock", path);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
