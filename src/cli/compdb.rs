//! `rfs compdb`.

use super::ask::{self, Asked};
use super::console;
use super::error::CommandError;
use crate::query::compdb;
use std::path::{Path, PathBuf};

/// Print how each source was compiled, as a compile_commands.json
///
/// As the tools of clang, clangd and other language servers want it. Sources that were compiled by steps which
/// were served, alone or as a part of others, are in it too.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run that is asked about [default: the last one]
    #[arg(long, value_name = "N")]
    run: Option<u32>,
    /// Directory of the cache [default: as for `rfs build`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let index = asked.index(args.cache_dir.as_deref())?;
    let entries = compdb::compdb(
        &asked.state,
        index.as_deref(),
        args.run,
        &asked.root,
        &Path::exists,
    );
    let entries = entries.map_err(ask::explained)?;
    let json = serde_json::to_string_pretty(&entries).expect("BUG: plain values make JSON");
    console::answer(json);
    Ok(0)
}
