//! Questions about what was built, answered from one state of a workspace's store: one file a question.
//!
//! An answer is a value that prints itself for people and as JSON with the name of its schema. Nothing here
//! decides about staleness: reasons are those that were recorded with the decision. Nothing here touches a file
//! but [`packages`], which reads what the system tells of itself.

pub mod compdb;
mod configlog;
pub mod configure;
pub mod declared;
pub mod deps;
pub mod diff;
pub mod folded;
pub mod forecast;
pub mod graph;
pub mod lint;
pub mod log;
pub mod miss;
mod needs;
pub mod origin;
pub mod packages;
pub mod report;
pub mod reproduce;
mod run;
mod state;
pub mod stats;
mod svg;
mod symbols;
pub mod why;

pub use run::{Run, StepRef};

use crate::base::Name;
use crate::store;
use std::path::{Component, Path, PathBuf};

/// A question that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Nothing was built here.
    #[error("no build is known here")]
    NoRuns,
    /// There is no such run.
    #[error("run {0} is not known; the known ones are {1} to {2}")]
    NoRun(u32, u32, u32),
    /// There is no such step.
    #[error("run {0} has no step {1}")]
    NoStep(u32, u32),
    /// There is none to compare with.
    #[error("no run before run {0} is known")]
    NoRunBefore(u32),
    /// Nothing is known of a path.
    #[error("nothing that was built here has looked at or written {0}")]
    Unknown(Name),
    /// Nobody wrote it.
    #[error("{0} is a source: no step is known to have written it")]
    Source(Name),
    /// The other run has no such step.
    #[error("run {1} has no step like {0}")]
    NoCounterpart(String, u32),
    /// No script is known to have asked for a symbol.
    #[error("no configure script that ran here is known to have asked for {0}")]
    NoProbe(String),
    /// What a step did is not known any more.
    #[error("what step {1} of run {0} did is not known any more")]
    Forgotten(u32, u32),
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A step by its number, in the run that is asked about or another one.
    Step(Option<u32>, u32),
    /// A path.
    Path(Name),
}

impl Subject {
    /// What a user names: `12` is a step, `3:12` a step of run 3, all else a path.
    #[must_use]
    pub fn parse(text: &str, cwd: &Path, root: &Path) -> Self {
        let number = |text: &str| text.parse().ok();
        if let Some(step) = number(text) {
            return Self::Step(None, step);
        }
        if let Some((run, step)) = text.split_once(':') {
            if let (Some(run), Some(step)) = (number(run), number(step)) {
                return Self::Step(Some(run), step);
            }
        }
        Self::of_path(&cwd.join(text), root)
    }

    /// A file by its absolute path.
    #[must_use]
    pub fn of_path(path: &Path, root: &Path) -> Self {
        Self::Path(Name::of(&normal(path), root))
    }
}

/// An absolute path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => (),
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => clean.push(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_step_and_all_else_a_path() {
        let (cwd, root) = (Path::new("/w/src"), Path::new("/w"));
        let parse = |text| Subject::parse(text, cwd, root);
        let path = |text: &str| Subject::Path(Name::from_bytes(text.as_bytes()));
        assert_eq!(parse("12"), Subject::Step(None, 12));
        assert_eq!(parse("3:12"), Subject::Step(Some(3), 12));
        assert_eq!(parse("./12"), path("src/12"));
        assert_eq!(parse("../a/./b:1"), path("a/b:1"));
        assert_eq!(parse("/usr/include/x.h"), path("/usr/include/x.h"));
        assert_eq!(parse(".."), path(""));
    }
}
