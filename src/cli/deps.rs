//! `rfs deps` and `rfs rdeps`.

use super::ask::{self, Asked};
use super::error::CommandError;
use crate::query::deps;
use crate::query::packages::Packages;
use clap::builder::NonEmptyStringValueParser;

/// Tell what a file was made from
///
/// What the step that wrote it looked at: inside the workspace, and what was there. With --json: schema
/// `rfs.deps/1`, with --packages `rfs.packages/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file, or a step by its number (`12`, of run 3: `3:12`)
    #[arg(value_name = "PATH|STEP", value_hint = clap::ValueHint::AnyPath,
          value_parser = NonEmptyStringValueParser::new())]
    subject: String,
    /// Also what made the inputs was made from, and so on
    #[arg(short, long)]
    transitive: bool,
    /// Also names that were looked for and were not there
    #[arg(short, long)]
    absent: bool,
    /// Also what lies outside the workspace, with the Debian packages that own it
    #[arg(short, long)]
    outside: bool,
    /// Instead: the Debian packages that own what lies outside the workspace
    #[arg(short, long)]
    packages: bool,
    /// JSON, with the name of its schema
    #[arg(long)]
    json: bool,
}

/// Tell what was made from a file
///
/// The innermost steps that looked at it when they were last run or served, and what they wrote. With --json:
/// schema `rfs.rdeps/1`.
#[derive(Debug, clap::Args)]
pub(super) struct ReverseArgs {
    /// A file, or a step by its number (`12`, of run 3: `3:12`)
    #[arg(value_name = "PATH|STEP", value_hint = clap::ValueHint::AnyPath,
          value_parser = NonEmptyStringValueParser::new())]
    subject: String,
    /// Also who looked at what those wrote, and so on
    #[arg(short, long)]
    transitive: bool,
    /// JSON, with the name of its schema
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let wanted = deps::Wanted {
        transitive: args.transitive,
        absent: args.absent,
        outside: args.outside || args.packages,
    };
    let deps = deps::deps(&asked.state, &asked.subject(&args.subject), wanted);
    let system = Packages::here();
    let unread = |error| CommandError::new(format!("what dpkg has installed: {error}"));
    match (deps, system) {
        (Ok(deps), Some(system)) if args.packages => {
            let used = deps.packages(&system).map_err(unread)?;
            ask::answer(Ok(used), args.json)
        }
        (Ok(_), None) if args.packages => {
            let error = CommandError::new("dpkg has installed nothing here");
            Err(error.hint("`rfs deps --outside` tells the files"))
        }
        (Ok(mut deps), Some(system)) if args.outside => {
            deps.name_packages(&system).map_err(unread)?;
            ask::answer(Ok(deps), args.json)
        }
        (deps, _) => ask::answer(deps, args.json),
    }
}

pub(super) fn reverse(args: &ReverseArgs) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let subject = asked.subject(&args.subject);
    ask::answer(
        deps::rdeps(&asked.state, &subject, args.transitive),
        args.json,
    )
}
