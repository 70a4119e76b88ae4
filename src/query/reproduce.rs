//! `rfs reproduce`: all that is needed to run a step again as it was run.

use super::run::{Run, StepRef};
use super::{Error, Subject};
use crate::base::{Digest, Record, Start};
use crate::store::{Snapshot, graph, history};

/// A step as it was started.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Which one.
    pub step: StepRef,
    /// What it read, wrote and returned.
    pub record: Record,
    /// Its environment.
    pub start: Start,
    /// Its umask.
    pub umask: u32,
    /// Descriptors above 2 that it was started with, but for those of a jobserver.
    pub descriptors: Vec<i32>,
    /// Contents that the steps around it made and removed.
    pub scraps: Vec<(Digest, String)>,
}

/// The recipe of a step, or of the one that wrote a file last.
///
/// # Errors
/// It is not known any more, or the store is damaged.
pub fn recipe(store: &Snapshot, run: Option<u32>, subject: &Subject) -> Result<Recipe, Error> {
    let mut run = Run::for_subject(store, run, subject)?;
    let number = match subject {
        Subject::Step(_, number) => *number,
        Subject::Path(name) => match run.writer(name)?.map(|step| step.number) {
            Some(number) => number,
            None => {
                // Not touched by this run.
                let unknown = || Error::Unknown(name.clone());
                let made = graph::writer(store, name)?.ok_or_else(unknown)?;
                run = Run::open(store, Some(history::facts(store, made)?.used))?;
                run.of(made).ok_or_else(unknown)?.number
            }
        },
    };
    let step = run.step(number)?;
    let record = run.record(step)?;
    let start = graph::start(store, run.build.number, number)?;
    let start = start.ok_or(Error::Forgotten(run.build.number, number))?;
    let umask = start
        .around
        .iter()
        .find_map(|word| word.strip_prefix("umask "));
    let umask = umask.and_then(|text| u32::from_str_radix(text, 8).ok());
    let descriptors = start.around.iter().filter_map(|word| {
        let (number, _kind) = word.strip_prefix("descriptor ")?.split_once(':')?;
        number.parse().ok().filter(|number| *number > 2)
    });
    let descriptors = descriptors.collect();
    let mut scraps = Vec::new();
    for outer in run.around(step) {
        if let Some(execution) = outer.execution {
            scraps.extend(history::rest(store, execution)?.scraps.texts());
        }
    }
    Ok(Recipe {
        step: run.name(step)?,
        record,
        start,
        umask: umask.unwrap_or(0o022),
        descriptors,
        scraps,
    })
}
