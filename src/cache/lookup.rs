//! Whether what a record says of the world still holds. The one place that decides staleness; the reason
//! of a miss comes out of the same walk.

use crate::base::{Access, Cause, Change, Dep, Digest, Kind, Miss, Name, Record, State, Stdin};
pub use crate::world::Look;
use crate::world::{World, listing};
use std::path::Path;
use std::sync::Arc;

/// A record that may be served, with the looks that said so, one a dep.
#[derive(Debug)]
pub struct Match {
    /// The record.
    pub record: Arc<Record>,
    /// What was seen of each dep.
    pub looks: Vec<Look>,
}

/// Finds the first of some records that holds now. `stdin` tells whether what one read from its standard
/// input is there again.
///
/// # Errors
/// The first difference from the record that came closest to holding.
pub fn lookup(
    records: Vec<Arc<Record>>,
    world: &World,
    stdin: impl Fn(&Stdin) -> bool,
) -> Result<Match, Miss> {
    world.hear();
    let mut closest: Option<Difference> = None;
    for record in records {
        let held = if stdin(&record.stdin) {
            holds(&record, world, &|_| false)
        } else {
            let name = Name::of(Path::new("/dev/stdin"), world.root());
            Err(Difference {
                n_held: 0,
                cause: Box::new(Cause::of(name, Change::Content)),
            })
        };
        match held {
            Ok(looks) => return Ok(Match { record, looks }),
            Err(new) if closest.as_ref().is_none_or(|old| old.n_held < new.n_held) => {
                closest = Some(new);
            }
            Err(_) => (),
        }
    }
    Err(closest.map_or(Miss::Unknown, |found| Miss::Changed(found.cause)))
}

/// Whether a record holds, deps that `aside` names left aside: the looks that said so, one for each other dep.
///
/// # Errors
/// The first difference.
pub fn still_holds(
    record: &Record,
    world: &World,
    aside: &dyn Fn(&Name) -> bool,
) -> Result<Vec<Look>, Miss> {
    world.hear();
    holds(record, world, aside).map_err(|found| Miss::Changed(found.cause))
}

/// Where a record ceases to hold.
struct Difference {
    /// Deps that hold.
    n_held: usize,
    cause: Box<Cause>,
}

/// Checks every dep of a record but those that are left aside.
fn holds(
    record: &Record,
    world: &World,
    aside: &dyn Fn(&Name) -> bool,
) -> Result<Vec<Look>, Difference> {
    let difference = |index: usize, n_held: usize, (change, is): (Change, Option<State>)| {
        let dep: &Dep = &record.deps[index];
        let cause = Cause {
            name: dep.name.clone(),
            change,
            was: Some(dep.state.clone()),
            is,
        };
        Difference {
            n_held,
            cause: Box::new(cause),
        }
    };
    let now = now();
    let mut looks = Vec::with_capacity(record.deps.len());
    let mut order: Vec<(u32, i64, usize)> = Vec::new();
    for (index, dep) in record.deps.iter().enumerate() {
        if aside(&dep.name) {
            continue;
        }
        let look = check(dep, world).map_err(|found| difference(index, index, found))?;
        if dep.rank != 0 {
            order.push((dep.rank, look.seen.id.mtime, index));
        }
        looks.push(look);
    }
    order.sort_unstable();
    for pair in order.windows(2) {
        let ((rank, time, _), (rank2, time2, index)) = (pair[0], pair[1]);
        let same = if rank == rank2 {
            time == time2
        } else {
            time < time2
        };
        if !same {
            return Err(difference(
                index,
                record.deps.len(),
                (Change::TimeOrder, None),
            ));
        }
    }
    match order
        .iter()
        .find(|(rank, time, _)| (rank & Dep::FUTURE != 0) != (*time > now))
    {
        Some((_, _, index)) => Err(difference(
            *index,
            record.deps.len(),
            (Change::TimeOrder, None),
        )),
        None => Ok(looks),
    }
}

/// Checks one dep. If it does not hold: how it differs, and what was found.
fn check(dep: &Dep, world: &World) -> Result<Look, (Change, Option<State>)> {
    let path = dep.name.at(world.root());
    let look = world.look(&path);
    let seen = &look.seen;
    let unreadable = |errno| (Change::Unreadable(errno), None);
    // What stat(2) alone tells comes first: reading is dear.
    let cheap = dep.access.without(Access::REG | Access::LIST);
    let blind = matches!(dep.access, Access::OVER | Access::OUST | Access::PEEK);
    let state = seen.state(cheap, None).map_err(unreadable)?;
    let first = if blind { dep.access } else { cheap };
    if let Some(change) = dep.state.change(&state, first) {
        return Err((change, Some(state)));
    }
    if dep.access.has(Access::PLAIN) && world.has_attributes(&path, seen) {
        return Err((Change::Attributes, Some(state)));
    }
    if dep.access.has(Access::REG) && seen.kind == Kind::File {
        world.digest(&path, seen).map_err(unreadable)?;
    }
    let mut names: Option<Digest> = None;
    if dep.access.has(Access::LIST) && seen.kind == Kind::Dir {
        let listed = listing::read(&path, world.root())
            .map_err(|error| unreadable(error.raw_os_error().unwrap_or(libc::EIO)))?;
        names = Some(listing::digest(&listed));
    }
    let state = seen.state(dep.access, names).map_err(unreadable)?;
    match dep.state.change(&state, dep.access) {
        Some(change) => Err((change, Some(state))),
        None => Ok(look),
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}
