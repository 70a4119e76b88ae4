//! What the machine says of itself that bears on builds: kernel, devices, switches, permissions.
//!
//! Reads and asks only; whether a build can really be watched is for the trial in `doctor` to tell.

use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    /// It is there.
    Good,
    /// It is not, and something is slower or less exact.
    Limited,
    /// It is not, and builds cannot be watched.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) name: &'static str,
    pub(super) grade: Grade,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            grade: Grade::Good,
            found: found.into(),
            cost: None,
            remedy: None,
        }
    }

    pub(super) fn lacking(
        name: &'static str,
        grade: Grade,
        found: impl Into<String>,
        cost: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            name,
            grade,
            found: found.into(),
            cost: Some(cost),
            remedy: Some(remedy.into()),
        }
    }
}

/// The kernel: seccomp user notification with what it needs from 5.10 on.
pub(super) fn kernel() -> Finding {
    const NAME: &str = "kernel";
    let release = read("/proc/sys/kernel/osrelease");
    match version(&release) {
        Some(version) if version < (5, 10) => Finding::lacking(
            NAME,
            Grade::Missing,
            release,
            "builds cannot be watched",
            "use Linux 5.10 or newer",
        ),
        Some(_) | None => Finding::good(NAME, release),
    }
}

/// Whether the kernel itself reads and writes the files of a view: from 6.9 on, for root of the first user namespace.
pub(super) fn passthrough() -> Finding {
    let is_root = nix::unistd::geteuid().is_root();
    passthrough_of(
        &read("/proc/sys/kernel/osrelease"),
        is_root,
        &read("/proc/self/uid_map"),
    )
}

fn passthrough_of(release: &str, is_root: bool, ids: &str) -> Finding {
    // What stands there where nobody has made another one.
    let is_first = ids.split_whitespace().eq(["0", "0", "4294967295"]);
    let (found, remedy) = if version(release).is_some_and(|version| version < (6, 9)) {
        (release.to_owned(), "use Linux 6.9 or newer")
    } else if !is_root {
        (
            "for root only".to_owned(),
            "run as root where speed matters",
        )
    } else if !is_first {
        (
            "not in a user namespace".to_owned(),
            "in a container: start it without user namespaces (podman: as root) where speed matters",
        )
    } else {
        return Finding::good("passthrough", "allowed");
    };
    Finding::lacking(
        "passthrough",
        Grade::Limited,
        found,
        "files are read and written through rfs: slower",
        remedy,
    )
}

/// What programs can hand to the kernel unseen is refused inside of builds, so that nothing is to be done about it.
pub(super) fn io_uring() -> Finding {
    let found = match read("/proc/sys/kernel/io_uring_disabled").as_str() {
        "1" => "root may use it; builds are told that there is none, and do without",
        "2" => "switched off",
        _ => "on; builds are told that there is none, and do without",
    };
    Finding::good("io_uring", found)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn fuse() -> Finding {
    const NAME: &str = "/dev/fuse";
    // Linux's list of devices (devices.txt): misc, fuse.
    let device = nix::sys::stat::makedev(10, 229);
    let opened = OpenOptions::new().read(true).write(true).open(NAME);
    let (found, remedy) = match opened.and_then(|file| file.metadata()) {
        Ok(meta) if meta.file_type().is_char_device() && meta.rdev() == device => {
            return Finding::good(NAME, "can be opened");
        }
        Ok(_) => (
            "something else has this name".to_owned(),
            "as root: rm /dev/fuse && mknod -m 666 /dev/fuse c 10 229; in a container: start it \
             with --device /dev/fuse",
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            (error.to_string(), "as root: chmod 666 /dev/fuse")
        }
        Err(error) => (
            error.to_string(),
            "as root: modprobe fuse; in a container: start it with --device /dev/fuse",
        ),
    };
    Finding::lacking(
        NAME,
        Grade::Missing,
        found,
        "the view cannot be mounted",
        remedy,
    )
}

/// Whether a mount namespace of our own can be had: as root, else inside a user namespace.
pub(super) fn mount() -> Finding {
    const NAME: &str = "mount";
    let cost = "the view cannot be mounted";
    if nix::unistd::geteuid().is_root() {
        return Finding::good(NAME, "as root");
    }
    let switches = [
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            "user.max_user_namespaces=15000",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0, or install the Debian package of rfs, which \
             has a profile for it",
        ),
    ];
    // Such a profile is what lets a program make user namespaces where others may not.
    let has_profile = read("/proc/self/attr/current").starts_with("rfs ");
    for (path, off, remedy) in switches {
        if read(path) == off && !(has_profile && path.contains("apparmor")) {
            let found = format!("{path} is {off}");
            let remedy = format!("as root: sysctl {remedy}");
            return Finding::lacking(NAME, Grade::Missing, found, cost, remedy);
        }
    }
    Finding::lacking(
        NAME,
        Grade::Limited,
        "in a user namespace",
        "no passthrough: files are read through rfs, slower",
        "run as root where speed matters",
    )
}

/// Yama's switch: 0 and 1 let us attach to our descendants, 2 only as root, 3 never.
pub(super) fn ptrace() -> Finding {
    const NAME: &str = "ptrace";
    let scope = read("/proc/sys/kernel/yama/ptrace_scope");
    let refused = match scope.as_str() {
        "3" => true,
        "2" => !nix::unistd::geteuid().is_root(),
        _ => false,
    };
    if refused {
        return Finding::lacking(
            NAME,
            Grade::Missing,
            format!("kernel.yama.ptrace_scope is {scope}"),
            "no step can be served, since no process can be ended in its place",
            "as root: sysctl kernel.yama.ptrace_scope=1",
        );
    }
    Finding::good(NAME, "allowed for our own processes")
}

pub(super) fn cache_dir(dir: &Path) -> Finding {
    const NAME: &str = "cache";
    let cost = "nothing is kept, so nothing can be served";
    let shown = dir.display();
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    if !there.is_dir() {
        let found = format!("{} is not a directory", there.display());
        return Finding::lacking(
            NAME,
            Grade::Limited,
            found,
            cost,
            "remove it, or name another one with --cache-dir or RFS_CACHE_DIR",
        );
    }
    match nix::unistd::access(
        there,
        nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK,
    ) {
        Ok(()) => Finding::good(NAME, format!("{shown} can be written to")),
        Err(errno) => Finding::lacking(
            NAME,
            Grade::Limited,
            format!("{}: {}", there.display(), errno.desc()),
            cost,
            "name another one with --cache-dir or RFS_CACHE_DIR",
        ),
    }
}

/// A file of one line; empty when it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.9"), Some((5, 9)));
        assert_eq!(version("?"), None);
    }

    #[test]
    fn passthrough_is_for_root_of_a_new_kernel_outside_of_namespaces() {
        let first = "         0          0 4294967295";
        let of = |release, is_root, ids| passthrough_of(release, is_root, ids);
        assert_eq!(of("6.9.0", true, first).grade, Grade::Good);
        for (lack, word) in [
            (of("6.8.12", true, first), "Linux 6.9"),
            (of("6.18.44", false, first), "as root"),
            (of("6.18.44", true, "0 1000 1"), "user namespaces"),
        ] {
            assert_eq!(lack.grade, Grade::Limited, "{lack:?}");
            assert!(lack.remedy.as_ref().unwrap().contains(word), "{lack:?}");
        }
    }
}
