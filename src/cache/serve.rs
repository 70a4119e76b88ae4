//! A record's outputs, put into a tree in two phases: everything that can be found wrong is found before
//! anything is changed.
//!
//! Knows the tree as directories and paths only: whoever shows it to others must be told what changed.

use super::dirs::Dirs;
use super::sound::{dir_is_sound, output_is_sound, outputs_are_apart};
use super::stamps::Clock;
use super::undo::Undo;
use super::{Cache, Error};
use crate::base::{Name, Output, Record, Stamp, What};
use crate::disk::{self, At, Disk};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Outputs could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A blob is missing or damaged, or the cache could not be read.
    #[error(transparent)]
    Cache(#[from] Error),
    /// A system call failed on the tree.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// What an output should be made in is no directory, or is reached through a symbolic link.
    #[error("{} is not a directory", .0.display())]
    Parent(PathBuf),
    /// A file to be written in place is an input under another name.
    #[error("{} is an input by another name", .0.display())]
    Linked(PathBuf),
    /// Putting the outputs in place failed half-way, and so did taking it back.
    #[error("{why}, and what was in place could not be taken back: {undo}")]
    HalfWay {
        /// Why it failed.
        why: Box<Self>,
        /// Why it could not be taken back.
        undo: disk::Error,
    },
}

/// A record's outputs, ready to be put in place. Dropping it leaves the tree as it was.
#[derive(Debug)]
pub struct Staged<'a> {
    disk: &'a dyn Disk,
    record: &'a Record,
    root: &'a Path,
    stage_dir: &'a Path,
    items: Vec<Item<'a>>,
}

#[derive(Debug)]
struct Item<'a> {
    output: &'a Output,
    path: PathBuf,
    /// Where a temporary name can be made from which rename(2) reaches `path`.
    near: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// Nothing to be fetched, or nothing left.
    None,
    /// A complete file under a temporary name.
    Temp(PathBuf),
    /// A verified blob, to be written into the file that is there.
    Blob(File),
}

impl<'a> Staged<'a> {
    /// Fetches and verifies the contents of all outputs of `record`, for the tree whose workspace lies
    /// at `root`. Temporary files lie in `stage_dir` (made if it is missing), which must be on the
    /// workspace's filesystem and hidden from the build; for outputs outside the workspace, and on other
    /// filesystems mounted inside it, they lie next to the target.
    ///
    /// # Errors
    /// A blob is missing or damaged, an output is not sound, or a system call fails. The tree is as it
    /// was then.
    pub fn prepare(
        cache: &'a Cache,
        record: &'a Record,
        root: &'a Path,
        stage_dir: &'a Path,
    ) -> Result<Self, ServeError> {
        let disk = &*cache.disk;
        outputs_are_apart(record).map_err(Error::Unsound)?;
        for dir in &record.dirs {
            dir_is_sound(&dir.name)
                .map_err(|why| Error::Unsound(format!("directory {}: {why}", dir.name)))?;
        }
        let mut staged = Self {
            disk,
            record,
            root,
            stage_dir,
            items: Vec::with_capacity(record.outputs.len()),
        };
        if record.outputs.is_empty() && record.dirs.is_empty() {
            return Ok(staged);
        }
        cache.make_dir(stage_dir)?;
        let stage = fs::symlink_metadata(stage_dir).at("lstat", stage_dir)?;
        if !stage.is_dir() {
            return Err(ServeError::Parent(stage_dir.to_owned()));
        }
        let stage_mount = mount_of(stage_dir)?;
        let mut last: Option<(PathBuf, PathBuf)> = None;
        for output in &record.outputs {
            output_is_sound(output)
                .map_err(|why| Error::Unsound(format!("output {}: {why}", output.name)))?;
            let path = output.name.at(root);
            if Name::of(&path, root) != output.name {
                let why = format!("output {}: an absolute name in the workspace", output.name);
                return Err(Error::Unsound(why).into());
            }
            let parent = path.parent().unwrap_or(root);
            let near = match &last {
                Some((dir, near)) if dir == parent => near.clone(),
                Some(_) | None => {
                    let way = Way::of(parent, record, root)?;
                    if output.name.inside() && mount_of(&way.dir)? == stage_mount {
                        stage_dir.to_owned()
                    } else {
                        way.dir
                    }
                }
            };
            last = Some((parent.to_owned(), near.clone()));
            if let What::HardLink(other) = &output.what {
                Way::of(other.at(root).parent().unwrap_or(root), record, root)?;
            }
            staged.items.push(Item {
                output,
                path,
                near,
                content: Content::None,
            });
            // The item is listed first, so that its temporary file is removed if this fails.
            if let Some(item) = staged.items.last_mut() {
                item.fetch(cache, record, root)?;
            }
        }
        Ok(staged)
    }

    /// Puts everything in place, in the record's order, then sets the time stamps. Gives every path that
    /// was touched.
    ///
    /// # Errors
    /// A system call fails or a parent is not a directory. The tree is as it was then, unless it is
    /// [`ServeError::HalfWay`].
    pub fn commit(mut self) -> Result<Vec<PathBuf>, ServeError> {
        let mut undo = Undo::new(self.disk);
        match self.put(&mut undo) {
            Ok(touched) => {
                undo.forget();
                Ok(touched)
            }
            Err(why) => match undo.take_back() {
                Ok(()) => Err(why),
                Err(undo) => {
                    let why = Box::new(why);
                    Err(ServeError::HalfWay { why, undo })
                }
            },
        }
    }

    fn put(&mut self, undo: &mut Undo<'_>) -> Result<Vec<PathBuf>, ServeError> {
        let ordered = |item: &Item<'_>| matches!(item.output.stamp, Stamp::Now(_));
        let mut dirs = Dirs::of(self.record, self.root, undo)?;
        let clock = match self.items.iter().any(ordered) || !self.record.dirs.is_empty() {
            true => Some(Clock::start(self.disk, self.stage_dir)?),
            false => None,
        };
        let mut touched = Vec::with_capacity(self.items.len());
        let mut modes_at_last = Vec::new();
        // Looked at once a run of siblings: an item can remove itself, but not its parent.
        let mut parent_seen = PathBuf::new();
        for item in &mut self.items {
            let parent = item.path.parent().unwrap_or(self.root);
            if parent != parent_seen {
                match Way::to(parent, self.root)?.end {
                    End::There => {}
                    End::Missing if item.output.what == What::Absent => continue,
                    End::Missing => return Err(ServeError::Parent(parent.to_owned())),
                    End::Link(link) => return Err(ServeError::Parent(link)),
                }
                parent.clone_into(&mut parent_seen);
            }
            match item.put(self.disk, self.root, undo)? {
                Put::Done => {}
                Put::Made => dirs.made(item.output, &item.path),
                Put::ModeAtLast(mode) => modes_at_last.push((item.path.clone(), mode)),
                Put::Nothing => continue,
            }
            touched.push(item.path.clone());
        }
        for (path, mode) in modes_at_last.iter().rev() {
            self.disk.chmod(path, *mode)?;
        }
        dirs.put();
        touched.extend(self.stamp(clock, dirs)?);
        Ok(touched)
    }

    /// Sets all time stamps. Gives the directories that got one.
    fn stamp(&self, clock: Option<Clock<'_>>, dirs: Dirs<'_>) -> Result<Vec<PathBuf>, disk::Error> {
        let mut ranked = Vec::new();
        for Item { output, path, .. } in &self.items {
            match (&output.what, output.stamp) {
                (What::Absent, _) | (_, Stamp::Keep) => {}
                (_, Stamp::Now(rank)) => ranked.push((rank, path)),
                (_, Stamp::Exact(mtime)) => self.disk.set_mtime(path, mtime)?,
            }
        }
        let Some(clock) = clock else {
            return Ok(Vec::new());
        };
        let ranks = ranked.iter().map(|(rank, _)| *rank).chain(dirs.ranks());
        let times = clock.times(ranks.collect())?;
        for (rank, path) in ranked {
            self.disk.set_mtime(path, times.of(rank))?;
        }
        dirs.set(self.disk, |rank| times.of(rank))
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        for item in &self.items {
            if let Content::Temp(path) = &item.content {
                drop(self.disk.unlink(path));
            }
        }
    }
}

/// Whether the record read this file by a name that it leaves alone.
fn is_input(file: &Metadata, record: &Record, root: &Path) -> bool {
    let same = |name: &Name| {
        fs::symlink_metadata(name.at(root))
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == (file.dev(), file.ino()))
    };
    let outputs: Vec<&Name> = record.outputs.iter().map(|output| &output.name).collect();
    let mut inputs = record.deps.iter().map(|dep| &dep.name);
    inputs.any(|name| same(name) && !outputs.contains(&name))
}

/// What [`Item::put`] did.
enum Put {
    Done,
    /// A file that is written over if there is one, and there was none.
    Made,
    /// It was so already.
    Nothing,
    /// A directory is there, but these permission bits would keep its content out.
    ModeAtLast(u32),
}

impl Item<'_> {
    fn fetch(&mut self, cache: &Cache, record: &Record, root: &Path) -> Result<(), ServeError> {
        let What::File {
            digest,
            size,
            mode,
            in_place,
        } = &self.output.what
        else {
            return Ok(());
        };
        let there = look(&self.path)?.filter(Metadata::is_file);
        if let Some(there) = there.filter(|_| *in_place) {
            if there.nlink() > 1 && is_input(&there, record, root) {
                return Err(ServeError::Linked(self.path.clone()));
            }
            // A file that may not be written (mode, being executed) must be found before the commit.
            cache.disk.try_write(&self.path)?;
            self.content = Content::Blob(cache.open_checked(digest, *size)?);
            return Ok(());
        }
        let disk = &*cache.disk;
        let (file, temp) = make_temp(&self.near, |temp| disk.create(temp, 0o600))?;
        self.content = Content::Temp(temp.clone());
        cache.fetch(digest, *size, &file)?;
        if let Some((uid, gid)) = self.output.owner {
            disk.chown(&temp, uid, gid)?;
        }
        disk.fchmod(&file, &temp, *mode)?;
        if let Stamp::Exact(mtime) = self.output.stamp {
            disk.set_mtime(&temp, mtime)?;
        }
        Ok(())
    }

    /// Makes the output. Its parent is a directory.
    fn put(
        &mut self,
        disk: &dyn Disk,
        root: &Path,
        undo: &mut Undo<'_>,
    ) -> Result<Put, ServeError> {
        let path = &self.path;
        let there = look(path)?;
        if let Some(there) = &there {
            undo.attributes(path, there);
        }
        match (&self.output.what, there) {
            (What::Absent, None) => return Ok(Put::Nothing),
            (What::Absent, Some(meta)) if meta.is_dir() => {
                undo.rmdir(path, &meta)?;
                return Ok(Put::Done);
            }
            (What::Absent, Some(_)) => {
                undo.unlink(path, &self.near)?;
                return Ok(Put::Done);
            }
            (What::Dir(mode), there) => return self.put_dir(disk, *mode, there, undo),
            (What::File { mode, .. }, there) => return self.put_file(disk, *mode, there, undo),
            // Also when its text is already this: whoever watches must see that it was made anew.
            (What::Link(text), there) => {
                let text = Path::new(OsStr::from_bytes(text));
                let make = |temp: &Path| disk.symlink(text, temp);
                self.replace(disk, undo, there.as_ref(), None, make)?;
            }
            (What::Fifo(mode), there) => {
                let same = there
                    .as_ref()
                    .is_some_and(|meta| meta.file_type().is_fifo() && meta.nlink() == 1);
                if same {
                    self.own(disk, path)?;
                    disk.chmod(path, *mode)?;
                } else {
                    let make = |temp: &Path| disk.mkfifo(temp, 0o600);
                    self.replace(disk, undo, there.as_ref(), Some(*mode), make)?;
                }
            }
            (What::HardLink(other), there) => {
                let other = other.at(root);
                // Else what this name is given would be given to a file somewhere else.
                if let End::Link(link) = Way::to(other.parent().unwrap_or(root), root)?.end {
                    return Err(ServeError::Parent(link));
                }
                let id = |meta: &Metadata| (meta.dev(), meta.ino());
                let now = there.as_ref().map(id);
                if now.is_none() || now != look(&other)?.as_ref().map(id) {
                    let make = |temp: &Path| disk.link(&other, temp);
                    self.replace(disk, undo, there.as_ref(), None, make)?;
                } else {
                    self.own(disk, path)?;
                }
            }
            (What::Attributes(mode), there) => {
                self.own(disk, path)?;
                // The permission bits of a symbolic link mean nothing and cannot be set.
                if !there.is_some_and(|meta| meta.is_symlink()) {
                    disk.chmod(path, *mode)?;
                }
            }
        }
        Ok(Put::Done)
    }

    fn put_dir(
        &self,
        disk: &dyn Disk,
        mode: u32,
        there: Option<Metadata>,
        undo: &mut Undo<'_>,
    ) -> Result<Put, ServeError> {
        let path = &self.path;
        let now = match there {
            Some(meta) if meta.is_dir() => Some(meta.mode() & 0o7777),
            Some(_) => {
                undo.unlink(path, &self.near)?;
                None
            }
            None => None,
        };
        let open = mode | 0o700;
        if now.is_none() {
            let make = |temp: &Path| disk.mkdir(temp, 0o700);
            self.replace(disk, undo, None, Some(open), make)?;
        } else {
            self.own(disk, path)?;
            if now != Some(open) {
                disk.chmod(path, open)?;
            }
        }
        Ok(if open == mode {
            Put::Done
        } else {
            Put::ModeAtLast(mode)
        })
    }

    fn put_file(
        &mut self,
        disk: &dyn Disk,
        mode: u32,
        there: Option<Metadata>,
        undo: &mut Undo<'_>,
    ) -> Result<Put, ServeError> {
        match &self.content {
            Content::None => {}
            Content::Temp(temp) => {
                undo.rename_over(temp, &self.path, there.as_ref())?;
                self.content = Content::None;
                let over = matches!(self.output.what, What::File { in_place: true, .. });
                if over && there.is_none() {
                    return Ok(Put::Made);
                }
            }
            Content::Blob(blob) => {
                let file = if there.is_some() {
                    undo.open_truncate(&self.path, &self.near)?
                } else {
                    let file = disk.create(&self.path, 0o600)?;
                    undo.made(&self.path);
                    file
                };
                disk.copy(blob, &file, &self.path)?;
                self.own(disk, &self.path)?;
                disk.fchmod(&file, &self.path, mode)?;
                if there.is_none() {
                    return Ok(Put::Made);
                }
            }
        }
        Ok(Put::Done)
    }

    /// Makes something under a temporary name, gives it owner and mode, and renames it over what is there:
    /// whoever is killed in between leaves no half of it.
    fn replace(
        &self,
        disk: &dyn Disk,
        undo: &mut Undo<'_>,
        there: Option<&Metadata>,
        mode: Option<u32>,
        make: impl Fn(&Path) -> Result<(), disk::Error>,
    ) -> Result<(), disk::Error> {
        let ((), temp) = make_temp(&self.near, make)?;
        let made = self.own(disk, &temp);
        let made = made.and_then(|()| mode.map_or(Ok(()), |mode| disk.chmod(&temp, mode)));
        made.and_then(|()| undo.rename_over(&temp, &self.path, there))
            .inspect_err(|_| drop(disk.unlink(&temp).or_else(|_| disk.rmdir(&temp))))
    }

    fn own(&self, disk: &dyn Disk, path: &Path) -> Result<(), disk::Error> {
        match self.output.owner {
            Some((uid, gid)) => disk.chown(path, uid, gid),
            None => Ok(()),
        }
    }
}

/// Makes something under a name in `dir` that nobody else uses.
pub(super) fn make_temp<T>(
    dir: &Path,
    make: impl Fn(&Path) -> Result<T, disk::Error>,
) -> Result<(T, PathBuf), disk::Error> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let temp = dir.join(format!(".rfs-{}-{n}.tmp", std::process::id()));
        match make(&temp) {
            Ok(made) => return Ok((made, temp)),
            Err(error) if error.source.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// What lstat(2) says; none if there is nothing.
pub(super) fn look(path: &Path) -> Result<Option<Metadata>, disk::Error> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error).at("lstat", path),
    }
}

/// How far one gets on the way to a directory without following a symbolic link.
pub(super) struct Way {
    /// The last directory.
    dir: PathBuf,
    pub(super) end: End,
}

pub(super) enum End {
    /// It is the directory itself.
    There,
    /// There is nothing further down, or no directory.
    Missing,
    /// This link leads on.
    Link(PathBuf),
}

impl Way {
    /// The way to a directory that a record uses: of links it may lead only to those that the record replaces
    /// by directories.
    fn of(dir: &Path, record: &Record, root: &Path) -> Result<Self, ServeError> {
        let way = Self::to(dir, root)?;
        let is_output = |link: &Path| record.outputs.iter().any(|it| it.name.at(root) == link);
        match &way.end {
            End::Link(link) if !is_output(link) => Err(ServeError::Parent(link.clone())),
            End::There | End::Missing | End::Link(_) => Ok(way),
        }
    }

    /// Names in records have no links in them, so that one on the way came later: what lies behind it is not
    /// what the record means. The root itself may be given by way of a link (as `/proc/self/fd/7`).
    pub(super) fn to(dir: &Path, root: &Path) -> Result<Self, disk::Error> {
        let (start, rest) = match dir.strip_prefix(root) {
            Ok(rest) => (root, rest),
            Err(_outside) => (Path::new("/"), dir.strip_prefix("/").unwrap_or(dir)),
        };
        let mut way = Self {
            dir: start.to_owned(),
            end: End::There,
        };
        for part in rest.components() {
            let next = way.dir.join(part);
            match look(&next)? {
                Some(meta) if meta.is_dir() => way.dir = next,
                Some(meta) if meta.is_symlink() => {
                    way.end = End::Link(next);
                    break;
                }
                Some(_) | None => {
                    way.end = End::Missing;
                    break;
                }
            }
        }
        Ok(way)
    }
}

/// The mount that a directory lies in: rename(2) does not reach from one to another, not even of the same
/// filesystem.
fn mount_of(dir: &Path) -> Result<(u64, u32, u32), disk::Error> {
    let flags = StatxFlags::MNT_ID;
    let stat = statx(CWD, dir, AtFlags::empty(), flags)
        .map_err(io::Error::from)
        .at("statx", dir)?;
    Ok((stat.stx_mnt_id, stat.stx_dev_major, stat.stx_dev_minor))
}

#[cfg(test)]
mod tests;
