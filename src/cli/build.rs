//! `rfs build`: one command under watch. Makes the request out of options, configuration and
//! environment, becomes front and host, and ends as the command has ended.

use super::descriptors::Inherited;
use super::error::CommandError;
use super::progress::{Shown, When};
use super::signals::Taken;
use super::topo::{self, PolicyName};
use super::{console, place, profile, rules, watched, workspace};
use crate::cache::gc;
use crate::report::size;
use crate::runner::budget::Budget;
use crate::runner::jobserver::MAX_JOBS;
use crate::runner::pins::Places;
use crate::runner::room::{Here, Pressure};
use crate::runner::topology::{self, Source};
use crate::runner::{Jobs, Request, Tracer};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// Run a command; steps of it that were computed before are served
///
/// Runs COMMAND in a view of the workspace where every file that it and its children look at is recorded.
/// A step whose recorded inputs are unchanged is not run again: its files, its output and its exit status
/// appear as if it had been.
///
/// The workspace is the nearest directory upwards that has `.rfs`, `.git` or an `Rfsfile`, else the working
/// directory.
/// Exit status: that of COMMAND; 125 if rfs itself failed, 126 if COMMAND cannot be executed, 127 if it is
/// not found. Killed by a signal, rfs dies by the same signal.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// After the run, tell for each step whether it was served, run or refused, and why
    #[arg(long)]
    pub(super) explain: bool,
    /// Fail with 125 where view or tracer cannot be had, instead of running the command plainly
    #[arg(long)]
    strict: bool,
    /// Refuse steps that visibly use the clock or random numbers
    #[arg(long)]
    strict_clock: bool,
    /// Record, but serve nothing
    #[arg(long)]
    pub(super) rerun: bool,
    /// Write the counts to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Directory of the cache [default: $RFS_CACHE_DIR, `cache.dir` of the configuration, $XDG_CACHE_HOME/rfs, ~/.cache/rfs]
    #[arg(long, value_name = "DIR", value_parser = clap::value_parser!(PathBuf))]
    pub(super) cache_dir: Option<PathBuf>,
    /// Way of tracing [default: auto]
    #[arg(long, value_name = "WAY")]
    pub(super) tracer: Option<TracerName>,
    /// Pin each step that computes with one thread to its place on the machine
    #[arg(long, value_name = "POLICY")]
    pin: Option<PolicyName>,
    /// One budget of N jobs (or `auto`: as many as there is room for) for make, cargo and other tools that
    /// know GNU make's jobserver; of targets, N jobs at a time [default there: auto]
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub(super) jobs: Option<usize>,
    /// Hold back steps that need more memory than is left of SIZE (with K, M, G or T), as far as is known
    /// from their records; `none`: hold back none [default: what is free and what control groups allow]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
    /// Hold back steps that compute while others run and the pressure (PSI) is higher, in percent:
    /// cpu=80,memory=10,io=50 or some of these; with of=DIR that of a control group, not of the machine
    #[arg(long, value_name = "LIMITS", value_parser = clap::value_parser!(Pressure))]
    pressure: Option<Pressure>,
    /// No summary line
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// What is told on a terminal while the build goes on [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub(super) progress: Option<When>,
    /// Go on with other jobs of rules when one fails
    #[arg(short, long)]
    pub(super) keep_going: bool,
    /// Tell which jobs of rules would run, and run none
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Run jobs of rules again that have failed, though nothing has changed
    #[arg(short = 'e', long)]
    pub(super) retry_failed: bool,
    /// Run a job of rules that fails so many times more
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub(super) retries: u32,
    /// Make incremental targets of rules from nothing
    #[arg(short = 'I', long)]
    pub(super) no_incremental: bool,
    /// Keep in .rfs/failed what failed jobs of rules have written
    #[arg(long)]
    pub(super) keep_failed: bool,
    /// The command and its arguments; or targets, where there is an Rfsfile and no `--` before them
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND", value_hint = clap::ValueHint::CommandWithArguments)]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum TracerName {
    /// The best that this machine allows
    Auto,
    /// Seccomp user notification
    Notify,
    /// Ptrace
    Ptrace,
}

impl From<TracerName> for Tracer {
    fn from(name: TracerName) -> Self {
        match name {
            TracerName::Auto => Self::Auto,
            TracerName::Notify => Self::Notify,
            TracerName::Ptrace => Self::Ptrace,
        }
    }
}

/// What is told of the build at its end.
#[derive(Debug)]
pub(super) struct Telling {
    /// A line for each step.
    pub(super) explain: bool,
    /// The file for the counts, absolute.
    pub(super) summary: Option<PathBuf>,
    /// The file for the steps.
    pub(super) profile: Option<PathBuf>,
    /// No line with the counts.
    pub(super) quiet: bool,
    /// What is told on a terminal while it goes on.
    pub(super) progress: When,
}

impl Telling {
    /// For a build that nobody has asked for.
    pub(super) const NOTHING: Self = Self {
        explain: false,
        summary: None,
        profile: None,
        quiet: true,
        progress: When::Never,
    };
}

pub(super) fn run(args: Args) -> Result<i32, CommandError> {
    let inherited = Inherited::list();
    let cwd = place::cwd()?;
    let root = workspace::of(&cwd)?;
    let config = place::config(&root)?;
    if rules::are_targets(&root, &args.command) {
        return rules::run(args, &cwd, root, config);
    }
    let telling = Telling {
        explain: args.explain,
        summary: args.summary.as_ref().map(|file| cwd.join(file)),
        profile: Some(profile::file(&root)),
        quiet: args.quiet,
        progress: args.progress.or(config.progress).unwrap_or_default(),
    };
    let taken = match Shown::may_have_line(telling.progress) {
        true => Taken::take_with_stop()?,
        false => Taken::take()?,
    };
    let request = Request {
        argv: args.command,
        env: std::env::vars_os().collect(),
        cache: place::cache(args.cache_dir.as_deref(), config.cache_dir.as_deref(), &cwd)?,
        cache_size: config.cache_size.unwrap_or(gc::SIZE),
        cwd,
        workspace: root,
        mask: taken.mask,
        tracer: args
            .tracer
            .map(Tracer::from)
            .or(config.tracer)
            .unwrap_or_default(),
        preload: place::preload(config.preload),
        shell: false,
        rerun: args.rerun,
        strict_clock: args.strict_clock || config.strict_clock.unwrap_or(false),
        pins: args
            .pin
            .map(|policy| pins(policy, &config.policy.near))
            .transpose()?,
        policy: config.policy,
        room: (args.memory != Some(NO_LIMIT) || args.pressure.is_some())
            .then(|| Arc::new(room(args.memory, args.pressure))),
        jobs: args.jobs.map(job_count).transpose()?,
    };
    watched::run(&request, &telling, taken, inherited, args.strict)
}

/// `--memory none`.
const NO_LIMIT: u64 = u64::MAX;

/// What `--memory` says.
fn memory(text: &str) -> Result<u64, String> {
    match text {
        "none" => Ok(NO_LIMIT),
        _ => size::parse(text).map_err(|error| error.to_string()),
    }
}

/// What steps are held by. What cannot be felt is told: it costs no build.
fn room(memory: Option<u64>, pressure: Option<Pressure>) -> Here {
    let here = Here::new(memory, &pressure.unwrap_or_default());
    if let Some((file, error)) = here.unfelt() {
        console::warn(
            format_args!("{}: {error}; nothing is held back by it", file.display()),
            Some("a kernel with CONFIG_PSI tells of pressure, if need be when booted with psi=1"),
        );
    }
    here
}

/// What `-j` says; 0 for `auto`.
fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        _ if text == "auto" => Ok(0),
        Ok(jobs @ 1..=MAX_JOBS) => Ok(jobs),
        Ok(_) | Err(_) => Err(format!("neither `auto` nor a number from 1 to {MAX_JOBS}")),
    }
}

/// A number of jobs; where 0 is asked for, how many there is room for.
fn job_count(jobs: usize) -> Result<Jobs, CommandError> {
    if jobs > 0 {
        return Ok(Jobs::Fixed(jobs));
    }
    let machine = topology::read(&Source::Here).map_err(CommandError::new)?;
    let batch = topo::batch();
    let first = Budget::of(&machine, batch).jobs();
    Ok(Jobs::Auto { first, batch })
}

/// A place for each job that there is room for.
fn pins(policy: PolicyName, near: &[String]) -> Result<Arc<Places>, CommandError> {
    let machine = topology::read(&Source::Here).map_err(CommandError::new)?;
    let places = Places::new(machine, policy.into(), topo::batch(), near);
    let places = places.map_err(|error| {
        CommandError::new(error).hint("`near` in [tools] of rfs.toml names places of this machine")
    })?;
    Ok(Arc::new(places))
}
