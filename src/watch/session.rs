//! One mount and one tracer over one process tree, from start to end.

use super::close::micros;
use super::history::Destination;
use super::hold::Room;
use super::jobs::Jobs;
use super::machine::Machine;
use super::pins::Pins;
use super::{Config, Watch};
use crate::base::Provenance;
use crate::base::policy::Policy;
use crate::cache::{self, Cache};
use crate::disk::Disk;
use crate::report::{Calls, Event as Report, Sink, calls};
use crate::store::{Memo, Store, recover};
use crate::world::{OURS, Stale, World};
use nix::sys::signal::SigSet;
use rfs_fs::{EnterOptions, FsError, Gate, Mounted, Passthrough};
use rfs_tracer::event::Counts;
use rfs_tracer::{Backend, Ended, Launch, Preload};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the kernel may believe what it has seen of the workspace where looks do not stop: so late at most
/// does a process see what somebody outside of the build has changed.
const BELIEVED: Duration = Duration::from_millis(250);

/// The store of a workspace, below its root.
pub const STATE: &str = ".rfs/state";

/// What to run and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The command.
    pub argv: Vec<OsString>,
    /// What the build is called.
    pub title: String,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// The workspace's root.
    pub workspace: PathBuf,
    /// The cache's directory.
    pub cache: PathBuf,
    /// Bytes that its contents may take up.
    pub cache_size: u64,
    /// What writes to the cache, and what is served to the workspace.
    pub disk: Arc<dyn Disk>,
    /// Its signal mask.
    pub mask: SigSet,
    /// Way of tracing.
    pub backend: Backend,
    /// Which programs get the preload library.
    pub preload: Preload,
    /// Whether the kernel may read and write the workspace's files in the view's stead.
    pub passthrough: bool,
    /// How much room there is for steps; none: as much as they want.
    pub room: Option<Arc<dyn Room>>,
    /// Inode number of the pipe with job tokens that the command inherits.
    pub tokens: Option<u64>,
    /// Who decides about the jobs of a build by rules, and what is known of the world before it.
    pub jobs: Option<(Arc<dyn Jobs>, Known)>,
    /// The command is a shell for others: it is never looked up or kept, what it starts is.
    pub shell: bool,
    /// Record, but serve nothing.
    pub rerun: bool,
    /// Refuse steps that visibly use the clock or random numbers.
    pub strict_clock: bool,
    /// What is known of particular tools.
    pub policy: Policy,
    /// Where steps that compute run.
    pub pins: Option<Arc<dyn Pins>>,
}

/// The command did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The view could not be mounted.
    #[error("{0}")]
    Mount(String),
    /// The command could not be traced or executed.
    #[error(transparent)]
    Trace(#[from] rfs_tracer::Error),
}

/// A command under watch.
#[derive(Debug)]
pub struct Session {
    watch: Arc<Watch>,
    running: rfs_tracer::Running,
    mounted: Arc<Mounted>,
    cache: Option<Arc<Cache>>,
    cache_size: u64,
    began: Instant,
    ended: Option<(i32, u64)>,
}

impl Session {
    /// Starts the command. The process must have one thread.
    ///
    /// # Errors
    /// When mount or tracer cannot be had.
    pub fn start(plan: Plan, sink: Arc<dyn Sink>) -> Result<Self, Error> {
        let began = Instant::now();
        // Before the tracer raises its own.
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let gate = Gate::new().map_err(|error| Error::Mount(format!("socketpair: {error}")))?;
        let launch = Launch {
            argv: plan.argv.clone(),
            env: plan.env.clone(),
            cwd: plan.cwd.clone(),
            mask: plan.mask,
            backend: plan.backend,
            preload: plan.preload,
            guard: match &plan.jobs {
                // A look that was noted cannot be held any more.
                Some(_) => plan.workspace.file_name().unwrap_or_default().to_owned(),
                None => OsString::new(),
            },
        };
        let root = plan.workspace.clone();
        let launched = rfs_tracer::launch(launch, || {
            gate.enter(&root, &EnterOptions::default())
                .map_err(io::Error::other)
        })?;
        let connection = gate
            .receive()
            .map_err(|error| Error::Mount(error.to_string()))?;

        let host = Machine::here();
        let guarded = plan.jobs.is_some();
        let (jobs, known) = plan.jobs.unzip();
        let Known {
            world,
            cache,
            state,
        } = known.unwrap_or_else(|| Known::open(&plan.workspace, &plan.cache, &plan.disk, &*sink));
        let stage = plan.workspace.join(".rfs/stage");
        cache::sweep(&*plan.disk, &stage);
        let config = Config {
            stage,
            policy: plan.policy,
            pins: plan.pins,
            room: plan.room,
            tokens: plan.tokens,
            jobs,
            shell: plan.shell,
            rerun: plan.rerun,
            strict_clock: plan.strict_clock,
            provenance: Provenance {
                host: host.node.clone(),
                uid: nix::unistd::getuid().as_raw(),
                time: 0,
                rfs: env!("CARGO_PKG_VERSION").to_owned(),
                ..Provenance::default()
            },
            machine: format!("{}\n{limits}", host.key),
            history: state.map(|store| Destination {
                store,
                disk: plan.disk.clone(),
                title: plan.title.clone(),
            }),
        };
        let watch = Arc::new(Watch::new(
            config,
            world.clone(),
            cache.clone(),
            sink.clone(),
        ));

        let mut view = rfs_fs::Config::new(&plan.workspace);
        view.hide = vec![OsString::from(OURS)];
        if plan.preload != Preload::Off && !guarded {
            view.ttl = BELIEVED;
        }
        if !plan.passthrough {
            view.passthrough = Passthrough::Off;
        }
        let ear = Arc::new(Ear {
            watch: watch.clone(),
            sink,
        });
        let mounted = rfs_fs::serve(connection, view, ear)
            .map_err(|error| Error::Mount(error.to_string()))?;
        let mounted = Arc::new(mounted);
        world.tell(Arc::new(Invalidate(mounted.clone())));

        let running = launched.observe(watch.clone())?;
        watch.traced_by(match running.backend() {
            Backend::Ptrace => "ptrace",
            Backend::Notify | Backend::Auto => "notify",
        });
        Ok(Self {
            watch,
            running,
            mounted,
            cache,
            cache_size: plan.cache_size,
            began,
            ended: None,
        })
    }

    /// What watches.
    #[must_use]
    pub fn watch(&self) -> Arc<Watch> {
        self.watch.clone()
    }

    /// Process id of the command.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// How calls were watched so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        let Counts {
            noted,
            stopped,
            loaded,
            attached: _,
        } = self.running.counts();
        let stopped = stopped.into_iter().map(|stopped| calls::Stopped {
            call: stopped.call.to_owned(),
            program: stopped.program,
            why: calls::REASONS[stopped.why as usize].0.to_owned(),
            times: stopped.times,
        });
        Calls {
            noted,
            loaded,
            stopped: stopped.collect(),
            own: calls::Own {
                names: self.watch.n_names() as u64,
                ..own()
            },
        }
    }

    /// Waits until the command has ended and what it recorded is stored.
    ///
    /// # Errors
    /// When it could not be executed or its processes were lost.
    pub fn wait(&mut self) -> Result<Ended, Error> {
        let ended = self.running.wait();
        self.watch.ended(self.running.pid());
        self.watch.settle();
        self.watch.finish();
        self.ended = ended.as_ref().ok().map(|ended| {
            let status = match ended {
                Ended::Exit(status) => *status,
                Ended::Signal(signal) => -signal,
            };
            (status, micros(self.began.elapsed()))
        });
        Ok(ended?)
    }

    /// Waits until the last process that it left behind has ended.
    pub fn drain(self) {
        self.watch.write_down(self.ended);
        self.running.drain();
        self.watch.settle();
        self.watch.write_down(None);
        self.watch.sync();
        drop(self.mounted);
        if let Some(cache) = self.cache {
            // What cannot be freed now is freed after another build.
            drop(cache.keep_within(self.cache_size));
        }
    }
}

/// What is known of the world, and what was computed before.
#[derive(Debug, Clone)]
pub struct Known {
    /// The world.
    pub world: Arc<World>,
    /// The cache, where there is one.
    pub cache: Option<Arc<Cache>>,
    /// The workspace's store, where there is one.
    pub state: Option<Arc<Store>>,
}

impl Known {
    /// Opens the cache in a directory, and what it remembers of a workspace. Without a cache nothing is
    /// remembered; `sink` is told why.
    pub fn open(workspace: &Path, dir: &Path, disk: &Arc<dyn Disk>, sink: &dyn Sink) -> Self {
        let cache = match Cache::open(dir, disk.clone()) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(error) => {
                sink.take(Report::Warning(format!(
                    "{error}; everything runs and nothing is kept"
                )));
                None
            }
        };
        // What is no cache of ours is not written to.
        let memo = match &cache {
            Some(_) => memo(dir, disk.clone(), sink),
            None => Memo::volatile(),
        };
        let (state, told) = recover::open(&workspace.join(STATE), disk);
        if let Some(error) = told {
            sink.take(Report::Warning(error.to_string()));
        }
        let own = Memo::on(state.clone(), disk.clone());
        Self {
            world: Arc::new(World::new(workspace.to_owned(), memo, own, disk.clone())),
            cache,
            state,
        }
    }
}

/// What the outcome of every program depends on: kernel, machine, host name.
#[must_use]
pub fn machine() -> String {
    Machine::here().key
}

/// Hears from the mount.
struct Ear {
    watch: Arc<Watch>,
    sink: Arc<dyn Sink>,
}

impl rfs_fs::Observer for Ear {
    fn changed(&self, path: &Path) {
        self.watch.changed_in_view(path);
    }

    fn failed(&self, error: &FsError) {
        self.sink
            .take(Report::Warning(format!("the view: {error}")));
    }
}

struct Invalidate(Arc<Mounted>);

impl Stale for Invalidate {
    fn stale(&self, path: &Path) {
        self.0.invalidate(path);
    }

    fn write_back(&self, path: &Path) {
        self.0.write_back(path);
    }

    fn delays_mapped_writes(&self) -> bool {
        !self.0.passthrough()
    }
}

/// What this process has used so far.
fn own() -> calls::Own {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(used) = getrusage(UsageWho::RUSAGE_SELF) else {
        return calls::Own::default();
    };
    let us = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)
    };
    calls::Own {
        cpu_us: us(used.user_time()) + us(used.system_time()),
        // Linux tells KiB.
        peak_bytes: u64::try_from(used.max_rss()).unwrap_or(0) * 1024,
        names: 0,
    }
}

/// A command for people.
pub fn title(argv: &[OsString]) -> String {
    let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ").chars().take(300).collect()
}

fn memo(dir: &Path, disk: Arc<dyn Disk>, sink: &dyn Sink) -> Memo {
    let (memo, warnings) = Memo::open(dir, disk);
    for warning in warnings {
        sink.take(Report::Warning(warning.to_string()));
    }
    memo
}
