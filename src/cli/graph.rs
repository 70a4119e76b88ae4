//! `rfs graph`.

use super::ask::{self, Asked};
use super::console;
use super::error::CommandError;
use crate::query::{Subject, graph};

/// Draw the files of a build and the steps between them, for dot(1)
///
/// Steps with the files of the workspace that they, and none that they started, read and wrote. With --json:
/// schema `rfs.graph/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what was made from this file
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    from: Option<String>,
    /// Only what this file was made from
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    to: Option<String>,
    /// For dot(1), as without
    #[arg(long, conflicts_with = "json")]
    dot: bool,
    /// As a picture for browsers
    #[arg(long, conflicts_with_all = ["json", "dot"])]
    svg: bool,
    #[command(flatten)]
    options: ask::Options,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let name = |text: &Option<String>| match text.as_deref().map(|text| asked.subject(text)) {
        Some(Subject::Path(name)) => Ok(Some(name)),
        Some(Subject::Step(..)) => Err(CommandError::new("a file is wanted, not a step")
            .hint("`./12` is a file whose name is a number")),
        None => Ok(None),
    };
    let _as_without = args.dot;
    let (from, to) = (name(&args.from)?, name(&args.to)?);
    let graph = graph::graph(&asked.state, args.options.run, from.as_ref(), to.as_ref());
    if args.svg {
        console::answer(graph.map_err(CommandError::new)?.svg());
        return Ok(0);
    }
    ask::answer(graph, args.options.json)
}
