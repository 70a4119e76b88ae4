//! `rfs diff`.

use super::ask::{self, Asked};
use super::error::CommandError;
use crate::query::{Run, diff};

/// Tell what was different in one build from another one
///
/// Steps that did something else or from something else, with all that is different, and steps of only one of
/// the two. With --json: schema `rfs.diff/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The earlier run, by its number [default: the one before NEW]
    #[arg(value_name = "OLD")]
    old: Option<u32>,
    /// The later run [default: the last one]
    #[arg(value_name = "NEW")]
    new: Option<u32>,
    /// JSON, with the name of its schema
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let new = Run::open(&asked.state, args.new).map_err(ask::explained)?;
    let new = new.build.number;
    let old = args.old.map_or_else(|| diff::before(&asked.state, new), Ok);
    let old = old.map_err(ask::explained)?;
    ask::answer(diff::diff(&asked.state, old, new), args.json)
}
