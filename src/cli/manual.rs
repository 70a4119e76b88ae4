//! `rfs completions` and `rfs manual`: what shells and man(1) know of the command line, made from its
//! definition, so that they cannot tell anything else.

use super::console;
use super::error::CommandError;
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
    dir: PathBuf,
}

pub(super) fn completions(
    args: &Completions,
    mut program: clap::Command,
) -> Result<i32, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "rfs", &mut script);
    let script = String::from_utf8(script).map_err(CommandError::new)?;
    console::answer(script.trim_end());
    Ok(0)
}

pub(super) fn manual(args: &Manual, program: clap::Command) -> Result<i32, CommandError> {
    clap_mangen::generate_to(program, &args.dir).map_err(|error| {
        let dir = args.dir.display();
        CommandError::new(format_args!("cannot write manual pages to {dir}: {error}"))
            .hint("the directory must exist and be writable")
    })?;
    Ok(0)
}
