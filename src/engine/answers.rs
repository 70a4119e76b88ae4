//! What the watch may ask about jobs while the engine is busy with something else.
//!
//! Its threads ask here for every path of the workspace that a job looks at, so the common answers need
//! no word of the engine's.

use super::{Event, Ledger};
use crate::base::{Access, Dep, JobId};
use crate::rules::{Rules, Spec};
use crate::watch::jobs::{Ended, Jobs, Ticket, Views};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// How often a process that waits is looked after.
const LOOK: Duration = Duration::from_millis(200);

/// The answers.
#[derive(Debug)]
pub(super) struct Answers {
    root: PathBuf,
    rules: Arc<Rules>,
    /// Names that jobs made once and that no rule makes any more.
    orphans: HashSet<String>,
    events: Mutex<Sender<Event>>,
    /// Names that are as they shall be.
    settled: RwLock<HashSet<String>>,
    /// Names that a job may look at as they are, since waiting for them would never end.
    as_it_is: RwLock<HashSet<(JobId, String)>>,
    specs: RwLock<HashMap<JobId, Arc<Spec>>>,
    /// Jobs whose programs were ordered and have not started; no two of the same words.
    ordered: Mutex<Vec<(Ticket, Arc<Spec>)>>,
    /// Some job has views.
    have_views: AtomicBool,
}

impl Answers {
    pub(super) fn new(
        root: PathBuf,
        rules: Arc<Rules>,
        ledger: &Ledger,
        events: Sender<Event>,
    ) -> Self {
        let orphans = ledger.names().filter(|name| !rules.recognise(name));
        Self {
            root,
            orphans: orphans.map(str::to_owned).collect(),
            rules,
            events: Mutex::new(events),
            settled: RwLock::default(),
            as_it_is: RwLock::default(),
            specs: RwLock::default(),
            ordered: Mutex::default(),
            have_views: AtomicBool::new(false),
        }
    }

    /// Whether the engine has a say in what is found at a name.
    pub(super) fn concerns(&self, name: &str) -> bool {
        self.rules.recognise(name) || self.orphans.contains(name)
    }

    /// The program of a job is ordered from the spawner.
    pub(super) fn order(&self, ticket: Ticket, spec: Arc<Spec>) {
        if !spec.views.is_empty() {
            self.have_views.store(true, Ordering::Relaxed);
        }
        let mut specs = self.specs.write().unwrap_or_else(PoisonError::into_inner);
        specs.insert(ticket.id, spec.clone());
        drop(specs);
        self.ordered().push((ticket, spec));
    }

    /// Directories that a job sees others in the place of: where, and which.
    pub(super) fn views_of(&self, spec: &Spec) -> Vec<(PathBuf, PathBuf)> {
        let views = spec.views.iter();
        let views = views.map(|(at, real)| (self.root.join(at), self.root.join(real)));
        views.collect()
    }

    /// Whether the program of another job that was ordered and has not started could not be told from one's.
    pub(super) fn is_like_ordered(&self, spec: &Spec) -> bool {
        let alike = |other: &Spec| (&other.argv, &other.env) == (&spec.argv, &spec.env);
        self.ordered().iter().any(|(_, other)| alike(other))
    }

    /// The program of a job could not be started.
    pub(super) fn give_up(&self, job: JobId) {
        self.ordered().retain(|(ticket, _)| ticket.id != job);
    }

    fn ordered(&self) -> MutexGuard<'_, Vec<(Ticket, Arc<Spec>)>> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name is as it shall be.
    pub(super) fn settle(&self, name: &str) {
        let mut settled = self.settled.write().unwrap_or_else(PoisonError::into_inner);
        settled.insert(name.to_owned());
    }

    /// A job is to look at a name as it is.
    pub(super) fn let_look(&self, job: JobId, name: &str) {
        let mut names = self
            .as_it_is
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        names.insert((job, name.to_owned()));
    }

    fn tell(&self, event: Event) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let _over = events.send(event).is_err();
    }

    /// The name of a path of the workspace, for one that a rule might make.
    fn name<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let name = path.strip_prefix(&self.root).ok()?.to_str()?;
        (!name.is_empty() && name != ".rfs" && !name.starts_with(".rfs/")).then_some(name)
    }

    fn own(&self, job: JobId, name: &str) -> bool {
        let specs = self.specs.read().unwrap_or_else(PoisonError::into_inner);
        specs
            .get(&job)
            .is_some_and(|spec| spec.target(name).is_some() || spec.ignores(name))
    }
}

impl Jobs for Answers {
    fn starting(&self, argv: &[Vec<u8>], env: &[Vec<u8>]) -> Option<Ticket> {
        let mut ordered = self.ordered();
        let at = ordered.iter().position(|(_, spec)| spec.is(argv, env))?;
        Some(ordered.swap_remove(at).0)
    }

    fn is_ready(&self, job: JobId, path: &Path) -> bool {
        let Some(name) = self.name(path) else {
            return true;
        };
        let settled = self.settled.read().unwrap_or_else(PoisonError::into_inner);
        if settled.contains(name) {
            return true;
        }
        drop(settled);
        if !self.concerns(name) {
            self.settle(name);
            return true;
        }
        if self.own(job, name) {
            return true;
        }
        let names = self.as_it_is.read().unwrap_or_else(PoisonError::into_inner);
        names.contains(&(job, name.to_owned()))
    }

    fn have_views(&self) -> bool {
        self.have_views.load(Ordering::Relaxed)
    }

    fn views(&self, job: JobId) -> Option<Arc<Views>> {
        let specs = self.specs.read().unwrap_or_else(PoisonError::into_inner);
        let views = self.views_of(specs.get(&job)?);
        (!views.is_empty()).then(|| Arc::new(Views::new(views)))
    }

    fn wait(&self, job: JobId, path: &Path, still_there: &dyn Fn() -> bool) {
        let Some(name) = self.name(path) else {
            return;
        };
        let (go, ready) = channel();
        let name = name.to_owned();
        self.tell(Event::Wanted { job, name, go });
        while let Err(RecvTimeoutError::Timeout) = ready.recv_timeout(LOOK) {
            if !still_there() {
                return;
            }
        }
    }

    fn owns(&self, job: JobId, dep: &Dep) -> bool {
        let Some(name) = dep.name.as_path().to_str() else {
            return false;
        };
        let specs = self.specs.read().unwrap_or_else(PoisonError::into_inner);
        let Some(spec) = specs.get(&job) else {
            return false;
        };
        let above = |target: &str| {
            target
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('/'))
                || name.is_empty()
        };
        let listed = dep.access.any(Access::LIST);
        (spec.target(name).is_some() && !self.rules.sources.names(name))
            || spec.ignores(name)
            || (!listed && spec.files().any(|(target, _)| above(target)))
    }

    fn ignores(&self, job: JobId, path: &Path) -> bool {
        let specs = self.specs.read().unwrap_or_else(PoisonError::into_inner);
        let name = self.name(path);
        name.zip(specs.get(&job))
            .is_some_and(|(name, spec)| spec.ignores(name))
    }

    fn exits(&self, job: JobId) {
        self.tell(Event::Exits(job));
    }

    fn ended(&self, job: JobId, ended: Ended) {
        self.tell(Event::Ended {
            job,
            ended: Box::new(ended),
        });
    }
}
