//! What is about to be written: who asks a store right after a build waits for it. A lock of the kernel on
//! a byte of the file that nobody writes; it ends with the process that holds it.

use super::lock;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// Something is about to be written, as long as this lives.
#[derive(Debug)]
pub struct Pending {
    _file: File,
}

/// Says that something is about to be written. None where it cannot be said: whoever asks does not wait.
#[must_use]
pub fn announce(path: &Path) -> Option<Pending> {
    let file = File::open(path).ok()?;
    lock::announce(&file, path).ok()?;
    Some(Pending { _file: file })
}

/// Waits until what was announced is written, but not for ever; whether it is.
#[must_use]
pub fn settle(path: &Path, patience: Duration) -> bool {
    let Ok(file) = File::open(path) else {
        return true;
    };
    let start = Instant::now();
    while lock::is_announced(&file, path).unwrap_or(false) {
        if start.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_waits_for_what_is_announced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert!(announce(&path).is_none() && settle(&path, Duration::ZERO));
        drop(File::create(&path).unwrap());
        let (one, other) = (announce(&path).unwrap(), announce(&path).unwrap());
        drop(one);
        assert!(!settle(&path, Duration::ZERO));
        drop(other);
        assert!(settle(&path, Duration::ZERO));
    }
}
