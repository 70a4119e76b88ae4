//! `rfs lint`.

use super::ask::{self, Asked};
use super::error::CommandError;
use crate::query::lint;

/// Tell what may go wrong in another run of a build
///
/// Files that steps read and wrote at the same time, files that two steps wrote, use of chance and time, steps
/// that cannot be served, and inputs that are neither of the workspace nor of the system. With --json: schema
/// `rfs.lint/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: ask::Options,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    ask::answer(
        lint::lint(&asked.state, args.options.run),
        args.options.json,
    )
}
