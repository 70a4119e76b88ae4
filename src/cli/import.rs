//! `rfs rules`: rules out of what other build tools know, and what rules can make.

use super::error::CommandError;
use super::{console, place, show, workspace};
use crate::disk::RealDisk;
use crate::engine::{self, Obsolete, made};
use crate::rules::import::{Imported, make, ninja};
use crate::rules::{self, Rules};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Ask what rules say, make them out of what another build tool knows, remove what they no longer make
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
    /// Tell which rule makes a file, out of what, by which command
    Show(show::Args),
    /// Remove files that jobs made once and that no rule makes any more
    ///
    /// A file that was changed since stays, and is told.
    Collect {
        /// Remove nothing, and tell what would be removed
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Below this directory [default: the working directory]
        dir: Option<PathBuf>,
    },
    /// Print the targets below this directory that the rules name, or that were made before
    ///
    /// Shells complete them. What only a pattern stands for is told once it was made.
    Targets,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let cwd = place::cwd()?;
    let (make, ninja) = match &args.what {
        What::Import { make, ninja } => (make, ninja),
        What::Show(args) => return show::run(args, &cwd),
        What::Collect { dry_run, dir } => {
            return collect(&cwd, dir.as_deref(), *dry_run);
        }
        What::Targets => return targets(&cwd),
    };
    let imported = match (make, ninja) {
        (Some(file), _) => {
            let root = workspace::find(&cwd);
            let text = text(file, "`make -nB --trace >FILE` writes one")?;
            make::read(&text, &root.to_string_lossy())
        }
        (None, Some(file)) => from_ninja(file)?,
        (None, None) => Imported::default(),
    };
    console::answer(imported.text().trim_end());
    Ok(0)
}

/// The workspace of a directory, and its rules.
pub(super) fn load(cwd: &Path) -> Result<(PathBuf, Rules), CommandError> {
    let root = workspace::find(cwd);
    let rules = rules::load(&super::rules::inputs(&root)).map_err(|error| {
        CommandError::new(error).hint("doc/rules.md tells what an Rfsfile can say")
    })?;
    Ok((root, rules))
}

/// Removes what no rule makes any more.
fn collect(cwd: &Path, dir: Option<&Path>, dry_run: bool) -> Result<i32, CommandError> {
    let (root, rules) = load(cwd)?;
    let dir = dir.unwrap_or(Path::new("")).as_os_str().to_owned();
    let below = super::rules::name(&dir, cwd, &root)?;
    let state = root.join(workspace::STATE);
    if !state.join("made").exists() {
        return Ok(0);
    }
    let disk = Arc::new(RealDisk);
    let found = engine::collect((&root, &state), disk, &rules, &below, !dry_run);
    for Obsolete { name, is_as_made } in found.map_err(CommandError::new)? {
        match is_as_made {
            true => console::answer(name),
            false => console::tell(format_args!(
                "{name} stays: no rule makes it any more, but it was changed since"
            )),
        }
    }
    Ok(0)
}

/// Prints the targets below a directory.
fn targets(cwd: &Path) -> Result<i32, CommandError> {
    let (root, rules) = load(cwd)?;
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
    ninja::read(&name, &open).map_err(|error| {
        CommandError::new(error).hint("name the build.ninja that ninja itself can read")
    })
}

/// What a file says, or standard input for `-`. The hint tells how there will be one.
pub(super) fn text(file: &Path, hint: &str) -> Result<String, CommandError> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|found| text = found),
    };
    let failed = |error| CommandError::new(format_args!("{}: {error}", file.display())).hint(hint);
    read.map_err(failed)?;
    Ok(text)
}
