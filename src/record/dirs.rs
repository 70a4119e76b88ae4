//! Directories that were there before a step, and in which it changed names: what their time stamps are then.
//!
//! Such a directory is no output, or two steps that write into one would be rivals. But make(1) and `-nt` can
//! see how old it is, beside what the step left.

use super::fold::{Pending, TICK, input};
use super::step::{Entry, Step, Wrote};
use crate::base::{Access, Name, Output, PathId, Seen, Stamp, Touched};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The directories of the workspace that the step touched, and that nobody touched since, with their time
/// stamps. Those that are outputs have time stamps as such. `finals`, `name`, `stamp`: as told to
/// [`fold`](super::fold()); `span`: how long the step took, in ns.
///
/// Where steps change names in one directory side by side, whose time stamp it has is chance: it is left out.
pub(super) fn touched(
    step: &Step,
    finals: &HashMap<PathId, Arc<Seen>>,
    outputs: &[(Output, Pending)],
    name: &impl Fn(PathId) -> Name,
    stamp: &impl Fn(PathId, u32) -> Option<i64>,
    span: i64,
) -> Vec<(Touched, i64)> {
    let start = step.started.1;
    let own = start.saturating_sub(TICK)..=start.saturating_add(span);
    let stamped = outputs
        .iter()
        .filter(|(output, _)| output.stamp != Stamp::Keep);
    let stamped: HashSet<PathId> = stamped.map(|(_, pending)| pending.id).collect();
    let mut dirs: Vec<(Touched, i64)> = step
        .changed_in
        .iter()
        .filter(|(id, inside)| inside.named > 0 && !stamped.contains(id))
        .filter_map(|(id, inside)| {
            let name = Some(name(*id)).filter(Name::inside)?;
            let mtime = stamp(*id, inside.named).filter(|mtime| own.contains(mtime))?;
            let mut entries = inside.paths.iter().filter_map(|id| {
                let entry = step.paths.get(id)?;
                Some((entry, finals.get(id)?.as_ref()))
            });
            let dir = Touched {
                name,
                rank: 0,
                always: inside.unknown || entries.any(|(entry, after)| names_anyway(entry, after)),
            };
            Some((dir, mtime))
        })
        .collect();
    dirs.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    dirs
}

/// Whether the step made, removed or replaced a name where it would have done so as well if the file had
/// been there before, or had not.
fn names_anyway(entry: &Entry, after: &Seen) -> bool {
    entry.wrote.any(Wrote::NAME) && input(entry, Some(after)) != Some(Access::OVER)
}
