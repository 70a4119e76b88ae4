//! `rfs build`: one command under watch. Makes the request out of options, configuration and
//! environment, becomes front and host, and ends as the command has ended.

use super::descriptors::{self, Inherited};
use super::error::{CommandError, Kind};
use super::front::{self, Outcome};
use super::progress::When;
use super::signals::Taken;
use super::topo::{self, PolicyName};
use super::wire::{self, Failure};
use super::{console, host, place, profile, rules, summary_file, workspace};
use crate::cache::gc;
use crate::disk::RealDisk;
use crate::report::size;
use crate::runner::budget::Budget;
use crate::runner::jobserver::MAX_JOBS;
use crate::runner::pins::Places;
use crate::runner::room::{Here, Pressure};
use crate::runner::topology::{self, Source};
use crate::runner::{Jobs, Request, Tracer, spawn};
use nix::unistd::ForkResult;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Run a command; steps of it that were computed before are served
///
/// Runs COMMAND in a view of the workspace where every file that it and its children look at is recorded.
/// A step whose recorded inputs are unchanged is not run again: its files, its output and its exit status
/// appear as if it had been.
///
/// The workspace is the nearest directory upwards that has `.rfs` or `.git`, else the working directory.
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
    /// Directory of the cache [default: $RFS_CACHE_DIR, $XDG_CACHE_HOME/rfs, ~/.cache/rfs]
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
    progress: Option<When>,
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
    let root = workspace::find(&cwd);
    workspace::refuse_root(&root)?;
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
    let taken = Taken::take()?;
    let strict = args.strict;
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
        preload: place::preload().or(config.preload).unwrap_or(true),
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
    log::debug!(
        "workspace {:?}, cache {:?}",
        request.workspace,
        request.cache
    );

    let outcome = match prepare(&request.workspace) {
        Ok(()) => {
            let failed = |error| CommandError::new(format_args!("cannot start the host: {error}"));
            let (front_end, host_end) = wire::pair().map_err(failed)?;
            match spawn::fork().map_err(failed)? {
                ForkResult::Child => {
                    drop(front_end);
                    host::run(&request, &telling, host_end, inherited);
                    return Ok(0);
                }
                ForkResult::Parent { child } => {
                    drop(host_end);
                    let started = || {
                        descriptors::leave_input_and_output();
                        inherited.close();
                    };
                    front::follow(child, &front_end, &taken, started).map_err(|error| {
                        CommandError::new(format_args!("lost touch with the build: {error}"))
                    })?
                }
            }
        }
        Err(reason) => Outcome::Failed(Failure::Watch(reason)),
    };
    match outcome {
        Outcome::Exited(status) => Ok(status),
        Outcome::Died(signal) => Ok(spawn::die_by(signal)),
        Outcome::Interrupted(signal) => Ok(spawn::die_by(signal as i32)),
        Outcome::Lost(reason) => Err(CommandError::new(format_args!(
            "lost sight of the command, which may have done anything or nothing: {reason}"
        ))),
        Outcome::Failed(Failure::Exec(name, errno)) => Err(cannot_execute(&name, errno)),
        Outcome::Failed(Failure::Watch(reason)) if strict => {
            Err(CommandError::new(reason).hint(REMEDY))
        }
        Outcome::Failed(Failure::Watch(reason)) => {
            console::warn(
                format_args!("{reason}; the command runs plainly, nothing is recorded or served"),
                Some(REMEDY),
            );
            if let Some(path) = &telling.summary {
                summary_file::remove(path, &RealDisk);
            }
            taken.give_back();
            Err(run_plainly(&request.argv))
        }
    }
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

const REMEDY: &str = "`rfs doctor` tells what this machine lacks and how to get it";

/// Makes `.rfs/`, or says why the build cannot be watched.
fn prepare(root: &Path) -> Result<(), String> {
    let made = workspace::prepare(root, &RealDisk)
        .map_err(|error| format!("cannot keep state in the workspace: {error}"))?;
    if made && place::home().as_deref() == Some(root) {
        console::warn(
            "the home directory as a whole is now a workspace",
            Some("remove ~/.rfs and use `rfs init` in the project's directory"),
        );
    }
    Ok(())
}

/// execve(2) in place of ourselves, so that nothing of us remains. Returns why it could not be done.
fn run_plainly(argv: &[OsString]) -> CommandError {
    let name = argv.first().map(OsString::as_os_str).unwrap_or_default();
    let words: Result<Vec<CString>, _> = argv
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect();
    let errno = match words {
        Ok(words) => match nix::unistd::execvp(&words[0], &words) {
            Err(errno) => errno as i32,
        },
        Err(_) => libc::EINVAL,
    };
    cannot_execute(&name.to_string_lossy(), errno)
}

/// What a shell says and returns for a command that cannot be executed.
fn cannot_execute(name: &str, errno: i32) -> CommandError {
    if errno == libc::ENOENT {
        let what = if name.contains('/') {
            "no such file or directory"
        } else {
            "command not found"
        };
        CommandError::of(Kind::NotFound, format_args!("{name}: {what}"))
    } else {
        let why = nix::errno::Errno::from_raw(errno).desc();
        CommandError::of(
            Kind::NotExecutable,
            format_args!("{name}: cannot execute: {why}"),
        )
    }
}
