//! `rfs lint`.

use super::ask::{self, Asked};
use super::error::CommandError;
use super::import;
use crate::query::declared::{self, Declared};
use crate::query::lint;
use crate::rules::import::{Imported, Recipe, database};
use std::path::PathBuf;

/// Tell what may go wrong another time: races, chance, what is outside, what cannot be served
///
/// Files that steps write and read at the same time or write twice, inputs outside of the workspace and the
/// system, visible uses of the clock and of chance, and steps that cannot be served, with the reason. With what make or ninja
/// knows also files that commands read and targets do not depend on, and the other way round. With --json: schema `rfs.lint/1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also against what `make -pn` printed; `-`: standard input
    #[arg(long, value_name = "FILE")]
    make: Option<PathBuf>,
    /// Also against a build.ninja
    #[arg(long, value_name = "FILE")]
    ninja: Option<PathBuf>,
    #[command(flatten)]
    options: ask::Options,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let asked = Asked::here()?;
    let mut all: Vec<Declared> = Vec::new();
    if let Some(file) = &args.make {
        let imported = database::read(
            &import::text(file, "`make -pn >FILE` writes one")?,
            &asked.root.to_string_lossy(),
        );
        all.extend(
            imported
                .recipes
                .into_iter()
                .map(|recipe| declared(recipe, "")),
        );
    }
    if let Some(file) = &args.ninja {
        let dir = asked.cwd.join(file);
        let dir = dir
            .parent()
            .and_then(|dir| dir.strip_prefix(&asked.root).ok());
        let dir = dir.unwrap_or(&asked.cwd).to_string_lossy().into_owned();
        let Imported { recipes, .. } = import::from_ninja(file)?;
        all.extend(recipes.into_iter().map(|recipe| declared(recipe, &dir)));
    }
    let mut found = lint::lint(&asked.state, args.options.run);
    if let Ok(found) = &mut found {
        let more = declared::findings(&asked.state, &all).map_err(ask::explained)?;
        found.findings.extend(more);
    }
    ask::answer(found, args.options.json)
}

/// With names relative to the workspace, when they are relative to a directory in it.
fn declared(recipe: Recipe, dir: &str) -> Declared {
    let below = |names: Vec<String>| -> Vec<String> {
        let below = |name: String| match dir.is_empty() || name.starts_with('/') {
            true => name,
            false => crate::rules::import::tidy(&format!("{dir}/{name}")),
        };
        names.into_iter().map(below).collect()
    };
    Declared {
        targets: below(recipe.targets),
        deps: below(recipe.deps),
        order: below(recipe.order),
        tells: recipe.tells,
        has_command: recipe.cmd.is_some() && !recipe.phony,
    }
}
