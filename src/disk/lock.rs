//! Waiting for a lock, but not for ever.

use super::{At, Disk, Result};
use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long is waited: whoever has the lock may have been stopped (Ctrl-Z) at the wrong moment.
const PATIENCE: Duration = Duration::from_secs(2);

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
