//! What the kernel and the machine offer beyond what a build cannot do without: each with what its lack
//! costs. `doctor` tells of it.

use super::machine::{Finding, Grade};
use crate::base::topology::Kind;
use crate::cache;
use crate::report::size;
use crate::runner::topology::{self, Source};
use crate::runner::{Abilities, has_library};
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit};
use std::io;
use std::path::Path;

/// What a supervisor may do.
pub(super) fn abilities(found: &Abilities) -> Vec<Finding> {
    let Abilities {
        notify,
        sync_wake_up,
        wait_killable,
        ptrace,
        pidfd_getfd,
    } = found;
    let outer = notify
        .as_ref()
        .is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY));
    vec![
        ability(
            "seccomp notification",
            notify,
            Grade::Limited,
            "calls are stopped by ptrace: slower, and gdb and strace do not work inside of a build",
            if outer {
                "a supervisor around this process has it: start rfs outside of that"
            } else {
                "use Linux 5.5 or newer; in a container, allow the system call seccomp"
            },
        ),
        ability(
            "cheap wake-up",
            sync_wake_up,
            Grade::Limited,
            "each call that stops costs several times as much",
            "use Linux 6.6 or newer",
        ),
        ability(
            "calls that signals leave alone",
            wait_killable,
            Grade::Limited,
            "a call that a signal interrupts may end with EINTR",
            "use Linux 5.19 or newer",
        ),
        ability(
            "attaching to children",
            ptrace,
            Grade::Missing,
            "no step can be served, since no process can be ended in its place",
            "in a container, start it with --cap-add SYS_PTRACE",
        ),
        ability(
            "descriptors of children",
            pidfd_getfd,
            Grade::Limited,
            "steps that print cannot be served",
            "use Linux 5.6 or newer; in a container, start it with --cap-add SYS_PTRACE",
        ),
    ]
}

fn ability(
    name: &'static str,
    found: &io::Result<()>,
    lack: Grade,
    cost: &'static str,
    remedy: &str,
) -> Finding {
    match found {
        Ok(()) => Finding::good(name, "allowed"),
        Err(error) => Finding::lacking(name, lack, error.to_string(), cost, remedy),
    }
}

/// Who tells of changes outside of the workspace.
pub(super) fn changes() -> Finding {
    ability(
        "changes outside",
        &Inotify::init(InitFlags::IN_CLOEXEC)
            .map(drop)
            .map_err(io::Error::from),
        Grade::Limited,
        "each step looks again at what it uses outside of the workspace",
        "let the user have more of them: sysctl fs.inotify.max_user_instances=1024",
    )
}

/// The library that notes looks at names without a stop. `wanted`: what environment and configuration say.
pub(super) fn library(wanted: bool) -> Finding {
    const NAME: &str = "preload library";
    let cost = "first builds take longer, for each look at a name stops";
    match (has_library(), wanted) {
        (true, true) => Finding::good(NAME, "carried in the program; on"),
        (true, false) => Finding::lacking(
            NAME,
            Grade::Limited,
            "carried in the program; switched off",
            cost,
            "take away RFS_PRELOAD=0, or `preload = false` in the configuration",
        ),
        (false, _) => Finding::lacking(
            NAME,
            Grade::Limited,
            "this rfs was built without it",
            cost,
            "build rfs where rustc can make shared objects",
        ),
    }
}

/// What hwloc sees, for `--pin`.
pub(super) fn processors() -> Finding {
    const NAME: &str = "processors";
    match topology::read(&Source::Here) {
        Ok(machine) => {
            let n_all = machine.of_kind(Kind::Pu).len();
            let n_allowed = machine.allowed.len();
            let n_caches = machine.last_caches().len();
            let n_nodes = machine.of_kind(Kind::Numa).len();
            let found = format!(
                "{n_allowed} of {n_all} may be used; {n_caches} groups by cache, {n_nodes} memory nodes"
            );
            Finding::good(NAME, found)
        }
        Err(error) => Finding::lacking(
            NAME,
            Grade::Limited,
            error.to_string(),
            "steps cannot be pinned (`rfs build --pin`)",
            "mount /sys; `lstopo` tells more",
        ),
    }
}

/// How many files may be open at once. The soft limit is raised to the hard one while a build is watched.
pub(super) fn open_files() -> Finding {
    const NAME: &str = "open files";
    const ENOUGH: u64 = 4096;
    let found = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard >= ENOUGH => {
            return Finding::good(NAME, format!("up to {hard}"));
        }
        Ok((_, hard)) => format!("up to {hard}"),
        Err(errno) => errno.desc().to_owned(),
    };
    Finding::lacking(
        NAME,
        Grade::Limited,
        found,
        "builds that hold many files open at once may fail",
        "raise the hard limit: `ulimit -Hn 65536` as root, or LimitNOFILE= of the service",
    )
}

/// Whether the kernel tells how loaded it is.
pub(super) fn pressure() -> Finding {
    const NAME: &str = "pressure";
    match std::fs::read_to_string("/proc/pressure/cpu") {
        Ok(_) => Finding::good(NAME, "told by the kernel (PSI)"),
        Err(error) => Finding::lacking(
            NAME,
            Grade::Limited,
            error.to_string(),
            "`rfs build --pressure` cannot hold steps back",
            "boot with psi=1",
        ),
    }
}

/// Whether the cache that is there is believed, and what room there is for it.
pub(super) fn cache_of(dir: &Path) -> Vec<Finding> {
    /// What a large build keeps.
    const ENOUGH: u64 = 1 << 30;
    let mut findings = Vec::new();
    if dir.is_dir() {
        findings.push(match cache::believe(dir) {
            Ok(()) => Finding::good("cache's owner", "you or root; nobody else can write to it"),
            Err(error) => Finding::lacking(
                "cache's owner",
                Grade::Limited,
                error.to_string(),
                "nothing is kept, so nothing can be served",
                "as the message says",
            ),
        });
    }
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    if let Ok(disk) = nix::sys::statvfs::statvfs(there) {
        let room = disk.blocks_available().saturating_mul(disk.fragment_size());
        let found = format!("{} are free", size::text(room));
        findings.push(if room >= ENOUGH {
            Finding::good("cache's disk", found)
        } else {
            Finding::lacking(
                "cache's disk",
                Grade::Limited,
                found,
                "what finds no room is not kept, and runs again",
                "make room, or name another cache with RFS_CACHE_DIR",
            )
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lack_is_told_with_its_reason() {
        let no = |errno| Err(io::Error::from_raw_os_error(errno));
        let all = abilities(&Abilities {
            notify: no(libc::EBUSY),
            sync_wake_up: Ok(()),
            wait_killable: no(libc::EINVAL),
            ptrace: no(libc::EPERM),
            pidfd_getfd: Ok(()),
        });
        let grades: Vec<_> = all.iter().map(|finding| finding.grade).collect();
        use Grade::{Good, Limited, Missing};
        assert_eq!(grades, [Limited, Good, Limited, Missing, Good]);
        let remedy = all[0].remedy.as_deref().unwrap();
        assert!(remedy.contains("outside"), "{remedy}");
        assert!(all[2].found.contains("Invalid argument"), "{:?}", all[2]);
    }

    #[test]
    fn the_library_is_on_unless_it_is_switched_off() {
        assert_eq!(library(true).grade, Grade::Good);
        let off = library(false);
        assert_eq!(off.grade, Grade::Limited);
        assert!(off.found.contains("off"));
    }

    #[test]
    fn a_cache_of_another_is_told_of() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let told = |dir: &Path| {
            cache_of(dir)
                .into_iter()
                .map(|f| f.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&dir.path().join("none")), ["cache's disk"]);
        assert_eq!(cache_of(dir.path())[0].grade, Grade::Good);
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let shut = cache_of(dir.path()).remove(0);
        assert!(shut.found.contains("written by everybody"), "{shut:?}");
    }
}
