//! The edges of the graph by numbers: what an execution writes, and which of some names it reads. For
//! questions about thousands of executions, whose records are too dear to decode.

use super::Error;
use super::deps::{self, Shapes};
use super::history::{self, DEPS, Execution, live};
use super::layout::u32_at;
use super::nodes::Node;
use super::pages::Pages;
use crate::base::Access;
use std::collections::{HashMap, HashSet};

/// The names that an execution writes, in the order of its outputs.
///
/// # Errors
/// Damage.
pub fn writes(pages: &impl Pages, execution: Execution) -> Result<Vec<Node>, Error> {
    let names = history::outputs(pages, execution)?;
    Ok(names.into_iter().map(Node).collect())
}

/// Tells which of some names executions read. Looks at each piece of their dep vectors once.
#[derive(Debug)]
pub struct Among {
    names: HashSet<u32>,
    pieces: HashMap<u32, Vec<Node>>,
    shapes: Shapes,
}

impl Among {
    /// Those of these names.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = Node>) -> Self {
        Self {
            names: names.into_iter().map(|name| name.0).collect(),
            pieces: HashMap::new(),
            shapes: Shapes::default(),
        }
    }

    /// Those that an execution reads, in the order of its deps.
    ///
    /// # Errors
    /// Damage.
    pub fn reads(&mut self, pages: &impl Pages, execution: Execution) -> Result<Vec<Node>, Error> {
        let mut found = Vec::new();
        for piece in deps::pieces(pages, u32_at(live(pages, execution)?, DEPS))? {
            if let Some(known) = self.pieces.get(&piece) {
                found.extend_from_slice(known);
                continue;
            }
            let mut here = Vec::new();
            let names = &self.names;
            deps::each(pages, piece, &mut self.shapes, |name, _| {
                if names.contains(&name) {
                    here.push(Node(name));
                }
            })?;
            found.extend_from_slice(&here);
            self.pieces.insert(piece, here);
        }
        Ok(found)
    }
}

/// Tells what executions read. Looks at each piece of their dep vectors once.
#[derive(Debug, Default)]
pub struct Inputs {
    pieces: HashMap<(u32, bool), Vec<Node>>,
    shapes: Shapes,
}

impl Inputs {
    /// Files and links that were there and whose content an execution read, in the order of its deps; `all`:
    /// whatever was there and it looked at.
    ///
    /// # Errors
    /// Damage.
    pub fn read_by(
        &mut self,
        pages: &impl Pages,
        execution: Execution,
        all: bool,
    ) -> Result<Vec<Node>, Error> {
        let mut found = Vec::new();
        for piece in deps::pieces(pages, u32_at(live(pages, execution)?, DEPS))? {
            if let Some(known) = self.pieces.get(&(piece, all)) {
                found.extend_from_slice(known);
                continue;
            }
            let mut here = Vec::new();
            deps::each(pages, piece, &mut self.shapes, |name, access| {
                if access.any(Access::REG | Access::LNK) || (all && access != Access::NONE) {
                    here.push(Node(name));
                }
            })?;
            found.extend_from_slice(&here);
            self.pieces.insert((piece, all), here);
        }
        Ok(found)
    }
}
