//! Names and their ids: a prefix tree. A name is any bytes.
//!
//! A node of the tree is a block of the heap: parent (u32), id of the name that ends here (u32, 0 for
//! none), length of the chunk (u8), unused (u8), number of children (u16); the first bytes of the
//! children, in room for as many as [`room`] says; the chunk; the addresses of the children (u32 each).
//! The chunk is what all names below share after the byte that led here.

use super::Error;
use super::heap::Heap;
use super::layout::{PAGE, u32_at};
use super::pages::{Pages, PagesMut};
use super::table::Table;

/// Bytes of a node before its children's first bytes.
const HEAD: usize = 12;
/// Bytes of a chunk, at most.
const MAX_CHUNK: usize = 255;
/// Nodes on the way up from a name, at most: more are a circle.
const MAX_DEPTH: usize = 1 << 20;

/// Where the names lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) tree: Heap,
    /// By id: address of the node in which the name ends.
    pub(super) nodes: Table,
}

impl Names {
    /// The id of a name.
    pub(super) fn find(self, pages: &impl Pages, name: &[u8]) -> Result<Option<u32>, Error> {
        let mut address = self.root(pages)?;
        let mut rest = name;
        while address != 0 {
            let node = self.view(pages, address)?;
            let Some(after) = rest.strip_prefix(node.chunk) else {
                return Ok(None);
            };
            let Some((first, after)) = after.split_first() else {
                return Ok((node.id != 0).then_some(node.id));
            };
            let Some(child) = node.child(*first) else {
                return Ok(None);
            };
            (address, rest) = (child, after);
        }
        Ok(None)
    }

    /// The name of an id.
    pub(super) fn name(self, pages: &impl Pages, id: u32) -> Result<Vec<u8>, Error> {
        let mut address = u32_at(self.nodes.get(pages, id)?, 0);
        let mut node = self.view(pages, address)?;
        if node.id != id {
            return Err(pages.damaged(self.tree.segment, u64::from(address) * 8, "another name"));
        }
        let mut reversed = Vec::new();
        for _ in 0..MAX_DEPTH {
            reversed.extend(node.chunk.iter().rev());
            if node.parent == 0 {
                reversed.reverse();
                return Ok(reversed);
            }
            let parent = self.view(pages, node.parent)?;
            let key = parent.key_of(address).ok_or_else(|| {
                pages.damaged(self.tree.segment, u64::from(address) * 8, "a lost child")
            })?;
            reversed.push(key);
            (address, node) = (node.parent, parent);
        }
        Err(pages.damaged(self.tree.segment, 0, "names in a circle"))
    }

    /// What the directory of an id's name is known by: the node in which its last slash is, and how much of that
    /// node's bytes are before the end of it. Equal for names of one directory, as long as nothing is written.
    pub(super) fn directory(self, pages: &impl Pages, id: u32) -> Result<(u32, u8), Error> {
        let mut address = u32_at(self.nodes.get(pages, id)?, 0);
        let mut node = self.view(pages, address)?;
        for _ in 0..MAX_DEPTH {
            if let Some(at) = node.chunk.iter().rposition(|byte| *byte == b'/') {
                return Ok((address, u8::try_from(at + 1).unwrap_or(u8::MAX)));
            }
            if node.parent == 0 {
                return Ok((0, 0));
            }
            let parent = self.view(pages, node.parent)?;
            let key = parent.key_of(address).ok_or_else(|| {
                pages.damaged(self.tree.segment, u64::from(address) * 8, "a lost child")
            })?;
            if key == b'/' {
                return Ok((address, 0));
            }
            (address, node) = (node.parent, parent);
        }
        Err(pages.damaged(self.tree.segment, 0, "names in a circle"))
    }

    /// The names that begin with some bytes, with their ids.
    pub(super) fn beginning(
        self,
        pages: &impl Pages,
        start: &[u8],
    ) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        let mut found = Vec::new();
        let mut next = Vec::new();
        let root = self.root(pages)?;
        if root != 0 {
            next.push((0, root, Vec::new()));
        }
        while let Some((parent, address, mut name)) = next.pop() {
            let node = self.view(pages, address)?;
            let lost = || pages.damaged(self.tree.segment, u64::from(address) * 8, "a lost child");
            // Who has one parent, and is one child of it, is met once.
            if node.parent != parent {
                return Err(lost());
            }
            name.extend_from_slice(node.chunk);
            if common_prefix(&name, start) < name.len().min(start.len()) {
                continue;
            }
            if node.id != 0 && name.len() >= start.len() {
                found.push((node.id, name.clone()));
            }
            for (key, child) in node.keys.iter().zip(node.children.chunks_exact(4)) {
                let child = u32_at(child, 0);
                if node.key_of(child) != Some(*key) {
                    return Err(lost());
                }
                if start.get(name.len()).is_none_or(|wanted| wanted == key) {
                    let mut name = name.clone();
                    name.push(*key);
                    next.push((address, child, name));
                }
            }
        }
        Ok(found)
    }

    /// The id of a name, which is added if it is new.
    pub(super) fn intern(self, pages: &mut impl PagesMut, name: &[u8]) -> Result<u32, Error> {
        let root = self.root(pages)?;
        if root == 0 {
            let (address, id) = self.add_leaf(pages, 0, name)?;
            self.tree.put_cell(pages, u64::from(address))?;
            return Ok(id);
        }
        let (mut address, mut rest) = (root, name);
        loop {
            let node = self.view(pages, address)?;
            let common = common_prefix(node.chunk, rest);
            if common < node.chunk.len() {
                return self.split(pages, address, common, &rest[common..]);
            }
            let Some((first, after)) = rest[common..].split_first() else {
                if node.id != 0 {
                    return Ok(node.id);
                }
                let id = self.new_id(pages, address)?;
                pages.put_u32(self.tree.segment, u64::from(address) * 8 + 4, id)?;
                return Ok(id);
            };
            if let Some(child) = node.child(*first) {
                (address, rest) = (child, after);
                continue;
            }
            let mut node = Node::of(&node);
            let (first, after) = (*first, after.to_vec());
            // The child must know its parent, which may move to grow.
            let place = self.place(pages, address, node.size(), node.size_with_one_more())?;
            let (child, id) = self.add_leaf(pages, place, &after)?;
            node.children.push((first, child));
            self.store(pages, address, place, &node)?;
            return Ok(id);
        }
    }

    /// Cuts a node in two after `at` bytes of its chunk, and adds a name that goes on with `rest` there.
    fn split(
        self,
        pages: &mut impl PagesMut,
        address: u32,
        at: usize,
        rest: &[u8],
    ) -> Result<u32, Error> {
        let mut lower = Node::of(&self.view(pages, address)?);
        let old_size = lower.size();
        let mut upper = Node {
            parent: lower.parent,
            id: 0,
            chunk: lower.chunk[..at].to_vec(),
            children: Vec::new(),
        };
        let n_children = 1 + usize::from(!rest.is_empty());
        let upper_at = self
            .tree
            .alloc(pages, size_of(upper.chunk.len(), n_children))?;
        let first = lower.chunk[at];
        lower.chunk.drain(..=at);
        lower.parent = upper_at;
        let lower_at = self.place(pages, address, old_size, lower.size())?;
        upper.children.push((first, lower_at));
        let id = match rest.split_first() {
            None => {
                upper.id = self.new_id(pages, upper_at)?;
                upper.id
            }
            Some((first, after)) => {
                let (leaf, id) = self.add_leaf(pages, upper_at, after)?;
                upper.children.push((*first, leaf));
                id
            }
        };
        self.tree.put(pages, upper_at, &upper.encode())?;
        // Whoever led to the node now leads to its upper half.
        self.lead(pages, upper.parent, address, upper_at)?;
        self.tree.put(pages, lower_at, &lower.encode())?;
        if lower_at != address {
            self.moved(pages, lower_at, &lower)?;
        }
        Ok(id)
    }

    /// Where a node of `old` bytes is to lie when it has `new` bytes. The old block is given back if it
    /// moves.
    fn place(
        self,
        pages: &mut impl PagesMut,
        address: u32,
        old: usize,
        new: usize,
    ) -> Result<u32, Error> {
        if old == new {
            return Ok(address);
        }
        // The new block first: what is in the old one is in memory already.
        let place = self.tree.alloc(pages, new)?;
        self.tree.free(pages, address, old)?;
        Ok(place)
    }

    /// Writes a node to its place, and tells its neighbours if it is a new one.
    fn store(
        self,
        pages: &mut impl PagesMut,
        old: u32,
        new: u32,
        node: &Node,
    ) -> Result<(), Error> {
        self.tree.put(pages, new, &node.encode())?;
        if old != new {
            self.lead(pages, node.parent, old, new)?;
            self.moved(pages, new, node)?;
        }
        Ok(())
    }

    /// Makes the parent's pointer to `old` one to `new`.
    fn lead(self, pages: &mut impl PagesMut, parent: u32, old: u32, new: u32) -> Result<(), Error> {
        if parent == 0 {
            return self.tree.put_cell(pages, u64::from(new));
        }
        let node = self.view(pages, parent)?;
        let damaged = || pages.damaged(self.tree.segment, u64::from(parent) * 8, "a lost child");
        let index = node.index_of(old).ok_or_else(damaged)?;
        let at = children_at(node.chunk.len(), node.keys.len()) + index * 4;
        pages.put_u32(self.tree.segment, u64::from(parent) * 8 + at as u64, new)
    }

    /// Tells the children and the id of a node where it lies now.
    fn moved(self, pages: &mut impl PagesMut, address: u32, node: &Node) -> Result<(), Error> {
        for (_, child) in &node.children {
            pages.put_u32(self.tree.segment, u64::from(*child) * 8, address)?;
        }
        if node.id != 0 {
            self.nodes.put(pages, node.id, 0, &address.to_le_bytes())?;
        }
        Ok(())
    }

    /// Adds a name that ends after `rest`; gives the address of the first node and the id.
    fn add_leaf(
        self,
        pages: &mut impl PagesMut,
        parent: u32,
        rest: &[u8],
    ) -> Result<(u32, u32), Error> {
        let mut parent = parent;
        let mut rest = rest;
        let mut first = None;
        loop {
            let (chunk, below) = rest.split_at(rest.len().min(MAX_CHUNK));
            let Some((key, after)) = below.split_first() else {
                let address = self.tree.alloc(pages, size_of(chunk.len(), 0))?;
                let id = self.new_id(pages, address)?;
                let leaf = Node {
                    parent,
                    id,
                    chunk: chunk.to_vec(),
                    children: Vec::new(),
                };
                self.tree.put(pages, address, &leaf.encode())?;
                if first.is_some() {
                    self.lead(pages, parent, 0, address)?;
                }
                return Ok((first.unwrap_or(address), id));
            };
            let address = self.tree.alloc(pages, size_of(chunk.len(), 1))?;
            let link = Node {
                parent,
                id: 0,
                chunk: chunk.to_vec(),
                children: vec![(*key, 0)],
            };
            self.tree.put(pages, address, &link.encode())?;
            if first.is_some() {
                self.lead(pages, parent, 0, address)?;
            }
            first = first.or(Some(address));
            (parent, rest) = (address, after);
        }
    }

    fn new_id(self, pages: &mut impl PagesMut, address: u32) -> Result<u32, Error> {
        self.nodes.add(pages, &address.to_le_bytes())
    }

    fn root(self, pages: &impl Pages) -> Result<u32, Error> {
        Ok(u32::try_from(self.tree.cell(pages)?).unwrap_or(0))
    }

    fn view<'p>(self, pages: &'p impl Pages, address: u32) -> Result<View<'p>, Error> {
        let at = u64::from(address) * 8;
        let (page, inside) = pages.place(self.tree.segment, at)?;
        View::of(&page[inside..])
            .ok_or_else(|| pages.damaged(self.tree.segment, at, "no node of the tree"))
    }
}

/// Room for the children of a node that has `n`.
fn room(n: usize) -> usize {
    if n <= 4 {
        return n;
    }
    let e = (n - 1).ilog2() as usize;
    let half = 3 << (e - 1);
    if n <= half { half } else { 2 << e }
}

fn children_at(chunk: usize, n_children: usize) -> usize {
    (HEAD + room(n_children) + chunk).next_multiple_of(4)
}

fn size_of(chunk: usize, n_children: usize) -> usize {
    children_at(chunk, n_children) + 4 * room(n_children)
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A node as it lies in its page.
struct View<'p> {
    parent: u32,
    id: u32,
    chunk: &'p [u8],
    keys: &'p [u8],
    children: &'p [u8],
}

impl<'p> View<'p> {
    /// None if these bytes are no node.
    fn of(bytes: &'p [u8]) -> Option<Self> {
        let head = bytes.get(..HEAD)?;
        let chunk = usize::from(head[8]);
        let n_children = usize::from(u16::from_le_bytes([head[10], head[11]]));
        if n_children > 256 {
            return None;
        }
        let keys_end = HEAD + room(n_children);
        let children = children_at(chunk, n_children);
        Some(Self {
            parent: u32_at(head, 0),
            id: u32_at(head, 4),
            keys: bytes.get(HEAD..HEAD + n_children)?,
            chunk: bytes.get(keys_end..keys_end + chunk)?,
            children: bytes.get(children..children + 4 * n_children)?,
        })
    }

    fn child(&self, first: u8) -> Option<u32> {
        let index = self.keys.iter().position(|key| *key == first)?;
        Some(u32_at(self.children, index * 4))
    }

    fn index_of(&self, child: u32) -> Option<usize> {
        self.children
            .chunks_exact(4)
            .position(|bytes| u32_at(bytes, 0) == child)
    }

    fn key_of(&self, child: u32) -> Option<u8> {
        self.keys.get(self.index_of(child)?).copied()
    }
}

/// A node to be written.
struct Node {
    parent: u32,
    id: u32,
    chunk: Vec<u8>,
    children: Vec<(u8, u32)>,
}

impl Node {
    fn of(view: &View<'_>) -> Self {
        let children = view.children.chunks_exact(4).map(|bytes| u32_at(bytes, 0));
        Self {
            parent: view.parent,
            id: view.id,
            chunk: view.chunk.to_vec(),
            children: view.keys.iter().copied().zip(children).collect(),
        }
    }

    fn size(&self) -> usize {
        size_of(self.chunk.len(), self.children.len())
    }

    fn size_with_one_more(&self) -> usize {
        size_of(self.chunk.len(), self.children.len() + 1)
    }

    fn encode(&self) -> Vec<u8> {
        let n_children = self.children.len();
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend_from_slice(&self.parent.to_le_bytes());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.push(u8::try_from(self.chunk.len()).expect("BUG: chunks are cut"));
        bytes.push(0);
        let count = u16::try_from(n_children).expect("BUG: one child a byte");
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend(self.children.iter().map(|(key, _)| key));
        bytes.resize(HEAD + room(n_children), 0);
        bytes.extend_from_slice(&self.chunk);
        bytes.resize(children_at(self.chunk.len(), n_children), 0);
        for (_, child) in &self.children {
            bytes.extend_from_slice(&child.to_le_bytes());
        }
        bytes.resize(self.size(), 0);
        bytes
    }
}

const _: () = assert!(HEAD + 256 + MAX_CHUNK + 4 * 256 + 8 < PAGE);
