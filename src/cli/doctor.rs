//! `rfs doctor`: what this machine allows, what each missing thing costs, and the remedy.

use super::error::CommandError;
use super::{console, place, workspace};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

/// Tell what this machine allows, what each missing thing costs, and how to get it
///
/// Exit status 0 if builds can be watched here, 1 if not.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One JSON object, schema `rfs.doctor/1`
    #[arg(long)]
    json: bool,
    /// Directory of the cache [default: as for `rfs build`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    /// It is there.
    Good,
    /// It is not, and something is slower or less exact.
    Limited,
    /// It is not, and builds cannot be watched.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    grade: Grade,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            grade: Grade::Good,
            found: found.into(),
            cost: None,
            remedy: None,
        }
    }

    fn lacking(
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

#[derive(Debug, Serialize)]
struct Findings {
    schema: &'static str,
    usable: bool,
    findings: Vec<Finding>,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let cwd = place::cwd()?;
    let config = place::config(&workspace::find(&cwd))?;
    let cache = place::cache(args.cache_dir.as_deref(), config.cache_dir.as_deref(), &cwd)?;
    let findings = vec![
        kernel(),
        fuse(),
        mount(),
        notification(),
        ptrace(),
        cache_dir(&cache),
    ];
    let usable = findings
        .iter()
        .all(|finding| finding.grade != Grade::Missing);
    let all = Findings {
        schema: "rfs.doctor/1",
        usable,
        findings,
    };
    console::answer(if args.json {
        serde_json::to_string_pretty(&all).map_err(CommandError::new)?
    } else {
        text(&all)
    });
    Ok(i32::from(!usable))
}

fn text(all: &Findings) -> String {
    let mut lines = Vec::new();
    for finding in &all.findings {
        let mark = match finding.grade {
            Grade::Good => "ok",
            Grade::Limited => "limited",
            Grade::Missing => "MISSING",
        };
        lines.push(format!("{mark:<8} {}: {}", finding.name, finding.found));
        for (what, text) in [
            ("costs", finding.cost),
            ("remedy", finding.remedy.as_deref()),
        ] {
            if let Some(text) = text {
                lines.push(format!("         {what}: {text}"));
            }
        }
    }
    lines.push(if all.usable {
        "builds can be watched here".to_owned()
    } else {
        "builds cannot be watched here: `rfs build` runs commands plainly".to_owned()
    });
    lines.join("\n")
}

/// The kernel: seccomp user notification with what it needs from 5.10 on, passthrough from 6.9 on.
fn kernel() -> Finding {
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
        Some(version) if version < (6, 9) => Finding::lacking(
            NAME,
            Grade::Limited,
            release,
            "files are read through rfs, without passthrough: slower",
            "use Linux 6.9 or newer",
        ),
        Some(_) | None => Finding::good(NAME, release),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn fuse() -> Finding {
    const NAME: &str = "/dev/fuse";
    match OpenOptions::new().read(true).write(true).open(NAME) {
        Ok(_) => Finding::good(NAME, "can be opened"),
        Err(error) => Finding::lacking(
            NAME,
            Grade::Missing,
            error.to_string(),
            "the view cannot be mounted",
            if error.kind() == std::io::ErrorKind::PermissionDenied {
                "as root: chmod 666 /dev/fuse"
            } else {
                "as root: modprobe fuse; in a container: start it with --device /dev/fuse"
            },
        ),
    }
}

/// Whether a mount namespace of our own can be had: as root, else inside a user namespace.
fn mount() -> Finding {
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
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    for (path, off, remedy) in switches {
        if read(path) == off {
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

fn notification() -> Finding {
    const NAME: &str = "seccomp notification";
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    if actions.split(' ').any(|action| action == "user_notif") {
        Finding::good(NAME, "the kernel has it")
    } else {
        Finding::lacking(
            NAME,
            Grade::Limited,
            "the kernel has it not",
            "processes are watched by ptrace: slower",
            "use a kernel with CONFIG_SECCOMP_FILTER, 5.10 or newer",
        )
    }
}

/// Yama's switch: 0 and 1 let us attach to our descendants, 2 only as root, 3 never.
fn ptrace() -> Finding {
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

fn cache_dir(dir: &Path) -> Finding {
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
    fn what_is_missing_is_told_with_cost_and_remedy() {
        let all = Findings {
            schema: "rfs.doctor/1",
            usable: false,
            findings: vec![
                Finding::good("kernel", "6.18"),
                Finding::lacking("mount", Grade::Missing, "off", "no view", "sysctl x=1"),
            ],
        };
        assert_eq!(
            text(&all),
            "ok       kernel: 6.18\n\
             MISSING  mount: off\n\
             \x20        costs: no view\n\
             \x20        remedy: sysctl x=1\n\
             builds cannot be watched here: `rfs build` runs commands plainly"
        );
    }
}
