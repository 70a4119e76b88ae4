//! `rfs bugreport`: what whoever mends rfs wants to know of a machine and a workspace, as one text.

use super::error::CommandError;
use super::{cache, console, doctor, place, profile, workspace};
use crate::report::profile::Profile;
use std::fmt::Write;
use std::path::Path;

/// Print what belongs into a report of a fault: versions, `rfs doctor`, configuration, sizes, the last build
///
/// Nothing is sent anywhere. The text has the configuration files, the names of directories, the values of
/// variables that begin with `RFS_`, and with --build the command lines of the slowest steps of the last
/// build; it has no file's content beside and no other variable. Read it before you pass it on.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also the slowest steps of the last build in this workspace
    #[arg(long)]
    build: bool,
}

pub(super) fn run(args: &Args) -> Result<i32, CommandError> {
    let workspace = workspace::find(&place::cwd()?);
    let Some(found) = doctor::look(None)? else {
        return Ok(0);
    };
    let mut report = Report::default();
    report.section("rfs", env!("CARGO_PKG_VERSION"));
    report.section("system", &system());
    report.section("doctor", &doctor::text(&found));
    for path in place::config_files(&workspace) {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
        report.section(&path.display().to_string(), &text);
    }
    report.section("variables", &place::ours().join("\n"));
    let cache = cache::told().unwrap_or_else(|error| error.to_string());
    report.section("cache", &cache);
    report.section("workspace", &self::workspace(&workspace));
    if args.build {
        let last = std::fs::read_to_string(profile::file(&workspace))
            .map_err(|error| error.to_string())
            .and_then(|text| Profile::parse(&text).map_err(|error| error.to_string()));
        let last = last.map_or_else(|error| error, |profile| profile.text(10));
        report.section("last build", &last);
    }
    console::answer(report.text.trim_end());
    Ok(0)
}

/// Text in sections.
#[derive(Debug, Default)]
struct Report {
    text: String,
}

impl Report {
    fn section(&mut self, title: &str, text: &str) {
        let text = text.trim_end();
        let _infallible = write!(self.text, "== {title}\n{text}\n\n");
    }
}

/// Distribution, kernel, file system of root and processors.
fn system() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release
        .lines()
        .find(|line| line.starts_with("PRETTY_NAME="));
    let version = std::fs::read_to_string("/proc/version").unwrap_or_default();
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find(|line| line.starts_with("model name"));
    [name, Some(version.trim()), model]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n")
}

/// What rfs keeps in a workspace: names and sizes.
fn workspace(root: &Path) -> String {
    let mut lines = vec![root.display().to_string()];
    let state = root.join(workspace::STATE);
    match std::fs::read_dir(&state) {
        Ok(entries) => {
            let mut names: Vec<_> = entries
                .flatten()
                .map(|entry| {
                    let size = entry.metadata().map_or(0, |meta| meta.len());
                    format!("{size:>12}  {}", entry.file_name().to_string_lossy())
                })
                .collect();
            names.sort();
            lines.extend(names);
        }
        Err(error) => lines.push(format!("{}: {error}", state.display())),
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_told_apart() {
        let mut report = Report::default();
        report.section("a", "one\ntwo\n\n");
        report.section("b", "");
        assert_eq!(report.text, "== a\none\ntwo\n\n== b\n\n\n");
    }

    #[test]
    fn a_directory_that_is_no_workspace_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        assert!(workspace(dir.path()).contains("No such file"));
    }
}
