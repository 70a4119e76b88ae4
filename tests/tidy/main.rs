//! The rules of the house that the compiler does not know, as an ordinary test.
//!
//! The layers come from the table in doc/architecture.md; the rest is in the constants below.
//! Each check is a function from text to offences, so each has a test that shows it bite.
//! Nothing here knows what the program does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod layers;
mod source;
mod writes;

use layers::{Layers, check_layers, check_members};
use source::{Offence, Source, words};
use std::path::Path;
use writes::check_writes;

/// Lines a source file may have before it wants to be two.
const MAX_LINES: usize = 600;

/// The only files outside `tests/` that may say `unsafe`.
const UNSAFE_FILES: [&str; 18] = [
    "fs/src/device.rs",
    "src/main.rs",
    "src/rules/gathered.rs",
    "src/runner/spawn.rs",
    "src/store/map.rs",
    "tracer/preload/src/calls.rs",
    "tracer/preload/src/names.rs",
    "tracer/preload/src/notes.rs",
    "tracer/preload/src/real.rs",
    "tracer/preload/src/sys.rs",
    "tracer/preload/src/waits.rs",
    "tracer/src/line.rs",
    "tracer/src/memory.rs",
    "tracer/src/pidfd.rs",
    "tracer/src/ptrace.rs",
    "tracer/src/seccomp.rs",
    "tracer/src/slab.rs",
    "tracer/src/spawn.rs",
];

/// Names of rooms for things that have no room.
const VAGUE_NAMES: [&str; 7] = [
    "util", "utils", "common", "helper", "helpers", "manager", "misc",
];

/// Text that does not belong in the tree, and why. Split, so that this file passes.
const FORBIDDEN_TEXT: [(&str, &str); 10] = [
    (
        concat!("deb.", "debian.org"),
        "take the archive from the user's apt",
    ),
    (
        concat!("crates", ".io"),
        "cargo knows its registry: do not name the host",
    ),
    (
        concat!("pypi", ".org"),
        "pip knows its registry: do not name the host",
    ),
    (
        concat!("registry.", "npmjs"),
        "npm knows its registry: do not name the host",
    ),
    (
        concat!("issue", " #"),
        "say the fact itself: numbers mean nothing to a reader",
    ),
    (
        concat!("TODO", "("),
        "do it, or write it down where work is planned",
    ),
    (
        concat!("FIX", "ME"),
        "do it, or write it down where work is planned",
    ),
    (
        concat!("#[ign", "ore"),
        "a test that does not run is not a test",
    ),
    (concat!("todo", "!("), "nothing may be fake"),
    (concat!("unimplemented", "!("), "nothing may be fake"),
];

fn check_length(source: &Source) -> Vec<Offence> {
    let lines = source.text.lines().count();
    if source.is_rust() && !source.is_test() && lines > MAX_LINES {
        let what = format!("{lines} lines, more than {MAX_LINES}");
        let remedy = "find the second purpose in it and give that a file";
        return vec![source.offence(source.text.len(), what, remedy)];
    }
    Vec::new()
}

fn check_unsafe(source: &Source) -> Vec<Offence> {
    if source.is_test() || UNSAFE_FILES.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let remedy = "use the safe call of nix or std; else move the operation into one of the files \
                  that UNSAFE_FILES in tests/tidy lists";
    let uses = words(&source.code, "unsafe").chain(words(&source.code, "unsafe_code"));
    uses.map(|at| source.offence(at, "unsafe outside the listed files".into(), remedy))
        .collect()
}

fn check_allow(source: &Source) -> Vec<Offence> {
    let mut offences = Vec::new();
    for word in ["allow", "expect"] {
        for at in words(&source.code, word) {
            let before = source.code[..at].trim_end();
            let Some(list) = source.code[at + word.len()..].strip_prefix('(') else {
                continue;
            };
            let lints = list.split(')').next().unwrap_or_default();
            let is_attribute =
                ["#[", "#!["].iter().any(|a| before.ends_with(a)) || in_cfg_attr(before);
            let listed =
                lints.trim() == "unsafe_code" && UNSAFE_FILES.contains(&source.path.as_str());
            let has_reason = words(lints, "reason").next().is_some() || is_commented(source, at);
            if is_attribute && !has_reason && !listed {
                let remedy = "mend what the lint says, or add `reason = \"...\"`";
                offences.push(source.offence(at, format!("{word}({lints}) has no reason"), remedy));
            }
        }
    }
    offences
}

/// Whether a comment (that is no documentation) stands on the line of `at` or on the one above.
fn is_commented(source: &Source, at: usize) -> bool {
    let (before, after) = source.text.split_at(at);
    let mut above = before.lines().rev().skip(1).map(str::trim);
    let above = above
        .find(|line| !line.starts_with("#!["))
        .unwrap_or_default();
    let rest = after.lines().next().unwrap_or_default();
    rest.contains("// ") || (above.starts_with("// ") || above == "//")
}

fn in_cfg_attr(before: &str) -> bool {
    before.ends_with(',')
        && before
            .rfind("cfg_attr(")
            .is_some_and(|at| !before[at..].contains(']'))
}

fn check_name(source: &Source) -> Vec<Offence> {
    let stems = source.path.split(['/', '.', '_', '-']);
    let vague = stems.filter(|s| VAGUE_NAMES.contains(s));
    let remedy = "name the file after what it does";
    vague
        .map(|s| source.offence(0, format!("'{s}' names no purpose"), remedy))
        .collect()
}

fn check_header(source: &Source) -> Vec<Offence> {
    let first = source
        .text
        .lines()
        .find(|l| !l.trim().is_empty() && !l.starts_with("#!["));
    if source.is_rust() && !first.is_some_and(|l| l.starts_with("//!")) {
        let remedy = "begin with //! lines: the file's job, and what it does not know";
        return vec![source.offence(0, "no //! at the top".into(), remedy)];
    }
    Vec::new()
}

fn check_ascii(source: &Source) -> Vec<Offence> {
    let found = source.text.char_indices().find(|(_, c)| !c.is_ascii());
    found
        .map(|(at, c)| source.offence(at, format!("'{c}' is not ASCII"), "spell it in ASCII"))
        .into_iter()
        .collect()
}

fn check_text(source: &Source) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (text, remedy) in FORBIDDEN_TEXT {
        for (at, _) in source.text.match_indices(text) {
            offences.push(source.offence(at, format!("says '{text}'"), remedy));
        }
    }
    offences
}

/// Every crate that a manifest asks for is in the table of dependencies, with its reason.
fn check_dependencies(source: &Source, doc: &str) -> Vec<Offence> {
    if !source.path.ends_with("Cargo.toml") {
        return Vec::new();
    }
    let rows = doc
        .lines()
        .skip_while(|l| !l.starts_with("| crate | for |"));
    let known: String = rows.take_while(|l| l.starts_with('|')).collect();
    let mut offences = Vec::new();
    let (mut at, mut wanted) = (0, false);
    for line in source.text.split_inclusive('\n') {
        if line.starts_with('[') {
            wanted = line.contains("dependencies");
        } else if let Some(name) = line.split(['.', ' ', '=']).next().filter(|_| wanted) {
            let is_name = name.starts_with(|c: char| c.is_ascii_lowercase());
            if is_name && !name.starts_with("rfs-") && words(&known, name).next().is_none() {
                let remedy = "say in the table of doc/architecture.md what it is for";
                offences.push(source.offence(at, format!("{name} has no reason"), remedy));
            }
        }
        at += line.len();
    }
    offences
}

fn check(source: &Source, layers: &Layers) -> Vec<Offence> {
    let mut offences = check_layers(source, layers);
    let others: [fn(&Source) -> Vec<Offence>; 8] = [
        check_members,
        check_length,
        check_unsafe,
        check_allow,
        check_name,
        check_header,
        check_ascii,
        check_text,
    ];
    offences.extend(others.iter().flat_map(|check| check(source)));
    offences
}

/// What programs write in the tree, by name or by path.
const MADE: [&str; 9] = [
    "target",
    ".git",
    ".rfs",
    "Cargo.lock",
    "vendor",
    "debian/cargo",
    "debian/copyright",
    "debian/generated",
    "debian/rfs",
];

/// The text files of the tree that are written by people.
fn read_tree(root: &Path, below: &str, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().expect("a name in ASCII");
        let path = if below.is_empty() {
            name.clone()
        } else {
            format!("{below}/{name}")
        };
        if MADE.contains(&&*name) || MADE.contains(&&*path) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            read_tree(root, &path, found);
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            if !bytes.contains(&0) {
                found.push(Source::new(&path, &String::from_utf8_lossy(&bytes)));
            }
        }
    }
}

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tree = Vec::new();
    read_tree(root, "", &mut tree);
    assert!(
        tree.iter().any(|s| s.path == "src/main.rs"),
        "the tree was not read"
    );
    let doc = tree
        .iter()
        .find(|s| s.path == "doc/architecture.md")
        .expect("doc/architecture.md");
    let layers = Layers::read(&doc.text).unwrap();
    let mut offences: Vec<_> = tree.iter().flat_map(|s| check(s, &layers)).collect();
    offences.extend(tree.iter().flat_map(|s| check_dependencies(s, &doc.text)));
    offences.extend(check_writes(&tree));
    offences.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    let list: String = offences.iter().map(|o| format!("\n{o}")).collect();
    assert!(
        offences.is_empty(),
        "{} rules of the house are broken:{list}",
        offences.len()
    );
}

mod bite {
    //! Each rule, shown to find what it is for and to leave the rest alone.
    use super::*;
    use crate::source::blank;

    const TABLE: &str = "text\n\n| level | room | may import | outside | note |\n|---|---|---|---|---|\n\
        | 0 | base | - | - | |\n| 2 | record | base rfs_tracer::event | - | |\n\
        | 4 | watch | base record rfs_fs rfs_tracer | - | |\n| 7 | cli | base watch | clap | |\n";

    fn found(path: &str, text: &str) -> Vec<String> {
        let layers = Layers::read(TABLE).unwrap();
        let source = Source::new(path, &format!("//! A file.\n{text}\n"));
        check(&source, &layers)
            .into_iter()
            .map(|o| format!("{}: {}", o.line, o.what))
            .collect()
    }

    fn clean(path: &str, text: &str) {
        assert_eq!(found(path, text), Vec::<String>::new(), "{path}: {text}");
    }

    #[test]
    fn imports_go_down_only() {
        assert_eq!(
            found("src/base/id.rs", "use crate::cli;"),
            ["2: base imports cli"]
        );
        let group = "use crate::{base::Id,\n cli::{a, b}, watch};";
        assert_eq!(
            found("src/record.rs", group),
            ["2: record imports cli", "2: record imports watch"]
        );
        assert_eq!(
            found("src/base/a.rs", "fn f() { crate::watch::g() }"),
            ["2: base imports watch"]
        );
        assert_eq!(
            found("src/base/a.rs", "use super::super::cli;"),
            ["2: base imports cli"]
        );
        assert_eq!(
            found("src/main.rs", "use rfs::watch;"),
            ["2: main imports watch"]
        );
        assert_eq!(
            found("src/odd/a.rs", ""),
            ["1: the room 'odd' is not in the table of layers"]
        );
        clean(
            "src/cli/build.rs",
            "use crate::{base, watch::start, cli::args};",
        );
        clean(
            "src/base/a.rs",
            "// use crate::cli;\nconst S: &str = \"crate::cli\";",
        );
        clean("src/main.rs", "use rfs::cli;");
        clean("tests/e2e/main.rs", "use rfs::watch;");
    }

    #[test]
    fn members_are_seen_through_their_seam() {
        let wide = found(
            "src/record/fold.rs",
            "use rfs_tracer::{Launch, event::Exec};",
        );
        assert_eq!(wide, ["2: record imports rfs_tracer::Launch"]);
        assert_eq!(
            found("src/base/a.rs", "rfs_fs::mount();"),
            ["2: base imports rfs_fs::mount"]
        );
        clean("src/record/fold.rs", "use rfs_tracer::event::Exec;");
        assert_eq!(
            found("fs/src/vfs.rs", "use rfs_tracer::Event;"),
            ["2: mentions rfs_tracer"]
        );
        assert_eq!(
            found("tracer/src/lib.rs", "use rfs::base::Id;"),
            ["2: mentions rfs"]
        );
        assert_eq!(
            found("fs/Cargo.toml", "rfs-tracer = \"1\""),
            ["2: depends on a crate of ours"]
        );
        clean("fs/tests/mount.rs", "use rfs_fs::mount;");
    }

    #[test]
    fn outside_crates_live_in_their_rooms() {
        assert_eq!(
            found("src/base/a.rs", "use clap::Parser;"),
            ["2: clap is used outside {\"cli\"}"]
        );
        clean("src/cli/args.rs", "use clap::Parser;");
    }

    #[test]
    fn the_table_itself_has_no_cycle() {
        let row = "| 0 | base | cli | - | |\n| 7 | cli | base | - | |\n";
        let table = format!("| level | room | may import | outside |\n|---|\n{row}");
        assert!(
            Layers::read(&table)
                .unwrap_err()
                .contains("base may not import cli")
        );
        assert!(Layers::read("no table").is_err());
    }

    #[test]
    fn files_have_a_size_a_name_and_a_header() {
        assert_eq!(found("src/base/a.rs", &"\n".repeat(MAX_LINES)).len(), 1);
        clean("src/base/a.rs", &"\n".repeat(MAX_LINES - 2));
        clean("tests/e2e/long.rs", &"\n".repeat(MAX_LINES));
        assert_eq!(
            found("src/base/path_util.rs", ""),
            ["1: 'util' names no purpose"]
        );
        let bare = Source::new("src/base/a.rs", "use std::fs;\n");
        assert_eq!(check_header(&bare).len(), 1);
    }

    #[test]
    fn unsafe_has_its_files_and_allow_its_reason() {
        let block = "fn f() { unsafe { g() } }";
        assert_eq!(
            found("src/base/a.rs", block),
            ["2: unsafe outside the listed files"]
        );
        clean(
            "tracer/src/memory.rs",
            &format!("#![allow(unsafe_code)]\n{block}"),
        );
        clean(
            "src/base/a.rs",
            "// unsafe\nlet s = r#\"unsafe \" {\"#; let c = '\"';",
        );
        assert_eq!(found("src/base/a.rs", "#[allow(dead_code)]").len(), 1);
        assert_eq!(
            found("src/base/a.rs", "#[cfg_attr(test, allow(dead_code))]").len(),
            1
        );
        clean(
            "src/base/a.rs",
            "#[allow(dead_code, reason = \"kept for (a) b\")]",
        );
        clean("src/base/a.rs", "let rows = [allow(1), allow(2)];");
        clean("src/base/a.rs", "value.expect(\"BUG: none\")");
    }

    #[test]
    fn dependencies_have_their_reasons() {
        let doc = "| crate | for |\n|---|---|\n| nix, libc | system calls |\n\ntokio\n";
        let manifest =
            "[dependencies]\nlibc.workspace = true\ntokio = \"1\"\n[profile.dev]\nlto = 1\n";
        let source = Source::new("fs/Cargo.toml", manifest);
        let what: Vec<_> = check_dependencies(&source, doc)
            .into_iter()
            .map(|o| o.what)
            .collect();
        assert_eq!(what, ["tokio has no reason"]);
    }

    #[test]
    fn text_is_plain_and_finished() {
        assert_eq!(found("README.md", "na\u{ef}ve").len(), 1);
        for (text, _) in FORBIDDEN_TEXT {
            assert_eq!(found("doc/glossary.md", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn literals_end_where_they_end() {
        let text =
            "let a = b\"x\\\"//\"; let l: &'static str = \"a\"; /* b /* c */ d */ let c = '\\''; e";
        let kept: Vec<_> = blank(text).split_whitespace().map(str::to_owned).collect();
        assert_eq!(
            kept.join(" "),
            "let a = b ; let l: &'static str = ; let c = ; e"
        );
    }
}
