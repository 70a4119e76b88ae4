//! The store's file: making and opening it, taking a state to read and the lock to write, committing.

use super::Error;
use super::layout::{
    Boot, FIRST, HEADER, HOLDER, Header, N_SLOTS, PAGE, Page, SLOT, Slot, VERSION,
};
use super::map::Map;
use super::schema::SCHEMA;
use super::snapshot::{Checked, Pin, Snapshot};
use super::space::Space;
use super::txn::{Durability, Txn};
use super::{holder, lock};
use crate::disk::{self, At, Disk};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is the same for all states of one file.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) path: PathBuf,
    file: File,
    pub(super) map: Map,
    /// The file again: its locks are the pins.
    pub(super) pin_file: File,
    /// How often this process has pinned a generation.
    pub(super) pins: Mutex<BTreeMap<u64, usize>>,
    header: Header,
    boot: Boot,
}

/// A store. Cheap to share between threads; its file may be shared between processes.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    schema: u32,
    boot: Boot,
    disk: Arc<dyn Disk>,
    /// The newest state that was read.
    current: Mutex<Arc<Snapshot>>,
    /// Known to the thread that writes.
    writer: Mutex<Option<Writer>>,
    latched: AtomicBool,
}

impl Store {
    /// Opens the store at `path`, making it if there is none. `schema` is the version of the tables.
    ///
    /// # Errors
    /// It is damaged; its format or schema is another one; a system call fails.
    pub fn open(path: &Path, schema: u32, disk: Arc<dyn Disk>) -> Result<Self, Error> {
        Self::open_at_boot(path, schema, disk, holder::boot())
    }

    /// Opens the store at `path`, which must be there, with the tables that are known here.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_existing(path: &Path, disk: Arc<dyn Disk>) -> Result<Self, Error> {
        fs::symlink_metadata(path).at("lstat", path)?;
        Self::open(path, SCHEMA, disk)
    }

    /// As [`Self::open`], in a boot of the kernel that is named: a test can lose power.
    pub(super) fn open_at_boot(
        path: &Path,
        schema: u32,
        disk: Arc<dyn Disk>,
        boot: Boot,
    ) -> Result<Self, Error> {
        let core = Core::open(path, schema, &*disk, boot)?;
        let first = newest(&core)?;
        Ok(Self {
            path: path.to_owned(),
            schema,
            boot,
            disk,
            current: Mutex::new(first),
            writer: Mutex::new(None),
            latched: AtomicBool::new(false),
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest state.
    ///
    /// # Errors
    /// A system call fails, or no slot can be read any more.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut current)?;
        Ok(current.clone())
    }

    fn refresh(&self, current: &mut Arc<Snapshot>) -> Result<(), Error> {
        if !is_at(&current.core().file, &self.path) {
            // It was compacted or set aside.
            let core = Core::open(&self.path, self.schema, &*self.disk, self.boot)?;
            *current = newest(&core)?;
            return Ok(());
        }
        let core = current.core();
        if core.believed()?.generation > current.generation() {
            *current = newest(core)?;
        }
        Ok(())
    }

    /// Starts a transaction on the newest state, waiting two seconds for who writes.
    ///
    /// # Errors
    /// Somebody else keeps the lock; an earlier commit failed; damage; a system call fails.
    pub fn begin(&self) -> Result<Txn<'_>, Error> {
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.latched.load(Ordering::Acquire) {
                return Err(Error::Latched(self.path.clone()));
            }
            let mut writer = match guard.take() {
                Some(writer) => writer,
                None => {
                    // Makes it where it is gone.
                    self.snapshot()?;
                    Writer::open(&self.path, &*self.disk)?
                }
            };
            lock_for_writing(&*self.disk, &writer.file, &self.path)?;
            if !is_at(&writer.file, &self.path) {
                // While we waited it was replaced; its lock went with the descriptor.
                continue;
            }
            let unlock = Unlock(writer.file.try_clone().at("dup", &self.path)?);
            let base = self.snapshot()?;
            let space = match writer.space.take() {
                Some(space) if space.generation() == base.generation() => space,
                Some(_) | None => self.find_space(&writer, &base)?,
            };
            writer.space = Some(space);
            writer.reclaim(&self.path)?;
            let text = holder::describe();
            let at = u64::from(HOLDER) * PAGE as u64;
            self.latch(
                self.disk
                    .write_at(&writer.file, &self.path, &text, at)
                    .map_err(Error::Disk),
            )?;
            *guard = Some(writer);
            let writing = Writing {
                store: self,
                base: base.clone(),
                guard,
                _unlock: unlock,
            };
            return Ok(Txn::new(writing, base));
        }
    }

    /// Makes the newest state survive a loss of power, if it would not.
    ///
    /// # Errors
    /// As [`Self::begin`] and [`Txn::commit`].
    pub fn make_durable(&self) -> Result<(), Error> {
        if !self.snapshot()?.slot().is_durable() {
            self.begin()?.commit(Durability::Durable)?;
        }
        Ok(())
    }

    fn find_space(&self, writer: &Writer, current: &Arc<Snapshot>) -> Result<Space, Error> {
        // Before the durable states are pinned by ourselves.
        let pinned = lock::pinned(&writer.file, &self.path, 0..current.generation())?;
        let slots = current.core().slots()?;
        let mut durable: Vec<Slot> = slots.into_iter().flatten().collect();
        durable.retain(Slot::is_durable);
        durable.sort_unstable_by_key(|slot| std::cmp::Reverse(slot.generation));
        let mut durable = durable.into_iter();
        let last = match durable.next() {
            Some(slot) if slot.generation < current.generation() => {
                read_state(current.core(), slot)?
            }
            Some(_) | None => current.clone(),
        };
        // Who committed the last one may have died before its last sync: then this one is on the medium,
        // and nobody has written over its pages. One that is damaged was written over after that sync.
        let before = durable.next();
        let before = before.and_then(|slot| read_state(current.core(), slot).ok());
        Space::of(current, &last, before.as_deref(), !pinned.is_empty())
    }

    /// Gives the file another name, so that the next opening starts from nothing.
    ///
    /// # Errors
    /// Somebody else keeps the lock, or a system call fails.
    pub fn set_aside(path: &Path, disk: &dyn Disk) -> Result<PathBuf, Error> {
        let mut name = path.as_os_str().to_owned();
        name.push(".damaged");
        let aside = PathBuf::from(name);
        let file = disk.open_append(path)?;
        lock_for_writing(disk, &file, path)?;
        if is_at(&file, path) {
            disk.rename(path, &aside)?;
        }
        Ok(aside)
    }

    fn latch<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.latched.store(true, Ordering::Release);
        }
        result
    }
}

impl Core {
    fn open(path: &Path, schema: u32, disk: &dyn Disk, boot: Boot) -> Result<Arc<Self>, Error> {
        // Not to wait for the other end of a fifo.
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_NONBLOCK).open(path)
        };
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, schema, disk)?;
                open()
            }
            opened => opened,
        };
        let file = file.at("open", path)?;
        let damaged = |what| Error::Damaged {
            path: path.to_owned(),
            at: 0,
            what,
        };
        if !file.metadata().at("fstat", path)?.is_file() {
            return Err(damaged("not a regular file"));
        }
        let mut bytes = [0; HEADER];
        let header = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Header::decode(&bytes).ok_or_else(|| damaged("no header of a store"))?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(damaged("shorter than its header"));
            }
            Err(error) => return Err(error).at("read", path)?,
        };
        for (found, known) in [(header.version, VERSION), (header.schema, schema)] {
            if found > known {
                return Err(Error::Newer {
                    path: path.to_owned(),
                    found,
                    known,
                });
            }
            if found < known {
                return Err(Error::Older {
                    path: path.to_owned(),
                    found,
                    known,
                });
            }
        }
        Ok(Arc::new(Self {
            path: path.to_owned(),
            map: Map::new(file.try_clone().at("dup", path)?),
            pin_file: File::open(path).at("open", path)?,
            file,
            pins: Mutex::default(),
            header,
            boot,
        }))
    }

    /// The slots, each from the copy that can be read.
    fn slots(&self) -> Result<[Option<Slot>; N_SLOTS as usize], Error> {
        let mut slots = [const { None }; N_SLOTS as usize];
        for (index, slot) in (1..).zip(slots.iter_mut()) {
            let copies = [self.slot(index)?, self.slot(index + N_SLOTS)?];
            *slot = copies
                .into_iter()
                .flatten()
                .max_by_key(|slot| slot.generation);
        }
        Ok(slots)
    }

    fn slot(&self, page: u32) -> Result<Option<Slot>, Error> {
        let mut bytes = [0; SLOT];
        match self
            .file
            .read_exact_at(&mut bytes, u64::from(page) * PAGE as u64)
        {
            Ok(()) => Ok(Slot::decode(&bytes, self.header.store)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error).at("read", &self.path)?,
        }
    }

    /// The newest state, lazy ones of an earlier boot left out.
    fn believed(&self) -> Result<Slot, Error> {
        let slots = self.slots()?;
        let believed = slots
            .into_iter()
            .flatten()
            .filter(|slot| slot.is_durable() || slot.boot == self.boot);
        believed
            .max_by_key(|slot| slot.generation)
            .ok_or_else(|| Error::Damaged {
                path: self.path.clone(),
                at: PAGE as u64,
                what: "no slot can be read",
            })
    }
}

/// The newest state, pinned.
fn newest(core: &Arc<Core>) -> Result<Arc<Snapshot>, Error> {
    let mut slot = core.believed()?;
    loop {
        let pin = Pin::new(core.clone(), slot.generation)?;
        // A writer that looked for pins before ours was there has committed by now.
        let again = core.believed()?;
        if again.generation == slot.generation {
            return state(core, slot, pin);
        }
        slot = again;
    }
}

/// A state that cannot be lost because the caller has the write lock.
fn read_state(core: &Arc<Core>, slot: Slot) -> Result<Arc<Snapshot>, Error> {
    let pin = Pin::new(core.clone(), slot.generation)?;
    state(core, slot, pin)
}

fn state(core: &Arc<Core>, slot: Slot, pin: Pin) -> Result<Arc<Snapshot>, Error> {
    let len = core.file.metadata().at("fstat", &core.path)?.len();
    if len < u64::from(slot.n_pages) * PAGE as u64 {
        return Err(Error::Damaged {
            path: core.path.clone(),
            at: len,
            what: "shorter than its last state",
        });
    }
    let checked = Checked::new(slot.n_pages);
    Ok(Arc::new(Snapshot::new(core.clone(), slot, pin, checked)))
}

/// Makes an empty store, which appears under its name whole or not at all.
fn create(path: &Path, schema: u32, disk: &dyn Disk) -> Result<(), Error> {
    let store = holder::random();
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(format!(".{store:016x}"));
    let tmp = PathBuf::from(tmp);
    let file = disk.create(&tmp, 0o600)?;
    let made = write_empty(&file, &tmp, schema, store, disk).and_then(|()| {
        match disk.link(&tmp, path) {
            // Somebody else was faster.
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let removed = disk.unlink(&tmp);
    made?;
    removed?;
    Ok(())
}

fn write_empty(
    file: &File,
    path: &Path,
    schema: u32,
    store: u64,
    disk: &dyn Disk,
) -> Result<(), disk::Error> {
    let mut bytes = vec![0; FIRST as usize * PAGE];
    let header = Header {
        version: VERSION,
        schema,
        store,
    };
    bytes[..HEADER].copy_from_slice(&header.encode());
    let slot = Slot::empty().encode(store);
    for page in [1, 1 + N_SLOTS as usize] {
        bytes[page * PAGE..][..SLOT].copy_from_slice(&slot);
    }
    // Nobody waits for a sync: what a loss of power may take is empty.
    disk.write_at(file, path, &bytes, 0)
}

/// What the process keeps from one transaction to the next.
#[derive(Debug)]
struct Writer {
    file: File,
    space: Option<Space>,
}

impl Writer {
    fn open(path: &Path, disk: &dyn Disk) -> Result<Self, Error> {
        Ok(Self {
            file: disk.open_write(path)?,
            space: None,
        })
    }

    fn reclaim(&mut self, path: &Path) -> Result<(), Error> {
        let file = &self.file;
        let space = self.space.as_mut().expect("BUG: it was just found");
        space.reclaim(&lock::pinned(file, path, 0..space.generation())?);
        Ok(())
    }
}

/// Releases the write lock.
#[derive(Debug)]
struct Unlock(File);

impl Drop for Unlock {
    fn drop(&mut self) {
        lock::unlock(&self.0);
    }
}

/// The right to write, and what is needed for it.
#[derive(Debug)]
pub(super) struct Writing<'s> {
    store: &'s Store,
    base: Arc<Snapshot>,
    // Before the guard: the next thread of ours finds the lock released.
    _unlock: Unlock,
    guard: MutexGuard<'s, Option<Writer>>,
}

impl Writing<'_> {
    fn writer(&self) -> &Writer {
        self.guard.as_ref().expect("BUG: put there by begin")
    }

    pub(super) fn space(&self) -> &Space {
        let space = self.writer().space.as_ref();
        space.expect("BUG: put there by begin")
    }

    pub(super) fn space_mut(&mut self) -> &mut Space {
        let writer = self.guard.as_mut().expect("BUG: put there by begin");
        writer.space.as_mut().expect("BUG: put there by begin")
    }

    pub(super) fn boot(&self) -> Boot {
        self.store.boot
    }

    pub(super) fn full(&self) -> Error {
        Error::Full(self.store.path.clone())
    }

    /// Greater than all that any slot has, also those that are not believed.
    pub(super) fn next_generation(&self) -> u64 {
        let slots = self.base.core().slots().unwrap_or_default();
        let greatest = slots.iter().flatten().map(|slot| slot.generation).max();
        greatest.unwrap_or(0).max(self.base.generation()) + 1
    }

    /// Writes pages, sorted by number, neighbours together.
    pub(super) fn write_pages(
        &mut self,
        pages: &[(u32, Box<Page>)],
        batch: usize,
    ) -> Result<(), Error> {
        let store = self.store;
        let mut buffer: Vec<u8> = Vec::new();
        let mut rest = pages;
        while let Some((first, _)) = rest.first() {
            buffer.clear();
            let run = (*first..).zip(rest).take_while(|(no, page)| *no == page.0);
            for (_, (_, page)) in run.take(batch / PAGE) {
                buffer.extend_from_slice(&**page);
            }
            let at = u64::from(*first) * PAGE as u64;
            let file = &self.writer().file;
            let written = store.disk.write_at(file, &store.path, &buffer, at);
            store.latch(written.map_err(Error::Disk))?;
            rest = &rest[buffer.len() / PAGE..];
        }
        Ok(())
    }

    /// Makes the pages that were written the newest state.
    pub(super) fn finish(
        mut self,
        slot: Slot,
        checked: Checked,
        left: Vec<u32>,
    ) -> Result<Arc<Snapshot>, Error> {
        let store = self.store;
        let durable = slot.is_durable();
        store.latch(self.write_slot(&slot))?;
        self.space_mut().committed(slot.generation, durable, left);
        let core = self.base.core().clone();
        let pin = Pin::new(core.clone(), slot.generation)?;
        let state = Arc::new(Snapshot::new(core, slot, pin, checked));
        let mut current = store.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = state.clone();
        drop(current);
        Ok(state)
    }

    fn write_slot(&self, slot: &Slot) -> Result<(), Error> {
        let (store, file) = (self.store, &self.writer().file);
        let (disk, path) = (&*store.disk, &store.path);
        let durable = slot.is_durable();
        if durable {
            disk.sync(file, path)?;
        }
        let core = self.base.core();
        let slots = core.slots()?;
        let kind = if durable { 0..2 } else { 2..4 };
        // One that cannot be read is the first to be written over.
        let oldest = kind.min_by_key(|index| slots[*index].as_ref().map(|slot| slot.generation));
        let index = u64::try_from(oldest.unwrap_or(0)).unwrap_or(0);
        let bytes = slot.encode(core.header.store);
        for page in [1 + index, 1 + index + u64::from(N_SLOTS)] {
            disk.write_at(file, path, &bytes, page * PAGE as u64)?;
        }
        if durable {
            disk.sync(file, path)?;
        }
        Ok(())
    }
}

/// Whether an open file still has its name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn lock_for_writing(disk: &dyn Disk, file: &File, path: &Path) -> Result<(), Error> {
    match disk::lock(disk, file, path) {
        Err(error) if error.source.kind() == io::ErrorKind::TimedOut => Err(Error::Locked {
            path: path.to_owned(),
            holder: holder::read(file, u64::from(HOLDER) * PAGE as u64),
        }),
        locked => Ok(locked?),
    }
}
