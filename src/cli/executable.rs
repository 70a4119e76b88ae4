//! What is said of a command that cannot be executed: as a shell says it, and what can be done.

use super::error::{CommandError, Kind};
use nix::errno::Errno;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Bytes of the first line of a script that are looked at.
const FIRST_LINE: u64 = 256;

/// That a command cannot be executed; `errno`: what execvp(3) said.
pub(super) fn cannot_execute(name: &str, errno: i32) -> CommandError {
    if errno == libc::ENOENT {
        let (what, hint) = match name.contains('/') {
            true => ("no such file or directory", not_there(name)),
            false => ("command not found", not_in_path(name)),
        };
        return CommandError::of(Kind::NotFound, format_args!("{name}: {what}")).hint(hint);
    }
    let why = Errno::from_raw(errno).desc();
    let error = CommandError::of(
        Kind::NotExecutable,
        format_args!("{name}: cannot execute: {why}"),
    );
    let path = Path::new(name);
    error.hint(match errno {
        libc::EACCES if path.is_dir() => format!("{name} is a directory"),
        libc::EACCES if path.is_file() => {
            format!("`chmod +x {name}` makes it a program, if its filesystem allows that")
        }
        libc::E2BIG => {
            "arguments and environment are too long together: see getconf ARG_MAX".into()
        }
        _ => format!("`file {name}` tells what it is"),
    })
}

fn not_there(name: &str) -> String {
    let path = Path::new(name);
    if !path.exists() {
        return "it is looked for from the directory that rfs was called in".into();
    }
    let first = std::fs::File::open(path).ok().and_then(|file| {
        let mut line = String::new();
        let mut file = BufReader::new(std::io::Read::take(file, FIRST_LINE));
        file.read_line(&mut line).ok()?;
        Some(line)
    });
    match first.as_deref().and_then(|line| line.strip_prefix("#!")) {
        Some(interpreter) => {
            let interpreter = interpreter.trim().escape_debug();
            format!("it is there, but what its first line wants is not: {interpreter}")
        }
        None => "it is there, but the loader that it was linked for is not".into(),
    }
}

fn not_in_path(name: &str) -> String {
    let dirs = super::place::variable("PATH").unwrap_or_default();
    let names = std::env::split_paths(&dirs).flat_map(|dir: PathBuf| {
        let entries = dir.read_dir().into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    });
    match nearest(name, names) {
        Some(other) => format!("is {other} meant?"),
        None => "no directory of PATH has it: is its package installed?".into(),
    }
}

/// The name that is so like another one that it may have been meant.
fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let most = name.chars().count() / 3;
    let near = names.map(|other| (strsim::osa_distance(name, &other), other));
    let near = near.filter(|(distance, _)| *distance <= most.min(2));
    near.min().map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_known() {
        let near = |name| {
            nearest(
                name,
                ["cmake", "make", "ls", "mk"].map(String::from).into_iter(),
            )
        };
        assert_eq!(near("mkae").as_deref(), Some("make"));
        assert_eq!(near("cmaek").as_deref(), Some("cmake"));
        assert_eq!(near("sl"), None);
        assert_eq!(near("frobnicate"), None);
    }

    #[test]
    fn whatever_cannot_be_executed_there_is_something_to_do() {
        for (name, errno, wanted) in [
            (
                "./no-such-file",
                libc::ENOENT,
                "directory that rfs was called in",
            ),
            ("no-such-command-at-all", libc::ENOENT, "PATH"),
            ("/", libc::EACCES, "is a directory"),
            ("./x", libc::ENOEXEC, "`file ./x`"),
        ] {
            let told = cannot_execute(name, errno).to_string();
            let (_, hint) = told.split_once("\nrfs: hint: ").unwrap();
            assert!(hint.contains(wanted), "{told}");
        }
    }
}
