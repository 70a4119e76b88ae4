//! `rfs why` and `rfs why-miss`.

use super::ask::{self, Asked};
use super::error::CommandError;
use super::place;
use crate::base::Name;
use crate::query::{Run, configure, diff, miss, why};
use crate::runner::STATE;
use crate::store::Snapshot;
use clap::builder::NonEmptyStringValueParser;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tell why something was served, ran or was refused in the last build
///
/// The steps around it with their reasons, and the first input that was not as recorded: what it was, what it
/// is, and who wrote it, back to what no step wrote. With --json: schema `rfs.why/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file, or a step by its number (`12`, of run 3: `3:12`)
    #[arg(value_name = "PATH|STEP", required_unless_present = "configure",
          value_parser = NonEmptyStringValueParser::new(), value_hint = clap::ValueHint::AnyPath)]
    subject: Option<String>,
    /// Instead: tell which probe of a configure script decided a define, a variable or a flag
    /// (`-pthread`). With --json: schema
    /// `rfs.why-configure/1`
    #[arg(
        long,
        value_name = "SYMBOL",
        conflicts_with = "subject",
        allow_hyphen_values = true
    )]
    configure: Option<String>,
    /// Directory of the cache, for --configure [default: as for `rfs build`]
    #[arg(long, value_name = "DIR", requires = "configure")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    options: ask::Options,
}

/// A file that is larger is not searched for a symbol, in bytes.
const LARGEST: u64 = 16 << 20;

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    if let Some(symbol) = &args.configure {
        let read = |name: &Name| {
            let path = name.at(&asked.root);
            let size = path
                .metadata()
                .ok()
                .filter(std::fs::Metadata::is_file)?
                .len();
            let bytes = (size <= LARGEST)
                .then(|| std::fs::read(path).ok())
                .flatten();
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let index = asked.index(args.cache_dir.as_deref())?;
        let sources = configure::Sources {
            index: index.as_deref(),
            read: &read,
            cwd: &Name::of(&asked.cwd, &asked.root),
        };
        let found = configure::configured(&asked.state, args.options.run, symbol, sources);
        return ask::answer(found, args.options.json);
    }
    let subject = asked.subject(args.subject.as_deref().unwrap_or_default());
    let why = why::why(&asked.state, args.options.run, &subject);
    ask::answer(why, args.options.json)
}

/// Tell why a step was not served with what another run or checkout has recorded
///
/// All that is different in the same step of the other run: program, arguments, environment as far as it
/// counts, and inputs. With --json: schema `rfs.why-miss/1`.
#[derive(Debug, clap::Args)]
pub(super) struct MissArgs {
    /// A file, or a step by its number (`12`, of run 3: `3:12`)
    #[arg(value_name = "PATH|STEP", value_hint = clap::ValueHint::AnyPath,
          value_parser = NonEmptyStringValueParser::new())]
    subject: String,
    /// The run to compare with: a number, or another checkout, or a copy of its `.rfs/state` [default: the run before]
    #[arg(long, value_name = "RUN|PATH")]
    against: Option<String>,
    #[command(flatten)]
    options: ask::Options,
}

pub(super) fn miss(args: &MissArgs) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let subject = asked.subject(&args.subject);
    let number = args.against.as_deref().map(str::parse::<u32>);
    let (other, run) = match (&args.against, number) {
        (Some(_), Some(Ok(run))) => (asked.state.clone(), Some(run)),
        (Some(path), _) => (other(&asked.cwd.join(path))?, None),
        (None, _) => {
            let this = Run::for_subject(&asked.state, args.options.run, &subject);
            let this = this.map_err(ask::explained)?.build.number;
            let before = diff::before(&asked.state, this).map_err(ask::explained)?;
            (asked.state.clone(), Some(before))
        }
    };
    let policy = place::config(&asked.root)?.policy;
    let miss = miss::miss(
        &asked.state,
        args.options.run,
        &subject,
        (&*other, run),
        &policy,
    );
    ask::answer(miss, args.options.json)
}

/// What is known of another workspace, or in a file.
fn other(path: &Path) -> Result<Arc<Snapshot>, CommandError> {
    let file = match path.is_dir() {
        true => path.join(STATE),
        false => path.to_owned(),
    };
    let known = match file.exists() {
        true => ask::last_state(&file),
        false => None,
    };
    known.ok_or_else(|| {
        CommandError::new(format_args!("no builds are known in {}", path.display())).hint(
            "name a run, another checkout that was built under rfs, or what `rfs store export` wrote there",
        )
    })
}
