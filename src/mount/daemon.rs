//! The daemon: serves the view of one workspace until it is unmounted, told to end, or not used any more.

use super::keeper::{How, Keeper, Removed};
use super::ledger::Ledger;
use super::talk::{Answer, Ask, Asker, Listener, Starting, Status};
use super::trail::Trail;
use super::{Error, Notify};
use crate::base::policy::Policy;
use crate::disk::{self, At, Disk, RealDisk};
use crate::runner::STATE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use rfs_fs::{Config, Deed, FsError, Mounted, Observer, Op, Passthrough, Standing};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long the kernel may believe what it has seen of directories, which others change too.
const DIRECTORIES: Duration = Duration::from_millis(500);

/// How often is looked after what tells nothing by itself.
const TICK: Duration = Duration::from_secs(1);

/// How long those who use the mount may take to be done when it is to end.
const GRACE: Duration = Duration::from_secs(3);

/// Warnings that are kept to be told.
const WARNINGS: usize = 20;

/// In `.rfs`: who holds the lock is the workspace's daemon.
const LOCK: &str = ".rfs/mount.lock";

/// What to serve and how.
#[derive(Debug)]
pub struct Plan {
    /// The workspace's root, without symbolic links. Has `.rfs/`.
    pub workspace: PathBuf,
    /// Where it is to be mounted.
    pub at: PathBuf,
    /// Whether other users may use it where fusermount3 has to mount it.
    pub others: bool,
    /// Whether the kernel may read and write the files in the view's stead.
    pub passthrough: bool,
    /// After what time without a request it ends, if nobody uses it.
    pub idle: Option<Duration>,
    /// What is known of particular tools.
    pub policy: Policy,
    /// The directory for its socket.
    pub sockets: PathBuf,
    /// Who is told how it goes.
    pub notify: Notify,
    /// How often he wants to hear that it goes well.
    pub watchdog: Option<Duration>,
}

/// It is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Where it is mounted.
    pub at: PathBuf,
}

/// Mounts and serves; returns when it is over. `signals` end it. The process must have one thread.
///
/// # Errors
/// It could not be mounted; `ready` has not been called then.
pub fn run(plan: &Plan, signals: &SignalFd, ready: impl FnOnce(&Ready)) -> Result<(), Error> {
    let _nobodys = nix::unistd::chdir("/");
    let standing = Standing {
        at: plan.at.clone(),
        backing: plan.workspace.clone(),
        others: plan.others,
    };
    let mut keeper = Keeper::start(&standing, &plan.sockets)?;
    // Which would share a lock that was taken before.
    let _lock = lock(&plan.workspace)?;
    let failed = |why: String| Error::Mount {
        at: plan.at.clone(),
        why,
    };
    let no_sockets = |error: io::Error| failed(format!("{}: {error}", plan.sockets.display()));
    let starting = Starting::tell(&plan.sockets).map_err(no_sockets)?;
    let own_ids = rfs_fs::withdraw().map_err(|error| failed(error.to_string()))?;
    let mut connection = keeper.mount().map_err(failed)?;
    connection.own_ids = own_ids;
    let minor = connection.minor;
    let hung_up = connection.fuse.try_clone().map_err(Error::system("dup"))?;
    let trail = Trail::new(&plan.workspace, &plan.at, plan.policy.clone())
        .map_err(Error::system("epoll_create"))?;
    let ear = Arc::new(Ear {
        warnings: Mutex::default(),
        trail: Arc::new(trail),
    });
    let ledger = {
        let (trail, ear) = (ear.trail.clone(), ear.clone());
        let state = plan.workspace.join(STATE);
        Ledger::start(trail, &state, Arc::new(RealDisk), move |text| {
            ear.warn(text);
        })
    };
    let mut view = Config::new(&plan.workspace);
    view.ttl = DIRECTORIES;
    view.shared = true;
    if !plan.passthrough {
        view.passthrough = Passthrough::Off;
    }
    let mounted =
        rfs_fs::serve(connection, view, ear.clone()).map_err(|error| failed(error.to_string()))?;
    let listener = Listener::bind(&plan.sockets, minor).map_err(no_sockets)?;
    drop(starting);
    let mut daemon = Daemon {
        plan,
        began: Instant::now(),
        mounted,
        hung_up,
        keeper,
        keeperless: false,
        listener,
        ear,
        ledger,
        farewell: Vec::new(),
        last: (0, Instant::now()),
        leaving: None,
        unused: false,
    };
    ready(&Ready {
        at: plan.at.clone(),
    });
    plan.notify
        .tell(&format!("READY=1\nSTATUS={} is mounted", plan.at.display()));
    daemon.serve(signals);
    plan.notify.tell("STOPPING=1");
    daemon.ledger.settle();
    Ok(())
}

/// There is one daemon a workspace.
fn lock(workspace: &Path) -> Result<File, Error> {
    let path = workspace.join(LOCK);
    let file = match RealDisk.create(&path, 0o644) {
        Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
            RealDisk.open_write(&path)?
        }
        made => made?,
    };
    if let Err(error) = disk::lock(&RealDisk, &file, &path) {
        if error.source.kind() != io::ErrorKind::TimedOut {
            return Err(error.into());
        }
        let holder = std::fs::read_to_string(&path).at("read", &path)?;
        return Err(Error::Held {
            workspace: workspace.to_owned(),
            holder: holder.trim().to_owned(),
        });
    }
    RealDisk.set_len(&file, &path, 0)?;
    let text = format!("{}\n", std::process::id());
    RealDisk.write_at(&file, &path, text.as_bytes(), 0)?;
    Ok(file)
}

/// Hears from the mount.
#[derive(Debug)]
struct Ear {
    warnings: Mutex<Vec<String>>,
    trail: Arc<Trail>,
}

impl Ear {
    fn warn(&self, text: String) {
        log::warn!("{text}");
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.insert(0, text);
        warnings.truncate(WARNINGS);
    }
}

impl Observer for Ear {
    fn changed(&self, _path: &Path) {}

    fn attends(&self) -> bool {
        true
    }

    fn did(&self, thread: u32, deed: Deed, path: &Path) {
        self.trail.did(thread, deed, path);
    }

    fn failed(&self, error: &FsError) {
        self.warn(format!("the view: {error}"));
    }
}

struct Daemon<'a> {
    plan: &'a Plan,
    began: Instant,
    mounted: Mounted,
    /// Of the connection; says when that is over.
    hung_up: OwnedFd,
    keeper: Keeper,
    /// It has gone.
    keeperless: bool,
    listener: Listener,
    ear: Arc<Ear>,
    ledger: Ledger,
    /// Those who wait for the end.
    farewell: Vec<Asker>,
    /// Requests at the last change of their number.
    last: (u64, Instant),
    /// Since when it is to end.
    leaving: Option<Instant>,
    /// Whether it is unmounted, and nobody uses it anywhere.
    unused: bool,
}

impl Daemon<'_> {
    fn serve(&mut self, signals: &SignalFd) {
        let mut probed = Instant::now();
        while !self.mounted.is_over() && !self.unused {
            let keeper = match self.keeperless {
                false => PollFd::new(self.keeper.as_fd(), PollFlags::POLLIN),
                // Which would have nothing to say for ever.
                true => PollFd::new(self.listener.as_fd(), PollFlags::empty()),
            };
            let mut fds = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                keeper,
                PollFd::new(self.hung_up.as_fd(), PollFlags::empty()),
            ];
            let tick = self.tick();
            let wait = PollTimeout::try_from(tick).unwrap_or(PollTimeout::MAX);
            let _slept = poll(&mut fds, wait);
            let [signal, asker, kept, over] =
                fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
            if over {
                break;
            }
            if signal && self.is_told(signals) {
                self.leave();
            }
            if kept {
                match self.keeper.probed() {
                    Some(true) => self.plan.notify.tell("WATCHDOG=1"),
                    Some(false) => {}
                    None => self.lost_keeper(),
                }
            }
            if asker {
                if let Some((asker, ask)) = self.listener.accept() {
                    self.answer(asker, &ask);
                }
            }
            if self.plan.watchdog.is_some() && probed.elapsed() >= tick {
                probed = Instant::now();
                self.keeper.probe();
            }
            if self.leaving.is_some_and(|since| since.elapsed() > GRACE) {
                break;
            }
            self.look_whether_idle();
        }
    }

    /// Until when nothing need be done.
    fn tick(&self) -> Duration {
        match self.plan.watchdog {
            Some(watchdog) => TICK.min(watchdog / 3),
            None => TICK,
        }
    }

    /// Whether a signal says that it is to end.
    fn is_told(&self, signals: &SignalFd) -> bool {
        let mut told = false;
        while let Ok(Some(info)) = signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            told |= [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT].contains(&number);
        }
        told
    }

    /// Unmounts, whoever uses it: those have a while to be done.
    fn leave(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some(Instant::now());
        let gone = match self.remove(How::Now) {
            Ok(Removed::Busy(_)) | Err(_) => self.remove(How::Lazy),
            gone => gone,
        };
        if let Err(error) = gone {
            self.ear.warn(format!("cannot unmount: {error}"));
        }
    }

    /// Nobody could unmount any more.
    fn lost_keeper(&mut self) {
        self.keeperless = true;
        self.ear.warn(
            "the process that was to unmount was killed: unmounting is left to umount(8)"
                .to_owned(),
        );
        if self.leaving.is_none() && self.plan.watchdog.is_some() {
            self.leaving = Some(Instant::now());
        }
    }

    fn look_whether_idle(&mut self) {
        let stats = self.mounted.stats();
        // That is the keeper's question.
        let requests = stats.total() - stats.of(Op::Statfs);
        if requests != self.last.0 {
            self.last = (requests, Instant::now());
        }
        let idle = self.last.1.elapsed();
        if self.plan.idle.is_some_and(|limit| idle >= limit) {
            self.last.1 = Instant::now();
            // Who has a file open or a working directory there keeps it.
            let _busy = self.remove(How::Now);
        }
    }

    /// Has it unmounted. Namespaces of others may keep what nobody uses any more: it is not served for them.
    fn remove(&mut self, how: How) -> io::Result<Removed> {
        let removed = self.keeper.remove(how)?;
        self.unused |= removed == Removed::Unused;
        Ok(removed)
    }

    fn answer(&mut self, asker: Asker, ask: &Ask) {
        match ask {
            Ask::Status => asker.answer(&Answer::Status(self.status()), None),
            Ask::Real => match self.real() {
                Ok(real) => asker.answer(&Answer::Done, Some(real.as_fd())),
                Err(error) => asker.answer(&Answer::Failed(format!("open_tree: {error}")), None),
            },
            Ask::Remove(how) => {
                let own = nix::unistd::geteuid().as_raw();
                if asker.uid != 0 && asker.uid != own {
                    let who = format!("only user {own} and root can unmount it");
                    return asker.answer(&Answer::Failed(who), None);
                }
                let removed = self.remove(*how);
                let goes = matches!(removed, Ok(Removed::Unused | Removed::Used));
                match removed {
                    Ok(Removed::Unused) => asker.answer(&Answer::Done, None),
                    Ok(Removed::Used) => asker.answer(&Answer::Used, None),
                    Ok(Removed::Busy(users)) => asker.answer(&Answer::Busy(users), None),
                    Err(error) => asker.answer(&Answer::Failed(error.to_string()), None),
                }
                if goes {
                    self.farewell.push(asker);
                }
            }
        }
    }

    /// The real directory, in which all that was done so far is written down.
    fn real(&self) -> io::Result<OwnedFd> {
        self.ledger.settle();
        rfs_fs::real(&self.plan.workspace)
    }

    fn status(&self) -> Status {
        let warnings = self.ear.warnings.lock();
        Status {
            pid: nix::unistd::getpid().as_raw(),
            seconds: self.began.elapsed().as_secs(),
            requests: self.mounted.stats().total(),
            passthrough: self.mounted.passthrough(),
            idle: self.plan.idle.map(|idle| idle.as_secs()),
            warnings: warnings.unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
