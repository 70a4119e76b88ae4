//! What a command did in an earlier run, as far as it tells how long another one will take.

use super::Error;
use super::run::Run;
use crate::report::progress::Past;
use crate::store::Snapshot;
use crate::store::graph::{self, Fate};
use crate::store::history;

/// The steps of the last run of a command that was not served as a whole; none if none is known.
///
/// # Errors
/// The store is damaged.
pub fn of(store: &Snapshot, command: &str) -> Result<Vec<Past>, Error> {
    let builds = graph::builds(store)?.into_iter().rev();
    for build in builds.filter(|build| build.title == command && build.ended.is_some()) {
        let run = Run::open(store, Some(build.number))?;
        let first = run.steps.first();
        if first.is_none_or(|first| first.fate == Fate::Served) {
            continue;
        }
        let mut past = Vec::new();
        for step in &run.steps {
            let Some(execution) = step.execution else {
                continue;
            };
            let record = history::rest(store, execution)?;
            past.push(Past {
                number: step.number,
                parent: step.parent,
                wall_us: match step.fate {
                    Fate::Served => record.cost.wall_us,
                    Fate::Ran | Fate::Refused => step.wall_us,
                },
                title: record.title,
            });
        }
        return Ok(past);
    }
    Ok(Vec::new())
}
