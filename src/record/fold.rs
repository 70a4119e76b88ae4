//! From a step that has ended to its record. The same walk for every step, whatever it was.

use super::dirs;
use super::step::{Entry, Step, Wrote};
use crate::base::{
    Access, Dep, Digest, Kind, Name, Output, PathId, Refusal, Seen, Stamp, State, Touched, What,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// An input of the record, with what is needed to complete it.
#[derive(Debug)]
pub struct Pending {
    /// The path.
    pub id: PathId,
    /// The version whose content is wanted.
    pub seen: Arc<Seen>,
}

/// A record in the making: contents are still to be hashed.
#[derive(Debug)]
pub struct Folded {
    /// Inputs, without digests, with their versions.
    pub deps: Vec<(Dep, Pending)>,
    /// Outputs in the order in which they must be made. A file's digest is zero until it is stored.
    pub outputs: Vec<(Output, Pending)>,
    /// Directories that are no outputs and have other time stamps afterwards.
    pub dirs: Vec<Touched>,
    /// Outputs whose extended attributes were touched: a record cannot hold any.
    pub xattrs: Vec<PathId>,
    /// Inputs that must be the same now as at the first look.
    pub check: Vec<Pending>,
}

/// Folds a step. `now` tells the present state of a path that it changed, `name` its name, `changes` how
/// often the build has changed it so far, `made` whether something was seen to be made there: what a step
/// is about to make it may not get made; `stamp` the time stamp of a directory in which it was the `named`th
/// time that names were changed, if they were not since.
///
/// # Errors
/// Why the step may not be cached.
pub fn fold(
    step: &Step,
    now: impl Fn(PathId) -> Arc<Seen>,
    name: impl Fn(PathId) -> Name,
    changes: impl Fn(PathId) -> u32,
    made: impl Fn(PathId) -> bool,
    stamp: impl Fn(PathId, u32) -> Option<i64>,
) -> Result<Folded, Refusal> {
    let mut entries: Vec<(PathId, &Entry)> = step.paths.iter().map(|(id, e)| (*id, e)).collect();
    entries.sort_by_key(|(id, _)| *id);
    let finals: HashMap<PathId, Arc<Seen>> = entries
        .iter()
        .filter(|(_, entry)| entry.wrote != Wrote::NOTHING)
        .map(|(id, _)| (*id, now(*id)))
        .collect();

    let mut folded = Folded {
        deps: Vec::new(),
        outputs: Vec::new(),
        dirs: Vec::new(),
        xattrs: Vec::new(),
        check: Vec::new(),
    };
    let ranks = ranks(&entries, step.started.1);
    let span = i64::try_from(step.started.0.elapsed().as_nanos()).unwrap_or(i64::MAX);
    folded.outputs = outputs(step, &entries, &finals, &name, span)?;
    let mut touched = dirs::touched(step, &finals, &folded.outputs, &name, &stamp, span);
    rank_stamps(&mut folded.outputs, &mut touched);
    folded.outputs.sort_by_key(|(output, _)| order(output));
    folded.dirs = touched.into_iter().map(|(dir, _)| dir).collect();
    let passed_on = passed_on(&folded.outputs);
    for &(id, entry) in &entries {
        let untouched = entry.wrote == Wrote::NOTHING;
        let theirs = changes(id) != entry.changes.saturating_add(entry.own);
        if !untouched && (theirs || entry.shared) {
            return Err(Refusal(format!(
                "{} was changed by others at the same time",
                name(id)
            )));
        }
        let after = finals.get(&id);
        let gone = after.is_some_and(|after| after.is_absent()) && entry.wrote.content();
        if gone && !entry.wrote.any(Wrote::REMOVED) && (!entry.first.is_absent() || made(id)) {
            return Err(Refusal(format!("{} was removed by others", name(id))));
        }
        let there = after.is_some_and(|after| !after.is_absent());
        if there && entry.wrote.any(Wrote::XATTRS) {
            folded.xattrs.push(id);
        }
        let Some(mut access) = input(entry, after.map(AsRef::as_ref)) else {
            continue;
        };
        if access.has(Access::STAT) && passed_on.iter().any(|copy| is_copy(&entry.first, *copy)) {
            access |= Access::MTIME;
        }
        let vanished = after.is_some_and(|after| after.is_absent()) && entry.first.is_absent();
        if vanished && entry.wrote.any(Wrote::FRESH) && is_random(name(id).bytes()) {
            // Whether a temporary file existed before decided nothing but its name.
            continue;
        }
        let mut state = entry
            .first
            .state(access.without(Access::REG), entry.listed)
            .map_err(|errno| match errno {
                libc::EMLINK => Refusal(format!("{} has other names", name(id))),
                errno => Refusal(format!(
                    "{} could not be looked at (errno {errno})",
                    name(id)
                )),
            })?;
        let file = after.filter(|after| after.kind == Kind::File && access.has(Access::OVER));
        if let Some(after) = file {
            state = State::File {
                mode: after.mode,
                size: 0,
                mtime: 0,
                digest: None,
            };
        }
        let rank = if access.has(Access::ORDER) {
            ranks.get(&id).copied().unwrap_or(0)
        } else {
            0
        };
        let dep = Dep {
            name: name(id),
            access,
            state,
            rank,
        };
        let pending = || Pending {
            id,
            seen: entry.first.clone(),
        };
        if untouched {
            folded.check.push(pending());
        }
        folded.deps.push((dep, pending()));
    }
    folded
        .deps
        .sort_by_key(|(dep, _)| (volatility(dep), dep.name.clone()));
    Ok(folded)
}

/// Time stamps that the step gave its outputs on purpose. An input that [has](is_copy) one of them was copied with
/// it, whatever is known of the program.
fn passed_on(outputs: &[(Output, Pending)]) -> HashSet<i64> {
    let exact = |output: &Output| match output.stamp {
        Stamp::Exact(mtime) => Some(mtime),
        Stamp::Now(_) | Stamp::Keep => None,
    };
    let stamps = outputs.iter().filter_map(|(output, _)| exact(output));
    stamps.collect()
}

/// Whether one who copies time stamps makes `copy`, in ns, of what was there: as it is, or, of a file, with the
/// fractions that NTFS, utimes(2), Java or utime(2) know.
fn is_copy(first: &Seen, copy: i64) -> bool {
    let mtime = first.id.mtime;
    let fractions: [i64; 4] = [100, 1_000, 1_000_000, 1_000_000_000];
    let mut cut = fractions.iter().map(|cut| mtime - mtime.rem_euclid(*cut));
    mtime == copy || (first.kind == Kind::File && cut.any(|mtime| mtime == copy))
}

/// How an entry counts as an input, given what is there now if the step changed it.
pub(super) fn input(entry: &Entry, after: Option<&Seen>) -> Option<Access> {
    let mut access = entry.access;
    if entry.first.kind == Kind::Dir && entry.stats > 0 {
        access |= Access::ORDER;
    }
    if access.has(Access::PEEK) {
        let rest = access.without(Access::PEEK | Access::OVER | Access::OUST);
        let replaced = after.is_some_and(|after| !after.is_absent())
            && entry.wrote.any(Wrote::WHOLE)
            && rest == Access::NONE;
        let into = entry.wrote.any(Wrote::INTO) && !entry.wrote.any(Wrote::REMOVED);
        access = if replaced && into && !access.has(Access::OUST) {
            Access::OVER
        } else if replaced {
            Access::PEEK
        } else {
            rest | Access::STAT
        };
    }
    // What is gone afterwards would stay if it had been there; what is seen otherwise decides as well.
    let left = after.is_some_and(|after| !after.is_absent());
    for blind in [Access::OVER, Access::OUST, Access::PEEK] {
        if access.has(blind) && (access != blind || !left) {
            access = access.without(blind) | Access::KIND | Access::MODE;
        }
    }
    (access != Access::NONE).then_some(access)
}

/// Whether the last name of a path holds characters that mkstemp(3) and the like may have chosen: six or
/// more, with capital letters or digits where a person would not put them. To be wrong about a random name
/// costs an input that is always as it was.
#[must_use]
pub fn is_random(path: &[u8]) -> bool {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    // As Python makes them, in small letters, and cargo, in any.
    let prefixed = |prefix: &[u8], len: usize| name.len() == len && name.starts_with(prefix);
    let known = prefixed(b"tmp", 11) || prefixed(b"target", 12);
    let mixed = |run: &[u8]| {
        let odd = |w: &[u8]| {
            let letter = w[1].is_ascii_alphabetic();
            (w[0].is_ascii_digit() && letter)
                || (w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase())
        };
        run.len() >= 6 && run.windows(2).any(odd)
    };
    known
        || name
            .split(|b| !b.is_ascii_alphanumeric() && *b != b'_')
            .any(mixed)
}

/// What changes most often is looked at first, so that a miss is found early.
fn volatility(dep: &Dep) -> u8 {
    match (dep.name.inside(), &dep.state) {
        (true, State::File { .. }) => 0,
        (true, State::Dir { .. } | State::Link(..) | State::Other(..) | State::Hidden(_)) => 1,
        (true, State::Absent) => 2,
        (false, State::Absent) => 4,
        (false, _) => 3,
    }
}

/// Places in the order of time stamps of all paths whose order was looked at.
fn ranks(entries: &[(PathId, &Entry)], start: i64) -> HashMap<PathId, u32> {
    let mut stamps: BTreeMap<i64, Vec<PathId>> = BTreeMap::new();
    for (id, entry) in entries {
        let dir = entry.first.kind == Kind::Dir;
        let compared = (dir && entry.stats > 0) || (!dir && entry.access.has(Access::ORDER));
        if compared && !entry.first.is_absent() {
            stamps.entry(entry.first.id.mtime).or_default().push(*id);
        }
    }
    let mut ranks = HashMap::new();
    for (rank, (stamp, ids)) in (1..).zip(stamps) {
        for id in ids {
            ranks.insert(
                id,
                if stamp > start {
                    rank | Dep::FUTURE
                } else {
                    rank
                },
            );
        }
    }
    ranks
}

fn outputs(
    step: &Step,
    entries: &[(PathId, &Entry)],
    finals: &HashMap<PathId, Arc<Seen>>,
    name: &impl Fn(PathId) -> Name,
    span: i64,
) -> Result<Vec<(Output, Pending)>, Refusal> {
    let mut found = Vec::new();
    let mut changed: Vec<_> = entries
        .iter()
        .filter_map(|(id, entry)| Some((*id, *entry, finals.get(id)?)))
        .collect();
    changed.sort_by_cached_key(|(id, _, _)| name(*id));
    let objects = Objects::of(entries, &changed, step.started.1, name);
    let there = entries.iter().filter(|(_, entry)| !entry.first.is_absent());
    let old: Stamped = there
        .map(|(_, entry)| (object(&entry.first), entry.first.id.mtime))
        .collect();
    for (id, entry, after) in changed {
        let path = name(id);
        let Some(what) = what(entry, after, &path, &objects, step.started.1)? else {
            continue;
        };
        let stamp = stamp(entry, after, &what, &old, (step.started.1, span));
        let mine = (after.mode[1], after.mode[2]);
        let owner = (!after.is_absent() && mine != step.owner).then_some(mine);
        let output = Output {
            name: path,
            what,
            stamp,
            owner,
        };
        found.push((
            output,
            Pending {
                id,
                seen: after.clone(),
            },
        ));
    }
    Ok(found)
}

/// Files with several names: the name that the others are made from, and how many names are known.
struct Objects(HashMap<(u64, u64), (Name, u64)>);

impl Objects {
    /// A name that stays as it was; else one whose file stays; else the first.
    fn of(
        entries: &[(PathId, &Entry)],
        changed: &[(PathId, &Entry, &Arc<Seen>)],
        start: i64,
        name: &impl Fn(PathId) -> Name,
    ) -> Self {
        let mut objects: HashMap<(u64, u64), (Name, u64)> = HashMap::new();
        let linked = |seen: &Seen| seen.kind == Kind::File && seen.nlink > 1;
        let (staying, new): (Vec<_>, Vec<_>) = changed
            .iter()
            .filter(|(_, _, after)| linked(after))
            .partition(|(_, entry, after)| stays(entry, after, start));
        for (id, _, after) in staying.into_iter().chain(new) {
            objects
                .entry(object(after))
                .or_insert_with(|| (name(id), 0))
                .1 += 1;
        }
        for (id, entry) in entries
            .iter()
            .filter(|(_, entry)| entry.wrote == Wrote::NOTHING)
        {
            if let Some((owner, n_known)) = objects.get_mut(&object(&entry.first)) {
                *owner = name(*id);
                *n_known += 1;
            }
        }
        Self(objects)
    }
}

fn object(seen: &Seen) -> (u64, u64) {
    (seen.id.dev, seen.id.ino)
}

/// Whether the name still names the file it named at first. The number of a file that is gone is used
/// again for a new one, but not one that has not changed since before the step: then a removal or a
/// rename has failed.
fn stays(entry: &Entry, after: &Seen, start: i64) -> bool {
    let old = entry.first.id == after.id && after.id.ctime < start.saturating_sub(TICK);
    !entry.first.is_absent()
        && object(&entry.first) == object(after)
        && (old || !entry.wrote.any(Wrote::REMOVED))
}

/// What the kernel's time stamps may be behind the clock, in ns: a file that is changed twice within it may
/// look the same.
pub(super) const TICK: i64 = 10_000_000;

fn what(
    entry: &Entry,
    after: &Arc<Seen>,
    path: &Name,
    objects: &Objects,
    start: i64,
) -> Result<Option<What>, Refusal> {
    let first = &entry.first;
    let same_object = stays(entry, after, start);
    if !same_object && !after.is_absent() && first.id == after.id {
        // Too young to tell a file that was made anew from one whose removal has failed.
        return Err(Refusal(format!("{path} may have been replaced or not")));
    }
    Ok(match after.kind {
        Kind::Absent => (!first.is_absent()).then_some(What::Absent),
        Kind::Unknown(errno) => {
            return Err(Refusal(format!(
                "{path} could not be looked at afterwards (errno {errno})"
            )));
        }
        Kind::Socket => return Err(Refusal(format!("leaves the socket {path}"))),
        Kind::Device => return Err(Refusal(format!("leaves the device {path}"))),
        Kind::Fifo | Kind::Link if after.nlink > 1 && !same_object => {
            return Err(Refusal(format!("{path} has several names")));
        }
        Kind::Fifo => Some(What::Fifo(after.mode[0])),
        Kind::Link if same_object && first.text == after.text => (first.mode != after.mode
            || entry.wrote.any(Wrote::TIMES))
        .then_some(What::Attributes(after.mode[0])),
        Kind::Link => Some(What::Link(after.text.clone())),
        Kind::Dir if same_object => (first.mode != after.mode || entry.wrote.any(Wrote::TIMES))
            .then_some(What::Attributes(after.mode[0])),
        Kind::Dir => Some(What::Dir(after.mode[0])),
        Kind::File
            if same_object
                && first.id == after.id
                && first.mode == after.mode
                && !(entry.wrote.content() && first.id.ctime.saturating_add(TICK) > start) =>
        {
            None
        }
        Kind::File if same_object && !entry.wrote.content() => {
            Some(What::Attributes(after.mode[0]))
        }
        Kind::File => {
            if after.nlink > 1 && !same_object {
                match objects.0.get(&object(after)) {
                    Some((_, n_known)) if *n_known < after.nlink => {
                        return Err(Refusal(format!(
                            "{path} has other names that are not known"
                        )));
                    }
                    Some((owner, _)) if owner != path => {
                        return Ok(Some(What::HardLink(owner.clone())));
                    }
                    Some(_) | None => (),
                }
            }
            Some(What::File {
                digest: Digest([0; 32]),
                size: after.id.size,
                mode: after.mode[0],
                in_place: same_object || input(entry, Some(after)) == Some(Access::OVER),
            })
        }
    })
}

/// A time stamp that the step set to something outside of its own time was set on purpose, and so was one
/// that came from before the step (`old`), with a file that was moved. Any other one is "now", even if the
/// kernel's clock, which ticks, was behind when the step started.
fn stamp(
    entry: &Entry,
    after: &Seen,
    what: &What,
    old: &Stamped,
    (start, span): (i64, i64),
) -> Stamp {
    let set = entry.wrote.any(Wrote::TIMES);
    match what {
        What::File { .. } | What::Fifo(_) | What::Link(_) | What::Dir(_) => (),
        What::Attributes(_) if set => (),
        What::Absent | What::HardLink(_) | What::Attributes(_) => return Stamp::Keep,
    }
    let mtime = after.id.mtime;
    let now = match set {
        true if mtime < start => {
            let copied = || old.iter().any(|(_, time)| *time == mtime);
            mtime >= start.saturating_sub(TICK) && !copied()
        }
        true => mtime <= start.saturating_add(span),
        false => !old.contains(&(object(after), mtime)),
    };
    if now {
        Stamp::Now(0)
    } else {
        Stamp::Exact(mtime)
    }
}

/// Objects with their time stamps, as they were before the step.
type Stamped = HashSet<((u64, u64), i64)>;

/// Replaces the time stamps of the step's own time by their order.
fn rank_stamps(outputs: &mut [(Output, Pending)], dirs: &mut [(Touched, i64)]) {
    let own = |output: &Output| matches!(output.stamp, Stamp::Now(_));
    let mut times: Vec<i64> = outputs
        .iter()
        .filter(|(o, _)| own(o))
        .map(|(_, p)| p.seen.id.mtime)
        .chain(dirs.iter().map(|(_, mtime)| *mtime))
        .collect();
    times.sort_unstable();
    times.dedup();
    let rank = |mtime: i64| {
        let rank = times.partition_point(|time| *time < mtime);
        u32::try_from(rank).unwrap_or(u32::MAX)
    };
    for (output, pending) in outputs.iter_mut().filter(|(o, _)| own(o)) {
        output.stamp = Stamp::Now(rank(pending.seen.id.mtime));
    }
    for (dir, mtime) in dirs {
        dir.rank = rank(*mtime);
    }
}

/// Removals deepest first, then directories from the top, files, links, other names, attributes. Those of
/// a kind come in the order in which the step made them, in case that somebody is cut short who makes them
/// again: what vouches for others, as a stamp file does, must not be there before them.
fn order(output: &Output) -> (u8, std::cmp::Reverse<usize>, u32, Name) {
    let class = match output.what {
        What::Absent => 0,
        What::Dir(_) => 1,
        What::File { .. } | What::Fifo(_) | What::Link(_) => 2,
        What::HardLink(_) => 3,
        What::Attributes(_) => 4,
    };
    let depth = if class == 0 {
        output.name.bytes().len()
    } else {
        0
    };
    let rank = match output.stamp {
        Stamp::Now(rank) if class > 1 => rank,
        Stamp::Now(_) | Stamp::Exact(_) | Stamp::Keep => 0,
    };
    (class, std::cmp::Reverse(depth), rank, output.name.clone())
}

#[cfg(test)]
mod tests {
    use super::is_random;

    #[test]
    fn random_names_are_told_from_chosen_ones() {
        for name in [
            "/tmp/ccX2abcd.s",
            "a/tmpq_wxyzab",
            "a/targettqdcp0",
            "sedQrstuv",
            "t.aBcDeF",
        ] {
            assert!(is_random(name.as_bytes()), "{name}");
        }
        for name in [
            "lock",
            "lockfile",
            "build/.LOCK",
            "tmp",
            "LOCKFILE",
            "lock.1",
            "Cargo.lock",
            // A number may be anybody's choice.
            "conf12345.dir",
        ] {
            assert!(!is_random(name.as_bytes()), "{name}");
        }
    }
}
