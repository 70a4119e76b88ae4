//! `rfs graph`.

use super::ask::{self, Asked};
use super::console;
use super::error::CommandError;
use crate::query::folded::{self, Folded};
use crate::query::graph::{self, Graph};
use crate::query::{self, Run, Subject};
use serde::Serialize;
use std::fmt::Display;

/// Steps of a build that is told by directories if nothing else is said: more.
const MANY: usize = 10_000;

/// Draw the files of a build and the steps between them, for dot(1)
///
/// Steps with the files of the workspace that they, and none that they started, read and wrote. With --json:
/// schema `rfs.graph/1`. A build of more than 10000 steps is told by directories, unless it is said what is
/// wanted of it: which directories are made from which. With --json: schema `rfs.graph-folded/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what was made from this file
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    from: Option<String>,
    /// Only what this file was made from
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    to: Option<String>,
    /// By directories: which are made from which
    #[arg(long, conflicts_with_all = ["from", "to", "all"])]
    folded: bool,
    /// Each step, however many they are
    #[arg(long)]
    all: bool,
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
    let (run, json) = (args.options.run, args.options.json);
    let whole = from.is_none() && to.is_none() && !args.all;
    if args.folded || whole && is_large(&asked, run)? {
        let folded = folded::folded(&asked.state, run);
        return give(folded, args.svg.then_some(Folded::svg), json);
    }
    let graph = graph::graph(&asked.state, run, from.as_ref(), to.as_ref());
    give(graph, args.svg.then_some(Graph::svg), json)
}

/// Whether there are so many steps that nobody looks at each.
fn is_large(asked: &Asked, run: Option<u32>) -> Result<bool, CommandError> {
    let run = Run::open(&asked.state, run).map_err(ask::explained)?;
    let n_steps = run.steps.len();
    if n_steps > MANY {
        console::tell(format_args!(
            "{n_steps} steps: told by directories; --from, --to or --all tell single steps"
        ));
    }
    Ok(n_steps > MANY)
}

/// Gives an answer, or a picture of it.
fn give<A: Serialize + Display>(
    answer: Result<A, query::Error>,
    draw: Option<fn(&A) -> String>,
    json: bool,
) -> Result<i32, CommandError> {
    let Some(draw) = draw else {
        return ask::answer(answer, json);
    };
    console::answer(draw(&answer.map_err(ask::explained)?));
    Ok(0)
}
