//! What was recorded, and whether it holds what it must.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::demand::{CONTENT, Demand, LIST, Look, MODE, Oracle, SIZE};
use super::names::Node;

/// All records of a cache: each with its inputs and outputs by path.
pub struct Recorded {
    /// By command; the same command may have been started in several places.
    pub by_command: BTreeMap<String, Vec<Record>>,
}

#[derive(Debug)]
pub struct Record {
    inputs: BTreeMap<String, Value>,
    outputs: BTreeMap<String, Value>,
}

impl Recorded {
    /// Reads what `rfs cache records --json` says.
    pub fn read(text: &str) -> Self {
        let mut by_command: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["schema"], "rfs.record/1", "{line}");
            let by_path = |list: &Value| {
                let items = list.as_array().unwrap().iter();
                items
                    .map(|item| (item["path"].as_str().unwrap().to_owned(), item.clone()))
                    .collect()
            };
            let record = Record {
                inputs: by_path(&value["inputs"]),
                outputs: by_path(&value["outputs"]),
            };
            let command = value["command"].as_str().unwrap().to_owned();
            by_command.entry(command).or_default().push(record);
        }
        Self { by_command }
    }

    /// Whether some command of the lot made what an input is.
    fn is_made(&self, input: &Value) -> bool {
        let path = input["path"].as_str().unwrap();
        let all = self.by_command.values().flatten();
        all.into_iter()
            .any(|record| record.outputs.contains_key(path))
            || path.starts_with("/tmp/cc")
    }

    /// How two lots of records differ. Contents that were made by the command may differ from run to run
    /// (time stamps in archives, names of temporary files).
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let all = |recorded: &Self| {
            let mut lines = BTreeSet::new();
            for (command, records) in &recorded.by_command {
                for record in records {
                    let mut put = |sign: &str, value: &Value| {
                        let mut value = value.clone();
                        let made = record.outputs.contains_key(value["path"].as_str().unwrap());
                        if sign == ">" || made || self.is_made(&value) {
                            let fields = value.as_object_mut().unwrap();
                            fields.retain(|name, _| {
                                !["content", "size", "stamped"].contains(&name.as_str())
                            });
                        }
                        let line = same_names(&format!("{sign} {value} of {command}"));
                        // Whether a random name looks random is a matter of chance.
                        let path = value["path"].as_str().unwrap();
                        if value["is"] != "absent" || !is_random(Path::new(path)) {
                            lines.insert(line);
                        }
                    };
                    record.inputs.values().for_each(|value| put("<", value));
                    record.outputs.values().for_each(|value| put(">", value));
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

/// Names that mkstemp(3) makes are made equal.
fn same_names(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("/tmp/") {
        let (before, tail) = rest.split_at(at + 5);
        out.push_str(before);
        let len = tail.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let name = &tail[..len];
        out.push_str(if name.len() == 8 && name.starts_with("cc") {
            "ccXXXXXX"
        } else {
            name
        });
        rest = &tail[len..];
    }
    out + rest
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
pub fn compare(oracle: &Oracle, recorded: &Recorded, ws: &Path) -> Report {
    let mut report = Report::default();
    for (n, demand) in oracle.demands.iter().enumerate() {
        let command = title(&demand.argv);
        let Some(records) = recorded.by_command.get(&command) else {
            if n == 0 {
                report.missed.push(format!("anything of {command}"));
            }
            continue;
        };
        let looks = |record: &Record| missed_by(demand, record, ws);
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

/// Whether a name may be one of mkstemp(3) and the like: a run of capitals, digits and others.
fn is_random(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_made = |run: &str| {
        run.chars()
            .any(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
    };
    let mut runs = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let python = name.starts_with("tmp") && name.len() == 11;
    python || runs.any(|run| run.len() >= 6 && is_made(run))
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

fn missed_by(demand: &Demand, record: &Record, ws: &Path) -> Vec<String> {
    let mut missed = Vec::new();
    for (path, look) in &demand.looks {
        let name = name(path, ws);
        let changed = demand.changed.get(path);
        let gone = changed.is_some_and(|[_, after]| *after == Node::Absent);
        // A temporary name that leaves no trace.
        if gone
            && is_random(path)
            && look.first == Node::Absent
            && !record.inputs.contains_key(&name)
        {
            continue;
        }
        if let Some(why) = lacks(record.inputs.get(&name), look, changed.is_some()) {
            missed.push(format!("{name}: {why} ({})", look.line));
        }
    }
    for (path, [before, now]) in &demand.changed {
        let name = name(path, ws);
        let told = record.outputs.get(&name);
        let unchanged = before == now && matches!(now, Node::Absent | Node::Dir | Node::File);
        let wanted = match now {
            Node::Absent => "absent",
            Node::File => "file",
            Node::Dir => "directory",
            Node::Link(_) => "link",
            Node::Other => "fifo",
        };
        let is = told.and_then(|told| told["is"].as_str());
        let fits = is == Some(wanted)
            || (*now == Node::File && matches!(is, Some("hard link" | "attributes")))
            || (*now == Node::Dir && is == Some("attributes"))
            || (is.is_none() && unchanged);
        if !fits {
            missed.push(format!("output {name}: {wanted} (is {is:?})"));
        }
    }
    missed
}

/// What an input does not say of what was looked at.
fn lacks(input: Option<&Value>, look: &Look, changed: bool) -> Option<String> {
    let Some(input) = input else {
        return Some(format!("not recorded, was {:?}", look.first));
    };
    let access: Vec<&str> = input["access"].as_str().unwrap().split('+').collect();
    let has = |way: &str| access.contains(&way);
    // Replaced whole, or written over, by one that has not looked at what was there.
    let blind = changed && access.len() == 1 && (has("oust") || has("over"));
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
