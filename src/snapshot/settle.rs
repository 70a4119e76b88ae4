//! Settles directories of a restore that goes on by and by.
//!
//! One directory: what is to be put is staged and checked, what is about to be moved out is noted, then names change,
//! each in one go, then the directory is noted as settled. Who is killed in between does it again; nobody has looked
//! into the directory meanwhile, so that what is not as it is to be is what was there before.

use super::journal::{Begun, Note, Was};
use super::pending::{Pending, State};
use super::restore::dress;
use super::tree::FOREIGN;
use super::trees::{Branch, Leaf};
use super::{Entry, Error, What};
use crate::base::{Kind, Seen};
use crate::disk::At;
use crate::world::{OURS, see};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How often a file may change while it is read.
const PATIENCE: usize = 5;

/// What is to be done in a directory. Names are relative to it.
#[derive(Debug, Default)]
struct Plan {
    was: Vec<(PathBuf, Was)>,
    /// What is to be moved out, under which number.
    out: Vec<(PathBuf, u64)>,
    put: Vec<OsString>,
    dress: Vec<OsString>,
}

impl Pending {
    /// Makes the directory at this absolute path, and those around it, what they are to be; with `below` also those
    /// in it.
    ///
    /// # Errors
    /// A content is missing or damaged, or a system call fails: the directory waits still.
    pub fn settle(&self, dir: &Path, below: bool) -> Result<(), Error> {
        let Ok(relative) = dir.strip_prefix(self.shelf.root()) else {
            return Ok(());
        };
        if relative.starts_with(OURS) {
            return Ok(());
        }
        {
            let mut state = self.state();
            let mut around: Vec<_> = relative.ancestors().collect();
            around.reverse();
            for dir in around {
                self.settle_one(&mut state, dir)?;
            }
        }
        if !below {
            return Ok(());
        }
        loop {
            // Others have their turn in between.
            let mut state = self.state();
            let mut first = state.waiting.range(relative.to_owned()..);
            let first = first.next().map(|(dir, _)| dir.clone());
            match first {
                Some(dir) if dir.starts_with(relative) => self.settle_one(&mut state, &dir)?,
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn settle_one(&self, state: &mut State, dir: &Path) -> Result<(), Error> {
        let Some(digest) = state.waiting.get(dir).copied() else {
            return Ok(());
        };
        let at = self.shelf.root().join(dir);
        let there = see(&at);
        // One that is not there any more, or that something is mounted on: somebody wants it so.
        if self.is_reached(dir) {
            let goal = self.shelf.branch(&digest)?;
            let plan = self.plan(&at, &there, &goal, state.next)?;
            // One that was begun may lack its time alone.
            if !plan.was.is_empty() || state.begun.contains_key(dir) {
                self.change(state, dir, &there, &goal, plan)?;
            }
        }
        state.journal.note(self.disk(), &Note::settled(dir))?;
        state.settled(&self.shelf, dir)
    }

    /// Whether there are directories of the workspace all the way.
    fn is_reached(&self, dir: &Path) -> bool {
        let root = self.shelf.root();
        let device = see(root).id.dev;
        dir.ancestors().all(|around| {
            let seen = see(&root.join(around));
            seen.kind == Kind::Dir && seen.id.dev == device
        })
    }

    fn plan(&self, at: &Path, there: &Seen, goal: &Branch, next: u64) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        let out = |plan: &mut Plan, name: PathBuf| {
            let number = next + plan.out.len() as u64;
            plan.was.push((name.clone(), Was::Out(number)));
            plan.out.push((name, number));
        };
        let is_root = at == self.shelf.root();
        let mut found = Vec::new();
        for entry in fs::read_dir(at).at("getdents", at)? {
            found.push(entry.at("getdents", at)?.file_name());
        }
        found.sort();
        for name in &found {
            let is_ours = is_root && name == OURS;
            if is_ours || FOREIGN.iter().any(|foreign| name == *foreign) {
                continue;
            }
            let path = at.join(name);
            let Some(leaf) = goal.get(name) else {
                let mut gone = Vec::new();
                leave(&path, Path::new(name), there.id.dev, &mut plan, &mut gone)?;
                for name in gone {
                    out(&mut plan, name);
                }
                continue;
            };
            let seen = self.world.look(&path).seen;
            let is_mount = seen.kind == Kind::Dir && seen.id.dev != there.id.dev;
            if is_mount {
                continue;
            }
            if seen.kind == Kind::Absent {
                plan.was.push((name.into(), Was::Nothing));
                plan.put.push(name.clone());
            } else if !self.is_it(&path, leaf) {
                out(&mut plan, name.into());
                plan.put.push(name.clone());
            } else if attributes(&seen) != (leaf.entry.mode, leaf.entry.mtime) {
                let now = entry_of(&seen, leaf.entry.what.clone());
                plan.was.push((name.into(), Was::Stays(now)));
                plan.dress.push(name.clone());
            }
        }
        for name in goal
            .keys()
            .filter(|name| found.binary_search(name).is_err())
        {
            plan.was.push((name.into(), Was::Nothing));
            plan.put.push(name.clone());
        }
        Ok(plan)
    }

    /// Whether there is at `path` what is to be there, attributes aside.
    fn is_it(&self, path: &Path, leaf: &Leaf) -> bool {
        for _ in 0..PATIENCE {
            let seen = self.world.look(path).seen;
            return match &leaf.entry.what {
                What::Dir => seen.kind == Kind::Dir,
                What::Link(text) => seen.kind == Kind::Link && seen.text == *text,
                What::File { digest, size } => {
                    if seen.kind != Kind::File || seen.id.size != *size {
                        return false;
                    }
                    match self.world.digest(path, &seen) {
                        Err(libc::ESTALE) => {
                            self.world.forget(path);
                            continue;
                        }
                        found => found == Ok(*digest),
                    }
                }
            };
        }
        false
    }

    fn change(
        &self,
        state: &mut State,
        dir: &Path,
        there: &Seen,
        goal: &Branch,
        plan: Plan,
    ) -> Result<(), Error> {
        let (root, disk) = (self.shelf.root(), self.disk());
        let at = root.join(dir);
        let staged = self.stage(goal, &plan.put);
        if let Err(error) = staged {
            // What was staged goes before the next directory, too.
            let _cleared = super::pending::remove_all(disk, &self.stage_dir()).is_ok();
            return Err(error);
        }
        let [mode, ..] = there.mode;
        let begun = Begun::new(dir, mode, there.id.mtime, &plan.was);
        state.next += plan.out.len() as u64;
        state.journal.note(disk, &Note::Begun(begun))?;
        let was = (mode, there.id.mtime);
        let (mode, mtime) = *state.begun.entry(dir.to_owned()).or_insert(was);
        let is_closed = mode & 0o300 != 0o300 && !nix::unistd::geteuid().is_root();
        if is_closed {
            disk.chmod(&at, mode | 0o300)?;
        }
        for (name, number) in &plan.out {
            self.move_out(&at.join(name), &self.out(*number))?;
        }
        for name in &plan.put {
            if let Some(leaf) = goal.get(name) {
                self.put(name, &at.join(name), leaf)?;
            }
        }
        for name in &plan.dress {
            if let Some(leaf) = goal.get(name) {
                self.world.changed(&at.join(name));
                dress(disk, &at.join(name), &leaf.entry)?;
            }
        }
        if is_closed || see(&at).mode[0] != mode {
            disk.chmod(&at, mode)?;
        }
        disk.set_mtime(&at, mtime)?;
        super::pending::remove_all(disk, &self.stage_dir())
    }

    fn stage_dir(&self) -> PathBuf {
        self.dir().join("new")
    }

    fn staged(&self, name: &OsStr) -> PathBuf {
        self.stage_dir().join(name)
    }

    /// Makes the files and links that are to be put, and looks whether their contents are right.
    fn stage(&self, goal: &Branch, put: &[OsString]) -> Result<(), Error> {
        let disk = self.disk();
        super::pending::remove_all(disk, &self.stage_dir())?;
        disk.mkdir(&self.stage_dir(), 0o700)?;
        for (name, leaf) in put.iter().filter_map(|name| Some((name, goal.get(name)?))) {
            let new = self.staged(name);
            match &leaf.entry.what {
                What::Dir => continue,
                What::Link(text) => disk.symlink(Path::new(OsStr::from_bytes(text)), &new)?,
                What::File { digest, .. } => {
                    let file = disk.create(&new, 0o600)?;
                    self.shelf.fetch(digest, &file, &new)?;
                }
            }
            dress(disk, &new, &leaf.entry)?;
        }
        Ok(())
    }

    fn move_out(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let disk = self.disk();
        self.world.changed(from);
        let moved = match disk.rename(from, to) {
            // A directory that is moved is written to: its `..` changes.
            Err(error) if error.source.kind() == ErrorKind::PermissionDenied => {
                let seen = see(from);
                if seen.kind != Kind::Dir {
                    return Err(error.into());
                }
                let [mode, ..] = seen.mode;
                disk.chmod(from, mode | 0o700)?;
                disk.rename(from, to)
            }
            moved => moved,
        };
        match moved {
            Err(error) if error.source.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if error.source.kind() == ErrorKind::ResourceBusy => Err(Error::Obstacle {
                path: from.to_owned(),
                why: "something is mounted there".to_owned(),
            }),
            moved => Ok(moved?),
        }
    }

    fn put(&self, name: &OsStr, at: &Path, leaf: &Leaf) -> Result<(), Error> {
        let disk = self.disk();
        self.world.changed(at);
        if leaf.entry.what == What::Dir {
            disk.mkdir(at, 0o700)?;
            return Ok(dress(disk, at, &leaf.entry)?);
        }
        let new = self.staged(name);
        match disk.link(&new, at) {
            Ok(()) => disk.unlink(&new)?,
            Err(error) if error.source.kind() == ErrorKind::AlreadyExists => {
                return Err(error.into());
            }
            // A filesystem without hard links.
            Err(_) => disk.rename(&new, at)?,
        }
        if let What::File { digest, .. } = leaf.entry.what {
            let seen = self.world.look(at).seen;
            self.world.settle(at, &seen, Ok(digest));
        }
        Ok(())
    }
}

/// What of a name that is not in the goal is to go: all of it, but for what no snapshot can keep and the directories
/// around that.
fn leave(
    path: &Path,
    name: &Path,
    device: u64,
    plan: &mut Plan,
    gone: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let seen = see(path);
    match seen.kind {
        Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown(_) | Kind::Absent => {}
        Kind::File | Kind::Link => gone.push(name.to_owned()),
        Kind::Dir if seen.id.dev != device => {}
        Kind::Dir if !has_obstacles(path, device)? => gone.push(name.to_owned()),
        Kind::Dir => {
            let stays = Was::Stays(entry_of(&seen, What::Dir));
            plan.was.push((name.to_owned(), stays));
            for entry in fs::read_dir(path).at("getdents", path)? {
                let below = entry.at("getdents", path)?.file_name();
                if !FOREIGN.iter().any(|foreign| below == *foreign) {
                    leave(&path.join(&below), &name.join(&below), device, plan, gone)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether something lies in a directory that no snapshot can keep.
fn has_obstacles(dir: &Path, device: u64) -> Result<bool, Error> {
    for entry in fs::read_dir(dir).at("getdents", dir)? {
        let name = entry.at("getdents", dir)?.file_name();
        if FOREIGN.iter().any(|foreign| name == *foreign) {
            return Ok(true);
        }
        let path = dir.join(name);
        let seen = see(&path);
        let is_one = match seen.kind {
            Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown(_) => true,
            Kind::Dir => seen.id.dev != device || has_obstacles(&path, device)?,
            Kind::File | Kind::Link | Kind::Absent => false,
        };
        if is_one {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Permission bits, 0 for a link, and time.
fn attributes(seen: &Seen) -> (u32, i64) {
    let mode = match seen.kind == Kind::Link {
        true => 0,
        false => seen.mode[0],
    };
    (mode, seen.id.mtime)
}

fn entry_of(seen: &Seen, what: What) -> Entry {
    let (mode, mtime) = attributes(seen);
    let [_, uid, gid] = seen.mode;
    Entry {
        what,
        mode,
        owner: [uid, gid],
        mtime,
    }
}
