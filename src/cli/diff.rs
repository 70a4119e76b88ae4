//! `rfs diff`.

use super::ask::{self, Asked};
use super::error::CommandError;
use super::snapshot;
use crate::query::{Run, diff};

/// Tell what was different in one build, or one snapshot, from another one
///
/// Of builds: steps that did something else or from something else, with all that is different, and steps of only one of
/// the two. With --json: schema `rfs.diff/1`. Of snapshots: names with another content, kind or permissions; schema
/// `rfs.snapshot-diff/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The earlier run, by its number [default: the one before NEW]; or a snapshot
    #[arg(value_name = "OLD")]
    old: Option<String>,
    /// The later run [default: the last one]; or a snapshot [default: the tree as it is]
    #[arg(value_name = "NEW")]
    new: Option<String>,
    /// JSON, with the name of its schema
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let run = |text: &Option<String>| text.as_deref().map(str::parse::<u32>).transpose();
    let (Ok(old), Ok(new)) = (run(&args.old), run(&args.new)) else {
        let old = args.old.as_deref().unwrap_or_default();
        let told = snapshot::diff(old, args.new.as_deref(), args.json);
        return told.map_err(|error| error.hint("`rfs log` lists builds by their numbers"));
    };
    let asked = Asked::here()?;
    let new = Run::open(&asked.state, new).map_err(ask::explained)?;
    let new = new.build.number;
    let old = old.map_or_else(|| diff::before(&asked.state, new), Ok);
    let old = old.map_err(ask::explained)?;
    ask::answer(diff::diff(&asked.state, old, new), args.json)
}
