//! The graph of a workspace: its builds, the steps of each, and which execution wrote, read and changed
//! what. In the store of a workspace only: names mean nothing across workspaces.
//!
//! A build is time of start (i64, seconds since 1970), microseconds (u64), number (u32, 0 for a free
//! record), its steps and its title (u32 each: addresses), exit status (i32), whether it has ended (u32),
//! number of steps (u32), what the steps were given (u32: address), how many of the steps were served and how
//! many refused (u32 each), nothing (u32). By id of a name: the execution that wrote it last (u32).

use super::history::{self, BEFORE, BEFORE_SERIAL, Execution, SERIAL, live};
use super::layout::{u32_at, u64_at};
use super::pages::{Pages, PagesMut};
pub use super::readers::{note as note_readers, readers};
use super::schema::{BUILDS, EXECUTIONS, HEAP, NAMES, WRITERS};
use super::starts::Starts;
use super::{Error, canonical, readers};
use crate::base::{Cause, Difference, Digest, Name, Record, Start, What, difference};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

const WALL: usize = 8;
const NUMBER: usize = 16;
const STEPS: usize = 20;
const TITLE: usize = 24;
const STATUS: usize = 28;
const ENDED: usize = 32;
const N_STEPS: usize = 36;
const STARTS: usize = 40;
const SERVED: usize = 44;
const REFUSED: usize = 48;
/// The cell that holds the last number of a build.
const LAST: u8 = 0;
/// Executions that are kept under one key.
const MAX_RUNS: usize = 4;
/// Builds that are kept, and how many of them are forgotten when there are more.
const MAX_BUILDS: usize = 128;
const FORGOTTEN: usize = 32;

/// One command that was run under watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its number: later ones have greater ones.
    pub number: u32,
    /// Seconds since 1970 at its start.
    pub began: i64,
    /// The command, for people.
    pub title: String,
    /// How it ended: exit status and microseconds. None if it was killed with its host.
    pub ended: Option<(i32, u64)>,
    /// Steps that were served, run or refused.
    pub n_steps: u32,
    /// Those that were served.
    pub n_served: u32,
    /// Those that ran and may not be cached.
    pub n_refused: u32,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It ran.
    Ran,
    /// It was served.
    Served,
    /// It ran and may not be cached.
    Refused,
}

/// One step of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its number in the build.
    pub number: u32,
    /// The step that started it.
    pub parent: Option<u32>,
    /// What became of it.
    pub fate: Fate,
    /// Why it was not served or may not be cached, for people.
    pub why: String,
    /// What was not as a record has it, where that is why it was not served.
    pub cause: Option<Box<Cause>>,
    /// When it started: microseconds since 1970.
    pub began_us: i64,
    /// Microseconds.
    pub wall_us: u64,
    /// Its exit status.
    pub status: i32,
    /// What it did; none if that is not known any more.
    #[serde(skip)]
    pub execution: Option<Execution>,
}

/// A step that has ended, to be noted.
#[derive(Debug, Clone)]
pub struct Done {
    /// How it went. What it did is found out when it is noted.
    pub step: Step,
    /// What it was given.
    pub start: Start,
    /// What it is known by from one build to the next.
    pub key: Digest,
    /// What it did. Contents that nobody has hashed are zero.
    pub record: Record,
}

/// A step as it lies in the list of its build.
#[derive(Serialize, Deserialize)]
struct Row {
    step: Step,
    execution: u32,
    serial: u32,
}

/// A build that is being noted. What it holds is of transactions that were committed or are open.
#[derive(Debug)]
pub struct Noting {
    number: u32,
    parents: HashMap<u32, Option<u32>>,
    /// By name: the step that wrote it last, the innermost one.
    wrote: HashMap<Name, u32>,
    /// Numbers of the words that steps were given.
    words: HashMap<Vec<u8>, u32>,
}

impl Noting {
    /// Starts a build.
    ///
    /// # Errors
    /// Damage, or no more room.
    pub fn start(pages: &mut impl PagesMut, began: i64, title: &str) -> Result<Self, Error> {
        let number = u32::try_from(BUILDS.cell(pages, LAST)?).unwrap_or(u32::MAX);
        let number = number.saturating_add(1);
        let mut fields = [0; 56];
        fields[..8].copy_from_slice(&began.to_le_bytes());
        let mut put =
            |at: usize, value: u32| fields[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(NUMBER, number);
        put(
            STEPS,
            HEAP.add(pages, &to_bytes(pages, &Vec::<Row>::new())?)?,
        );
        put(
            STARTS,
            HEAP.add(pages, &to_bytes(pages, &Starts::default())?)?,
        );
        put(TITLE, HEAP.add(pages, title.as_bytes())?);
        BUILDS.add(pages, &fields)?;
        BUILDS.put_cell(pages, LAST, number.into())?;
        Ok(Self {
            number,
            parents: HashMap::new(),
            wrote: HashMap::new(),
            words: HashMap::new(),
        })
    }

    /// Notes some steps that have ended.
    ///
    /// # Errors
    /// Damage, or no more room.
    pub fn steps(&mut self, pages: &mut impl PagesMut, done: Vec<Done>) -> Result<(), Error> {
        let id = self.id(pages)?;
        let fields = BUILDS.get(pages, id)?;
        let (list, starts) = (u32_at(fields, STEPS), u32_at(fields, STARTS));
        let mut rows: Vec<Row> = read(pages, list)?;
        let mut given: Starts = read(pages, starts)?;
        for mut done in done {
            let number = done.step.number;
            given.add(number, &done.start, &mut self.words);
            for dep in &mut done.record.deps {
                *dep = canonical(dep);
            }
            self.parents.insert(number, done.step.parent);
            let execution = self.execution(pages, &done)?;
            rows.push(Row {
                step: done.step,
                execution: execution.0,
                serial: history::facts(pages, execution)?.serial,
            });
        }
        HEAP.remove(pages, list)?;
        HEAP.remove(pages, starts)?;
        let list = HEAP.add(pages, &to_bytes(pages, &rows)?)?;
        let starts = HEAP.add(pages, &to_bytes(pages, &given)?)?;
        let n_steps = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        BUILDS.put(pages, id, STEPS, &list.to_le_bytes())?;
        BUILDS.put(pages, id, STARTS, &starts.to_le_bytes())?;
        let count = |fate| {
            let n = rows.iter().filter(|row| row.step.fate == fate).count();
            u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
        };
        BUILDS.put(pages, id, SERVED, &count(Fate::Served))?;
        BUILDS.put(pages, id, REFUSED, &count(Fate::Refused))?;
        BUILDS.put(pages, id, N_STEPS, &n_steps.to_le_bytes())
    }

    /// Notes how it ended, and forgets the oldest builds of many, with what only they need.
    ///
    /// # Errors
    /// Damage, or no more room.
    pub fn end(&self, pages: &mut impl PagesMut, status: i32, wall_us: u64) -> Result<(), Error> {
        let id = self.id(pages)?;
        BUILDS.put(pages, id, STATUS, &status.to_le_bytes())?;
        BUILDS.put(pages, id, WALL, &wall_us.to_le_bytes())?;
        BUILDS.put(pages, id, ENDED, &1_u32.to_le_bytes())?;
        forget(pages, MAX_BUILDS, FORGOTTEN)
    }

    fn id(&self, pages: &impl Pages) -> Result<u32, Error> {
        let known = ids(pages)?;
        let id = known.get(&self.number).copied();
        id.ok_or_else(|| history::unsound(pages, "a build that was forgotten"))
    }

    /// The execution of a step: one that is known and did the same, or a new one.
    fn execution(&mut self, pages: &mut impl PagesMut, done: &Done) -> Result<Execution, Error> {
        let chain = history::under(pages, &done.key)?;
        let newest = chain.first().copied();
        let mut known = None;
        for one in chain {
            if known.is_none() && is_it(pages, one, &done.record)? {
                known = Some(one);
            }
        }
        let execution = match known {
            Some(known) => {
                history::promote(pages, known, self.number)?;
                known
            }
            None => {
                let new = history::add(pages, &done.key, &done.record, self.number)?;
                readers::note(pages, new)?;
                new
            }
        };
        if let Some(newest) = newest.filter(|newest| *newest != execution) {
            follows(pages, execution, newest)?;
        }
        // What the last writers of the outputs have left, each read once: one may have written all of them.
        let mut left: HashMap<Execution, HashMap<Name, What>> = HashMap::new();
        for (place, output) in done.record.outputs.iter().enumerate() {
            let name = NAMES.intern(pages, output.name.bytes())?;
            let last = writer_of(pages, name)?;
            if place == 0 && newest.is_none() {
                // The command has changed, or what it does is done by another one now.
                if let Some(last) = last.filter(|last| *last != execution) {
                    follows(pages, execution, last)?;
                }
            }
            if self
                .wrote
                .get(&output.name)
                .is_some_and(|inner| self.is_above(done.step.number, *inner))
            {
                continue;
            }
            self.wrote.insert(output.name.clone(), done.step.number);
            if let (Fate::Served, Some(last)) = (done.step.fate, last) {
                // It is as who wrote it has left it. Time stamps are ordered among the outputs of one step.
                let left = match left.entry(last) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        let outputs = history::rest(pages, last)?.outputs.into_iter();
                        new.insert(outputs.map(|left| (left.name, left.what)).collect())
                    }
                };
                if left
                    .get(&output.name)
                    .is_some_and(|left| left.leaves_as(&output.what))
                {
                    continue;
                }
            }
            WRITERS.set(pages, name, &execution.0.to_le_bytes())?;
        }
        for old in history::under(pages, &done.key)?.into_iter().skip(MAX_RUNS) {
            // A script asks many questions by one command.
            if history::facts(pages, old)?.used < self.number {
                history::remove(pages, old)?;
            }
        }
        Ok(execution)
    }

    /// Whether a step has started another one, or one that has.
    fn is_above(&self, step: u32, inner: u32) -> bool {
        let mut next = Some(inner);
        // A step starts after who starts it, and so has a greater number.
        while let Some(inner) = next.filter(|inner| *inner > step) {
            next = self.parents.get(&inner).copied().flatten();
        }
        next == Some(step) && inner != step
    }
}

/// Whether an execution did from the same what a record says. Most that did not are told apart without their
/// deps.
fn is_it(pages: &impl Pages, one: Execution, record: &Record) -> Result<bool, Error> {
    let bytes = record.outputs.iter().map(|output| match &output.what {
        What::File { size, .. } => *size,
        What::Absent | What::Link(_) | What::Dir(_) => 0,
        What::Fifo(_) | What::HardLink(_) | What::Attributes(_) => 0,
    });
    let facts = history::facts(pages, one)?;
    if facts.n_deps as usize != record.deps.len() || facts.bytes != bytes.sum::<u64>() {
        return Ok(false);
    }
    let known = history::rest(pages, one)?;
    let alike = known.status == record.status
        && known.outputs == record.outputs
        && known.chunks == record.chunks;
    Ok(alike && history::record(pages, one)?.does_as(record))
}

/// The builds that are known, the oldest first.
///
/// # Errors
/// Damage.
pub fn builds(pages: &impl Pages) -> Result<Vec<Build>, Error> {
    let mut found = Vec::new();
    for (number, id) in ids(pages)? {
        let fields = BUILDS.get(pages, id)?;
        let title = HEAP.read(pages, u32_at(fields, TITLE))?;
        let ended = (u32_at(fields, STATUS) as i32, u64_at(fields, WALL));
        found.push(Build {
            number,
            began: u64_at(fields, 0) as i64,
            title: String::from_utf8_lossy(&title).into_owned(),
            ended: (u32_at(fields, ENDED) != 0).then_some(ended),
            n_steps: u32_at(fields, N_STEPS),
            n_served: u32_at(fields, SERVED),
            n_refused: u32_at(fields, REFUSED),
        });
    }
    Ok(found)
}

/// The steps of a build, in the order in which they ended.
///
/// # Errors
/// Damage. An unknown build has no steps.
pub fn steps(pages: &impl Pages, build: u32) -> Result<Vec<Step>, Error> {
    let Some(id) = ids(pages)?.get(&build).copied() else {
        return Ok(Vec::new());
    };
    let rows: Vec<Row> = read(pages, u32_at(BUILDS.get(pages, id)?, STEPS))?;
    // In the memory of the rows: a large build has many.
    let steps = rows.into_iter().map(|row| {
        let mut step = row.step;
        step.execution = still(pages, row.execution, row.serial)?;
        Ok(step)
    });
    steps.collect()
}

/// What a step of a build was given; none if that is not known.
///
/// # Errors
/// Damage.
pub fn start(pages: &impl Pages, build: u32, step: u32) -> Result<Option<Start>, Error> {
    let Some(id) = ids(pages)?.get(&build).copied() else {
        return Ok(None);
    };
    let starts: Starts = read(pages, u32_at(BUILDS.get(pages, id)?, STARTS))?;
    Ok(starts.get(step))
}

/// The execution that wrote a name last: of several that were nested, the innermost.
///
/// # Errors
/// Damage.
pub fn writer(pages: &impl Pages, name: &Name) -> Result<Option<Execution>, Error> {
    match NAMES.find(pages, name.bytes())? {
        Some(id) => writer_of(pages, id),
        None => Ok(None),
    }
}

/// The execution that came before this one: of the same step, or else the one that wrote its first output.
/// None if there was none, or it is not known any more.
///
/// # Errors
/// Damage.
pub fn before(pages: &impl Pages, execution: Execution) -> Result<Option<Execution>, Error> {
    let fields = live(pages, execution)?;
    still(pages, u32_at(fields, BEFORE), u32_at(fields, BEFORE_SERIAL))
}

/// How an execution differs from the one that came before it; none if there is none.
///
/// # Errors
/// Damage.
pub fn since(pages: &impl Pages, execution: Execution) -> Result<Option<Vec<Difference>>, Error> {
    let Some(before) = before(pages, execution)? else {
        return Ok(None);
    };
    let (old, new) = (
        history::record(pages, before)?,
        history::record(pages, execution)?,
    );
    Ok(Some(difference(&old, &new)))
}

/// Forgets the oldest `n` builds if there are more than `max`, and the executions that no other one needs:
/// those that wrote something last, and those before them, stay.
pub(super) fn forget(pages: &mut impl PagesMut, max: usize, n: usize) -> Result<(), Error> {
    let ids = ids(pages)?;
    if ids.len() <= max {
        return Ok(());
    }
    let mut last = 0;
    for (number, id) in ids.into_iter().take(n) {
        let fields = BUILDS.get(pages, id)?;
        let blocks = [STEPS, TITLE, STARTS].map(|at| u32_at(fields, at));
        for block in blocks {
            HEAP.remove(pages, block)?;
        }
        BUILDS.remove(pages, id)?;
        BUILDS.put(pages, id, NUMBER, &[0; 4])?;
        last = number;
    }
    let mut needed = HashSet::new();
    let all = history::all(pages)?;
    for execution in &all {
        let mut writes = false;
        for name in history::outputs(pages, *execution)? {
            writes |= writer_of(pages, name)? == Some(*execution);
        }
        if writes || history::facts(pages, *execution)?.used > last {
            needed.insert(*execution);
            needed.extend(before(pages, *execution)?);
        }
    }
    for execution in all.into_iter().filter(|one| !needed.contains(one)) {
        history::remove(pages, execution)?;
    }
    Ok(())
}

/// Copies builds and writers into another store, whose executions have other numbers.
pub(super) fn copy(
    from: &impl Pages,
    to: &mut impl PagesMut,
    new: &HashMap<Execution, Execution>,
    keeps_environment: bool,
) -> Result<(), Error> {
    let mut olds: Vec<_> = new.iter().map(|(old, new)| (*old, *new)).collect();
    olds.sort_unstable();
    for (old, new_one) in olds {
        readers::note(to, new_one)?;
        if let Some(before) = before(from, old)?.and_then(|before| new.get(&before)) {
            follows(to, new_one, *before)?;
        }
        for name in history::outputs(from, old)? {
            if writer_of(from, name)? == Some(old) {
                let name = NAMES.intern(to, &NAMES.name(from, name)?)?;
                WRITERS.set(to, name, &new_one.0.to_le_bytes())?;
            }
        }
    }
    for (_, id) in ids(from)? {
        let mut fields = BUILDS.get(from, id)?.to_vec();
        let mut rows: Vec<Row> = read(from, u32_at(&fields, STEPS))?;
        for row in &mut rows {
            let execution = still(from, row.execution, row.serial)?;
            let execution = execution.and_then(|one| new.get(&one)).copied();
            (row.execution, row.serial) = match execution {
                Some(execution) => (execution.0, history::facts(to, execution)?.serial),
                None => (0, 0),
            };
        }
        let steps = HEAP.add(to, &to_bytes(to, &rows)?)?;
        fields[STEPS..STEPS + 4].copy_from_slice(&steps.to_le_bytes());
        for at in [TITLE, STARTS] {
            let mut bytes = HEAP.read(from, u32_at(&fields, at))?;
            if at == STARTS && !keeps_environment {
                let mut starts: Starts = read(from, u32_at(&fields, at))?;
                starts.forget_environment();
                bytes = to_bytes(to, &starts)?.into();
            }
            let block = HEAP.add(to, &bytes)?;
            fields[at..at + 4].copy_from_slice(&block.to_le_bytes());
        }
        BUILDS.add(to, &fields)?;
    }
    BUILDS.put_cell(to, LAST, BUILDS.cell(from, LAST)?)
}

/// Notes which execution came before another one.
fn follows(
    pages: &mut impl PagesMut,
    execution: Execution,
    before: Execution,
) -> Result<(), Error> {
    let serial = history::facts(pages, before)?.serial;
    EXECUTIONS.put(pages, execution.0, BEFORE, &before.0.to_le_bytes())?;
    EXECUTIONS.put(pages, execution.0, BEFORE_SERIAL, &serial.to_le_bytes())
}

/// An execution, if its number still means it.
fn still(pages: &impl Pages, id: u32, serial: u32) -> Result<Option<Execution>, Error> {
    if id == 0 || serial == 0 {
        return Ok(None);
    }
    let same = u32_at(EXECUTIONS.get(pages, id)?, SERIAL) == serial;
    Ok(same.then_some(Execution(id)))
}

pub(super) fn writer_of(pages: &impl Pages, name: u32) -> Result<Option<Execution>, Error> {
    if name > WRITERS.count(pages)? {
        return Ok(None);
    }
    let id = u32_at(WRITERS.get(pages, name)?, 0);
    Ok((id != 0).then_some(Execution(id)))
}

/// Builds by their numbers.
fn ids(pages: &impl Pages) -> Result<BTreeMap<u32, u32>, Error> {
    let mut found = BTreeMap::new();
    for id in 1..=BUILDS.count(pages)? {
        let number = u32_at(BUILDS.get(pages, id)?, NUMBER);
        if number != 0 {
            found.insert(number, id);
        }
    }
    Ok(found)
}

fn read<T: DeserializeOwned>(pages: &impl Pages, block: u32) -> Result<T, Error> {
    let bytes = HEAP.read(pages, block)?;
    postcard::from_bytes(&bytes)
        .map_err(|_undecodable| history::unsound(pages, "steps that cannot be read"))
}

fn to_bytes<T: Serialize>(pages: &impl Pages, steps: &T) -> Result<Vec<u8>, Error> {
    postcard::to_stdvec(steps)
        .map_err(|_unencodable| history::unsound(pages, "steps that cannot be stored"))
}
