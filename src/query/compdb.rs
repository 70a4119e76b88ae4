//! `rfs compdb`: how each source was compiled (the JSON Compilation Database of clang), also by steps that
//! were served, alone or as a part of others.

use super::Error;
use super::run::Run;
use crate::base::{Digest, Record};
use crate::store::graph::Fate;
use crate::store::{Snapshot, history};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// How one source was compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Where the compiler was started.
    pub directory: String,
    /// The command.
    pub arguments: Vec<String>,
    /// The source, as the command names it.
    pub file: String,
    /// What was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// Endings of the names of sources.
const SOURCES: [&str; 14] = [
    "c", "cc", "cp", "cpp", "cxx", "c++", "C", "m", "mm", "f", "f90", "F90", "S", "cu",
];

/// How the sources that `exists` knows were compiled in a run; of several ways the last. What was served as
/// a part of something else is looked up in the workspace's store and in the index of the cache.
///
/// # Errors
/// There is no such run, or a store is damaged.
pub fn compdb(
    store: &Snapshot,
    index: Option<&Snapshot>,
    run: Option<u32>,
    root: &Path,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Vec<Entry>, Error> {
    let run = Run::open(store, run)?;
    let mut found: BTreeMap<(PathBuf, Option<String>), Entry> = BTreeMap::new();
    let mut add = |record: &Record| {
        for (path, entry) in entries(record, root) {
            if exists(&path) {
                found.insert((path, entry.output.clone()), entry);
            }
        }
    };
    let mut seen = HashSet::new();
    for step in &run.steps {
        let Some(execution) = step.execution else {
            continue;
        };
        let record = history::rest(store, execution)?;
        add(&record);
        let mut next: Vec<Digest> = match step.fate {
            Fate::Served => record.inner,
            Fate::Ran | Fate::Refused => Vec::new(),
        };
        while let Some(key) = next.pop() {
            if !seen.insert(key) {
                continue;
            }
            if let Some(inner) = known(&key, store, index, &|_| true)? {
                add(&inner);
                next.extend(inner.inner);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The newest record of a key, the newest that `is_better` where there is one.
pub(super) fn known(
    key: &Digest,
    store: &Snapshot,
    index: Option<&Snapshot>,
    is_better: &dyn Fn(&Record) -> bool,
) -> Result<Option<Record>, Error> {
    let mut found = None;
    for store in std::iter::once(store).chain(index) {
        for execution in history::under(store, key)? {
            let record = history::rest(store, execution)?;
            if is_better(&record) {
                return Ok(Some(record));
            }
            found = found.or(Some(record));
        }
    }
    Ok(found)
}

/// The sources that a command compiles, with their absolute paths.
fn entries(record: &Record, root: &Path) -> Vec<(PathBuf, Entry)> {
    let command = &record.command;
    let words = command.argv.iter();
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
    // What is served by ccache is started by nobody else.
    let arguments: Vec<String> = words.skip_while(|word| is_launcher(word)).collect();
    let is_meant = arguments.first().is_some_and(|name| is_compiler(name));
    let makes_no_code = |word: &String| ["-E", "-M", "-MM", "-###"].contains(&word.as_str());
    if !is_meant || arguments.iter().any(makes_no_code) {
        return Vec::new();
    }
    let only_compiles = arguments.iter().any(|word| word == "-c" || word == "-S");
    let after = |option: &str| {
        let at = arguments.iter().position(|word| word == option)?;
        arguments.get(at + 1).cloned()
    };
    let joined = || {
        let mut names = arguments.iter().filter_map(|word| word.strip_prefix("-o"));
        names.rfind(|name| !name.is_empty())
    };
    let output = after("-o").or_else(|| joined().map(str::to_owned));
    let output = output.filter(|_| only_compiles);
    let cwd = command.cwd.at(root);
    let mut found = Vec::new();
    let mut is_value = false;
    for word in arguments.iter().skip(1) {
        if std::mem::replace(&mut is_value, takes_value(word)) || word.starts_with('-') {
            continue;
        }
        let ending = Path::new(word)
            .extension()
            .and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| SOURCES.contains(&ending)) {
            let entry = Entry {
                directory: cwd.to_string_lossy().into_owned(),
                arguments: arguments.clone(),
                file: word.clone(),
                output: output.clone(),
            };
            found.push((cwd.join(word), entry));
        }
    }
    found
}

/// Options of compilers whose value is the next word.
fn takes_value(word: &str) -> bool {
    const OPTIONS: [&str; 21] = [
        "-o",
        "-I",
        "-D",
        "-U",
        "-include",
        "-imacros",
        "-isystem",
        "-iquote",
        "-idirafter",
        "-MF",
        "-MT",
        "-MQ",
        "-x",
        "-Xlinker",
        "-Xclang",
        "-Xpreprocessor",
        "-Xassembler",
        "-isysroot",
        "-target",
        "-L",
        "-T",
    ];
    OPTIONS.contains(&word)
}

/// What is put before a compiler.
fn is_launcher(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    matches!(name, "ccache" | "distcc" | "icecc" | "sccache")
}

/// `gcc`, `x86_64-linux-gnu-g++-12`, `clang++`: a driver, not what it starts.
fn is_compiler(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    let is_version = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let name = match name.rsplit_once('-') {
        Some((name, version)) if is_version(version) => name,
        Some(_) | None => name,
    };
    let last = name.rsplit('-').next().unwrap_or(name);
    matches!(
        last,
        "cc" | "c++"
            | "gcc"
            | "g++"
            | "clang"
            | "clang++"
            | "gfortran"
            | "f95"
            | "nvcc"
            | "icx"
            | "icpx"
            | "ifx"
            | "nvc"
            | "nvc++"
            | "nvfortran"
            | "hipcc"
            | "flang"
            | "emcc"
            | "em++"
            | "c99"
            | "c89"
            | "tcc"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Command, Name};

    #[test]
    fn drivers_are_known_by_name() {
        for name in [
            "cc",
            "/usr/bin/gcc-12",
            "x86_64-linux-gnu-g++",
            "clang++-14.0",
        ] {
            assert!(is_compiler(name), "{name}");
        }
        for name in ["cc1", "make", "ccache", "ld", "gcc-ar"] {
            assert!(!is_compiler(name), "{name}");
        }
    }

    fn of(words: &str) -> Vec<(PathBuf, Entry)> {
        let words = words.split(' ').map(|word| word.as_bytes().to_vec());
        let record = Record {
            command: Command {
                argv: words.collect(),
                cwd: Name::from_bytes(b"s"),
                ..Command::default()
            },
            ..Record::default()
        };
        entries(&record, Path::new("/w"))
    }

    #[test]
    fn what_makes_no_code_is_no_compilation() {
        for words in [
            "gcc -E a.c",
            "gcc -MM a.c",
            "gcc a.o -o a",
            "ccache -s",
            "make a.c",
        ] {
            assert_eq!(of(words), [], "{words}");
        }
        let found = of("/usr/bin/ccache gcc -c a.c -oa.o");
        assert_eq!(found[0].1.arguments, ["gcc", "-c", "a.c", "-oa.o"]);
        assert_eq!(found[0].1.output.as_deref(), Some("a.o"));
    }

    #[test]
    fn a_source_is_no_value_of_an_option() {
        let found = of("gcc -include pre.c -c -o s/a.o ../a.c -MF a.c");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.file, "../a.c");
        assert_eq!(found[0].1.directory, "/w/s");
        assert_eq!(found[0].1.output.as_deref(), Some("s/a.o"));
    }
}
