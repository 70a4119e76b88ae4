//! A process ends, and with it the steps that it was the first process of.

use super::Watch;
use super::model::Model;
use super::save::Job;
use super::usage::Usage;
use crate::base::{Kind, Name, Stdin, What};
use crate::record::{Folded, Step, Wrote, fold};
use crate::world::open;
use rfs_tracer::event::{Exec, Fd, FdTarget, LAST_SEEN, Pid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A disk with less free space than this, in bytes, may have made a command fail.
const MIN_FREE: u64 = 4 << 20;

/// Files that a finished step holds open until they are stored, at most.
const MAX_HELD: usize = 128;

/// A process that was told to end has that long to do so.
const DYING: Duration = Duration::from_millis(500);

/// How shells exit when somebody has killed what they ran (SIGKILL, SIGTERM): a process that was killed before
/// its first call was seen by nobody else.
const AS_IF_KILLED: [i32; 2] = [128 + libc::SIGKILL, 128 + libc::SIGTERM];

/// How a process ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It exits with this status.
    Exited(i32),
    /// It was killed, by this signal where that is known.
    Killed(Option<i32>),
}

impl Watch {
    /// A process ends. Its parent cannot know yet.
    pub(super) fn end(&self, pid: Pid, fate: Fate, children: &[(Pid, bool)]) {
        self.await_the_dying(pid);
        let small = {
            let model = self.model();
            model.procs.contains_key(&pid).then(|| model.is_small(pid))
        };
        let used = match (fate, small) {
            (Fate::Exited(_), Some(small)) => Some(Usage::of(pid, small)),
            // Nobody, or one whose end has been told before it comes: as a process that is served.
            (Fate::Exited(_), None) | (Fate::Killed(_), _) => None,
        };
        self.end_after(pid, fate, children, used);
    }

    /// A process that was served ends.
    pub(super) fn end_served(&self, exec: &Exec, status: i32) {
        let pid = exec.pid;
        if self.model().has_step(pid) {
            return self.end(pid, Fate::Exited(status), &[]);
        }
        let used = Usage::of_asker(exec);
        self.end_after(pid, Fate::Exited(status), &[], Some(used));
    }

    fn end_after(&self, pid: Pid, fate: Fate, children: &[(Pid, bool)], used: Option<Usage>) {
        let other_user = used
            .as_ref()
            .is_some_and(|used| used.not_root && rustix::process::geteuid().is_root());
        self.hold.leave(pid);
        let mut ended = Vec::new();
        {
            let mut model = self.model();
            model.told_to_end.remove(&pid);
            for (child, _) in children.iter().filter(|(_, alive)| *alive) {
                model.born(*child, Some(pid));
            }
            let Some(proc) = model.procs.remove(&pid) else {
                return;
            };
            model.ended.insert(pid, proc.step);
            match fate {
                Fate::Killed(signal) => {
                    self.n_killed.fetch_add(1, Ordering::Relaxed);
                    model.killed(pid, proc.step, &proc.traces, signal);
                }
                // Then permissions decide what it sees, and nobody looked at them.
                Fate::Exited(_) if other_user => model.up(proc.step, |step| {
                    step.refuse("a process of it runs as another user");
                    true
                }),
                Fate::Exited(status) if AS_IF_KILLED.contains(&status) => {
                    model.up(proc.step, |step| {
                        step.refuse(format!("exits with {status}, as if a process were killed"));
                        true
                    });
                }
                // A child of it that was killed at once was seen by nobody at all.
                Fate::Exited(_) if used.as_ref().is_some_and(|used| used.ignores_ends) => {
                    model.up(proc.step, |step| {
                        step.refuse("a process of it ignores the ends of its children");
                        true
                    });
                }
                Fate::Exited(_) => (),
            }
            if let Some(used) = &used {
                self.count_in(&mut model, proc.step, pid, used);
            }
            if let Some(parent) = proc.parent.and_then(|parent| model.procs.get_mut(&parent)) {
                parent.traces.add(&proc.traces);
            }
            let mut next = Some(proc.step);
            while let Some(at) = next.filter(|at| model.steps[*at].pid == pid) {
                next = model.steps[at].parent;
                self.unpin(&mut model, at);
                if !model.steps[at].closed {
                    self.leftovers(&mut model, at);
                    model.ipc_left(at);
                    model.awaited(at);
                    model.cut_short(at, &proc.traces);
                    ended.push(take(&mut model, at));
                }
            }
        }
        let status = match fate {
            Fate::Exited(status) => Some(status),
            Fate::Killed(_) => None,
        };
        if status.is_some() && self.world.delays_mapped_writes() && !ended.is_empty() {
            let jobs = self.config.jobs.as_ref();
            let job = ended.iter().find_map(|step| step.job);
            let views = jobs.zip(job).and_then(|(jobs, job)| jobs.views(job));
            for path in mapped_for_writing(pid, self.world.root()) {
                match &views {
                    Some(views) => self.world.write_back(&views.real(&path)),
                    None => self.world.write_back(&path),
                }
            }
        }
        for step in ended {
            self.close(step, status.unwrap_or(-1));
        }
    }

    /// Waits for processes that were told to end by the step that ends now, as daemons are by whoever
    /// started them: otherwise it were chance whether it leaves them running.
    fn await_the_dying(&self, pid: Pid) {
        let dying = {
            let model = self.model();
            let Some(at) = model.step_of(pid).filter(|at| model.steps[*at].pid == pid) else {
                return;
            };
            let outermost = model
                .chain(at)
                .into_iter()
                .take_while(|at| model.steps[*at].pid == pid)
                .last();
            let inside = |of: usize| outermost.is_some_and(|at| model.chain(of).contains(&at));
            let others = model
                .procs
                .iter()
                .filter(|(other, proc)| **other != pid && inside(proc.step));
            let others: Vec<Pid> = others.map(|(other, _)| *other).collect();
            if !others.iter().all(|other| model.told_to_end.contains(other)) {
                return;
            }
            others
        };
        let deadline = Instant::now() + DYING;
        for pid in dying {
            await_end(pid, deadline);
        }
    }

    /// A step that leaves processes running has not done all that it will do.
    fn leftovers(&self, model: &mut Model, at: usize) {
        let mut left: Vec<Pid> = model
            .procs
            .iter()
            .filter(|(_, proc)| model.chain(proc.step).contains(&at))
            .map(|(pid, _)| *pid)
            .collect();
        left.sort_unstable();
        for pid in left {
            if alive(pid) {
                model.steps[at].refuse(format!("leaves process {pid} running"));
                return;
            }
            model.procs.remove(&pid);
            model.steps[at].refuse("a process of it was killed");
        }
    }

    /// A command that failed with the disk full might not fail the next time.
    fn full_disk(&self, status: i32) -> Option<String> {
        let tight = |dir: &Path| {
            nix::sys::statvfs::statvfs(dir)
                .is_ok_and(|fs| fs.blocks_available() * fs.fragment_size() < MIN_FREE)
        };
        let dir = [self.world.root(), Path::new("/tmp")]
            .into_iter()
            .find(|dir| tight(dir));
        let dir = dir.filter(|_| status != 0)?;
        Some(format!("fails while the disk of {} is full", dir.display()))
    }

    /// Whatever changed in the workspace must have been seen by the tracer too.
    fn check_unseen(&self, step: &mut Step) {
        let unseen = self.unseen_change(|path| {
            let look = self.world.last(path);
            step.wrote(look.id) != Wrote::NOTHING || look.seen.nlink > 1
        });
        if let Some(path) = unseen {
            step.refuse(format!(
                "{} was changed by something unseen",
                path.display()
            ));
        }
    }

    fn close(&self, mut step: Step, status: i32) {
        let wall = step.started.0.elapsed();
        if let (Some(jobs), Some(job), 0) = (&self.config.jobs, step.job, status) {
            jobs.exits(job);
        }
        if step.parent.is_none() {
            self.check_unseen(&mut step);
        }
        if step.cut_short && status != 0 {
            // It might not fail the next time.
            step.refuse("fails after a process of it wrote to a pipe that nobody read any more");
        }
        if step.refusal.is_some() {
            return self.saver.refused(step, status, wall);
        }
        let world = &self.world;
        let folded = fold(
            &step,
            |id| world.look(&world.path(id)).seen,
            |id| Name::of(&world.path(id), world.root()),
            |id| world.changes(id),
            |id| self.was_changed_in_view(&world.path(id)),
            |id, named| {
                let last = self.model().named_last(id, named);
                last.then(|| world.dir_stamp(&world.path(id)))?
            },
        );
        let folded = match folded {
            Ok(folded) => folded,
            Err(why) => {
                step.refusal = Some(why);
                return self.saver.refused(step, status, wall);
            }
        };
        for (output, pending) in &folded.outputs {
            let made = match output.what {
                What::File { in_place, .. } => !in_place,
                What::Dir(_) => true,
                What::Absent | What::Link(_) | What::Fifo(_) => false,
                What::HardLink(_) | What::Attributes(_) => false,
            };
            let path = world.path(pending.id);
            let set = folded.xattrs.contains(&pending.id);
            if (made || set) && world.has_attributes(&path, &pending.seen) {
                step.refuse(format!("leaves extended attributes on {}", output.name));
                return self.saver.refused(step, status, wall);
            }
        }
        world.hear();
        for input in &folded.check {
            let path = world.path(input.id);
            let jobs = self.config.jobs.as_ref().zip(step.job);
            let ignored = jobs.is_some_and(|(jobs, id)| jobs.ignores(id, &path));
            if ignored || world.still(input.id, &input.seen) {
                continue;
            }
            let name = Name::of(&path, world.root());
            step.refuse(format!("{name} changed while it was used"));
            world.forget(&path);
            world.tell_stale(&path);
            return self.saver.refused(step, status, wall);
        }
        let unfaithful = failed_writes(&step).or_else(|| moved_offset(&step));
        if let Some(why) = unfaithful.or_else(|| self.full_disk(status)) {
            step.refuse(why);
            return self.saver.refused(step, status, wall);
        }
        let files = match self.open_outputs(&folded) {
            Ok(files) => files,
            Err(why) => {
                step.refuse(why);
                return self.saver.refused(step, status, wall);
            }
        };
        let left = offset(step.pid, 0);
        match (&mut step.stdin, left) {
            (Stdin::File { left, .. }, Some(offset)) => *left = offset,
            (Stdin::Unread | Stdin::Null | Stdin::File { .. }, _) => (),
        }
        let provenance = self.provenance();
        self.saver.save(Job {
            step,
            folded,
            files,
            status,
            wall,
            provenance,
        });
    }

    /// Opens the files among the outputs that are not in the cache, as they are now. Of many, the rest is
    /// stored here and now: open files are scarce.
    fn open_outputs(&self, folded: &Folded) -> Result<Vec<(usize, File)>, String> {
        let mut files: Vec<(usize, File)> = Vec::new();
        for (index, (output, pending)) in folded.outputs.iter().enumerate() {
            if !matches!(output.what, What::File { .. }) || pending.seen.kind != Kind::File {
                continue;
            }
            if pending.seen.is_saving() || self.saver.has(&pending.seen) {
                continue;
            }
            let opened = open(&self.world.path(pending.id)).map_err(|error| error.to_string());
            let held = opened.and_then(|file| {
                if files.len() < MAX_HELD {
                    pending.seen.set_saving();
                    files.push((index, file));
                    return Ok(());
                }
                if let Some(digest) = self.saver.store(&file, &pending.seen)? {
                    let path = self.world.path(pending.id);
                    self.world.settle(&path, &pending.seen, Ok(digest));
                }
                Ok(())
            });
            if let Err(why) = held {
                for (index, _) in &files {
                    let (_, pending) = &folded.outputs[*index];
                    let path = self.world.path(pending.id);
                    self.world.settle(&path, &pending.seen, Err(libc::ESTALE));
                }
                return Err(format!("its output {} cannot be read: {why}", output.name));
            }
        }
        Ok(files)
    }
}

/// Takes a step out of the model; what stays only passes on what late processes still do.
fn take(model: &mut Model, at: usize) -> Step {
    let step = &mut model.steps[at];
    let mut rest = Step::new(
        step.number,
        step.parent,
        step.pid,
        String::new(),
        step.started.1,
    );
    rest.closed = true;
    std::mem::replace(step, rest)
}

/// Files of the workspace that a process has mapped shared and writable (proc_pid_maps(5)).
fn mapped_for_writing(pid: Pid, root: &Path) -> Vec<PathBuf> {
    let maps = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mapped = maps.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut words = line.splitn(6, |byte| *byte == b' ');
        let mode = words.nth(1)?;
        let shared = mode.get(1) == Some(&b'w') && mode.get(3) == Some(&b's');
        let path = Path::new(OsStr::from_bytes(words.nth(3)?.trim_ascii_start()));
        (shared && path.starts_with(root)).then(|| path.to_owned())
    });
    mapped.collect()
}

/// Waits until a process is gone or a zombie.
fn await_end(pid: Pid, deadline: Instant) {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else {
        return;
    };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    let rest = deadline.saturating_duration_since(Instant::now());
    let rest = rest.try_into().unwrap_or_default();
    // Whether it is gone is asked by `alive`.
    let _ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&rest));
}

/// Whether a process still runs: neither gone nor a zombie.
pub(super) fn alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Where a process left the offset of a descriptor.
fn offset(pid: Pid, fd: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("pos:")?.trim().parse().ok())
}

/// Whether less arrived in a file than was printed to it: the disk was full, or the program moved the
/// offset by itself, which replaying would not.
fn failed_writes(step: &Step) -> Option<String> {
    step.fds.iter().find_map(|entry| {
        let printed = *step.printed_to.get(&entry.fd)?;
        let file = matches!(entry.target, FdTarget::File { .. });
        let now = offset(step.pid, entry.fd).filter(|_| file)?;
        (now < entry.pos.saturating_add(printed))
            .then(|| format!("could not write all its output to descriptor {}", entry.fd))
    })
}

/// Whether the program moved the offset of an inherited file that others share, other than by what it was
/// seen to print: by reading, or by writing to a number so large that nobody looks.
fn moved_offset(step: &Step) -> Option<String> {
    let inherited = |entry: &&Fd| entry.fd > 2 && matches!(entry.target, FdTarget::File { .. });
    step.fds.iter().filter(inherited).find_map(|entry| {
        let same = |other: &&Fd| other.target == entry.target;
        let mut numbers = step.fds.iter().filter(same).map(|other| other.fd);
        if numbers.any(|fd| fd == 0 || step.printed_to.contains_key(&fd)) {
            return None;
        }
        let seen = entry.flags & libc::O_ACCMODE == libc::O_WRONLY && entry.fd <= LAST_SEEN;
        match offset(step.pid, entry.fd) {
            Some(now) => now != entry.pos,
            // It was closed, who knows after what.
            None => !seen,
        }
        .then(|| format!("reads or writes inherited descriptor {}", entry.fd))
    })
}

/// Microseconds, as far as they fit.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
