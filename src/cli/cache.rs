//! `rfs cache`: what is in the cache, and whether it is whole.

use super::error::CommandError;
use super::{console, place, workspace};
use crate::base::Record;
use crate::cache::{Cache, Error, Freed, Report, Stats, gc};
use crate::disk::RealDisk;
use crate::report::{record, size};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Look at the cache
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Tell how much is in the cache
    Stats(Options),
    /// Read everything in the cache and remove what is damaged
    ///
    /// Damaged files are never served; the steps that need them run again. Exit status 0 if everything is
    /// whole, 1 if something was not.
    Verify(Options),
    /// Forget what is worth least until the contents fit into the limit
    ///
    /// Worth is the time that a record saves against the bytes that it costs, halved for each week without
    /// use. What is pinned and contents of the last hour stay. Safe while builds run. `rfs build` does so by
    /// itself, in the background, when there is more than `size` in `[cache]` says.
    Gc(Gc),
    /// Never forget what is recorded of some commands to make room
    Pin(Pin),
    /// Forget everything
    ///
    /// Safe while builds run: their steps run instead of being served.
    Clear(Options),
    /// Tell what is recorded of each command: what it read and what it wrote
    ///
    /// An input counts only in the ways in which it was looked at: kind, mode, size, reg (content), lnk (text
    /// of the link), list (names in the directory), mtime and order (time stamps).
    /// With --json one object a line, schema `rfs.record/1`.
    Records(Records),
}

#[derive(Debug, clap::Args)]
struct Gc {
    #[command(flatten)]
    options: Options,
    /// Bytes that the contents may take up, with K, M, G or T [default: `size` in `[cache]`, else 20G]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    max_size: Option<u64>,
}

#[derive(Debug, clap::Args)]
struct Pin {
    #[command(flatten)]
    options: Options,
    /// Take it back
    #[arg(long)]
    off: bool,
    /// The commands that contain this text
    #[arg(value_name = "TEXT")]
    text: String,
}

#[derive(Debug, clap::Args)]
struct Records {
    #[command(flatten)]
    options: Options,
    /// With --json: also what each cost, who ran it, where and when
    #[arg(long, requires = "json")]
    cost: bool,
    /// Only commands that contain this text
    #[arg(value_name = "TEXT")]
    text: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Options {
    /// JSON, schema `rfs.cache/1`
    #[arg(long)]
    json: bool,
    /// Directory of the cache [default: as for `rfs build`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<i32, CommandError> {
    match args.what {
        What::Stats(options) => stats(&options),
        What::Verify(options) => verify(&options),
        What::Gc(gc) => {
            let limit = gc.max_size.map_or_else(limit, Ok)?;
            free(&gc.options, |cache, progress| cache.gc(limit, progress))
        }
        What::Pin(pin) => self::pin(&pin),
        What::Clear(options) => free(&options, Cache::clear),
        What::Records(records) => self::records(&records),
    }
}

/// What programs get.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    schema: &'static str,
    dir: &'a str,
    blobs: u64,
    blob_bytes: u64,
    keys: u64,
    #[serde(flatten)]
    more: More<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum More<'a> {
    Stats {
        record_bytes: u64,
        pinned: u64,
        max_size: u64,
    },
    Report {
        records: u64,
        lost: u64,
        orphans: u64,
        orphan_bytes: u64,
        wrong: &'a [String],
    },
}

impl Answer<'_> {
    fn print(&self) {
        let json = serde_json::to_string_pretty(self).expect("BUG: plain values make JSON");
        console::answer(json);
    }
}

fn stats(options: &Options) -> Result<i32, CommandError> {
    let dir = dir(options)?;
    let stats = stats_of(&dir)?;
    let Stats {
        blobs,
        blob_bytes,
        keys,
        record_bytes,
        pinned,
    } = stats;
    let max_size = limit()?;
    if options.json {
        Answer {
            schema: "rfs.cache/1",
            dir: &dir.to_string_lossy(),
            blobs,
            blob_bytes,
            keys,
            more: More::Stats {
                record_bytes,
                pinned,
                max_size,
            },
        }
        .print();
    } else {
        console::answer(stats_text(&dir, &stats, max_size));
    }
    Ok(0)
}

fn stats_of(dir: &Path) -> Result<Stats, CommandError> {
    match open(dir)? {
        Some(cache) => cache.stats().map_err(damaged),
        None => Ok(Stats::default()),
    }
}

fn damaged(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(error)
        .hint("`rfs cache verify` removes what is damaged; `rfs cache clear` forgets all of it")
}

fn stats_text(dir: &Path, stats: &Stats, max_size: u64) -> String {
    format!(
        "{}: {} contents, {} of {}; records of {} commands, {}; {} records pinned",
        dir.display(),
        stats.blobs,
        size::text(stats.blob_bytes),
        size::text(max_size),
        stats.keys,
        size::text(stats.record_bytes),
        stats.pinned
    )
}

/// How much is in the cache that `rfs build` would use here, as people read it.
pub(super) fn told() -> Result<String, CommandError> {
    let dir = dir(&Options {
        json: false,
        cache_dir: None,
    })?;
    Ok(stats_text(&dir, &stats_of(&dir)?, limit()?))
}

fn pin(args: &Pin) -> Result<i32, CommandError> {
    let dir = dir(&args.options)?;
    let n_records = match open(&dir)? {
        Some(cache) => cache.pin(&args.text, !args.off).map_err(damaged)?,
        None => 0,
    };
    if args.options.json {
        let answer = serde_json::json!({
            "schema": "rfs.cache/1", "dir": dir.to_string_lossy(), "records": n_records,
            "pinned": !args.off,
        });
        console::answer(format_args!("{answer:#}"));
    } else {
        let how = if args.off {
            "no longer pinned"
        } else {
            "pinned"
        };
        let dir = dir.display();
        console::answer(format_args!("{dir}: {n_records} records are {how}"));
    }
    Ok(0)
}

/// Bytes that the contents may take up.
fn limit() -> Result<u64, CommandError> {
    let config = place::config(&workspace::find(&place::cwd()?))?;
    Ok(config.cache_size.unwrap_or(gc::SIZE))
}

fn free(
    options: &Options,
    free: impl FnOnce(&Cache, &mut dyn FnMut(u64)) -> Result<Freed, Error>,
) -> Result<i32, CommandError> {
    let dir = dir(options)?;
    let freed = match open(&dir)? {
        Some(cache) => {
            let mut progress = console::Progress::new("freed");
            free(&cache, &mut |bytes| progress.show(bytes)).map_err(damaged)?
        }
        None => Freed::default(),
    };
    let Freed {
        records,
        blobs,
        bytes,
        left,
    } = freed;
    if options.json {
        let answer = serde_json::json!({
            "schema": "rfs.cache/1", "dir": dir.to_string_lossy(), "records_freed": records,
            "blobs_freed": blobs, "bytes_freed": bytes, "blob_bytes": left,
        });
        console::answer(format_args!("{answer:#}"));
    } else {
        console::answer(format_args!(
            "{}: {records} records and {blobs} contents are gone, {}; {} are left",
            dir.display(),
            size::text(bytes),
            size::text(left)
        ));
    }
    Ok(0)
}

fn verify(options: &Options) -> Result<i32, CommandError> {
    let dir = dir(options)?;
    let report = match open(&dir)? {
        Some(cache) => {
            let mut progress = console::Progress::new("looked at");
            let report = cache.verify(&mut |bytes| progress.show(bytes));
            drop(progress);
            report.map_err(unreadable)?
        }
        None => Report::default(),
    };
    let Report {
        blobs,
        blob_bytes,
        keys,
        records,
        lost,
        orphans,
        orphan_bytes,
        wrong,
    } = &report;
    if options.json {
        Answer {
            schema: "rfs.cache/1",
            dir: &dir.to_string_lossy(),
            blobs: *blobs,
            blob_bytes: *blob_bytes,
            keys: *keys,
            more: More::Report {
                records: *records,
                lost: *lost,
                orphans: *orphans,
                orphan_bytes: *orphan_bytes,
                wrong,
            },
        }
        .print();
    } else {
        for message in wrong {
            console::warn(message, None);
        }
        console::answer(format_args!(
            "{}: {blobs} whole contents, {}; {records} whole records of {keys} commands\n\
             {lost} records lack contents; no record needs {orphans} contents, {}; {} files were wrong",
            dir.display(),
            size::text(*blob_bytes),
            size::text(*orphan_bytes),
            wrong.len()
        ));
    }
    Ok(i32::from(!wrong.is_empty()))
}

/// All records that this program may read, of those that `rfs build` keeps for a directory of a cache.
pub(super) fn all_records(dir: Option<&Path>) -> Result<Vec<Record>, CommandError> {
    let options = Options {
        json: false,
        cache_dir: dir.map(Path::to_owned),
    };
    let Some(cache) = open(&self::dir(&options)?)? else {
        return Ok(Vec::new());
    };
    let keys = cache.keys().map_err(damaged)?;
    // The newest of each command: what it is now.
    let newest = |key| cache.load(key).records.into_iter().next();
    let newest = keys.iter().filter_map(newest);
    Ok(newest.map(Arc::unwrap_or_clone).collect())
}

fn records(args: &Records) -> Result<i32, CommandError> {
    let Some(cache) = open(&dir(&args.options)?)? else {
        return Ok(0);
    };
    for key in cache.keys().map_err(damaged)? {
        for found in cache.load(&key).records {
            let text = args.text.as_deref().unwrap_or_default();
            if !found.title.contains(text) {
                continue;
            }
            if args.options.json {
                console::answer(record::json(&key, &found, args.cost));
            } else {
                console::answer(record::text(&found));
            }
        }
    }
    Ok(0)
}

/// The cache that `rfs build` would use here.
fn dir(options: &Options) -> Result<PathBuf, CommandError> {
    let cwd = place::cwd()?;
    let config = place::config(&workspace::find(&cwd))?;
    place::cache(
        options.cache_dir.as_deref(),
        config.cache_dir.as_deref(),
        &cwd,
    )
}

/// Opens the cache; none where there is nothing yet: looking does not make one.
fn open(dir: &Path) -> Result<Option<Cache>, CommandError> {
    if !dir.exists() {
        return Ok(None);
    }
    Cache::open(dir, Arc::new(RealDisk))
        .map(Some)
        .map_err(damaged)
}

fn unreadable(error: crate::disk::Error) -> CommandError {
    CommandError::new(format_args!("cannot look at the cache: {error}")).hint(
        "it must be readable for you; another one is chosen with --cache-dir or RFS_CACHE_DIR",
    )
}
