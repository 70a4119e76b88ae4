//! `rfs topo`: shows a machine, plans where jobs would go on it, and compares two.

use super::console;
use super::error::CommandError;
use super::{cache, place, workspace};
use crate::base::policy::plain;
use crate::base::topology::Machine;
use crate::report::topology::{difference, picture, text};
use crate::report::{duration, size};
use crate::runner::budget::{self, Budget};
use crate::runner::estimate::{self, Choice, Moved, Work};
use crate::runner::slots::{self, Policy, Slot};
use crate::runner::topology::{self, Source, Thread};
use clap::ValueEnum;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Show the machine, or another one, and where jobs would run on it
///
/// Without options: this machine, as a tree. Any machine can be described instead, by an XML file of hwloc's
/// or in words (see hwloc(7), "Synthetic topologies"), and planned for without owning it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The machine as the process PID may use it
    #[arg(long, value_name = "PID", group = "source")]
    pid: Option<u32>,
    /// The machine in hwloc's XML file FILE; without FILE: write this machine as XML
    #[arg(long, value_name = "FILE", num_args = 0..=1, group = "source")]
    #[expect(clippy::option_option, reason = "absent, alone, with a value")]
    xml: Option<Option<PathBuf>>,
    /// An imagined machine, such as "pack:2 numa:2 core:8 pu:2"
    #[arg(long, value_name = "DESCRIPTION", group = "source")]
    synthetic: Option<String>,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// The same as --format text
    #[arg(long)]
    text: bool,
    /// The same as --format svg
    #[arg(long)]
    svg: bool,
    /// Tell where jobs would run, instead of what there is
    #[arg(long)]
    plan: bool,
    /// Number of jobs to plan for [default: as many as there is room for]
    #[arg(long, value_name = "N", requires = "plan", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    jobs: Option<u32>,
    /// How jobs are laid out
    #[arg(
        long,
        value_name = "POLICY",
        requires = "plan",
        default_value = "spread"
    )]
    policy: PolicyName,
    /// With --plan: also estimate what the compilers and the like recorded in the cache would move between
    /// caches and memory nodes
    #[arg(long, requires = "plan")]
    recorded: bool,
    /// Directory of the cache [default: as for `rfs build`]
    #[arg(long, value_name = "DIR", requires = "recorded")]
    cache_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Tell what is different between two machines; exit status 1 if anything is
    Diff {
        /// An XML file, a description, or `here`
        old: String,
        /// An XML file, a description, or `here`
        new: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A tree
    Text,
    /// Schema `rfs.topology/1`, or `rfs.plan/1`
    Json,
    /// hwloc's own format
    Xml,
    /// A picture
    Svg,
}

/// The policies by the names that users type.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PolicyName {
    /// Everywhere; the kernel decides
    None,
    /// As far from each other as can be
    Spread,
    /// One processor each, next to each other
    Pack,
    /// One core each
    Core,
    /// One of the largest caches each
    Cache,
    /// One memory node each
    Numa,
}

impl From<PolicyName> for Policy {
    fn from(name: PolicyName) -> Self {
        match name {
            PolicyName::None => Self::None,
            PolicyName::Spread => Self::Spread,
            PolicyName::Pack => Self::Pack,
            PolicyName::Core => Self::Core,
            PolicyName::Cache => Self::Cache,
            PolicyName::Numa => Self::Numa,
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    schema: &'static str,
    #[serde(flatten)]
    machine: &'a Machine,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    threads: Vec<Thread>,
}

#[derive(Serialize)]
struct Plan<'a> {
    schema: &'static str,
    policy: Policy,
    budget: &'a Budget,
    slots: &'a [Slot],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    moved: Vec<Moved>,
}

pub(super) fn run(args: Args) -> Result<i32, CommandError> {
    if let Some(Command::Diff { old, new }) = &args.command {
        return diff(old, new);
    }
    let format = args.format()?;
    let source = match (args.pid, args.xml, args.synthetic) {
        (Some(pid), _, _) => Source::Pid(pid),
        (_, Some(Some(file)), _) => Source::Xml(file),
        (_, _, Some(text)) => Source::Synthetic(text),
        _ => Source::Here,
    };
    if args.plan {
        let steps = match args.recorded {
            true => Some(recorded(args.cache_dir.as_deref())?),
            false => None,
        };
        return plan(
            &source,
            format,
            args.jobs,
            args.policy.into(),
            steps.as_deref(),
        );
    }
    if format == Format::Xml {
        console::answer(
            topology::xml(&source)
                .map_err(CommandError::new)?
                .trim_end(),
        );
        return Ok(0);
    }
    let machine = topology::read(&source).map_err(undescribed)?;
    let threads = match source {
        Source::Pid(pid) => topology::threads(pid).map_err(undescribed)?,
        Source::Here | Source::Xml(_) | Source::Synthetic(_) => Vec::new(),
    };
    console::answer(match format {
        Format::Json => json(&Shown {
            schema: "rfs.topology/1",
            machine: &machine,
            threads,
        })?,
        Format::Svg => picture::svg(&machine).trim_end().to_owned(),
        Format::Text | Format::Xml => (text(&machine) + &users(&machine, &threads))
            .trim_end()
            .to_owned(),
    });
    Ok(0)
}

/// What a process may use of the machine; its threads, if that is not the same for all.
fn users(machine: &Machine, threads: &[Thread]) -> String {
    let Some(first) = threads.first() else {
        return String::new();
    };
    let mut lines = format!("process {} may use cpus {}\n", first.id, machine.allowed);
    if threads.iter().any(|thread| thread.cpus != first.cpus) {
        for Thread { id, cpus } in threads {
            lines += &format!("  thread {id}: cpus {cpus}\n");
        }
    }
    lines
}

impl Args {
    fn format(&self) -> Result<Format, CommandError> {
        let given = [
            (self.json, Format::Json),
            (self.text, Format::Text),
            (self.svg, Format::Svg),
            (self.xml == Some(None), Format::Xml),
        ];
        let mut named = given
            .iter()
            .filter(|(given, _format)| *given)
            .map(|&(_given, format)| format);
        let first = named.next();
        if named.next().is_some() {
            return Err(CommandError::new("only one format can be written")
                .hint("leave out all but one of the formats"));
        }
        Ok(first.unwrap_or(self.format))
    }
}

fn undescribed(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(error)
        .hint("`rfs topo --help` tells in which ways a machine can be described")
}

/// How many jobs a batch system has given to this process, if it has.
pub(super) fn batch() -> Option<usize> {
    budget::slurm(|name| place::variable(name)?.into_string().ok())
}

fn plan(
    source: &Source,
    format: Format,
    jobs: Option<u32>,
    policy: Policy,
    steps: Option<&[Work]>,
) -> Result<i32, CommandError> {
    let machine = topology::read(source).map_err(undescribed)?;
    let budget = Budget::of(&machine, batch().filter(|_jobs| machine.here));
    let jobs = jobs.map_or_else(|| budget.jobs(), |jobs| jobs as usize);
    let slots = slots::plan(&machine, &budget.cpus, jobs, policy);
    let choices = [Choice::First, Choice::Nearest];
    let estimate = |steps| choices.map(|choice| estimate::moved(&machine, &slots, steps, choice));
    let moved: Vec<Moved> = steps.map_or_else(Vec::new, |steps| estimate(steps).to_vec());
    console::answer(match format {
        Format::Json => json(&Plan {
            schema: "rfs.plan/1",
            policy,
            budget: &budget,
            slots: &slots,
            moved,
        })?,
        Format::Text => {
            let line = |(job, slot): (usize, &Slot)| {
                let Slot { cpus, nodes, place } = slot;
                format!("job {job}: cpus {cpus}, memory {nodes}, {place}")
            };
            slots
                .iter()
                .enumerate()
                .map(line)
                .chain(moved.iter().map(told))
                .collect::<Vec<_>>()
                .join("\n")
        }
        Format::Xml | Format::Svg => {
            return Err(CommandError::new("a plan is written as text or as JSON")
                .hint("leave the format out, or say `--json`"));
        }
    });
    Ok(0)
}

/// What computes with one thread, of all that is recorded.
fn recorded(cache_dir: Option<&Path>) -> Result<Vec<Work>, CommandError> {
    let config = place::config(&workspace::find(&place::cwd()?))?;
    let mut records = cache::all_records(cache_dir)?;
    records.retain(|record| {
        let name = record.title.split(' ').next().unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or_default();
        config.policy.pin.iter().any(|known| known == plain(name))
    });
    records.sort_by(|a, b| (a.provenance.time, &a.title).cmp(&(b.provenance.time, &b.title)));
    Ok(records.iter().map(Work::of).collect())
}

fn told(moved: &Moved) -> String {
    let how = match moved.choice {
        Choice::First => "the first free place",
        Choice::Nearest => "the free place nearest to what it reads",
    };
    format!(
        "{} recorded steps, each in {how}: {} read, {} from other caches, {} from other memory nodes, {}",
        moved.steps,
        size::text(moved.read),
        size::text(moved.caches),
        size::text(moved.nodes),
        duration::text(Duration::from_micros(moved.wall_us)),
    )
}

fn diff(old: &str, new: &str) -> Result<i32, CommandError> {
    let machine = |text: &str| {
        let source = match text {
            "here" => Source::Here,
            _ if PathBuf::from(text).is_file() => Source::Xml(PathBuf::from(text)),
            _ => Source::Synthetic(text.to_owned()),
        };
        topology::read(&source).map_err(undescribed)
    };
    let lines = difference::lines(&machine(old)?, &machine(new)?);
    if lines.is_empty() {
        return Ok(0);
    }
    console::answer(lines.join("\n"));
    Ok(1)
}

fn json(value: &impl Serialize) -> Result<String, CommandError> {
    serde_json::to_string_pretty(value).map_err(CommandError::new)
}
