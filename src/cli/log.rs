//! `rfs log`.

use super::ask::{self, Asked};
use super::error::CommandError;
use crate::query::Run;
use crate::query::log::{self, Wanted};

/// List the builds that are known, or steps of one
///
/// Without WHAT: the newest builds. With --json: schema `rfs.log/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which steps
    #[arg(value_name = "WHAT")]
    what: Option<What>,
    /// Lines, at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    lines: usize,
    #[command(flatten)]
    options: ask::Options,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    /// Those that ran, in the order in which they started, and why
    #[value(name = "what-ran")]
    Ran,
    /// Those that failed, with what they printed
    Failed,
    /// Those that took longest by themselves
    Slow,
    /// Those that may not be cached, and why
    Refused,
    /// The longest chain in which each needed what the one before had written
    CriticalPath,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let Some(what) = args.what else {
        let mut runs = log::runs(&asked.state, args.lines);
        if let Some(number) = args.options.run {
            let _known = Run::open(&asked.state, Some(number)).map_err(ask::explained)?;
            runs = log::runs(&asked.state, usize::MAX);
            if let Ok(runs) = &mut runs {
                runs.runs.retain(|run| run.run == number);
            }
        }
        return ask::answer(runs, args.options.json);
    };
    let wanted = match what {
        What::Ran => Wanted::Ran,
        What::Failed => Wanted::Failed,
        What::Slow => Wanted::Slow,
        What::Refused => Wanted::Refused,
        What::CriticalPath => Wanted::CriticalPath,
    };
    let log = log::steps(&asked.state, args.options.run, wanted, args.lines);
    ask::answer(log, args.options.json)
}
