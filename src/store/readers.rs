//! Who reads a name, in the store of a workspace.
//!
//! Executions are in groups: 512 with numbers that follow each other, by turns in 64 groups. By id of a name
//! it is noted in which groups somebody has a dep on it, a bit for each; the pieces of those are looked at.
//! Steps of one part of a build have numbers near each other and read the same, so that these are few. Who
//! is forgotten leaves his bit until the store is compacted.

use super::history::{self, DEPS, Execution, live};
use super::layout::{u32_at, u64_at};
use super::nodes::Node;
use super::pages::{Pages, PagesMut};
use super::schema::{EXECUTIONS, NAMES, READERS};
use super::{Error, deps};
use crate::base::Name;
use std::collections::HashMap;

/// Groups of executions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Groups(u64);

impl Groups {
    /// Adds those in which somebody has a dep on a name.
    ///
    /// # Errors
    /// Damage.
    pub fn add(&mut self, pages: &impl Pages, name: Node) -> Result<(), Error> {
        self.0 |= groups(pages, name.0)?;
        Ok(())
    }

    /// Whether an execution may be one that has a dep on one of the names; if not, it has none.
    #[must_use]
    pub fn may_have(self, execution: Execution) -> bool {
        self.0 & group(execution.0) != 0
    }
}

fn group(execution: u32) -> u64 {
    1 << (execution / 512 % 64)
}

/// The executions that have a dep on a name, by number; the newest under each key only, unless `old` ones
/// are wanted too.
///
/// # Errors
/// Damage.
pub fn readers(pages: &impl Pages, name: &Name, old: bool) -> Result<Vec<Execution>, Error> {
    let Some(name) = NAMES.find(pages, name.bytes())? else {
        return Ok(Vec::new());
    };
    let groups = groups(pages, name)?;
    let (mut known, mut shapes) = (HashMap::new(), deps::Shapes::default());
    let mut found = Vec::new();
    for id in 1..=EXECUTIONS.count(pages)? {
        if groups & group(id) == 0 {
            continue;
        }
        let execution = Execution(id);
        if !history::is_there(pages, execution)? {
            continue;
        }
        for piece in deps::pieces(pages, u32_at(live(pages, execution)?, DEPS))? {
            let mentions = match known.get(&piece) {
                Some(mentions) => *mentions,
                None => {
                    let mut mentions = false;
                    let n_users = deps::each(pages, piece, &mut shapes, |other, _| {
                        mentions |= other == name;
                    })?;
                    if n_users > 1 {
                        known.insert(piece, mentions);
                    }
                    mentions
                }
            };
            if mentions {
                // Of the few that do it is asked who is the newest.
                if old || history::newest(pages, execution)? == Some(execution) {
                    found.push(execution);
                }
                break;
            }
        }
    }
    Ok(found)
}

/// Notes of all names that an execution has deps on that it reads them.
///
/// # Errors
/// Damage, or no more room.
pub fn note(pages: &mut impl PagesMut, execution: Execution) -> Result<(), Error> {
    let mut shapes = deps::Shapes::default();
    for piece in deps::pieces(pages, u32_at(live(pages, execution)?, DEPS))? {
        for name in deps::names(pages, piece, &mut shapes)? {
            let groups = groups(pages, name)?;
            let with = groups | group(execution.0);
            if with != groups {
                READERS.set(pages, name, &with.to_le_bytes())?;
            }
        }
    }
    Ok(())
}

fn groups(pages: &impl Pages, name: u32) -> Result<u64, Error> {
    if name > READERS.count(pages)? {
        return Ok(0);
    }
    Ok(u64_at(READERS.get(pages, name)?, 0))
}
