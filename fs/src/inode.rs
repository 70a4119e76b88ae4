//! The inode table: what the kernel knows of us, and under which names its objects lie in the backing tree.
//!
//! A node is a backing object, known by (device, inode, birth time), that the kernel holds by number. It
//! keeps names, not descriptors: a tree may have more files than a process may have descriptors. This file
//! makes no system call.
//!
//! INVARIANT: `children` of a directory and `names` of its children mirror each other.

use parking_lot::Mutex;
use rustix::fs::Statx;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// Number of a node, as the kernel knows it.
pub(crate) type Ino = u64;

/// The root of the view.
pub(crate) const ROOT: Ino = 1;

/// Numbers from here on are given to objects whose own number is taken or lies on another device.
const FIRST_SPARE: Ino = 1 << 62;

/// What makes a backing object itself whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    dev: (u32, u32),
    ino: u64,
    /// Zero where the filesystem keeps no birth time. Tells apart two objects that had one inode number.
    birth: (i64, u32),
}

impl Identity {
    pub(crate) fn of(stat: &Statx) -> Self {
        Self {
            dev: (stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            birth: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        }
    }
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) parent: Ino,
    pub(crate) name: Arc<OsStr>,
}

/// Where an object can be found.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Under one of these names, the newest last.
    Named(Vec<Name>),
    /// Its last name is gone; an `O_PATH` descriptor keeps it.
    Pinned(Arc<OwnedFd>),
}

/// State of an object that the kernel has open, shared by its open files.
#[derive(Debug)]
pub(crate) struct Opened<B> {
    /// What the kernel reads and writes in our stead; alive while a file of this object is open through it.
    pub(crate) backing: Weak<B>,
    /// Open files whose bytes pass through us and the kernel's page cache.
    pub(crate) n_cached: usize,
    /// Descriptors of open files, by which the object is found should it be moved behind our back.
    pub(crate) fds: Vec<Weak<OwnedFd>>,
    /// Size and time of the content that the kernel's page cache holds.
    pub(crate) pages: Option<Stamp>,
}

/// Tells one content from another as far as a stat can: size and time of modification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64, i64, u32);

impl Stamp {
    pub(crate) fn of(stat: &Statx) -> Self {
        Self(stat.stx_size, stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec)
    }
}

#[derive(Debug)]
struct Node<B> {
    identity: Identity,
    /// How often a reply gave this number to the kernel, minus what it forgot.
    n_lookups: u64,
    names: Vec<Name>,
    children: HashMap<Arc<OsStr>, Ino>,
    pin: Option<Arc<OwnedFd>>,
    n_open: usize,
    n_writers: usize,
    opened: Option<Arc<Mutex<Opened<B>>>>,
}

impl<B> Node<B> {
    fn new(identity: Identity) -> Self {
        Self {
            identity,
            n_lookups: 0,
            names: Vec::new(),
            children: HashMap::new(),
            pin: None,
            n_open: 0,
            n_writers: 0,
            opened: None,
        }
    }
}

#[derive(Debug)]
struct Nodes<B> {
    by_ino: HashMap<Ino, Node<B>>,
    by_object: HashMap<((u32, u32), u64), Ino>,
    next_spare: Ino,
}

/// The table. `B` is what stands for a passthrough file.
#[derive(Debug)]
pub(crate) struct Table<B> {
    root: PathBuf,
    root_dev: (u32, u32),
    nodes: Mutex<Nodes<B>>,
}

impl<B> Table<B> {
    /// A table that knows the root only.
    pub(crate) fn new(root: PathBuf, stat: &Statx) -> Self {
        let identity = Identity::of(stat);
        let mut node = Node::new(identity);
        // The kernel never forgets the root.
        node.n_lookups = 1;
        let nodes = Nodes {
            by_ino: HashMap::from([(ROOT, node)]),
            by_object: HashMap::from([((identity.dev, identity.ino), ROOT)]),
            next_spare: FIRST_SPARE,
        };
        Self {
            root,
            root_dev: identity.dev,
            nodes: Mutex::new(nodes),
        }
    }

    /// The kernel is about to learn that `name` in `parent` is the object with this identity: its number,
    /// with one more look-up counted.
    pub(crate) fn enter(&self, parent: Ino, name: &OsStr, identity: Identity) -> Ino {
        let mut nodes = self.nodes.lock();
        let ino = nodes.number(identity, self.root_dev);
        nodes.set_name(parent, name, ino);
        if let Some(node) = nodes.by_ino.get_mut(&ino) {
            node.n_lookups += 1;
        }
        ino
    }

    /// The kernel dropped `n` look-ups of a node.
    pub(crate) fn forget(&self, ino: Ino, n: u64) -> Forgotten {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.by_ino.get_mut(&ino) {
            node.n_lookups = node.n_lookups.saturating_sub(n);
        }
        nodes.drop_unused(ino)
    }

    /// What the node is and where it can be found. `None` for a number never given out.
    pub(crate) fn place(&self, ino: Ino) -> Option<(Identity, Place)> {
        let nodes = self.nodes.lock();
        let node = nodes.by_ino.get(&ino)?;
        let place = match &node.pin {
            Some(pin) => Place::Pinned(pin.clone()),
            None => Place::Named(node.names.clone()),
        };
        Some((node.identity, place))
    }

    /// The node that the table believes to have this name.
    pub(crate) fn child(&self, parent: Ino, name: &OsStr) -> Option<Ino> {
        self.nodes
            .lock()
            .by_ino
            .get(&parent)?
            .children
            .get(name)
            .copied()
    }

    /// The node of this object, if the kernel knows it.
    pub(crate) fn find(&self, identity: Identity) -> Option<Ino> {
        let nodes = self.nodes.lock();
        let ino = *nodes.by_object.get(&(identity.dev, identity.ino))?;
        (nodes.by_ino.get(&ino)?.identity == identity).then_some(ino)
    }

    /// Keeps an object that is about to lose a name. Only the last name matters.
    pub(crate) fn pin(&self, ino: Ino, fd: OwnedFd) {
        if let Some(node) = self.nodes.lock().by_ino.get_mut(&ino) {
            node.pin = Some(Arc::new(fd));
        }
    }

    /// A name is gone, or the attempt to remove it failed: a node that has names again needs no pin.
    pub(crate) fn unpin_named(&self, ino: Ino) {
        if let Some(node) = self.nodes.lock().by_ino.get_mut(&ino) {
            if !node.names.is_empty() {
                node.pin = None;
            }
        }
    }

    /// The name was removed.
    pub(crate) fn remove_name(&self, parent: Ino, name: &OsStr) {
        self.nodes.lock().clear_name(parent, name);
    }

    /// A new name for a node, which replaces what the name meant before.
    pub(crate) fn add_name(&self, parent: Ino, name: &OsStr, ino: Ino) {
        let mut nodes = self.nodes.lock();
        nodes.set_name(parent, name, ino);
        if let Some(node) = nodes.by_ino.get_mut(&ino) {
            node.pin = None;
        }
    }

    /// The two names were exchanged, as `RENAME_EXCHANGE` of rename(2) does.
    pub(crate) fn exchange(&self, a: (Ino, &OsStr), b: (Ino, &OsStr)) {
        let mut nodes = self.nodes.lock();
        let at = |nodes: &Nodes<B>, (parent, name): (Ino, &OsStr)| {
            nodes
                .by_ino
                .get(&parent)
                .and_then(|p| p.children.get(name))
                .copied()
        };
        let (of_a, of_b) = (at(&nodes, a), at(&nodes, b));
        nodes.clear_name(a.0, a.1);
        nodes.clear_name(b.0, b.1);
        if let Some(ino) = of_b {
            nodes.set_name(a.0, a.1, ino);
        }
        if let Some(ino) = of_a {
            nodes.set_name(b.0, b.1, ino);
        }
    }

    /// A file of this node is being opened: the state that its open files share.
    pub(crate) fn open(&self, ino: Ino, writes: bool) -> Option<Arc<Mutex<Opened<B>>>> {
        let mut nodes = self.nodes.lock();
        let node = nodes.by_ino.get_mut(&ino)?;
        node.n_open += 1;
        node.n_writers += usize::from(writes);
        let opened = node.opened.get_or_insert_with(|| {
            Arc::new(Mutex::new(Opened {
                backing: Weak::new(),
                n_cached: 0,
                fds: Vec::new(),
                pages: None,
            }))
        });
        Some(opened.clone())
    }

    /// A file of this node was closed.
    pub(crate) fn close(&self, ino: Ino, writes: bool) -> Forgotten {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.by_ino.get_mut(&ino) {
            node.n_open -= 1;
            node.n_writers -= usize::from(writes);
        }
        nodes.drop_unused(ino)
    }

    /// The state that open files of the node share, if it was ever opened.
    pub(crate) fn opened(&self, ino: Ino) -> Option<Arc<Mutex<Opened<B>>>> {
        self.nodes.lock().by_ino.get(&ino)?.opened.clone()
    }

    /// A descriptor of any open file of the node.
    pub(crate) fn open_fd(&self, ino: Ino) -> Option<Arc<OwnedFd>> {
        self.opened(ino)?.lock().fds.iter().find_map(Weak::upgrade)
    }

    /// Whether somebody has the node open for writing.
    pub(crate) fn is_written(&self, ino: Ino) -> bool {
        self.nodes
            .lock()
            .by_ino
            .get(&ino)
            .is_some_and(|node| node.n_writers > 0)
    }

    /// Backing path of a name, `None` when a directory on the way has lost its own.
    pub(crate) fn path(&self, parent: Ino, name: &OsStr) -> Option<PathBuf> {
        let nodes = self.nodes.lock();
        nodes.path(&self.root, parent).map(|dir| dir.join(name))
    }

    /// Backing paths of a node, one a known name.
    pub(crate) fn paths(&self, ino: Ino) -> Vec<PathBuf> {
        let nodes = self.nodes.lock();
        if ino == ROOT {
            return vec![self.root.clone()];
        }
        let Some(node) = nodes.by_ino.get(&ino) else {
            return Vec::new();
        };
        let path = |n: &Name| {
            nodes
                .path(&self.root, n.parent)
                .map(|dir| dir.join(&*n.name))
        };
        node.names.iter().filter_map(path).collect()
    }
}

/// Numbers that left the table, with the pins they had; whatever is remembered under them elsewhere must go
/// too. Closing a pin can free a big file, which is not to be done under the table's lock.
pub(crate) type Forgotten = Vec<(Ino, Option<Arc<OwnedFd>>)>;

impl<B> Nodes<B> {
    fn number(&mut self, identity: Identity, root_dev: (u32, u32)) -> Ino {
        let object = (identity.dev, identity.ino);
        if let Some(&ino) = self.by_object.get(&object) {
            if self
                .by_ino
                .get(&ino)
                .is_some_and(|node| node.identity == identity)
            {
                return ino;
            }
        }
        let own = identity.dev == root_dev
            && (ROOT + 1..FIRST_SPARE).contains(&identity.ino)
            && !self.by_ino.contains_key(&identity.ino);
        let ino = if own {
            identity.ino
        } else {
            self.next_spare += 1;
            self.next_spare
        };
        self.by_object.insert(object, ino);
        self.by_ino.insert(ino, Node::new(identity));
        ino
    }

    fn set_name(&mut self, parent: Ino, name: &OsStr, ino: Ino) {
        let Some(dir) = self.by_ino.get(&parent) else {
            return;
        };
        if dir.children.get(name) == Some(&ino) {
            return;
        }
        self.clear_name(parent, name);
        let name: Arc<OsStr> = name.into();
        if let Some(node) = self.by_ino.get_mut(&ino) {
            node.names.push(Name {
                parent,
                name: name.clone(),
            });
        }
        if let Some(dir) = self.by_ino.get_mut(&parent) {
            dir.children.insert(name, ino);
        }
    }

    fn clear_name(&mut self, parent: Ino, name: &OsStr) {
        let Some(dir) = self.by_ino.get_mut(&parent) else {
            return;
        };
        let Some(ino) = dir.children.remove(name) else {
            return;
        };
        if let Some(node) = self.by_ino.get_mut(&ino) {
            node.names
                .retain(|n| n.parent != parent || &*n.name != name);
        }
    }

    /// Drops the node when nothing needs it, and then the parents that it was the last to need.
    fn drop_unused(&mut self, ino: Ino) -> Forgotten {
        let mut gone = Vec::new();
        let mut doubtful = vec![ino];
        while let Some(ino) = doubtful.pop() {
            let Some(node) = self.by_ino.get(&ino) else {
                continue;
            };
            if node.n_lookups > 0 || node.n_open > 0 || !node.children.is_empty() {
                continue;
            }
            let Some(node) = self.by_ino.remove(&ino) else {
                continue;
            };
            let object = (node.identity.dev, node.identity.ino);
            if self.by_object.get(&object) == Some(&ino) {
                self.by_object.remove(&object);
            }
            for Name { parent, name } in node.names {
                if let Some(dir) = self.by_ino.get_mut(&parent) {
                    dir.children.remove(&name);
                    doubtful.push(parent);
                }
            }
            gone.push((ino, node.pin));
        }
        gone
    }

    fn path(&self, root: &std::path::Path, dir: Ino) -> Option<PathBuf> {
        let mut names = Vec::new();
        let mut at = dir;
        while at != ROOT {
            let name = self.by_ino.get(&at)?.names.last()?;
            names.push(&*name.name);
            at = name.parent;
            // A directory that was moved behind our back can make the table believe in a circle.
            if names.len() > MAX_DEPTH {
                return None;
            }
        }
        let mut path = root.to_owned();
        path.extend(names.into_iter().rev());
        Some(path)
    }
}

/// More components than `PATH_MAX` bytes can hold.
const MAX_DEPTH: usize = 4096;

#[cfg(test)]
mod tests;
