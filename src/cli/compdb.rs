//! `rfs compdb`.

use super::ask::{self, Asked};
use super::error::CommandError;
use super::{console, place};
use crate::disk::RealDisk;
use crate::query::compdb;
use crate::store::Store;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    let config = place::config(&asked.root)?;
    let (option, configured) = (args.cache_dir.as_deref(), config.cache_dir.as_deref());
    let index = place::cache(option, configured, &asked.cwd)?.join("index");
    // Without a cache what was served as a part of something else is looked up in the workspace alone.
    let index = Store::open_existing(&index, Arc::new(RealDisk)).and_then(|store| store.snapshot());
    let index = index.ok();
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
