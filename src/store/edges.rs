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

/// A part of a dep vector, which several may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Piece(u32);

/// Tells of what pieces the dep vectors of executions are, and what is in them.
#[derive(Debug, Default)]
pub struct Pieces {
    shapes: Shapes,
}

impl Pieces {
    /// Those of an execution.
    ///
    /// # Errors
    /// Damage.
    pub fn of(
        pages: &impl Pages,
        execution: Execution,
    ) -> Result<impl Iterator<Item = Piece>, Error> {
        let list = deps::list(pages, u32_at(live(pages, execution)?, DEPS))?;
        let n_pieces = list.len() / 4;
        Ok((0..n_pieces).map(move |index| Piece(u32_at(&list, index * 4))))
    }

    /// Gives the names that are meant in a piece. Whether several executions have it.
    ///
    /// # Errors
    /// Damage.
    pub fn each(
        &mut self,
        pages: &impl Pages,
        piece: Piece,
        look: Look,
        mut take: impl FnMut(Node),
    ) -> Result<bool, Error> {
        let n_users = deps::each(pages, piece.0, &mut self.shapes, |name, access| {
            if look.is_of(access) {
                take(Node(name));
            }
        })?;
        Ok(n_users > 1)
    }
}

/// Tells what executions read, of all names or of some. Looks at each piece of their dep vectors that several have once.
#[derive(Debug, Default)]
pub struct Reads<'a> {
    among: Option<&'a Nodes>,
    known: HashMap<(Piece, Look), Vec<Node>>,
    pieces: Pieces,
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
        for piece in Pieces::of(pages, execution)? {
            if let Some(known) = self.known.get(&(piece, look)) {
                found.extend_from_slice(known);
                continue;
            }
            let first = found.len();
            let among = self.among;
            let is_shared = self.pieces.each(pages, piece, look, |node| {
                if among.is_none_or(|names| names.has(node)) {
                    found.push(node);
                }
            })?;
            if is_shared {
                self.known.insert((piece, look), found[first..].to_vec());
            }
        }
        Ok(())
    }
}
