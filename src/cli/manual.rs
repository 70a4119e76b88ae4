//! `rfs completions` and `rfs manual`: what shells and man(1) know of the command line, made from its
//! definition, so that they cannot tell anything else.

use super::error::CommandError;
use super::{console, reference};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print a script that completes commands and options for a shell
///
/// The Debian package installs it for bash, zsh and fish. By hand, for bash:
/// `rfs completions bash >~/.local/share/bash-completion/completions/rfs`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Write the manual pages of all commands into a directory
#[derive(Debug, clap::Args)]
pub(super) struct Manual {
    /// A directory that exists
    #[arg(required_unless_present = "reference")]
    dir: Option<PathBuf>,
    /// Print the page of the documentation instead
    #[arg(long)]
    reference: bool,
}

pub(super) fn completions(
    args: &Completions,
    mut program: clap::Command,
) -> Result<i32, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "rfs", &mut script);
    let mut script = String::from_utf8(script).map_err(CommandError::new)?;
    script.push_str(targets(args.shell));
    console::answer(script.trim_end());
    Ok(0)
}

/// What completes the targets of rules.
fn targets(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("targets.bash"),
        Shell::Zsh => include_str!("targets.zsh"),
        Shell::Fish => include_str!("targets.fish"),
        Shell::Elvish | Shell::PowerShell => "",
        _ => "",
    }
}

pub(super) fn manual(args: &Manual, program: clap::Command) -> Result<i32, CommandError> {
    let Some(dir) = args.dir.as_ref().filter(|_| !args.reference) else {
        console::answer(reference::page(&program).trim_end());
        return Ok(0);
    };
    clap_mangen::generate_to(program, dir).map_err(|error| {
        let dir = dir.display();
        CommandError::new(format_args!("cannot write manual pages to {dir}: {error}"))
            .hint("the directory must exist and be writable")
    })?;
    Ok(0)
}
