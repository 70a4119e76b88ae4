//! Places of the file system that are no files of a build.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Places that belong to the process or the machine and say nothing that a build may depend on:
/// devices, and what the kernel makes up about processes and hardware. doc/semantics.md lists them.
pub(super) fn nobody_s(path: &Path) -> bool {
    (path.starts_with("/dev") && !path.starts_with("/dev/shm"))
        || path.starts_with("/proc")
        || path.starts_with("/sys")
}

/// What opening a device says.
pub(super) enum Device {
    None,
    Chance(&'static str),
    Outside,
}

pub(super) fn device(path: &Path) -> Device {
    let Ok(name) = path.strip_prefix("/dev") else {
        return Device::None;
    };
    match name.as_os_str().as_bytes() {
        b"random" => Device::Chance("random numbers (/dev/random)"),
        b"urandom" => Device::Chance("random numbers (/dev/urandom)"),
        b"" | b"null" | b"zero" | b"full" | b"stdin" | b"stdout" | b"stderr" => Device::None,
        name if name.starts_with(b"shm") || name.starts_with(b"fd") => Device::None,
        _ => Device::Outside,
    }
}
