//! Watches one process tree: at each program start asks the cache, else lets it run and records it.
//!
//! Events come from the tracer; what they mean for steps is decided here, what is true of paths is asked
//! of `world`, what becomes of a finished step is `record`'s to fold and `cache`'s to keep.

mod close;
mod descriptors;
pub mod history;
pub mod hold;
mod ipc;
pub mod jobs;
mod jobserver;
mod key;
mod list;
mod machine;
mod macros;
mod meet;
mod model;
mod names;
mod paths;
pub mod pins;
mod pipes;
mod places;
mod privilege;
mod save;
mod serve;
pub mod session;
mod tool;
mod usage;

use crate::base::policy::Policy;
use crate::base::{Kind, Provenance, Refusal};
use crate::cache::Cache;
use crate::report::{Event as Report, Sink};
use crate::world::World;
use close::Fate;
use model::Model;
use rfs_tracer::event::{
    Answer, End, Event, Exec, ExecAnswer, Fd, Look, Names, Observer, OwnFds, Part, Peer, Pid,
    Scope, Sight,
};
use rfs_tracer::views::Views;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a watch needs to know.
#[derive(Debug)]
pub struct Config {
    /// Where outputs are staged: inside `.rfs`, on the workspace's file system.
    pub stage: PathBuf,
    /// What is known of particular tools.
    pub policy: Policy,
    /// Where steps that compute run.
    pub pins: Option<Arc<dyn pins::Pins>>,
    /// How much room there is for steps; none: as much as they want.
    pub room: Option<Arc<dyn hold::Room>>,
    /// Inode number of the pipe with job tokens that the command has inherited.
    pub tokens: Option<u64>,
    /// Who decides about the jobs of a build by rules.
    pub jobs: Option<Arc<dyn jobs::Jobs>>,
    /// The first program is a shell for others, which is never looked up or kept.
    pub shell: bool,
    /// Record, but serve nothing.
    pub rerun: bool,
    /// Refuse steps that visibly use the clock or random numbers.
    pub strict_clock: bool,
    /// What goes into every record; time is filled in at the end of a step.
    pub provenance: Provenance,
    /// What every key depends on: kernel, machine, host name.
    pub machine: String,
    /// Where the build is written down.
    pub history: Option<history::Destination>,
}

/// One watched process tree.
pub struct Watch {
    config: Config,
    world: Arc<World>,
    cache: Option<Arc<Cache>>,
    sink: Arc<dyn Sink>,
    model: Mutex<Model>,
    saver: save::Saver,
    history: Arc<history::History>,
    /// What was changed through the view, by whoever.
    in_view: Mutex<HashSet<PathBuf>>,
    /// That the cache cannot be read was told.
    told_unreadable: AtomicBool,
    n_killed: AtomicUsize,
    hold: hold::Hold,
    /// Some process has heard from outside of the build.
    outside: AtomicBool,
    /// How calls are stopped, for people.
    tracer: OnceLock<&'static str>,
    /// The descriptors that the spawner of jobs gives to its programs.
    of_spawner: OnceLock<Vec<Fd>>,
}

impl Watch {
    /// A watch over the process tree of one command. Without a cache everything runs.
    #[must_use]
    pub fn new(
        config: Config,
        world: Arc<World>,
        cache: Option<Arc<Cache>>,
        sink: Arc<dyn Sink>,
    ) -> Self {
        let to = config.history.clone();
        let history = Arc::new(history::History::new(to, world.clone()));
        let saver = save::Saver::new(
            world.clone(),
            cache.clone(),
            config.jobs.clone(),
            sink.clone(),
            history.clone(),
        );
        Self {
            config,
            world,
            cache,
            sink,
            model: Mutex::default(),
            saver,
            history,
            in_view: Mutex::default(),
            told_unreadable: AtomicBool::new(false),
            n_killed: AtomicUsize::new(0),
            hold: hold::Hold::default(),
            outside: AtomicBool::new(false),
            tracer: OnceLock::new(),
            of_spawner: OnceLock::new(),
        }
    }

    /// Says how calls are stopped, which is known once the command is watched. Only the first time counts.
    pub fn traced_by(&self, tracer: &'static str) {
        let _first = self.tracer.set(tracer).is_ok();
    }

    /// How many names are known.
    fn n_names(&self) -> usize {
        self.world.n_names()
    }

    fn provenance(&self) -> Provenance {
        let tracer = self.tracer.get().copied().unwrap_or_default();
        Provenance {
            tracer: tracer.to_owned(),
            ..self.config.provenance.clone()
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody changed a name through the view. The tracer should have told of it.
    pub fn changed_in_view(&self, path: &Path) {
        self.in_view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned());
    }

    fn was_changed_in_view(&self, path: &Path) -> bool {
        let in_view = self.in_view.lock().unwrap_or_else(PoisonError::into_inner);
        in_view.contains(path)
    }

    /// A name below the workspace that was changed through the view although the tracer saw nobody do it.
    fn unseen_change(&self, known: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let in_view = self.in_view.lock().unwrap_or_else(PoisonError::into_inner);
        in_view.iter().filter(|path| !known(path)).min().cloned()
    }

    /// The command's first process is gone. If it did not ask for it, nobody may have told yet.
    pub fn ended(&self, pid: Pid) {
        self.end(pid, Fate::Killed(None), &[]);
    }

    /// Waits until everything that ended so far is stored, and reports the steps.
    pub fn settle(&self) {
        self.saver.drain();
        match self.world.flush() {
            // A cache that can only be read serves; where something is to be kept in it, the saver tells.
            Ok(()) | Err(crate::store::Error::Disk(_)) => {}
            Err(error) => self.sink.take(Report::Warning(error.to_string())),
        }
    }

    /// Writes down in the workspace's store what ended so far, and how the command did: exit status (or
    /// the negative number of a signal) and microseconds.
    pub fn write_down(&self, ended: Option<(i32, u64)>) {
        self.history.write(ended);
    }

    /// The command has ended.
    pub fn finish(&self) {
        self.history.ended();
        self.world.finish();
    }

    /// Makes what is remembered survive a loss of power. What fails here was told when it was stored.
    pub fn sync(&self) {
        drop(self.world.sync());
    }

    fn taint(&self, pid: Pid, scope: Scope, why: &str) {
        let mut model = self.model();
        let Some(at) = model.step_of(pid) else { return };
        match scope {
            Scope::Own => model.steps[at].refuse(why),
            Scope::All => model.up(at, |step| {
                step.refuse(why);
                true
            }),
        }
    }

    /// A look into `/proc` at another process. Some look at all that there are for their own children only.
    fn other_process(&self, pid: Pid, path: &Path) {
        // One that has gone meanwhile leaves nothing but its number to be looked at.
        let passes = path.ends_with("stat") || path.parent() == Some(Path::new("/proc"));
        let seeks = passes && {
            let model = self.model();
            let proc = model.procs.get(&pid);
            proc.is_some_and(|proc| {
                self.config
                    .policy
                    .seeks_children
                    .contains(&proc.tool.driver)
            })
        };
        if !seeks {
            let why = format!("looks at another process: {}", path.display());
            self.taint(pid, Scope::All, &why);
        }
    }

    /// A visible use of the clock or of random numbers.
    fn chance(&self, pid: Pid, how: &str) {
        let mut model = self.model();
        let Some(at) = model.step_of(pid) else { return };
        self.chance_at(&mut model, at, how);
    }

    fn chance_at(&self, model: &mut Model, at: usize, how: &str) {
        let note = format!("uses {how}");
        model.up(at, |step| {
            if self.config.strict_clock {
                step.refusal.get_or_insert_with(|| Refusal(note.clone()));
            }
            step.notes.insert(note.clone())
        });
    }

    /// Somebody outside may tell a process now what he has changed.
    fn hear(&self) {
        self.outside.store(true, Ordering::Release);
    }

    fn socket(&self, pid: Pid, peer: Peer) {
        if !matches!(&peer, Peer::Unix(walk) if !matches!(walk.end, End::Found(_))) {
            self.hear();
        }
        match peer {
            Peer::Unix(walk) => self.call(pid, &walk),
            Peer::Abstract(name) => {
                let why = format!("talks to the socket @{}", name.escape_ascii());
                self.taint(pid, Scope::All, &why);
            }
            Peer::Inet(address) => {
                self.taint(pid, Scope::All, &format!("uses the network ({address})"));
            }
            Peer::Other(family) => {
                self.taint(
                    pid,
                    Scope::All,
                    &format!("uses a socket of family {family}"),
                );
            }
        }
    }

    /// A signal to a process outside the step makes it unknowable; inside it is the step's own affair.
    fn kill(&self, pid: Pid, target: Pid, signal: i32) {
        let mut model = self.model();
        model.pipe_signal_sent |= signal == libc::SIGPIPE;
        if matches!(
            signal,
            libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM | libc::SIGKILL
        ) {
            model.told_to_end.insert(target);
        }
        let Some(at) = model.step_of(pid) else { return };
        // One that has ended and not been waited for does not notice, but it is whose it was.
        let ended = || {
            model
                .ended
                .get(&target)
                .filter(|_| !is_strangers(&model, target))
        };
        let to = model.step_of(target).or_else(|| ended().copied());
        let inside: Vec<usize> = to.map(|to| model.chain(to)).unwrap_or_default();
        for outer in model.chain(at) {
            if !inside.contains(&outer) {
                model.steps[outer].refuse(format!("sends signal {signal} to process {target}"));
            }
        }
    }
}

/// Whether the number of a process that has ended is that of one outside now.
fn is_strangers(model: &Model, pid: Pid) -> bool {
    const PF_EXITING: u64 = 4;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' '));
    let field = |n| fields.clone()?.nth(n)?.parse::<u64>().ok();
    let exits = field(6).is_some_and(|flags| flags & PF_EXITING != 0);
    let parent = field(1).and_then(|parent| Pid::try_from(parent).ok());
    !exits && !parent.is_some_and(|parent| model.procs.contains_key(&parent))
}

impl Names for Watch {
    fn look(&self, path: &Path) -> Look {
        use std::os::unix::ffi::OsStrExt;
        let seen = self.world.look(path).seen;
        match seen.kind {
            Kind::Absent => Look::Absent,
            Kind::Dir => Look::Dir,
            Kind::Link => Look::Link(std::ffi::OsStr::from_bytes(&seen.text).into()),
            Kind::File | Kind::Fifo | Kind::Socket | Kind::Device => Look::File,
            Kind::Unknown(errno) => Look::Unknown(errno),
        }
    }

    fn is_ready(&self, pid: Pid, path: &Path) -> bool {
        let Some(jobs) = &self.config.jobs else {
            return true;
        };
        self.asks(pid, path)
            .is_none_or(|job| jobs.is_ready(job, path))
    }

    fn views(&self, pid: Pid) -> Option<Arc<Views>> {
        let jobs = self.config.jobs.as_ref().filter(|jobs| jobs.have_views())?;
        let job = {
            let model = self.model();
            model.steps[model.step_of(pid)?].job?
        };
        jobs.views(job)
    }

    fn is_still(&self, path: &Path, sight: &Sight) -> bool {
        let seen = self.world.last(path).seen;
        let kind = match sight.mode & libc::S_IFMT {
            libc::S_IFREG => Kind::File,
            libc::S_IFDIR => Kind::Dir,
            libc::S_IFLNK => Kind::Link,
            libc::S_IFIFO => Kind::Fifo,
            libc::S_IFSOCK => Kind::Socket,
            _ => Kind::Device,
        };
        if seen.kind != kind || seen.mode[0] != sight.mode & 0o7777 {
            return false;
        }
        // The rest of others changes with what is around them.
        kind != Kind::File
            || (sight.size, sight.mtime, sight.ctime)
                == (seen.id.size, seen.id.mtime, seen.id.ctime)
    }

    fn version(&self, path: &Path) -> Option<u64> {
        self.world.version(path)
    }

    fn news(&self) -> u64 {
        self.world.news()
    }

    fn hears_outside(&self) -> bool {
        self.outside.load(Ordering::Acquire)
    }
}

impl Observer for Watch {
    fn born(&self, pid: Pid, parent: Option<Pid>) {
        self.model().born(pid, parent);
    }

    fn event(&self, pid: Pid, event: Event<'_>) -> Answer {
        self.next_call(pid);
        match event {
            Event::Write(call) => self.write(pid, call),
            Event::WriteDirect(call) => return self.write_direct(pid, call),
            Event::ReadStdin(target) => self.read_stdin(pid, &target),
            Event::Dup { from, to, target } => self.dup(pid, from, to, &target),
            Event::Socket(peer) => self.socket(pid, peer),
            Event::Kill(target, signal) => self.kill(pid, target, signal),
            Event::Ipc { object, create } => self.ipc(pid, object, create),
            Event::Limit(resource, soft, hard) => self.model().limit(pid, resource, soft, hard),
            Event::Chance(how) => self.chance(pid, how),
            Event::Process(path) => self.other_process(pid, &path),
            Event::Taint(scope, why) => self.taint(pid, scope, &why),
            Event::Stat(_)
            | Event::Access(..)
            | Event::Readlink(_)
            | Event::Open { .. }
            | Event::List(_)
            | Event::Differs(_)
            | Event::Chdir(_)
            | Event::Unlink { .. }
            | Event::Mkdir(..)
            | Event::Mknod(..)
            | Event::Symlink(..)
            | Event::Link { .. }
            | Event::Rename { .. }
            | Event::Chmod(_)
            | Event::Chown(_)
            | Event::Utime { .. }
            | Event::Truncate(_)
            | Event::Xattr(_)
            | Event::Getxattr(_) => self.path_event(pid, event),
        }
        Answer::Go
    }

    fn wait(&self, pid: Pid, path: &Path, still_there: &dyn Fn() -> bool) {
        if let (Some(jobs), Some(job)) = (&self.config.jobs, self.asks(pid, path)) {
            jobs.wait(job, path, still_there);
        }
    }

    fn starts_a_part(&self, exec: &Exec, fds: &dyn OwnFds) -> Option<Part> {
        self.start_part(exec, fds)
    }

    fn exec(&self, exec: Exec, fds: &dyn OwnFds) -> ExecAnswer {
        self.start(exec, fds)
    }

    fn exec_failed(&self, pid: Pid) {
        self.model().exec_failed(pid);
    }

    fn exit(&self, pid: Pid, status: i32, children: &[(Pid, bool)]) {
        self.end(pid, Fate::Exited(status), children);
    }

    fn ends_as_a_part(&self, pid: Pid) -> bool {
        !self.model().has_step(pid)
    }

    fn died(&self, pid: Pid, signal: Option<i32>) {
        self.end(pid, Fate::Killed(signal), &[]);
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("world", &self.world)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
