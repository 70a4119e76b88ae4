//! What is at each name while the command runs: the tree before it, and every change that strace saw.
//! Walks paths as path_resolution(7) says; written apart from the tracer's own walk, to be compared with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Absent,
    File,
    Dir,
    Link(PathBuf),
    /// A device, fifo or socket.
    Other,
}

/// Where a walk ended.
#[derive(Clone, Debug)]
pub struct Walk {
    pub path: PathBuf,
    pub links: Vec<PathBuf>,
    pub node: Node,
    /// It did not get as far as the last name.
    pub broken: bool,
}

/// All names below one directory, and the real ones elsewhere.
#[derive(Clone, Debug)]
pub struct Names {
    root: PathBuf,
    known: BTreeMap<PathBuf, Node>,
}

impl Names {
    /// The names below `root` as they are now.
    pub fn of(root: &Path) -> Self {
        let mut known = BTreeMap::new();
        collect(root, &mut known);
        Self {
            root: root.to_owned(),
            known,
        }
    }

    pub fn at(&self, path: &Path) -> Node {
        match self.known.get(path) {
            Some(node) => node.clone(),
            None if path.starts_with(&self.root) => Node::Absent,
            None => real(path),
        }
    }

    pub fn set(&mut self, path: &Path, node: Node) {
        self.known.insert(path.to_owned(), node);
    }

    /// All names below a directory.
    pub fn below(&self, dir: &Path) -> Vec<PathBuf> {
        let all = self.known.iter().filter(|(_, node)| **node != Node::Absent);
        let below = all
            .map(|(path, _)| path)
            .filter(|path| path.starts_with(dir) && *path != dir);
        below.cloned().collect()
    }

    /// Moves a name and all below it.
    pub fn rename(&mut self, from: &Path, to: &Path) {
        let node = self.at(from);
        for old in self.below(from) {
            let node = self.at(&old);
            self.set(&to.join(old.strip_prefix(from).unwrap()), node);
            self.set(&old, Node::Absent);
        }
        self.set(to, node);
        self.set(from, Node::Absent);
    }

    /// Walks `text` from `base`; `follow`: through a link in the last name as well.
    pub fn walk(&self, base: &Path, text: &str, follow: bool) -> Walk {
        let mut todo: Vec<PathBuf> = split(Path::new(text));
        let slash = text.ends_with('/');
        let mut at = if text.starts_with('/') {
            PathBuf::from("/")
        } else {
            base.to_owned()
        };
        let mut links = Vec::new();
        while let Some(name) = todo.pop() {
            if name == Path::new("..") {
                at.pop();
                continue;
            }
            at.push(name);
            let last = todo.is_empty();
            let node = self.at(&at);
            match &node {
                Node::Link(target) if !last || follow || slash => {
                    links.push(at.clone());
                    if links.len() > 40 {
                        return Walk {
                            path: at,
                            links,
                            node,
                            broken: true,
                        };
                    }
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    } else {
                        at.pop();
                    }
                    todo.extend(split(target));
                }
                Node::Dir if !last => {}
                Node::Absent | Node::File | Node::Dir | Node::Link(_) | Node::Other => {
                    let broken = !last || (slash && !matches!(node, Node::Dir | Node::Absent));
                    return Walk {
                        path: at,
                        links,
                        node,
                        broken,
                    };
                }
            }
        }
        Walk {
            path: at,
            links,
            node: Node::Dir,
            broken: false,
        }
    }
}

/// The names of a path, last first.
fn split(path: &Path) -> Vec<PathBuf> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    let mut names: Vec<_> = path.components().filter_map(name).collect();
    names.reverse();
    names
}

fn collect(path: &Path, known: &mut BTreeMap<PathBuf, Node>) {
    let node = real(path);
    if node == Node::Dir {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), known);
        }
    }
    known.insert(path.to_owned(), node);
}

fn real(path: &Path) -> Node {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Node::Absent;
    };
    let kind = meta.file_type();
    if kind.is_symlink() {
        Node::Link(fs::read_link(path).unwrap())
    } else if kind.is_dir() {
        Node::Dir
    } else if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device()
    {
        Node::Other
    } else {
        Node::File
    }
}
