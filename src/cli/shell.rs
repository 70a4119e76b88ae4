//! `rfs shell`: a shell whose commands are steps.

use super::build::Telling;
use super::descriptors::Inherited;
use super::error::CommandError;
use super::progress::When;
use super::signals::Taken;
use super::{place, profile, watched, workspace};
use nix::unistd::{User, getuid};
use std::ffi::OsString;

/// Start a shell whose commands are steps: recorded, and served where nothing has changed
///
/// The shell itself and what is built into it always run. Exit status: that of the shell; otherwise as for
/// `rfs build`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Run this command line instead of asking for some
    #[arg(short, value_name = "COMMAND", value_hint = clap::ValueHint::CommandString)]
    command: Option<OsString>,
    /// The shell [default: $SHELL, the user's, /bin/sh]
    #[arg(long, value_name = "PROGRAM", value_hint = clap::ValueHint::CommandName)]
    shell: Option<OsString>,
    /// Fail with 125 where view or tracer cannot be had, instead of starting the shell plainly
    #[arg(long)]
    strict: bool,
    /// After the shell has ended, tell for each step whether it was served, run or refused, and why
    #[arg(long)]
    explain: bool,
    /// Write the counts to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<OsString>,
    /// No summary line
    #[arg(short, long)]
    quiet: bool,
    /// Arguments for the shell: a script, or what COMMAND finds as $0, $1 and so on
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<OsString>,
}

pub(super) fn run(args: Args) -> Result<i32, CommandError> {
    let inherited = Inherited::list();
    let cwd = place::cwd()?;
    let root = workspace::of(&cwd)?;
    let config = place::config(&root)?;
    let telling = Telling {
        explain: args.explain,
        summary: args.summary.as_ref().map(|file| cwd.join(file)),
        profile: Some(profile::file(&root)),
        quiet: args.quiet,
        // The terminal is the shell's.
        progress: When::Never,
    };
    let mut argv = vec![args.shell.unwrap_or_else(usual)];
    if let Some(command) = args.command {
        argv.extend(["-c".into(), command]);
    }
    argv.extend(args.args);
    let taken = Taken::take()?;
    let mut request = watched::plain(argv, cwd, root, config, &taken)?;
    request.shell = true;
    watched::run(&request, &telling, taken, inherited, args.strict)
}

/// The shell that the user is used to.
fn usual() -> OsString {
    let own = || {
        let user = User::from_uid(getuid()).ok()??;
        Some(user.shell.into_os_string()).filter(|shell| !shell.is_empty())
    };
    place::variable("SHELL")
        .or_else(own)
        .unwrap_or_else(|| "/bin/sh".into())
}
