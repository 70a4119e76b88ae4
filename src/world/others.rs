//! What other builds of the same workspace change at the same time.
//!
//! Each build says in a file that all of them share, `.rfs/changes`, when it was about to change which
//! path last. Paths share slots by their hash, so the answer may err, but only to the side of yes.
//! Times are those of the monotonic clock: the file means nothing beyond a start of the machine, and the
//! first build that finds itself alone empties it. Who cannot write down what he changes says in its head, which
//! is on the disk already, that he may change anything.

use crate::base::Digest;
use crate::disk::{self, At, Disk};
use nix::fcntl::{FcntlArg, fcntl};
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Builds at once.
const LANES: u64 = 16;
/// Slots of each.
const SLOTS: u64 = 1 << 16;
/// Where the slots begin; before them each lane has the time when its build started and when its command
/// ended, 0 if it has not.
const HEADER: u64 = 4096;

/// The start of a build that cannot say what it changes.
const ANYTHING: u64 = u64::MAX;

/// A build among those of a workspace.
#[derive(Debug)]
pub(super) struct Others {
    /// The place of this build in the file, or why there is none.
    lane: Result<Lane, String>,
    /// Something could not be written down.
    failed: AtomicBool,
}

impl Others {
    /// Enters the builds of the workspace whose own directory is `dir`.
    pub(super) fn enter(dir: &Path, disk: Arc<dyn Disk>) -> Self {
        Self {
            lane: Lane::enter(dir, disk).map_err(|error| error.to_string()),
            failed: AtomicBool::new(false),
        }
    }

    /// This build is about to change a path.
    pub(super) fn note(&self, path: &Path) {
        let Ok(lane) = &self.lane else {
            return;
        };
        let at = slot(lane.number, place(path));
        if lane.put(at, now()).is_err() {
            self.failed.store(true, Ordering::Relaxed);
            let _best_effort = lane.put(lane.number * 16, ANYTHING).is_ok();
        }
    }

    /// The command has ended: what it had open is closed.
    pub(super) fn finish(&self) {
        if let Ok(lane) = &self.lane {
            let _unsaid = lane.put(lane.number * 16 + 8, now()).is_ok();
        }
    }

    /// The first of some paths that another build has changed `within` the last time or may still be
    /// changing, by its place, and what is wrong with it, for people.
    pub(super) fn changed(
        &self,
        paths: &[&Arc<Path>],
        within: Duration,
    ) -> Option<(usize, String)> {
        let by_another = || "was changed by another build at the same time".to_owned();
        match &self.lane {
            Err(why) => Some(format!("may have been changed by another build ({why})")),
            Ok(_) if self.failed.load(Ordering::Relaxed) => Some(by_another()),
            Ok(mine) => match first_changed(&mine.file, mine.number, paths, within) {
                Ok(Some(place)) => return Some((place, by_another())),
                Ok(None) => None,
                Err(_) => Some(by_another()),
            },
        }
        .filter(|_| !paths.is_empty())
        .map(|why| (0, why))
    }
}

fn first_changed(
    file: &File,
    mine: u64,
    paths: &[&Arc<Path>],
    within: Duration,
) -> io::Result<Option<usize>> {
    let since = now().saturating_sub(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX));
    let mut found = None;
    let mut lanes = [[0; 16]; LANES as usize];
    // What is beyond the end of the file is 0.
    let _read = file.read_at(lanes.as_flattened_mut(), 0)?;
    for (lane, times) in (0..LANES).zip(&lanes) {
        let (started, ended) = times.split_at(8);
        let time = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let (started, ended) = (time(started), time(ended));
        if lane == mine || started == 0 {
            continue;
        }
        let alive = is_taken(file, lane)?;
        if started == ANYTHING {
            found = Some(0);
            continue;
        }
        for (index, path) in paths.iter().enumerate() {
            let last = get(file, slot(lane, place(path)))?;
            let open = alive && last >= started && (ended == 0 || last > ended);
            if last != 0 && (last >= since || open) {
                found = found.into_iter().chain([index]).min();
            }
        }
    }
    Ok(found)
}

/// The place of a build in the file.
#[derive(Debug)]
struct Lane {
    file: File,
    path: PathBuf,
    number: u64,
    disk: Arc<dyn Disk>,
}

impl Lane {
    fn enter(dir: &Path, disk: Arc<dyn Disk>) -> disk::Result<Self> {
        let path = dir.join("changes");
        let file = disk.open_shared(&path)?;
        let meta = std::fs::metadata(dir).at("stat", dir)?;
        if file.metadata().is_ok_and(|file| file.uid() != meta.uid()) {
            // Made by root in the workspace of somebody else, who must be able to use it later.
            let _only_root_can = disk.fchown(&file, &path, meta.uid(), meta.gid()).is_ok();
        }
        disk::lock(&*disk, &file, &path)?;
        let mut lane = Self {
            file,
            path,
            number: 0,
            disk,
        };
        let taken = lane.take();
        let path = &lane.path;
        rustix::fs::flock(&lane.file, rustix::fs::FlockOperation::Unlock).at("flock", path)?;
        taken.map(|()| lane)
    }

    /// Takes the first one that nobody has, as long as the file is open.
    fn take(&mut self) -> disk::Result<()> {
        if !self.file.metadata().at("fstat", &self.path)?.is_file() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput)).at("open", &self.path);
        }
        let mut alone = true;
        let mut mine = None;
        for lane in 0..LANES {
            if mine.is_none() && fcntl(&self.file, FcntlArg::F_OFD_SETLK(&range(lane))).is_ok() {
                mine = Some(lane);
            } else {
                alone &= !is_taken(&self.file, lane).at("fcntl", &self.path)?;
            }
        }
        let busy = || io::Error::from(io::ErrorKind::ResourceBusy);
        self.number = mine.ok_or_else(busy).at("fcntl", &self.path)?;
        if alone {
            self.disk.set_len(&self.file, &self.path, 0)?;
        }
        self.put(self.number * 16 + 8, 0)?;
        self.put(self.number * 16, now())
    }

    fn put(&self, at: u64, value: u64) -> disk::Result<()> {
        self.disk.note_at(&self.file, &self.path, value, at)
    }
}

/// Whether another build has a lane.
fn is_taken(file: &File, lane: u64) -> io::Result<bool> {
    let mut lock = range(lane);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// The byte that stands for a lane.
fn range(lane: u64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: lane as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

fn place(path: &Path) -> u64 {
    let [a, b, ..] = Digest::of(path.as_os_str().as_bytes()).0;
    u64::from(u16::from_le_bytes([a, b])) % SLOTS
}

fn slot(lane: u64, place: u64) -> u64 {
    HEADER + (lane * SLOTS + place) * 8
}

/// What is beyond the end of the file is 0.
fn get(file: &File, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    match file.read_at(&mut bytes, at)? {
        8 => Ok(u64::from_le_bytes(bytes)),
        _ => Ok(0),
    }
}

/// The monotonic clock in ns.
fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .ok()
        .and_then(|time| u64::try_from(Duration::from(time).as_nanos()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FaultyDisk, RealDisk, Temper};

    const LONG: Duration = Duration::from_secs(3600);

    fn enter(dir: &tempfile::TempDir) -> Others {
        Others::enter(dir.path(), Arc::new(RealDisk))
    }

    fn changed(build: &Others, path: &Path, within: Duration) -> bool {
        build.changed(&[&Arc::from(path)], within).is_some()
    }

    #[test]
    fn a_build_alone_is_undisturbed() {
        let dir = tempfile::tempdir().unwrap();
        let one = enter(&dir);
        one.note(Path::new("/w/x"));
        assert!(!changed(&one, Path::new("/w/x"), LONG));
        drop(one);
        assert!(!changed(&enter(&dir), Path::new("/w/x"), LONG));
    }

    #[test]
    fn what_another_one_changes_is_seen_by_both() {
        let dir = tempfile::tempdir().unwrap();
        let (x, y) = (Path::new("/w/x"), Path::new("/w/y"));
        let (one, two) = (enter(&dir), enter(&dir));
        two.note(x);
        assert!(changed(&one, x, Duration::ZERO), "it may have it open");
        assert!(!changed(&two, x, LONG) && !changed(&one, y, LONG));
        one.note(x);
        assert!(changed(&one, x, Duration::ZERO) && changed(&two, x, Duration::ZERO));
        two.finish();
        assert!(changed(&one, x, LONG) && !changed(&one, x, Duration::ZERO));
        two.note(x);
        assert!(changed(&one, x, Duration::ZERO), "a process that it left");
        drop(two);
        assert!(changed(&one, x, LONG) && !changed(&one, x, Duration::ZERO));
        let three = enter(&dir);
        assert!(!changed(&one, x, Duration::ZERO), "it was the dead one");
        three.note(x);
        assert!(changed(&one, x, Duration::ZERO));
    }

    #[test]
    fn where_nothing_can_be_known_it_may_be() {
        let none = Others::enter(Path::new("/proc/no such directory"), Arc::new(RealDisk));
        none.note(Path::new("/w/x"));
        assert!(changed(&none, Path::new("/w/x"), Duration::ZERO));
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<Others> = (0..LANES).map(|_| enter(&dir)).collect();
        assert!(changed(&enter(&dir), Path::new("/w/x"), LONG));
        assert!(all.iter().all(|one| !changed(one, Path::new("/w/x"), LONG)));
    }

    #[test]
    fn who_cannot_say_what_he_changes_may_change_anything() {
        for temper in [Temper::Once(libc::ENOSPC), Temper::Torn(libc::EIO)] {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(FaultyDisk::new(usize::MAX, temper));
            let one = enter(&dir);
            let two = Others::enter(dir.path(), disk.clone());
            two.note(Path::new("/w/y"));
            assert!(!changed(&one, Path::new("/w/x"), LONG));
            disk.fail_after(0);
            two.note(Path::new("/w/x"));
            for path in ["/w/x", "/w/z"].map(Path::new) {
                assert!(changed(&one, path, Duration::ZERO), "{temper:?}");
                assert!(changed(&two, path, Duration::ZERO), "{temper:?}");
            }
            drop(two);
            let three = enter(&dir);
            assert!(
                !changed(&one, Path::new("/w/z"), Duration::ZERO),
                "{three:?}"
            );
        }
    }

    #[test]
    fn a_lane_that_cannot_be_taken_leaves_nothing_known() {
        for at in 0..5 {
            for temper in [
                Temper::Once(libc::ENOSPC),
                Temper::Torn(libc::EIO),
                Temper::Dead,
            ] {
                let dir = tempfile::tempdir().unwrap();
                let disk = Arc::new(FaultyDisk::new(at, temper));
                let none = Others::enter(dir.path(), disk);
                assert!(
                    changed(&none, Path::new("/w/x"), Duration::ZERO),
                    "{temper:?} {at}"
                );
                drop(none);
                assert!(
                    !changed(&enter(&dir), Path::new("/w/x"), LONG),
                    "{temper:?} {at}"
                );
            }
        }
    }
}
