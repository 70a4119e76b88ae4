//! Programs that would gain privileges, and cannot: an ordinary user's build is in a user namespace without any
//! other ids, and the kernel ignores bits that stand for them.
//!
//! Knows the bits of the file; who may become whom is the kernel's business.

use super::Watch;
use crate::base::Kind;
use crate::record::Step;
use crate::report::Event;
use nix::sys::statvfs::{FsFlags, statvfs};
use rfs_tracer::event::Exec;
use std::path::Path;

impl Watch {
    /// Says so of a program that is about to run without the privileges that it would have without us.
    pub(super) fn privileges_lost(&self, exec: &Exec, step: &mut Step) {
        if rustix::process::geteuid().is_root() || !self.would_gain(&exec.program.path, exec) {
            return;
        }
        let path = exec.program.path.display();
        self.sink.take(Event::Warning(format!(
            "{path} would change its user or group, which it cannot in the build of an ordinary user \
             (its user namespace has no other): run it outside of `rfs build`, or rfs as root"
        )));
        step.refuse("runs without the privileges of its set-user-ID or set-group-ID bit");
    }

    fn would_gain(&self, path: &Path, exec: &Exec) -> bool {
        let seen = self.world.last(path).seen;
        let [mode, owner, group] = seen.mode;
        let [_, user, _, own_group] = exec.ids;
        let by_user = mode & 0o4000 != 0 && owner != user;
        let by_group = mode & 0o2010 == 0o2010 && group != own_group;
        // Where it gains nothing without us either nobody misses it.
        let is_idle = || {
            nix::sys::prctl::get_no_new_privs().unwrap_or(false)
                || statvfs(path).is_ok_and(|at| at.flags().contains(FsFlags::ST_NOSUID))
        };
        seen.kind == Kind::File && (by_user || by_group) && !is_idle()
    }
}
