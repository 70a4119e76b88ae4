//! What a process says of itself and of its kernel.

use super::layout::Boot;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::FileExt;

/// Bytes of the text that names the holder of the lock.
const TEXT: usize = 256;

/// The kernel's boot id. Where it cannot be read, a number that no other process has: what was written
/// without a sync is then forgotten by the next one.
pub(super) fn boot() -> Boot {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    match u128::from_str_radix(&digits, 16) {
        Ok(id) if id != 0 => id.to_le_bytes(),
        Ok(_) | Err(_) => (u128::from(random()) + 1).to_le_bytes(),
    }
}

/// A number that nobody else has.
pub(super) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// The holder of the lock, for messages.
pub(super) fn describe() -> [u8; TEXT] {
    let name = fs::read("/proc/self/comm").unwrap_or_default();
    let text = format!(
        "process {} ({})",
        std::process::id(),
        name.trim_ascii_end().escape_ascii()
    );
    let mut bytes = [0; TEXT];
    let len = text.len().min(TEXT);
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    bytes
}

/// What [`describe`] wrote.
pub(super) fn read(file: &File, at: u64) -> String {
    let mut bytes = [0; TEXT];
    let len = file.read_at(&mut bytes, at).unwrap_or(0);
    let text = bytes[..len].split(|byte| *byte == 0).next();
    let text = text.unwrap_or_default();
    if text.is_empty() || !text.iter().all(|b| matches!(b, b' '..=b'~')) {
        return "another process".to_owned();
    }
    String::from_utf8_lossy(text).into_owned()
}
