//! What changes outside of the workspace, told by the kernel (inotify(7)), so that a path there is looked at
//! once and no more until it changes.
//!
//! Knows directories and names; what was seen of a path is the world's. A directory is covered when each
//! change of a name in it is told, and each change of what its own path leads to. The kernel does not tell
//! of writes through a mapping while it lasts, on another machine, or by a name that
//! a file has got since, nor of what is mounted over a name.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::statfs::statfs;
use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

/// Directories in which names come and go all the time: those directly in them are looked at each time.
const BUSY: [&str; 4] = ["/tmp", "/var/tmp", "/run", "/var/run"];

/// Not files.
const VIRTUAL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Filesystems whose files nobody changes but through this kernel (statfs(2), `f_type`): ext4, XFS, btrfs, tmpfs,
/// ramfs, overlayfs, ZFS, F2FS, bcachefs, squashfs, EROFS, ISO 9660.
const LOCAL: [i64; 12] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x8584_58f6,
    0x794c_7630,
    0x2fc1_2fc1,
    0xf2f5_2010,
    0xca45_1a4e,
    0x7371_7368,
    0xe0f5_e1e2,
    0x9660,
];

/// A file is written to; the end of it tells of mappings too, for the last of them closes the file.
const CONTENT: AddWatchFlags = AddWatchFlags::IN_MODIFY.union(AddWatchFlags::IN_CLOSE_WRITE);

/// What another path to the same directory or file has asked for stays (inotify(7)).
const AND_MORE: AddWatchFlags = AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD);

/// One thing that the kernel has told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// What is behind this name, or its time stamps.
    Name(PathBuf),
    /// Where this path and those below lead to.
    Below(PathBuf),
    /// There was too much to tell.
    Anything,
}

/// The covered directories.
pub(super) struct Outside {
    inotify: Inotify,
    /// Directories that were asked for, also those that are not there.
    dirs: HashMap<PathBuf, bool>,
    /// The paths that lead to a watched directory or file.
    paths: BTreeMap<WatchDescriptor, Vec<PathBuf>>,
}

impl Outside {
    /// None where the kernel gives no instance (inotify(7), `max_user_instances`).
    pub(super) fn new() -> Option<Self> {
        Some(Self {
            inotify: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?,
            dirs: HashMap::new(),
            paths: BTreeMap::new(),
        })
    }

    /// Whether each change of the name `path` will be told from now on.
    pub(super) fn covers_name(&mut self, path: &Path) -> bool {
        path.parent()
            .is_some_and(|dir| !is_busy(dir) && self.covers(dir))
    }

    /// Whether each change of a name in `dir` will be told from now on.
    pub(super) fn covers(&mut self, dir: &Path) -> bool {
        if let Some(known) = self.dirs.get(dir) {
            return *known;
        }
        let covered = self.enter(dir);
        self.dirs.insert(dir.to_owned(), covered);
        covered
    }

    fn enter(&mut self, dir: &Path) -> bool {
        let plain = |part: Component<'_>| !matches!(part, Component::ParentDir);
        if VIRTUAL.iter().any(|top| dir.starts_with(top)) || !dir.components().all(plain) {
            return false;
        }
        if dir.parent().is_some_and(|above| !self.covers(above)) {
            return false;
        }
        match self.watch(dir) {
            Ok(number) if is_local(dir) => {
                self.leads(number, dir);
                true
            }
            Ok(number) => {
                let _ended = self.inotify.rm_watch(number);
                false
            }
            // Whoever makes it is told of by the directory above.
            Err(Errno::ENOENT) => true,
            Err(Errno::ENOTDIR) => self.follow(dir),
            Err(_) => false,
        }
    }

    /// Whether each change of the file at `path`, also by another name of it, will be told from now on.
    pub(super) fn covers_file(&mut self, path: &Path) -> bool {
        let mask = CONTENT
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AND_MORE
            | AddWatchFlags::IN_DONT_FOLLOW;
        let number = self.inotify.add_watch(path, mask);
        number.map(|number| self.leads(number, path)).is_ok()
    }

    /// A path leads to what is watched.
    fn leads(&mut self, number: WatchDescriptor, path: &Path) {
        let paths = self.paths.entry(number).or_default();
        if !paths.iter().any(|known| known == path) {
            paths.push(path.to_owned());
        }
    }

    fn watch(&self, dir: &Path) -> Result<WatchDescriptor, Errno> {
        let mut mask = AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AND_MORE
            | AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW;
        if !is_busy(dir) {
            mask |= CONTENT;
        }
        self.inotify.add_watch(dir, mask)
    }

    /// Covers a directory behind a symbolic link, where no other link is on the way.
    fn follow(&mut self, link: &Path) -> bool {
        let Ok(text) = std::fs::read_link(link) else {
            // A file: there are no names in it, and what takes its place is told by the directory above.
            return true;
        };
        let near = link.parent().unwrap_or(Path::new("/"));
        match link.canonicalize() {
            Ok(end) if near.join(text) == end && !is_busy(&end) => {
                self.covers(&end) && self.alias(&end, link)
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// `link` leads to the watched directory `end`.
    fn alias(&mut self, end: &Path, link: &Path) -> bool {
        let mut all = self.paths.values_mut();
        let paths = all.find(|paths| paths.iter().any(|path| path == end));
        paths.map(|paths| paths.push(link.to_owned())).is_some()
    }

    /// What was told since the last time. What happened before the call has been told.
    pub(super) fn news(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return news,
                Err(_) => {
                    self.lose_all();
                    return vec![News::Anything];
                }
            };
            for event in events {
                self.hear(&event, &mut news);
            }
        }
    }

    fn hear(&mut self, event: &InotifyEvent, news: &mut Vec<News>) {
        let ended = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_UNMOUNT
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            self.lose_all();
            return news.push(News::Anything);
        }
        if event.mask.intersects(ended) {
            for dir in self.paths.remove(&event.wd).unwrap_or_default() {
                self.lose(dir, news);
            }
            return;
        }
        // To write to a file changes neither what its directory lists nor where names lead to.
        let is_content = event.mask.intersects(CONTENT);
        for dir in self.paths.get(&event.wd).cloned().unwrap_or_default() {
            let path = event.name.as_ref().map(|name| dir.join(name));
            if path.is_none() || !is_content {
                news.push(News::Name(dir));
            }
            match path {
                Some(path) if !is_content && self.dirs.contains_key(&path) => self.lose(path, news),
                Some(path) => news.push(News::Name(path)),
                None => (),
            }
        }
    }

    /// The directories at and below a path are not what they were, nor are those that links lead there.
    fn lose(&mut self, path: PathBuf, news: &mut Vec<News>) {
        let mut others = Vec::new();
        self.paths.retain(|number, paths| {
            if paths.iter().any(|dir| dir.starts_with(&path)) {
                paths.retain(|dir| !dir.starts_with(&path));
                others.append(paths);
                let _ended = self.inotify.rm_watch(*number);
            }
            !paths.is_empty()
        });
        self.dirs.retain(|dir, _| !dir.starts_with(&path));
        news.push(News::Below(path));
        for link in others {
            self.lose(link, news);
        }
    }

    fn lose_all(&mut self) {
        self.dirs.clear();
        self.paths.clear();
    }
}

fn is_busy(dir: &Path) -> bool {
    BUSY.iter().any(|busy| dir == Path::new(busy))
}

/// Whether nobody changes the directory's files but through this kernel.
fn is_local(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|stat| LOCAL.iter().any(|known| *known == stat.filesystem_type().0))
}
