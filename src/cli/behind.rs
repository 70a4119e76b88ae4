//! Behind the mount: in a mounted workspace the program works on the real files, in a namespace of its own. There it
//! is as if nothing were mounted, but for what the daemon has written down.

use super::error::CommandError;
use super::{mount, place};
use crate::mount::talk::{Answer, Ask, Daemon};
use crate::mount::{step_behind, table};
use rustix::fs::statfs;
use std::os::fd::AsFd;
use std::path::Path;

/// `FUSE_SUPER_MAGIC` of linux/magic.h.
const FUSE: i64 = 0x6573_5546;

/// Where the working directory lies in a mounted workspace, sees the real directory in its place from now on. The
/// process must have one thread.
pub(super) fn step() -> Result<(), CommandError> {
    let is_fuse = statfs(".").is_ok_and(|stat| stat.f_type == FUSE);
    if !is_fuse {
        return Ok(());
    }
    let cwd = place::cwd()?;
    let Some(entry) = table::over(&cwd).map_err(mount::unreadable)? else {
        return Ok(());
    };
    let at = entry.at.display();
    let failed = |why: &dyn std::fmt::Display| {
        CommandError::new(format_args!(
            "{at} is mounted, and its daemon cannot be asked: {why}"
        ))
        .hint(format_args!(
            "`rfs mount {at}` mounts it anew where the daemon is gone"
        ))
    };
    let asked = Daemon::of(&entry, mount::runtime().as_deref())
        .and_then(|daemon| daemon.ask(&Ask::Real))
        .map_err(|error| failed(&error))?;
    let real = match asked {
        (Answer::Done, Some(real)) => real,
        (Answer::Failed(why), _) => return Err(failed(&why)),
        (Answer::Done | Answer::Used | Answer::Status(_) | Answer::Busy(_), _) => {
            return Err(failed(&"it talks of something else"));
        }
    };
    step_behind(real.as_fd(), &entry.at).map_err(|error| {
        CommandError::new(format_args!("cannot reach the real files of {at}: {error}"))
    })?;
    enter(&cwd)
}

fn enter(cwd: &Path) -> Result<(), CommandError> {
    let entered = nix::unistd::chdir(cwd);
    entered.map_err(|errno| {
        let what = format!("{}: {}", cwd.display(), errno.desc());
        CommandError::new(format_args!(
            "cannot change to the working directory: {what}"
        ))
    })
}
