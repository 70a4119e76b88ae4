//! The edges of the graph by numbers: what an execution writes, and what it reads. For questions about
//! thousands of executions, whose records are too dear to decode.

use super::Error;
use super::deps::{self, Shapes};
use super::history::{self, DEPS, Execution, live};
use super::layout::u32_at;
use super::nodes::{self, Node};
use super::pages::Pages;
use crate::base::Access;
use std::collections::HashMap;

/// Gives the names that an execution writes, in the order of its outputs.
///
/// # Errors
/// Damage.
pub fn writes(
    pages: &impl Pages,
    execution: Execution,
    mut take: impl FnMut(Node),
) -> Result<(), Error> {
    history::each_output(pages, execution, |name| take(Node(name)))
}

/// Which deps are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Look {
    /// Files and links that were there and whose content was read.
    Content,
    /// Whatever was there and looked at.
    There,
    /// Whatever was looked at, also where nothing was.
    Any,
}

impl Look {
    fn is_of(self, access: Access) -> bool {
        match self {
            Self::Content => access.any(Access::REG | Access::LNK),
            Self::There => access != Access::NONE,
            Self::Any => true,
        }
    }
}

/// A set of nodes.
#[derive(Debug, Clone)]
pub struct Nodes(Vec<bool>);

impl Nodes {
    /// Without any of those of a store.
    ///
    /// # Errors
    /// Damage.
    pub fn none(pages: &impl Pages) -> Result<Self, Error> {
        Ok(Self(vec![false; nodes::count(pages)? as usize + 1]))
    }

    /// Adds one that the store had when the set was made; whether it is new.
    pub fn add(&mut self, node: Node) -> bool {
        let place = self.0.get_mut(node.0 as usize);
        place.is_some_and(|has| !std::mem::replace(has, true))
    }

    /// Whether one is among them.
    #[must_use]
    pub fn has(&self, node: Node) -> bool {
        self.0.get(node.0 as usize).is_some_and(|has| *has)
    }
}

/// Tells what executions read, of all names or of some. Looks at each piece of their dep vectors that several have once.
#[derive(Debug, Default)]
pub struct Reads<'a> {
    among: Option<&'a Nodes>,
    pieces: HashMap<(u32, Look), Vec<Node>>,
    shapes: Shapes,
}

impl<'a> Reads<'a> {
    /// Of these names only, or of all.
    #[must_use]
    pub fn among(names: Option<&'a Nodes>) -> Self {
        Self {
            among: names,
            ..Self::default()
        }
    }

    /// What an execution reads, in the order of its deps.
    ///
    /// # Errors
    /// Damage.
    pub fn of(
        &mut self,
        pages: &impl Pages,
        execution: Execution,
        look: Look,
    ) -> Result<Vec<Node>, Error> {
        let mut found = Vec::new();
        self.add(pages, execution, look, &mut found)?;
        Ok(found)
    }

    /// Adds what an execution reads to others.
    ///
    /// # Errors
    /// Damage.
    pub fn add(
        &mut self,
        pages: &impl Pages,
        execution: Execution,
        look: Look,
        found: &mut Vec<Node>,
    ) -> Result<(), Error> {
        let list = deps::list(pages, u32_at(live(pages, execution)?, DEPS))?;
        for piece in list.chunks_exact(4).map(|piece| u32_at(piece, 0)) {
            if let Some(known) = self.pieces.get(&(piece, look)) {
                found.extend_from_slice(known);
                continue;
            }
            let first = found.len();
            let among = self.among;
            let n_users = deps::each(pages, piece, &mut self.shapes, |name, access| {
                let node = Node(name);
                if look.is_of(access) && among.is_none_or(|names| names.has(node)) {
                    found.push(node);
                }
            })?;
            if n_users > 1 {
                self.pieces.insert((piece, look), found[first..].to_vec());
            }
        }
        Ok(())
    }
}
