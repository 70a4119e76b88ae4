//! Whether what a record says of the world still holds. The one place that decides staleness; the reason
//! of a miss comes out of the same walk.

use crate::base::{Access, Change, Dep, Digest, Kind, Miss, Name, Record, Stdin};
use crate::world::{Look, World, listing};
use std::path::Path;

/// A record that may be served, with the looks that said so, one a dep.
#[derive(Debug)]
pub struct Match {
    /// The record.
    pub record: Record,
    /// What was seen of each dep.
    pub looks: Vec<Look>,
}

/// Finds the first of some records that holds now. `stdin` tells whether what one read from its standard
/// input is there again.
///
/// # Errors
/// The first difference from the first record.
pub fn lookup(
    records: Vec<Record>,
    world: &World,
    stdin: impl Fn(&Stdin) -> bool,
) -> Result<Match, Miss> {
    let mut miss = Miss::Unknown;
    for record in records {
        let held = if stdin(&record.stdin) {
            holds(&record, world)
        } else {
            Err((
                Name::of(Path::new("/dev/stdin"), world.root()),
                Change::Content,
            ))
        };
        match held {
            Ok(looks) => return Ok(Match { record, looks }),
            Err((name, change)) if miss == Miss::Unknown => miss = Miss::Changed(name, change),
            Err(_) => (),
        }
    }
    Err(miss)
}

/// Checks every dep of a record.
fn holds(record: &Record, world: &World) -> Result<Vec<Look>, (Name, Change)> {
    let now = now();
    let mut looks = Vec::with_capacity(record.deps.len());
    let mut order: Vec<(u32, i64, usize)> = Vec::new();
    for (index, dep) in record.deps.iter().enumerate() {
        let look = check(dep, world).map_err(|change| (dep.name.clone(), change))?;
        if dep.rank != 0 {
            order.push((dep.rank, look.seen.id.mtime, index));
        }
        looks.push(look);
    }
    order.sort_unstable();
    for pair in order.windows(2) {
        let ((rank, time, _), (rank2, time2, index)) = (pair[0], pair[1]);
        let same = if rank == rank2 {
            rank == u32::MAX || time == time2
        } else {
            time < time2
        };
        if !same {
            return Err((record.deps[index].name.clone(), Change::TimeOrder));
        }
    }
    match order
        .iter()
        .find(|(rank, time, _)| (*rank == u32::MAX) != (*time > now))
    {
        Some((_, _, index)) => Err((record.deps[*index].name.clone(), Change::TimeOrder)),
        None => Ok(looks),
    }
}

fn check(dep: &Dep, world: &World) -> Result<Look, Change> {
    let path = dep.name.at(world.root());
    let look = world.look(&path);
    let seen = &look.seen;
    // What stat(2) alone tells comes first: reading is dear.
    let cheap = dep.access.without(Access::REG | Access::LIST);
    let blind = matches!(dep.access, Access::OVER | Access::OUST);
    let state = seen.state(cheap, None).map_err(Change::Unreadable)?;
    let first = if blind { dep.access } else { cheap };
    if let Some(change) = dep.state.change(&state, first) {
        return Err(change);
    }
    if dep.access.has(Access::REG) && seen.kind == Kind::File {
        world.digest(&path, seen).map_err(Change::Unreadable)?;
    }
    let mut names: Option<Digest> = None;
    if dep.access.has(Access::LIST) && seen.kind == Kind::Dir {
        let listed = listing::read(&path, world.root())
            .map_err(|error| Change::Unreadable(error.raw_os_error().unwrap_or(libc::EIO)))?;
        names = Some(listing::digest(&listed));
    }
    let state = seen.state(dep.access, names).map_err(Change::Unreadable)?;
    match dep.state.change(&state, dep.access) {
        Some(change) => Err(change),
        None => Ok(look),
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}
