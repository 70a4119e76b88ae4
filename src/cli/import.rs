//! `rfs rules`: rules out of what other build tools know, and what rules can make.

use super::error::CommandError;
use super::{console, place, workspace};
use crate::engine::made;
use crate::rules;
use crate::rules::import::{Imported, make, ninja};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Make an Rfsfile out of what another build tool knows
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print rules for what make or ninja would do
    Import {
        /// What `make -nB --trace` printed; `-`: standard input
        #[arg(long, value_name = "FILE", conflicts_with = "ninja")]
        make: Option<PathBuf>,
        /// A build.ninja
        #[arg(long, value_name = "FILE", required_unless_present = "make")]
        ninja: Option<PathBuf>,
    },
    /// Print the targets below this directory that the rules name, or that were made before
    ///
    /// Shells complete them. What only a pattern stands for is told once it was made.
    Targets,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let cwd = place::cwd()?;
    let What::Import { make, ninja } = &args.what else {
        return targets(&cwd);
    };
    let imported = match (make, ninja) {
        (Some(file), _) => {
            let root = workspace::find(&cwd);
            make::read(&text(file)?, &root.to_string_lossy())
        }
        (None, Some(file)) => from_ninja(file)?,
        (None, None) => Imported::default(),
    };
    console::answer(imported.text().trim_end());
    Ok(0)
}

/// Prints the targets below a directory.
fn targets(cwd: &Path) -> Result<i32, CommandError> {
    let root = workspace::find(cwd);
    let rules = rules::load(&super::rules::inputs(&root)).map_err(|error| {
        CommandError::new(error).hint("doc/rules.md tells what an Rfsfile can say")
    })?;
    let mut names = made(&root.join(".rfs"));
    names.extend(rules.named().map(str::to_owned));
    let here = cwd.strip_prefix(&root).unwrap_or(Path::new(""));
    for name in &names {
        if let Ok(below) = Path::new(name).strip_prefix(here) {
            console::answer(below.display());
        }
    }
    Ok(0)
}

/// What a build.ninja and what it includes say.
pub(super) fn from_ninja(file: &Path) -> Result<Imported, CommandError> {
    let dir = file.parent().unwrap_or(Path::new(""));
    let open = |name: &str| {
        let path = dir.join(name);
        std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    ninja::read(&name, &open).map_err(CommandError::new)
}

/// What a file says, or standard input for `-`.
pub(super) fn text(file: &Path) -> Result<String, CommandError> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|found| text = found),
    };
    let failed = |error| CommandError::new(format_args!("{}: {error}", file.display()));
    read.map_err(failed)?;
    Ok(text)
}
