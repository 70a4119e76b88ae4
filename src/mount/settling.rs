//! A restore in the mount that goes on by and by: the view settles what somebody looks at.

use crate::disk::{Disk, RealDisk};
use crate::snapshot::{Error, Finished, Pending, Progress, Shelf};
use crate::store::{Memo, Store};
use crate::world::World;
use rfs_fs::Settler;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The one of a workspace, if there is one.
#[derive(Debug)]
pub(super) struct Settling {
    workspace: PathBuf,
    store: Option<Arc<Store>>,
    pending: Mutex<Option<Arc<Pending>>>,
    /// Whether there is one.
    active: AtomicBool,
    /// Held by who begins or ends one.
    turn: Mutex<()>,
}

impl Settling {
    /// Goes on with the one that was left, if there is one.
    pub(super) fn start(workspace: &Path, store: Option<Arc<Store>>) -> Result<Arc<Self>, Error> {
        let settling = Self {
            workspace: workspace.to_owned(),
            store,
            pending: Mutex::default(),
            active: AtomicBool::new(false),
            turn: Mutex::default(),
        };
        if Pending::is_there(workspace) {
            settling.put(settling.open()?.ok());
        }
        Ok(Arc::new(settling))
    }

    fn open(&self) -> Result<Result<Pending, Shelf>, Error> {
        let (shelf, _aside) = Shelf::lock(&self.workspace, Arc::new(RealDisk))?;
        Pending::open(shelf, self.world())
    }

    fn world(&self) -> World {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let own = Memo::on(self.store.clone(), disk.clone());
        World::new(self.workspace.clone(), Memo::volatile(), own, disk)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Pending>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, pending: Option<Pending>) {
        let mut place = self.lock();
        let is_there = pending.is_some();
        *place = pending.map(Arc::new);
        self.active.store(is_there, Ordering::SeqCst);
    }

    fn pending(&self) -> Option<Arc<Pending>> {
        self.lock().clone()
    }

    /// Whether a restore goes on.
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::SeqCst)
    }

    /// How far it has come.
    pub(super) fn progress(&self) -> Option<Progress> {
        Some(self.pending()?.progress())
    }

    /// Begins one; the one that goes on is finished before, or with `force` given up where that cannot be. Whether it
    /// is to be finished at once, since there is a build that does not look through the view.
    pub(super) fn begin(&self, name: &str, force: bool) -> Result<bool, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match self.finish_in_turn() {
            Err(error) if !force => return Err(error),
            Err(error) => {
                log::warn!("a restore is given up: {error}");
                let pending = self.pending();
                self.put(None);
                if let Some(pending) = pending {
                    let _aside = pending.give_up()?;
                }
            }
            Ok(_) => {}
        }
        let (shelf, _aside) = Shelf::lock(&self.workspace, Arc::new(RealDisk))?;
        let pending = Pending::begin(shelf, self.world(), name, force)?;
        let hurries = !pending.is_alone();
        self.put(Some(pending));
        Ok(hurries)
    }

    /// Settles these directories and files, absolute backing paths, and all that is in them.
    pub(super) fn materialize(&self, paths: &[PathBuf]) -> Result<(), Error> {
        let Some(pending) = self.pending() else {
            return Ok(());
        };
        paths.iter().try_for_each(|path| pending.settle(path, true))
    }

    /// Settles a directory in which somebody has a file open for writing.
    pub(super) fn settle_for_writers(&self, dir: &Path) -> Result<(), Error> {
        self.pending()
            .map_or(Ok(()), |pending| pending.settle(dir, false))
    }

    /// Settles all and ends it.
    pub(super) fn finish(&self) -> Result<Option<Finished>, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.finish_in_turn()
    }

    fn finish_in_turn(&self) -> Result<Option<Finished>, Error> {
        let Some(pending) = self.pending() else {
            return Ok(None);
        };
        let finished = pending.finish(None)?;
        drop(pending);
        self.put(None);
        Ok(Some(finished))
    }

    /// Whether nothing waits any more of one that has not been ended.
    pub(super) fn is_over(&self) -> bool {
        self.is_active() && self.pending().is_some_and(|pending| !pending.waits())
    }
}

impl Settler for Settling {
    fn is_needed(&self) -> bool {
        self.is_active()
    }

    fn settle(&self, dir: &Path, below: bool) -> io::Result<()> {
        let Some(pending) = self.pending() else {
            return Ok(());
        };
        pending.settle(dir, below).map_err(|error| {
            log::warn!("{}: {error}", dir.display());
            if let Error::Disk(error) = error {
                return error.source;
            }
            io::Error::other(error)
        })
    }
}
