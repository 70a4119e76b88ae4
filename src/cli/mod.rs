//! What people type and see: one file a command. The only room that knows options, environment,
//! standard streams and exit statuses.

mod ask;
mod attest;
mod behind;
mod bugreport;
mod build;
mod cache;
mod compdb;
mod config;
mod console;
mod deps;
mod descriptors;
mod diff;
mod doctor;
mod error;
mod executable;
mod features;
mod front;
mod graph;
mod host;
mod import;
mod init;
mod lint;
mod log;
mod logging;
mod machine;
mod manual;
mod marks;
mod mount;
mod place;
mod profile;
mod progress;
mod reference;
mod report;
mod reproduce;
mod rules;
mod run;
mod shell;
mod shims;
mod show;
mod signals;
mod snapshot;
mod stats;
mod store;
mod summary_file;
mod topo;
mod verify;
mod watched;
mod why;
mod wire;
mod workspace;

use crate::runner::spawner;
use clap::{CommandFactory, Parser, Subcommand};
use error::CommandError;
use std::panic::catch_unwind;

/// rfs itself failed: no exit status of a command.
const FAILED: i32 = 125;

/// Runs builds in a recording filesystem: what was already computed is served, not run again.
#[derive(Debug, Parser)]
#[command(name = "rfs", version, max_term_width = 100)]
#[command(
    after_help = "Put `rfs build --` before the command that builds your project, twice.\n\
                        `rfs COMMAND --help` tells more of each command."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Args),
    Shell(shell::Args),
    Shims(shims::Args),
    Init(init::Args),
    Why(why::Args),
    Deps(deps::Args),
    Rdeps(deps::ReverseArgs),
    Log(log::Args),
    Diff(diff::Args),
    Snapshot(snapshot::Args),
    Snapshots(snapshot::ListArgs),
    Restore(snapshot::RestoreArgs),
    WhyMiss(why::MissArgs),
    Graph(graph::Args),
    Compdb(compdb::Args),
    Lint(lint::Args),
    Reproduce(reproduce::Args),
    Stats(stats::Args),
    Report(report::Args),
    Attest(attest::Args),
    Sbom(attest::BillArgs),
    Verify(verify::Args),
    Mount(mount::Args),
    Umount(mount::Umount),
    Status(mount::StatusArgs),
    Cache(cache::Args),
    Store(store::Args),
    Doctor(doctor::Args),
    #[command(name = "bugreport")]
    BugReport(bugreport::Args),
    Profile(profile::Args),
    Run(run::Args),
    Topo(topo::Args),
    Completions(manual::Completions),
    #[command(hide = true)]
    Manual(manual::Manual),
    Forget(marks::ForgetArgs),
    Freeze(marks::FreezeArgs),
    Mark(marks::MarkArgs),
    Rules(import::Args),
    /// The process that starts the jobs of a build by rules
    #[command(name = rules::SPAWNER, hide = true)]
    Spawner,
    /// The process that cleans up after a build by rules that was killed
    #[command(name = rules::GUARD, hide = true)]
    Guard(rules::GuardArgs),
}

impl Command {
    /// Whether it reads or writes what rfs keeps in a workspace.
    fn works_on_state(&self) -> bool {
        !matches!(
            self,
            Self::Mount(_)
                | Self::Umount(_)
                | Self::Status(_)
                | Self::Doctor(_)
                | Self::BugReport(_)
                | Self::Completions(_)
                | Self::Manual(_)
                | Self::Run(_)
                | Self::Verify(_)
                | Self::Topo(_)
                | Self::Spawner
                | Self::Guard(_)
        )
    }
}

/// The program: reads the command line, does what it says and returns the exit status.
///
/// Must be the first thing that the process does, and its only thread.
#[must_use]
pub fn main() -> i32 {
    descriptors::occupy_standard();
    catch_unwind(|| match shims::called() {
        Some(tool) => told(shims::serve(tool)),
        None => match Cli::try_parse() {
            Ok(cli) => run(cli.command),
            Err(error) => usage(&error),
        },
    })
    .unwrap_or(FAILED)
}

fn run(command: Command) -> i32 {
    logging::start();
    if command.works_on_state() {
        if let Err(error) = behind::step() {
            console::error(&error);
            return error.status();
        }
    }
    let done = match command {
        Command::Build(args) => build::run(args),
        Command::Shell(args) => shell::run(args),
        Command::Shims(args) => shims::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Deps(args) => deps::run(&args),
        Command::Rdeps(args) => deps::reverse(&args),
        Command::Log(args) => log::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Snapshot(args) => snapshot::take(&args),
        Command::Snapshots(args) => snapshot::list(&args),
        Command::Restore(args) => snapshot::give_back(&args),
        Command::WhyMiss(args) => why::miss(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Compdb(args) => compdb::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Reproduce(args) => reproduce::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Attest(args) => attest::run(&args),
        Command::Sbom(args) => attest::bill(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Mount(args) => mount::mount(&args),
        Command::Umount(args) => mount::umount(&args),
        Command::Status(args) => mount::tell(&args),
        Command::Cache(args) => cache::run(args),
        Command::Store(args) => store::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::BugReport(args) => bugreport::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Run(args) => run::run(args),
        Command::Topo(args) => topo::run(args),
        Command::Completions(args) => manual::completions(&args, Cli::command()),
        Command::Manual(args) => manual::manual(&args, Cli::command()),
        Command::Forget(args) => marks::forget(&args),
        Command::Freeze(args) => marks::freeze(&args),
        Command::Mark(args) => marks::mark(&args),
        Command::Rules(args) => import::run(&args),
        Command::Guard(args) => rules::guard(&args),
        Command::Spawner => spawner::serve(&crate::disk::RealDisk)
            .map(|()| 0)
            .map_err(|error| CommandError::new(format_args!("the spawner of jobs: {error}"))),
    };
    told(done)
}

/// The exit status. An error is told.
fn told(done: Result<i32, CommandError>) -> i32 {
    done.unwrap_or_else(|error| {
        console::error(&error);
        error.status()
    })
}

/// Says what clap has to say. Help and version are no errors; errors of usage get 125, since commands
/// use 1 and 2 for themselves.
fn usage(error: &clap::Error) -> i32 {
    // A reader that has gone does not change what was asked for.
    let _printed = error.print();
    if error.use_stderr() { FAILED } else { 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::wildcard_enum_match_arm, reason = "one command is meant")]
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    fn build(line: &str) -> Result<build::Args, clap::Error> {
        match Cli::try_parse_from(line.split(' '))?.command {
            Command::Build(args) => Ok(args),
            _ => panic!("not a build: {line}"),
        }
    }

    #[test]
    fn everything_from_the_first_word_on_is_the_commands() {
        for line in [
            "rfs build --explain -- make -j8 -- --explain x",
            "rfs build --explain make -j8 -- --explain x",
        ] {
            let args = build(line).unwrap();
            assert_eq!(
                args.command,
                ["make", "-j8", "--", "--explain", "x"],
                "{line}"
            );
            assert!(args.explain);
        }
        assert_eq!(build("rfs build -- -odd").unwrap().command, ["-odd"]);
    }

    #[test]
    fn an_unknown_option_is_not_a_command() {
        assert!(build("rfs build --unknown make").is_err());
        assert!(build("rfs build").is_err());
        assert!(build("rfs build --").is_err());
    }
}
