//! `rfs stats`.

use super::ask::{self, Asked};
use super::console;
use super::error::CommandError;
use crate::query::stats;

/// Count what was served, ran and was refused, in the last build and in all that are known
///
/// With the time that was saved, the hit rate of each tool, and why steps were refused. With --json: schema
/// `rfs.stats/1`. With --prometheus: the text format of Prometheus, for the textfile collector of its node
/// exporter (`rfs stats --prometheus >rfs.prom`).
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// JSON, with the name of its schema
    #[arg(long)]
    json: bool,
    /// The text format of Prometheus
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let stats = stats::stats(&asked.state);
    match (stats, args.prometheus) {
        (Ok(stats), true) => {
            console::answer(stats.prometheus().trim_end());
            Ok(0)
        }
        (stats, _) => ask::answer(stats, args.json),
    }
}
