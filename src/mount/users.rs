//! Who uses a mount, as /proc tells it. No server is asked anything, so that dead and hung ones do no harm.

use std::fs;
use std::path::PathBuf;

/// Processes in whatever namespace that have a file of this mount open or mapped, or their working directory, root
/// or program there, as far as we may look: number and name.
pub(super) fn of(minor: u32) -> Vec<(i32, String)> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<_> = pids
        .filter(|pid| uses(*pid, minor))
        .map(|pid| (pid, name(pid)))
        .collect();
    found.sort_unstable();
    found
}

fn uses(pid: i32, minor: u32) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let is_there = |link: PathBuf| rfs_fs::lies_on(&link, minor);
    let fds = || fs::read_dir(proc.join("fd"));
    let maps = || fs::read(proc.join("maps")).unwrap_or_default();
    ["cwd", "root", "exe"]
        .iter()
        .any(|link| is_there(proc.join(link)))
        || fds().is_ok_and(|mut fds| fds.any(|fd| fd.is_ok_and(|fd| is_there(fd.path()))))
        || is_mapped(&maps(), minor)
}

/// Whether proc_pid_maps(5) tells of a file of that device.
fn is_mapped(maps: &[u8], minor: u32) -> bool {
    let device = format!("00:{minor:02x}");
    let mut lines = maps.split(|byte| *byte == b'\n');
    lines.any(|line| line.split(|byte| *byte == b' ').nth(3) == Some(device.as_bytes()))
}

fn name(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_is_known_by_its_device() {
        let maps =
            b"7f00-7f10 r-xp 00000000 00:32 41    /w/lib.so\n7f20-7f30 rw-p 00000000 00:00 0 \n";
        assert!(is_mapped(maps, 0x32));
        assert!(!is_mapped(maps, 50 + 1));
    }
}
