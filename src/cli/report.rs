//! `rfs report`.

use super::ask::{self, Asked};
use super::error::CommandError;
use super::{console, summary_file};
use crate::disk::RealDisk;
use crate::query::report;
use crate::report::page;
use std::path::PathBuf;

/// Draw a build: one HTML file to look at in a browser
///
/// With a timeline by processor, the critical path, the hit rate of each tool, the slowest steps, what was refused
/// and what can be done, and the graph of files and steps to walk along. The file needs nothing else: it can be
/// kept or sent. It names commands and files of the workspace, and tells nothing of what is in them. With --json:
/// the same data, schema `rfs.report/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write
    #[arg(long, value_name = "FILE", required_unless_present = "json")]
    html: Option<PathBuf>,
    #[command(flatten)]
    options: ask::Options,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let report = report::report(&asked.state, args.options.run);
    let (Some(file), Ok(report)) = (&args.html, &report) else {
        return ask::answer(report, args.options.json);
    };
    let json = serde_json::to_string(report).expect("BUG: plain values make JSON");
    let page = page::html(&format!("rfs: {}", report.command), &json);
    let path = asked.cwd.join(file);
    summary_file::replace(&path, &page, &RealDisk).map_err(|error| {
        CommandError::new(format_args!(
            "cannot write {}: {}",
            path.display(),
            error.source
        ))
        .hint("name a file in a directory that exists and is yours")
    })?;
    if args.options.json {
        console::answer(json);
    } else {
        console::tell(format_args!("{}: {report}", path.display()));
    }
    Ok(0)
}
