//! Reads and writes through descriptors that a step was started with.

use super::Watch;
use super::model::Model;
use crate::base::{Access, Name, Stdin};
use crate::record::Step;
use crate::report::Live;
use rfs_tracer::event::{Answer, Fd, FdTarget, LAST_SEEN, Pid, WriteCall};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The descriptor of a step that a write to `fd` with this target reaches, if any.
fn reaches(fds: &[Fd], fd: i32, target: &FdTarget) -> Option<i32> {
    let writable =
        |entry: &&Fd| entry.flags & libc::O_ACCMODE != libc::O_RDONLY && entry.target == *target;
    let same = fds.iter().filter(writable).find(|entry| entry.fd == fd);
    same.or_else(|| fds.iter().find(writable))
        .map(|entry| entry.fd)
}

/// Whether writes to a descriptor that is inherited are not told and leave no trace.
pub(super) fn is_unseen(entry: &Fd) -> bool {
    let stream = match entry.target {
        FdTarget::Pipe(..) | FdTarget::Socket(_) | FdTarget::Tty(_) | FdTarget::Other(_) => true,
        FdTarget::Null | FdTarget::File { .. } | FdTarget::Dir(_) => false,
    };
    stream && entry.fd > LAST_SEEN && entry.flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// Calls `put` for every step around a write that was started with the descriptor it reaches.
fn print(
    model: &mut Model,
    at: usize,
    fd: i32,
    target: &FdTarget,
    mut put: impl FnMut(&mut Step, i32),
) {
    model.up(at, |step| {
        if !step.closed && (step.refusal.is_none() || step.job.is_some()) {
            if let Some(fd) = reaches(&step.fds, fd, target) {
                put(step, fd);
            }
        }
        true
    });
}

impl Watch {
    /// A write: every step that was started with the descriptor has printed.
    pub(super) fn write(&self, pid: Pid, call: &dyn WriteCall) {
        let target = call.target();
        if target == FdTarget::Null {
            return;
        }
        if matches!(target, FdTarget::Tty(_)) && self.sink.is_live() {
            match call.data() {
                Ok(bytes) => self.sink.live(Live::Prints(&bytes)),
                Err(_unreadable) => self.sink.live(Live::Unseen),
            }
        }
        let mut model = self.model();
        let Some(proc) = model.procs.get_mut(&pid) else {
            return;
        };
        let at = proc.step;
        proc.traces.write(&target);
        if let FdTarget::Other(what) = &target {
            let why = format!("writes to {}", what.display());
            return print(&mut model, at, call.fd(), &target, |step, _| {
                step.refuse(why.as_str());
            });
        }
        let mut bytes = None;
        print(&mut model, at, call.fd(), &target, |step, fd| {
            match bytes.get_or_insert_with(|| call.data()) {
                Ok(bytes) => step.print(fd, bytes),
                Err(error) => step.refuse(format!("its output cannot be read: {error}")),
            }
        });
    }

    /// What a served step printed: the steps around it have printed it too.
    pub(super) fn printed(&self, pid: Pid, at: Option<usize>, fd: &Fd, bytes: &[u8]) {
        if let FdTarget::Tty(_) = fd.target {
            self.sink.live(Live::Prints(bytes));
        }
        let mut model = self.model();
        if let Some(proc) = model.procs.get_mut(&pid) {
            proc.traces.write(&fd.target);
        }
        if let Some(at) = at {
            print(&mut model, at, fd.fd, &fd.target, |step, fd| {
                step.print(fd, bytes);
            });
        }
    }

    /// A served step has moved the offset of its standard input.
    pub(super) fn moved(&self, pid: Pid, fds: &[Fd]) {
        let mut model = self.model();
        let stdin = fds.iter().find(|entry| entry.fd == 0);
        if let (Some(proc), Some(stdin)) = (model.procs.get_mut(&pid), stdin) {
            proc.traces.touch(&stdin.target);
        }
    }

    /// A copy inside the kernel: its bytes pass nobody, so the program must do it by read and write.
    pub(super) fn write_direct(&self, pid: Pid, call: &dyn WriteCall) -> Answer {
        let target = call.target();
        let mut model = self.model();
        let Some(proc) = model.procs.get_mut(&pid) else {
            return Answer::Go;
        };
        let at = proc.step;
        proc.traces.write(&target);
        let mut inherited = false;
        model.up(at, |step| {
            inherited |= reaches(&step.fds, call.fd(), &target).is_some();
            !inherited
        });
        if inherited && target != FdTarget::Null {
            Answer::Fail(libc::EINVAL)
        } else {
            Answer::Go
        }
    }

    /// A read of standard input: what is in a file can be known, what comes through a pipe can not.
    pub(super) fn read_stdin(&self, pid: Pid, target: &FdTarget) {
        let mut model = self.model();
        let Some(proc) = model.procs.get_mut(&pid) else {
            return;
        };
        let (at, opened) = (proc.step, proc.tool.opened());
        if matches!(target, FdTarget::File { .. }) {
            proc.traces.touch(target);
        }
        for at in model.chain(at) {
            let step = &mut model.steps[at];
            if !step
                .fds
                .iter()
                .any(|entry| entry.fd == 0 && entry.target == *target)
            {
                continue;
            }
            if at == 0 && matches!(target, FdTarget::Pipe(..) | FdTarget::Socket(_)) {
                self.hear();
            }
            match target {
                FdTarget::Null => self.reads(&mut model, at, opened, target),
                FdTarget::File { .. } => self.reads(&mut model, at, opened, target),
                FdTarget::Tty(_) => step.refuse("reads the terminal"),
                FdTarget::Pipe(..) => step.refuse("reads its standard input, a pipe"),
                FdTarget::Socket(_) => step.refuse("reads its standard input, a socket"),
                FdTarget::Dir(_) => (),
                FdTarget::Other(what) => {
                    step.refuse(format!("reads its standard input, {}", what.display()));
                }
            }
        }
    }

    /// A step reads `/dev/null` or a regular file that it was started with as standard input.
    fn reads(&self, model: &mut Model, at: usize, opened: Access, target: &FdTarget) {
        let step = &mut model.steps[at];
        if step.stdin == Stdin::Unread {
            let pos = step
                .fds
                .iter()
                .find(|entry| entry.fd == 0)
                .map_or(0, |entry| entry.pos);
            step.stdin = if let FdTarget::File { path, .. } = target {
                let name = Name::of(path, self.world.root());
                Stdin::File {
                    name,
                    pos,
                    left: pos,
                }
            } else {
                Stdin::Null
            };
        }
        self.note_file(model, at, opened, target);
    }

    /// A standard descriptor gets a second number, under which nobody looks. Shells come back to the
    /// old number before they use it; another program may not.
    pub(super) fn dup(&self, pid: Pid, from: i32, to: i32, target: &FdTarget) {
        let mut model = self.model();
        let Some(proc) = model.procs.get(&pid) else {
            return;
        };
        let hidden = if from == 0 {
            to != 0
        } else {
            to > LAST_SEEN && *target != FdTarget::Null
        };
        if proc.tool.shell || !hidden {
            return;
        }
        if let FdTarget::Tty(_) = target {
            self.sink.live(Live::Unseen);
        }
        let opened = proc.tool.opened();
        for at in model.chain(proc.step) {
            let step = &mut model.steps[at];
            if !step
                .fds
                .iter()
                .any(|entry| entry.fd == from && entry.target == *target)
            {
                continue;
            }
            let known = matches!(target, FdTarget::Null | FdTarget::File { .. });
            if from == 0 && known {
                self.reads(&mut model, at, opened, target);
            } else {
                step.refuse(format!("uses descriptor {from} under another number"));
            }
        }
    }
}

/// A program starts with descriptors of which nobody can say what it writes to them: neither can the
/// steps that were started with the same ones under any number.
pub(super) fn unseen(model: &mut Model, at: usize, fds: &[Fd]) {
    for entry in fds.iter().filter(|entry| is_unseen(entry)) {
        model.up(at, |step| {
            if reaches(&step.fds, entry.fd, &entry.target).is_some() {
                let fd = entry.fd;
                step.refuse(format!(
                    "starts a program with its output as descriptor {fd}"
                ));
            }
            true
        });
    }
}

/// The descriptor that a name like `/proc/self/fd/0` stands for.
fn own_descriptor(path: &Path) -> Option<i32> {
    match path.as_os_str().as_bytes() {
        b"/dev/stdin" => Some(0),
        b"/dev/stdout" => Some(1),
        b"/dev/stderr" => Some(2),
        path => {
            let below = |dir: &[u8]| {
                let at = path.windows(dir.len()).rposition(|part| part == dir)?;
                std::str::from_utf8(&path[at + dir.len()..])
                    .ok()?
                    .parse()
                    .ok()
            };
            let proc = path.starts_with(b"/proc/") || path.starts_with(b"/dev/fd/");
            below(b"/fd/").filter(|_| proc)
        }
    }
}

/// A look at a descriptor by name tells what a step was started with; the key knows only of what kind
/// that is. `leads_to` is the file that it leads to, where that is one with a name.
pub(super) fn looked_at_descriptor(
    model: &mut Model,
    at: usize,
    path: &Path,
    leads_to: Option<&Path>,
) {
    let Some(fd) = own_descriptor(path) else {
        return;
    };
    // The number may have become another file's: the C library sets permissions by such a name.
    let may_be = |target: &FdTarget| match (target, leads_to) {
        // Of output the key says it all, of input the record.
        (FdTarget::Null, _) => false,
        (_, None) => true,
        (FdTarget::Pipe(_, 0) | FdTarget::Socket(_), Some(_)) => false,
        (FdTarget::Tty(_), Some(now)) => now.starts_with("/dev"),
        (FdTarget::Pipe(..), Some(_)) => true,
        (FdTarget::File { path, .. } | FdTarget::Dir(path) | FdTarget::Other(path), Some(now)) => {
            now.starts_with(path)
        }
    };
    model.up(at, |step| {
        let inherited = || step.fds.iter().filter(|entry| entry.fd == fd);
        let is_told = inherited().any(|entry| may_be(&entry.target));
        let is_nothing = inherited().any(|entry| entry.target == FdTarget::Null);
        if is_told {
            step.refuse(format!("looks at what its descriptor {fd} is"));
        }
        if fd == 0 && is_nothing && step.stdin == Stdin::Unread {
            step.stdin = Stdin::Null;
        }
        true
    });
}

/// Whether what a step read from its standard input is there again.
pub(super) fn stdin_is(stdin: &Stdin, fds: &[Fd], root: &Path) -> bool {
    let now = fds.iter().find(|entry| entry.fd == 0);
    match (stdin, now.map(|now| (&now.target, now.pos))) {
        (Stdin::Unread, _) | (Stdin::Null, Some((FdTarget::Null, _))) => true,
        (Stdin::File { name, pos, .. }, Some((FdTarget::File { path, .. }, at))) => {
            *name == Name::of(path, root) && *pos == at
        }
        (Stdin::Null | Stdin::File { .. }, _) => false,
    }
}
