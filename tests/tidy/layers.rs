//! Who may import whom, as the table in doc/architecture.md says. Reads `use` and paths, not types.

use crate::source::{Offence, Source, is_word, words};
use std::collections::{BTreeMap, BTreeSet};

/// Every `root::name` in `code`, groups `root::{a, b::c}` spelt out, with `name` one or two
/// segments long (`a`, `b::c`).
fn paths_from(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, root) {
        let rest = &code[at + root.len()..];
        if let Some(tree) = rest.trim_start().strip_prefix("::") {
            expand(tree.trim_start(), "", at, &mut found);
        }
    }
    found
}

/// Reads one use-tree at the start of `tree`; returns what follows it.
fn expand<'a>(tree: &'a str, prefix: &str, at: usize, found: &mut Vec<(usize, String)>) -> &'a str {
    if let Some(mut rest) = tree.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return rest;
            } else if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
            let after = expand(rest, prefix, at, found);
            rest = match after.find([',', '}']) {
                Some(n) if after[n..].starts_with(',') => &after[n + 1..],
                Some(n) => &after[n..],
                None => "",
            };
        }
    }
    let end = tree
        .bytes()
        .position(|b| !is_word(b) && b != b'*')
        .unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    let full = if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}::{name}")
    };
    match rest.trim_start().strip_prefix("::") {
        Some(deeper) if prefix.is_empty() => expand(deeper.trim_start(), &full, at, found),
        _ => {
            found.push((at, full));
            rest
        }
    }
}

/// The table of layers: what each room may import, and which outside crates live in which rooms.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    ours: BTreeMap<String, BTreeSet<String>>,
    outside: BTreeMap<String, BTreeSet<String>>,
}

impl Layers {
    /// Reads the rows below the header `| level | room | ...` of doc/architecture.md.
    pub(crate) fn read(doc: &str) -> Result<Self, String> {
        let mut layers = Self::default();
        let mut levels = BTreeMap::new();
        let rows = doc
            .lines()
            .skip_while(|l| !l.starts_with("| level | room |"))
            .skip(2);
        for row in rows.take_while(|l| l.starts_with('|')) {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [level, room, ours, outside, ..] = cells[..] else {
                return Err(format!(
                    "a row of the layers has fewer than four cells: {row}"
                ));
            };
            let level: u32 = level
                .parse()
                .map_err(|error| format!("{error} in the row: {row}"))?;
            let names = |cell: &str| -> BTreeSet<String> {
                cell.split_whitespace()
                    .filter(|n| *n != "-")
                    .map(str::to_owned)
                    .collect()
            };
            for above in names(ours).iter().filter(|n| !n.starts_with("rfs_")) {
                match levels.get(above) {
                    Some(below) if *below < level => {}
                    _ => return Err(format!("{room} may not import {above}: it is not below it")),
                }
            }
            levels.insert(room.to_owned(), level);
            layers.ours.insert(room.to_owned(), names(ours));
            for name in names(outside) {
                layers
                    .outside
                    .entry(name)
                    .or_default()
                    .insert(room.to_owned());
            }
        }
        if layers.ours.is_empty() {
            return Err("no table of layers (| level | room | ...) found".to_owned());
        }
        Ok(layers)
    }

    fn allows(&self, room: &str, path: &str) -> bool {
        self.ours.get(room).is_some_and(|allowed| {
            allowed.iter().any(|a| {
                path == a
                    || path
                        .strip_prefix(a.as_str())
                        .is_some_and(|p| p.starts_with("::"))
            })
        })
    }
}

const LAYERS_REMEDY: &str = "import only what doc/architecture.md lets this room import; if the \
                             layering itself is wrong, change its table and say why";

pub(crate) fn check_layers(source: &Source, layers: &Layers) -> Vec<Offence> {
    let Some(room) = source.room() else {
        return Vec::new();
    };
    let mut offences = Vec::new();
    let mut offend = |at, what| {
        let offence = source.offence(at, what, LAYERS_REMEDY);
        if !offences.contains(&offence) {
            offences.push(offence);
        }
    };
    let is_root = matches!(room, "lib" | "main");
    if !is_root && !layers.ours.contains_key(room) {
        offend(
            0,
            format!("the room '{room}' is not in the table of layers"),
        );
    }
    let mut imports = paths_from(&source.code, "crate");
    imports.extend(paths_from(&source.code, "rfs"));
    for (at, path) in paths_from(&source.code, "super") {
        let out = path.strip_prefix("super::");
        imports.extend(
            out.filter(|p| layers.ours.contains_key(*p))
                .map(|p| (at, p.to_owned())),
        );
    }
    for (at, path) in imports {
        let target = path.split("::").next().unwrap_or_default();
        let known = layers.ours.contains_key(target);
        let fine = target == room || (room == "main" && target == "cli");
        if known && !fine && !layers.allows(room, target) {
            offend(at, format!("{room} imports {target}"));
        }
    }
    for member in ["rfs_fs", "rfs_tracer"] {
        for (at, path) in paths_from(&source.code, member) {
            if !layers.allows(room, &format!("{member}::{path}")) {
                offend(at, format!("{room} imports {member}::{path}"));
            }
        }
    }
    for (name, rooms) in &layers.outside {
        for at in words(&source.code, name) {
            let is_path = source.code[at + name.len()..]
                .trim_start()
                .starts_with("::");
            let is_start = !source.code[..at].trim_end().ends_with("::");
            if is_path && is_start && !rooms.contains(room) {
                offend(at, format!("{name} is used outside {rooms:?}"));
            }
        }
    }
    offences
}

/// The mount and the tracer know neither each other nor the program.
pub(crate) fn check_members(source: &Source) -> Vec<Offence> {
    let own = match source.path.split('/').next() {
        Some("fs") => "rfs_fs",
        Some("tracer") => "rfs_tracer",
        _ => return Vec::new(),
    };
    let remedy = "fs and tracer know neither each other nor rfs: let watch pass the values";
    let mut offences = Vec::new();
    for name in ["rfs", "rfs_fs", "rfs_tracer"]
        .iter()
        .filter(|n| **n != own)
    {
        for (at, _) in paths_from(&source.code, name) {
            offences.push(source.offence(at, format!("mentions {name}"), remedy));
        }
    }
    if source.path.ends_with("Cargo.toml") {
        // The tracer and its preload library are one member.
        let ours = source.text.match_indices("\nrfs");
        for (at, _) in ours.filter(|(at, _)| !source.text[*at..].starts_with("\nrfs-preload")) {
            offences.push(source.offence(at + 1, "depends on a crate of ours".into(), remedy));
        }
    }
    offences
}
