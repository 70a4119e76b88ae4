//! Executions: under which key, from what, to what.
//!
//! An execution is key (32 bytes), the next older one under that key, the one that came before it (for
//! `graph`), its deps, its outputs, the rest of its record (u32 each: ids and addresses), number
//! of deps (u32), last use (u32: minutes since 1970, in a workspace the number of the build), serial number (u32, 0 for a free record),
//! microseconds (u64), bytes of its outputs (u64), serial number of the one before (u32), flags (u32): whether
//! it is pinned, whether it is known to have no notes.

use super::Error;
use super::codec::{Reader, push, unzigzag, zigzag};
use super::layout::{u32_at, u64_at};
use super::pages::{Pages, PagesMut};
use super::schema::{EXECUTIONS, EXECUTIONS_BY_KEY, HEAP, NAMES, WRITERS};
use super::{contents, deps, graph};
use crate::base::{Digest, Hasher, Record, What};

const OLDER: usize = 32;
pub(super) const BEFORE: usize = 36;
pub(super) const DEPS: usize = 40;
const OUTPUTS: usize = 44;
const REST: usize = 48;
const N_DEPS: usize = 52;
const USED: usize = 56;
pub(super) const SERIAL: usize = 60;
const WALL: usize = 64;
const BYTES: usize = 72;
pub(super) const BEFORE_SERIAL: usize = 80;
const FLAGS: usize = 84;
const PINNED: u32 = 1;
const NO_NOTES: u32 = 2;
/// The cell that holds the last serial number.
const LAST_SERIAL: u8 = 0;
/// The cells that hold what [`bytes`] and [`last_look`] say.
const CONTENT_BYTES: u8 = 1;
const LAST_LOOK: u8 = 2;
/// Executions under one key, at most: more are a circle.
const MAX_CHAIN: usize = 4096;

/// The number of an execution, as long as it is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Execution(pub(super) u32);

/// What is known of an execution without its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What was known before it ran.
    pub key: Digest,
    /// How many deps it has.
    pub n_deps: u32,
    /// When it was last run or served: minutes since 1970, or the number of a build.
    pub used: u32,
    /// What serving it saves: microseconds of processors that it took, of time where that is not known.
    pub saves_us: u64,
    /// Bytes of the contents that it wrote.
    pub bytes: u64,
    /// Greater than that of all executions that were stored before it.
    pub serial: u32,
    /// Whether it is never to be forgotten to make room.
    pub pinned: bool,
}

/// Stores an execution as the first under its key. `now`: minutes since 1970, or the number of a build.
///
/// # Errors
/// Damage, or no more room.
pub fn add(
    pages: &mut impl PagesMut,
    key: &Digest,
    record: &Record,
    now: u32,
) -> Result<Execution, Error> {
    let mut outputs = Vec::new();
    let (mut last, mut bytes) = (0, 0);
    for output in &record.outputs {
        let name = NAMES.intern(pages, output.name.bytes())?;
        push(&mut outputs, zigzag(i64::from(name) - i64::from(last)));
        last = name;
        if let What::File { digest, size, .. } = &output.what {
            contents::intern(pages, digest, *size)?;
            bytes += size;
        }
    }
    let rest = Record {
        deps: Vec::new(),
        ..record.clone()
    };
    let rest = postcard::to_stdvec(&rest)
        .map_err(|_unencodable| pages.damaged(HEAP.segment, 0, "a record that cannot be stored"))?;
    let serial = u32::try_from(EXECUTIONS.cell(pages, LAST_SERIAL)?).unwrap_or(u32::MAX);
    let serial = serial.saturating_add(1);
    let head = head(pages, key)?;
    let n_deps = u32::try_from(record.deps.len()).unwrap_or(u32::MAX);

    let mut fields = [0; 88];
    fields[..32].copy_from_slice(&key.0);
    let mut put = |at: usize, value: u32| fields[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(OLDER, head.map_or(0, |head| head.0));
    put(DEPS, deps::add(pages, &record.deps)?);
    put(OUTPUTS, HEAP.add(pages, &outputs)?);
    put(REST, HEAP.add(pages, &rest)?);
    put(N_DEPS, n_deps);
    put(USED, now);
    put(SERIAL, serial);
    put(FLAGS, if record.notes.is_empty() { NO_NOTES } else { 0 });
    let cost = match record.cost.cpu_us {
        0 => record.cost.wall_us,
        cpu_us => cpu_us,
    };
    fields[WALL..WALL + 8].copy_from_slice(&cost.to_le_bytes());
    fields[BYTES..BYTES + 8].copy_from_slice(&bytes.to_le_bytes());
    let id = EXECUTIONS.add(pages, &fields)?;
    EXECUTIONS.put_cell(pages, LAST_SERIAL, u64::from(serial))?;
    set_head(pages, key, head, Some(Execution(id)))?;
    Ok(Execution(id))
}

/// The executions under a key, the first to be tried first.
///
/// # Errors
/// Damage.
pub fn under(pages: &impl Pages, key: &Digest) -> Result<Vec<Execution>, Error> {
    let mut found = Vec::new();
    let mut next = head(pages, key)?;
    while let Some(execution) = next {
        if found.len() == MAX_CHAIN {
            return Err(unsound(pages, "executions in a circle"));
        }
        found.push(execution);
        let older = u32_at(EXECUTIONS.get(pages, execution.0)?, OLDER);
        next = (older != 0).then_some(Execution(older));
    }
    Ok(found)
}

/// The key under which it is told in brief what was forgotten under another one. Nothing that is found there can be
/// served, and nobody looks there for it.
#[must_use]
pub fn brief(key: &Digest) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(b"in brief").update(&key.0);
    hasher.finish()
}

/// The newest execution under the key of one.
///
/// # Errors
/// Damage.
pub fn newest(pages: &impl Pages, execution: Execution) -> Result<Option<Execution>, Error> {
    head(pages, &facts(pages, execution)?.key)
}

/// The record of an execution.
///
/// # Errors
/// Damage.
pub fn record(pages: &impl Pages, execution: Execution) -> Result<Record, Error> {
    let mut record = rest(pages, execution)?;
    record.deps = deps::get(pages, u32_at(live(pages, execution)?, DEPS))?;
    Ok(record)
}

/// The record of an execution without its deps, which are most of it.
///
/// # Errors
/// Damage.
pub fn rest(pages: &impl Pages, execution: Execution) -> Result<Record, Error> {
    let bytes = HEAP.read(pages, u32_at(live(pages, execution)?, REST))?;
    postcard::from_bytes(&bytes)
        .map_err(|_undecodable| unsound(pages, "a record that cannot be read"))
}

/// The notes of a record.
///
/// # Errors
/// Damage.
pub fn notes(pages: &impl Pages, execution: Execution) -> Result<Vec<String>, Error> {
    if u32_at(live(pages, execution)?, FLAGS) & NO_NOTES != 0 {
        return Ok(Vec::new());
    }
    Ok(rest(pages, execution)?.notes)
}

/// What is known of an execution without its record.
///
/// # Errors
/// Damage.
pub fn facts(pages: &impl Pages, execution: Execution) -> Result<Facts, Error> {
    let fields = live(pages, execution)?;
    let mut key = Digest([0; 32]);
    key.0.copy_from_slice(&fields[..32]);
    Ok(Facts {
        key,
        n_deps: u32_at(fields, N_DEPS),
        used: u32_at(fields, USED),
        saves_us: u64_at(fields, WALL),
        bytes: u64_at(fields, BYTES),
        serial: u32_at(fields, SERIAL),
        pinned: u32_at(fields, FLAGS) & PINNED != 0,
    })
}

/// All executions, by number.
///
/// # Errors
/// Damage.
pub fn all(pages: &impl Pages) -> Result<Vec<Execution>, Error> {
    let mut found = Vec::new();
    for id in 1..=EXECUTIONS.count(pages)? {
        if is_there(pages, Execution(id))? {
            found.push(Execution(id));
        }
    }
    Ok(found)
}

/// Whether an execution has this number.
pub(super) fn is_there(pages: &impl Pages, execution: Execution) -> Result<bool, Error> {
    Ok(u32_at(EXECUTIONS.get(pages, execution.0)?, SERIAL) != 0)
}

/// How many keys there are.
///
/// # Errors
/// Damage.
pub fn n_keys(pages: &impl Pages) -> Result<u32, Error> {
    EXECUTIONS_BY_KEY.count(pages)
}

/// Bytes of the contents that were stored, less those that were removed, about.
///
/// # Errors
/// Damage.
pub fn bytes(pages: &impl Pages) -> Result<u64, Error> {
    EXECUTIONS.cell(pages, CONTENT_BYTES)
}

/// Notes the bytes of the contents.
///
/// # Errors
/// Damage, or no more room.
pub fn put_bytes(pages: &mut impl PagesMut, bytes: u64) -> Result<(), Error> {
    EXECUTIONS.put_cell(pages, CONTENT_BYTES, bytes)
}

/// When all contents were last looked at to make room: minutes since 1970.
///
/// # Errors
/// Damage.
pub fn last_look(pages: &impl Pages) -> Result<u64, Error> {
    EXECUTIONS.cell(pages, LAST_LOOK)
}

/// Notes when all contents were last looked at.
///
/// # Errors
/// Damage, or no more room.
pub fn put_last_look(pages: &mut impl PagesMut, minutes: u64) -> Result<(), Error> {
    EXECUTIONS.put_cell(pages, LAST_LOOK, minutes)
}

/// Notes that an execution was used.
///
/// # Errors
/// Damage.
pub fn used(pages: &mut impl PagesMut, execution: Execution, now: u32) -> Result<(), Error> {
    EXECUTIONS.put(pages, execution.0, USED, &now.to_le_bytes())
}

/// Notes whether an execution is never to be forgotten to make room.
///
/// # Errors
/// Damage.
pub fn pin(pages: &mut impl PagesMut, execution: Execution, pinned: bool) -> Result<(), Error> {
    let flags = u32_at(live(pages, execution)?, FLAGS) & !PINNED;
    let flags = flags | if pinned { PINNED } else { 0 };
    EXECUTIONS.put(pages, execution.0, FLAGS, &flags.to_le_bytes())
}

/// The executions that can be read, and how many numbers cannot.
///
/// # Errors
/// Not even their number can be read.
pub fn readable(pages: &impl Pages) -> Result<(Vec<Execution>, u64), Error> {
    let (mut found, mut n_lost) = (Vec::new(), 0);
    for id in 1..=EXECUTIONS.count(pages)? {
        match EXECUTIONS.get(pages, id) {
            Ok(fields) if u32_at(fields, SERIAL) != 0 => found.push(Execution(id)),
            Ok(_) => {}
            Err(_unreadable) => n_lost += 1,
        }
    }
    Ok((found, n_lost))
}

/// Makes an execution the first under its key, and notes that it was used.
///
/// # Errors
/// Damage.
pub fn promote(pages: &mut impl PagesMut, execution: Execution, now: u32) -> Result<(), Error> {
    used(pages, execution, now)?;
    let key = facts(pages, execution)?.key;
    let chain = under(pages, &key)?;
    if chain.first() == Some(&execution) {
        return Ok(());
    }
    unlink(pages, &chain, execution)?;
    let first = chain[0];
    EXECUTIONS.put(pages, execution.0, OLDER, &first.0.to_le_bytes())?;
    set_head(pages, &key, Some(first), Some(execution))
}

/// Forgets an execution. Names and contents stay until the store is compacted.
///
/// # Errors
/// Damage.
pub fn remove(pages: &mut impl PagesMut, execution: Execution) -> Result<(), Error> {
    for name in outputs(pages, execution)? {
        if graph::writer_of(pages, name)? == Some(execution) {
            WRITERS.set(pages, name, &[0; 4])?;
        }
    }
    let fields = live(pages, execution)?;
    let [list, outputs, rest] = [DEPS, OUTPUTS, REST].map(|at| u32_at(fields, at));
    let key = facts(pages, execution)?.key;
    let chain = under(pages, &key)?;
    unlink(pages, &chain, execution)?;
    deps::remove(pages, list)?;
    HEAP.remove(pages, outputs)?;
    HEAP.remove(pages, rest)?;
    EXECUTIONS.remove(pages, execution.0)
}

/// Ids of the names that an execution wrote.
pub(super) fn outputs(pages: &impl Pages, execution: Execution) -> Result<Vec<u32>, Error> {
    let mut names = Vec::new();
    each_output(pages, execution, |name| names.push(name))?;
    Ok(names)
}

/// Gives the ids of the names that an execution wrote.
pub(super) fn each_output(
    pages: &impl Pages,
    execution: Execution,
    mut take: impl FnMut(u32),
) -> Result<(), Error> {
    let bytes = HEAP.read(pages, u32_at(live(pages, execution)?, OUTPUTS))?;
    let mut reader = Reader(&bytes);
    let mut last: i64 = 0;
    while !reader.0.is_empty() {
        let step = reader.number().map(unzigzag);
        let name = step.and_then(|step| last.checked_add(step));
        let id = name.and_then(|name| u32::try_from(name).ok());
        let id = id.ok_or_else(|| unsound(pages, "outputs that are cut off"))?;
        last = i64::from(id);
        take(id);
    }
    Ok(())
}

pub(super) fn live(pages: &impl Pages, execution: Execution) -> Result<&[u8], Error> {
    let fields = EXECUTIONS.get(pages, execution.0)?;
    if u32_at(fields, SERIAL) == 0 {
        return Err(unsound(pages, "an execution that was forgotten"));
    }
    Ok(fields)
}

fn head(pages: &impl Pages, key: &Digest) -> Result<Option<Execution>, Error> {
    let found = EXECUTIONS_BY_KEY.find(pages, u32_at(&key.0, 0), |id| {
        Ok(EXECUTIONS.get(pages, id)?.starts_with(&key.0))
    })?;
    Ok(found.map(Execution))
}

fn set_head(
    pages: &mut impl PagesMut,
    key: &Digest,
    old: Option<Execution>,
    new: Option<Execution>,
) -> Result<(), Error> {
    let hash = u32_at(&key.0, 0);
    if let Some(old) = old {
        EXECUTIONS_BY_KEY.remove(pages, hash, old.0)?;
    }
    match new {
        Some(new) => EXECUTIONS_BY_KEY.insert(pages, hash, new.0),
        None => Ok(()),
    }
}

/// Takes an execution out of the chain under its key.
fn unlink(
    pages: &mut impl PagesMut,
    chain: &[Execution],
    execution: Execution,
) -> Result<(), Error> {
    let damaged = || unsound(pages, "an execution under no key");
    let place = chain.iter().position(|one| *one == execution);
    let place = place.ok_or_else(damaged)?;
    let older = chain.get(place + 1).copied();
    match place.checked_sub(1).map(|place| chain[place]) {
        Some(newer) => {
            let older = older.map_or(0, |older| older.0);
            EXECUTIONS.put(pages, newer.0, OLDER, &older.to_le_bytes())
        }
        None => {
            let key = facts(pages, execution)?.key;
            set_head(pages, &key, Some(execution), older)
        }
    }
}

/// That what is known of executions cannot be.
pub fn unsound(pages: &impl Pages, what: &'static str) -> Error {
    pages.damaged(HEAP.segment, 0, what)
}
