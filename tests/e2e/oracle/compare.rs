//! What was recorded, and whether it holds what it must.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::Program;
use super::demand::{CONTENT, Demand, LIST, Look, MODE, Oracle, SIZE};
use super::names::Node;
use super::temporary::{Temporary, is_random};

/// What may differ from run to run in what is made: archives hold time stamps, objects names.
const VARYING: [&str; 3] = ["content", "size", "stamped"];

/// All records of a cache: each with its inputs and outputs by path.
pub struct Recorded {
    /// By command; the same command may have been started in several places.
    pub by_command: BTreeMap<String, Vec<Record>>,
}

/// Several names may be one when they are temporary.
type ByPath = BTreeMap<String, Vec<Value>>;

#[derive(Debug)]
pub struct Record {
    inputs: ByPath,
    outputs: ByPath,
}

impl Recorded {
    /// Reads what `rfs cache records --json` says.
    pub fn read(text: &str, temporary: &Temporary) -> Self {
        let mut by_command: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["schema"], "rfs.record/1", "{line}");
            let by_path = |list: &Value| {
                let mut found = ByPath::new();
                for item in list.as_array().unwrap() {
                    let mut item = item.clone();
                    let path = temporary.same(item["path"].as_str().unwrap());
                    item["path"] = path.as_str().into();
                    found.entry(path).or_default().push(item);
                }
                found
            };
            let record = Record {
                inputs: by_path(&value["inputs"]),
                outputs: by_path(&value["outputs"]),
            };
            let command = whole_words(&temporary.same(value["command"].as_str().unwrap()));
            by_command.entry(command).or_default().push(record);
        }
        Self { by_command }
    }

    /// Whether some command of the lot made what is at a path.
    fn is_made(&self, path: &str) -> bool {
        let mut all = self.by_command.values().flatten();
        all.any(|record| record.outputs.contains_key(path))
    }

    /// How two lots of records differ.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let all = |recorded: &Self| {
            let mut lines = BTreeSet::new();
            for (command, records) in &recorded.by_command {
                for record in records {
                    let mut put = |sign: &str, value: &Value| {
                        let mut value = value.clone();
                        let path = value["path"].as_str().unwrap();
                        let made = record.outputs.contains_key(path) || self.is_made(path);
                        let temporary = path.contains(['?', '#']) || is_random(path);
                        let fields = value.as_object_mut().unwrap();
                        // It depends on which files were made within one tick of the clock.
                        fields.remove("rank");
                        if sign == ">" || made || temporary {
                            fields.retain(|name, _| !VARYING.contains(&name.as_str()));
                        }
                        // Whether a temporary name looks like one is a matter of chance.
                        let random = temporary && value["is"] == "absent";
                        if !random && !is_search(&value) {
                            lines.insert(format!("{sign} {value} of {command}"));
                        }
                    };
                    record
                        .inputs
                        .values()
                        .flatten()
                        .for_each(|value| put("<", value));
                    record
                        .outputs
                        .values()
                        .flatten()
                        .for_each(|value| put(">", value));
                }
            }
            lines
        };
        let (one, two) = (all(self), all(other));
        let only = |a: &BTreeSet<String>, b: &BTreeSet<String>, who: &str| {
            a.difference(b)
                .map(|line| format!("{who} only: {line}"))
                .collect::<Vec<_>>()
        };
        [only(&one, &two, "first"), only(&two, &one, "second")].concat()
    }
}

/// Whether an input is one of a search for a program that went on. Under the notify backend a shell's look
/// at the right name may be interrupted by a signal (doc/semantics.md), and the shell then looks for the
/// next one.
fn is_search(input: &Value) -> bool {
    let path = input["path"].as_str().unwrap();
    let dirs = ["/bin", "/sbin", "/usr/bin/", "/usr/sbin/"];
    let link = input["is"] == "link" && dirs.contains(&path);
    link || (input["is"] == "absent" && dirs.iter().any(|dir| path.starts_with(dir)))
}

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Report {
    pub n_records: usize,
    pub n_looks: usize,
    pub n_changes: usize,
    pub missed: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            n_records,
            n_looks,
            n_changes,
            missed,
        } = self;
        let n_missed = missed.len();
        write!(
            f,
            "{n_records} records, {n_looks} looks, {n_changes} changes, {n_missed} missed"
        )
    }
}

/// Compares the whole command and every program of it that has a record.
pub fn compare(oracle: &Oracle, recorded: &Recorded, ws: &Path, program: &Program) -> Report {
    let mut report = Report::default();
    for (n, demand) in oracle.demands.iter().enumerate() {
        let command = whole_words(&program.temporary.same(&title(&demand.argv)));
        let Some(records) = recorded.by_command.get(&command) else {
            if n == 0 {
                report.missed.push(format!("anything of {command}"));
            }
            continue;
        };
        let looks = |record: &Record| missed_by(demand, record, ws, program);
        // One program may have been started with equal arguments in several places.
        let missed = records
            .iter()
            .map(looks)
            .min_by_key(Vec::len)
            .unwrap_or_default();
        report.n_records += 1;
        report.n_looks += demand.looks.len();
        report.n_changes += demand.changed.len();
        report
            .missed
            .extend(missed.iter().map(|what| format!("{what}  [{command}]")));
    }
    report
}

/// Without a word that is cut off.
fn whole_words(title: &str) -> String {
    let Some(text) = title.strip_suffix("...") else {
        return title.to_owned();
    };
    let word = |c: char| c.is_ascii_alphanumeric();
    text.trim_end_matches(word).to_owned() + "..."
}

/// As records have it.
fn title(argv: &[String]) -> String {
    let words: Vec<_> = argv
        .iter()
        .map(|arg| arg.as_bytes().escape_ascii().to_string())
        .collect();
    let mut title = words.join(" ");
    if title.len() > 300 {
        title.truncate(297);
        title.push_str("...");
    }
    title
}

fn name(path: &Path, ws: &Path) -> String {
    let inside = path.strip_prefix(ws).unwrap_or(path);
    let text = inside
        .as_os_str()
        .as_encoded_bytes()
        .escape_ascii()
        .to_string();
    if text.is_empty() {
        ".".to_owned()
    } else {
        text
    }
}

fn missed_by(demand: &Demand, record: &Record, ws: &Path, program: &Program) -> Vec<String> {
    let mut missed = Vec::new();
    for (path, look) in &demand.looks {
        let own = name(path, ws);
        let name = program.temporary.same(&own);
        if program
            .apart
            .iter()
            .any(|part| path.ends_with(part) && !path.starts_with(ws))
        {
            continue;
        }
        let changed = demand.changed.get(path);
        let gone = changed.is_some_and(|[_, after]| *after == Node::Absent);
        let inputs = record.inputs.get(&name).map_or(&[][..], Vec::as_slice);
        // A temporary name that leaves no trace.
        let temporary = name != own || is_random(&own);
        if gone && temporary && look.first == Node::Absent && inputs.is_empty() {
            continue;
        }
        let why = match inputs {
            [] => Some(format!("not recorded, was {:?}", look.first)),
            // One of them is it, if they are temporary.
            some => some
                .iter()
                .map(|input| lacks(input, look, changed.is_some()))
                .min()
                .flatten(),
        };
        if let Some(why) = why {
            missed.push(format!("{name}: {why} ({})", look.line));
        }
    }
    for (path, [before, now]) in &demand.changed {
        let name = program.temporary.same(&name(path, ws));
        let told = record.outputs.get(&name).map_or(&[][..], Vec::as_slice);
        let unchanged = before == now && matches!(now, Node::Absent | Node::Dir | Node::File);
        let wanted = match now {
            Node::Absent => "absent",
            Node::File => "file",
            Node::Dir => "directory",
            Node::Link(_) => "link",
            Node::Other => "fifo",
        };
        let is: Vec<&str> = told.iter().filter_map(|told| told["is"].as_str()).collect();
        let like = |is: &&str| match now {
            Node::File => matches!(*is, "file" | "hard link" | "attributes"),
            Node::Dir => matches!(*is, "directory" | "attributes"),
            Node::Absent | Node::Link(_) | Node::Other => *is == wanted,
        };
        let fits = is.iter().any(like) || (is.is_empty() && unchanged);
        if !fits {
            missed.push(format!("output {name}: {wanted} (is {is:?})"));
        }
    }
    missed
}

/// What an input does not say of what was looked at.
fn lacks(input: &Value, look: &Look, changed: bool) -> Option<String> {
    let access: Vec<&str> = input["access"].as_str().unwrap().split('+').collect();
    let has = |way: &str| access.contains(&way);
    // Replaced whole, or written over, by one that has not looked at what was there.
    let blind = changed && access.len() == 1 && (has("oust") || has("over") || has("peek"));
    let is = match &look.first {
        Node::Absent => "absent",
        Node::File => "file",
        Node::Dir => "directory",
        Node::Link(_) => "link",
        Node::Other => "other",
    };
    if input["is"] != is && !blind {
        return Some(format!("is {} in the record, was {is}", input["is"]));
    }
    if let Node::Link(text) = &look.first {
        let text = text
            .as_os_str()
            .as_encoded_bytes()
            .escape_ascii()
            .to_string();
        return (input["text"] != text.as_str()).then(|| format!("leads to {}", input["text"]));
    }
    let wanted: &[(u8, &str)] = match look.first {
        Node::Absent | Node::Link(_) => &[],
        Node::File => &[(MODE, "mode"), (SIZE, "size"), (CONTENT, "reg")],
        Node::Dir => &[(MODE, "mode"), (LIST, "list")],
        Node::Other => &[(MODE, "mode")],
    };
    for (way, word) in wanted {
        let by_content = *word == "size" && has("reg");
        let excused = blind && matches!(*word, "mode" | "size");
        if look.ways & way != 0 && !has(word) && !by_content && !excused {
            return Some(format!("no dep on its {word}, only {}", access.join("+")));
        }
    }
    None
}
