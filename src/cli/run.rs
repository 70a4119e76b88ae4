//! `rfs run`: a command, once or several times side by side, each at its place on the machine; outside of
//! any build, and with the report of what each has got.

use super::console;
use super::error::CommandError;
use super::executable;
use super::signals::Taken;
use super::topo::{self, PolicyName};
use crate::base::cpuset::CpuSet;
use crate::base::topology::Machine;
use crate::report::size;
use crate::runner::bind::{Binding, Memory};
use crate::runner::budget::Budget;
use crate::runner::launch::{self, Over, Process, Started};
use crate::runner::pmi::Server;
use crate::runner::slots::{self, Policy};
use crate::runner::topology::{self, Source};
use crate::runner::{Ended, Error, location, spawn};
use serde::Serialize;
use std::ffi::OsString;
use std::os::fd::AsRawFd;

/// Run a command pinned to processors and memory, once or N times, and report what it got
///
/// Nothing is recorded and nothing is served. Each of several processes finds its number in RFS_RANK and
/// their count in RFS_SIZE, and the same of those on its machine in RFS_LOCAL_RANK and RFS_LOCAL_SIZE. Exit status: that of the command; of several, the first that is not 0.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Processes to start
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    ranks: u32,
    /// The processors for all of them: places such as core:0-3, numa:1, "pack:0.core:all", os=eth0, 0xff
    #[arg(long, value_name = "PLACES")]
    bind: Option<String>,
    /// How several are laid out on those
    #[arg(long, value_name = "POLICY")]
    policy: Option<PolicyName>,
    /// How memory is placed: local to the processors, bound to them, or interleaved
    #[arg(long, value_name = "WAY", default_value = "none")]
    membind: MemoryName,
    /// Serve the process manager interface (PMI 1), by which programs of MPICH and Intel MPI find each other
    #[arg(long)]
    pmi: bool,
    /// Report as JSON, schema `rfs.run/1`, on standard error
    #[arg(long)]
    json: bool,
    /// No report
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What each of several processes finds in its environment.
const RANKS: [&str; 4] = ["RFS_RANK", "RFS_SIZE", "RFS_LOCAL_RANK", "RFS_LOCAL_SIZE"];

/// What an MPI program finds in its environment: the descriptor, its number and the count, also on this machine.
const PMI: [&str; 5] = [
    "PMI_FD",
    "PMI_RANK",
    "PMI_SIZE",
    "MPI_LOCALRANKID",
    "MPI_LOCALNRANKS",
];

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum MemoryName {
    /// As the caller has it
    None,
    /// Near the processors, elsewhere when that is full
    Local,
    /// Near the processors only
    Bind,
    /// Dealt over the nodes near the processors
    Interleave,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    ranks: Vec<Rank<'a>>,
}

/// What one has asked for, got and used.
#[derive(Serialize)]
struct Rank<'a> {
    asked: &'a Binding,
    got: &'a crate::runner::bind::Placement,
    as_asked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    cpu_s: f64,
    peak_bytes: u64,
    major_faults: u64,
    switches: u64,
}

pub(super) fn run(args: Args) -> Result<i32, CommandError> {
    let bindings = bindings(&args)?;
    let (server, wires) = match args.pmi {
        true => {
            let (server, wires) = Server::new(args.ranks as usize).map_err(CommandError::new)?;
            (Some(server), wires)
        }
        false => (None, Vec::new()),
    };
    let mut wires = wires.into_iter();
    let taken = Taken::take()?;
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let (asked, bindings): (Vec<Binding>, Vec<Binding>) = bindings.into_iter().unzip();
    let process = |(rank, binding): (u32, Binding)| {
        let mut env = environment.clone();
        env.retain(|(name, _value)| !RANKS.iter().any(|known| name == known));
        env.push(("RFS_RANK".into(), rank.to_string().into()));
        env.push(("RFS_SIZE".into(), args.ranks.to_string().into()));
        // All run on this machine.
        env.push(("RFS_LOCAL_RANK".into(), rank.to_string().into()));
        env.push(("RFS_LOCAL_SIZE".into(), args.ranks.to_string().into()));
        let inherits = wires.next();
        if let Some(fd) = &inherits {
            env.retain(|(name, _value)| !PMI.iter().any(|known| name == known));
            let values = [rank, args.ranks, rank, args.ranks];
            env.push((PMI[0].into(), fd.as_raw_fd().to_string().into()));
            let named = PMI[1..].iter().zip(values);
            env.extend(named.map(|(name, value)| (name.into(), value.to_string().into())));
        }
        Process {
            argv: args.command.clone(),
            env,
            binding,
            inherits,
        }
    };
    let mut processes: Vec<Process> = (0..).zip(bindings).map(process).collect();
    let started = launch::start(&processes, &taken.mask).map_err(failed)?;
    // Where a process has gone is seen at its end of the wire alone.
    processes
        .iter_mut()
        .for_each(|process| process.inherits = None);
    let over = launch::wait(&started, &taken.coming, server)
        .map_err(|error| CommandError::new(format_args!("cannot wait for the command: {error}")))?;
    if !args.quiet {
        report(&asked, &started, &over, args.json)?;
    }
    let bad = over.iter().find(|one| one.ended != Ended::Exit(0));
    Ok(match bad.map(|one| one.ended) {
        None => 0,
        Some(Ended::Exit(status)) => status,
        Some(Ended::Signal(signal)) => spawn::die_by(signal),
    })
}

fn failed(error: Error) -> CommandError {
    match error {
        Error::Exec(name, error) => {
            let errno = error.raw_os_error().unwrap_or(libc::ENOEXEC);
            executable::cannot_execute(&name, errno)
        }
        Error::Bind(..) => CommandError::new(error)
            .hint("`rfs topo` shows the processors and the memory that can be had"),
        Error::Mount(..) | Error::Trace(_) => CommandError::new(error),
    }
}

/// What is asked for each, and of that what may be had.
fn bindings(args: &Args) -> Result<Vec<(Binding, Binding)>, CommandError> {
    let machine = topology::read(&Source::Here).map_err(CommandError::new)?;
    let budget = Budget::of(&machine, topo::batch());
    let wanted = args.bind.as_deref();
    let wanted = wanted.map(|places| location::parse(&machine, places));
    let wanted = wanted.transpose().map_err(CommandError::new)?;
    let cpus = match &wanted {
        Some(wanted) => {
            let allowed = wanted.and(&budget.cpus);
            if allowed.is_empty() {
                return Err(CommandError::new(format_args!(
                    "none of the processors {wanted} may be used here: allowed are {}",
                    budget.cpus
                )));
            }
            allowed
        }
        None => budget.cpus,
    };
    let policy = args.policy.map_or(Policy::None, Policy::from);
    let pinned = args.bind.is_some() || policy != Policy::None;
    let slots = slots::plan(&machine, &cpus, args.ranks as usize, policy);
    let binding = |slot: slots::Slot| {
        let had = Binding {
            memory: memory(args.membind, &machine, &slot.cpus),
            cpus: pinned.then_some(slot.cpus),
        };
        let mut asked = had.clone();
        if let (Some(wanted), Policy::None) = (&wanted, policy) {
            asked.cpus = Some(wanted.clone());
        }
        (asked, had)
    };
    Ok(slots.into_iter().map(binding).collect())
}

fn memory(name: MemoryName, machine: &Machine, cpus: &CpuSet) -> Memory {
    let nodes = machine.nodes_near(cpus);
    match name {
        MemoryName::None => Memory::Default,
        MemoryName::Local => Memory::Local(nodes),
        MemoryName::Bind => Memory::Bind(nodes),
        MemoryName::Interleave => Memory::Interleave(nodes),
    }
}

fn report(
    asked: &[Binding],
    started: &[Started],
    over: &[Over],
    json: bool,
) -> Result<(), CommandError> {
    let rank = |((asked, started), over): ((&'_ Binding, &'_ Started), &Over)| {
        let (exit, signal) = match over.ended {
            Ended::Exit(status) => (Some(status), None),
            Ended::Signal(signal) => (None, Some(signal)),
        };
        (
            asked.clone(),
            started.placement.clone(),
            exit,
            signal,
            over.usage,
        )
    };
    let all: Vec<_> = asked.iter().zip(started).zip(over).map(rank).collect();
    if json {
        let ranks = all.iter().map(|(asked, got, exit, signal, usage)| Rank {
            asked,
            got,
            as_asked: got.is_as_asked(asked),
            exit: *exit,
            signal: *signal,
            cpu_s: seconds(usage),
            peak_bytes: usage.peak_bytes,
            major_faults: usage.major_faults,
            switches: usage.switches,
        });
        let report = Report {
            schema: "rfs.run/1",
            ranks: ranks.collect(),
        };
        console::raw(serde_json::to_string(&report).map_err(CommandError::new)?);
        return Ok(());
    }
    for (rank, (asked, got, exit, signal, usage)) in all.iter().enumerate() {
        let how = match (exit, signal) {
            (Some(0), _) | (None, None) => String::new(),
            (Some(status), _) => format!("exit status {status}; "),
            (None, Some(signal)) => format!("killed by signal {signal}; "),
        };
        console::tell(format_args!(
            "{rank}: {how}asked {asked}; got cpus {}, memory {} of nodes {}{}; {:.2} s of CPU, {} at \
             most, {} major faults, {} switches",
            got.cpus,
            if got.memory.is_empty() {
                "default"
            } else {
                &got.memory
            },
            got.nodes,
            if got.is_as_asked(asked) {
                ""
            } else {
                " (not as asked)"
            },
            seconds(usage),
            size::text(usage.peak_bytes),
            usage.major_faults,
            usage.switches,
        ));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "hundredths are shown")]
fn seconds(usage: &spawn::Usage) -> f64 {
    usage.cpu_us as f64 / 1e6
}
