//! What a record says, as `rfs.record/1` for programs and as lines for people.
//!
//! Time stamps and the bytes that were printed are left out, costs too unless they are wanted: two runs that
//! saw and did the same tell the same.

use crate::base::{Access, Dep, Digest, Output, Record, Stamp, State, Stdin, What};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// One record under its weak key, as a JSON object in one line; with what it cost and where it ran, if wanted.
#[must_use]
pub fn json(key: &Digest, record: &Record, cost: bool) -> String {
    let stdin = match &record.stdin {
        Stdin::Unread => Value::Null,
        Stdin::Null => json!({"path": "/dev/null"}),
        Stdin::File { name, pos, .. } => json!({"path": name.to_string(), "from": pos}),
    };
    let mut told = json!({
        "schema": "rfs.record/1",
        "key": key.hex(),
        "command": record.title,
        "status": record.status,
        "stdin": stdin,
        "inputs": record.deps.iter().map(input).collect::<Vec<_>>(),
        "outputs": record.outputs.iter().map(output).collect::<Vec<_>>(),
        "printed": record.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>(),
        "notes": record.notes,
    });
    if cost {
        told["cost"] = json!(record.cost);
        told["provenance"] = json!(record.provenance);
    }
    told.to_string()
}

/// The same for people: the command, then a line an input (`<`) and output (`>`).
#[must_use]
pub fn text(record: &Record) -> String {
    let mut text = format!("{}\n", record.title);
    for dep in &record.deps {
        let what = match &dep.state {
            State::Absent => "absent".to_owned(),
            State::File { .. } | State::Dir { .. } | State::Link(..) | State::Other(..) => {
                format!("{:?}", dep.access)
            }
            State::Hidden(errno) => format!("errno {errno}"),
        };
        let _ = writeln!(text, "  < {} ({what})", dep.name).is_ok();
    }
    for output in &record.outputs {
        let what = fields(&output.what).0;
        let _ = writeln!(text, "  > {} ({what})", output.name).is_ok();
    }
    text.truncate(text.trim_end().len());
    text
}

fn input(dep: &Dep) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("path", json!(dep.name.to_string()));
    put("access", json!(format!("{:?}", dep.access)));
    let looked = |access: Access, value: Value| {
        if dep.access.any(access) {
            value
        } else {
            Value::Null
        }
    };
    let owners = |mode: &[u32; 3]| looked(Access::MODE, json!(mode));
    match &dep.state {
        State::Absent => put("is", json!("absent")),
        State::File {
            mode, size, digest, ..
        } => {
            put("is", json!("file"));
            put("mode", owners(mode));
            put("size", looked(Access::SIZE, json!(size)));
            put("content", json!(digest.map(|digest| digest.hex())));
        }
        State::Dir { mode, list, .. } => {
            put("is", json!("directory"));
            put("mode", owners(mode));
            put("names", json!(list.map(|digest| digest.hex())));
        }
        State::Link(text, _) => {
            put("is", json!("link"));
            put("text", json!(text.escape_ascii().to_string()));
        }
        State::Other(mode, _) => {
            put("is", json!("other"));
            put("mode", owners(mode));
        }
        State::Hidden(errno) => {
            put("is", json!("hidden"));
            put("errno", json!(errno));
        }
    }
    if dep.access.has(Access::ORDER) {
        put("rank", json!(dep.rank));
    }
    fields.retain(|_, value| !value.is_null());
    Value::Object(fields)
}

fn output(output: &Output) -> Value {
    let (is, more) = fields(&output.what);
    let mut all = Map::new();
    all.insert("path".to_owned(), json!(output.name.to_string()));
    all.insert("is".to_owned(), json!(is));
    all.extend(more);
    if matches!(output.stamp, Stamp::Exact(_)) {
        all.insert("stamped".to_owned(), json!(true));
    }
    Value::Object(all)
}

fn fields(what: &What) -> (&'static str, Map<String, Value>) {
    let (is, more) = match what {
        What::Absent => ("absent", json!({})),
        What::File {
            digest, size, mode, ..
        } => (
            "file",
            json!({"content": digest.hex(), "size": size, "mode": mode}),
        ),
        What::Link(text) => ("link", json!({"text": text.escape_ascii().to_string()})),
        What::Dir(mode) => ("directory", json!({"mode": mode})),
        What::Fifo(mode) => ("fifo", json!({"mode": mode})),
        What::HardLink(name) => ("hard link", json!({"of": name.to_string()})),
        What::Attributes(mode) => ("attributes", json!({"mode": mode})),
    };
    match more {
        Value::Object(more) => (is, more),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            (is, Map::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Name;
    use std::path::Path;

    fn record() -> Record {
        let name = |path: &str| Name::of(Path::new(path), Path::new("/w"));
        let dep = |path, access, state| Dep {
            name: name(path),
            access,
            state,
            rank: 0,
        };
        let file = State::File {
            mode: [0o644, 1, 2],
            size: 3,
            mtime: 4,
            digest: Some(Digest::of(b"abc")),
        };
        Record {
            title: "cc x.c".to_owned(),
            deps: vec![
                dep("/w/x.c", Access::KIND | Access::REG, file),
                dep("/usr/x.h", Access::KIND, State::Absent),
            ],
            outputs: vec![Output {
                name: name("/w/l"),
                what: What::Link(b"x.c".to_vec()),
                stamp: Stamp::Now(0),
                owner: None,
            }],
            ..Record::default()
        }
    }

    #[test]
    fn programs_get_only_what_was_looked_at() {
        let told: Value = serde_json::from_str(&json(&Digest::of(b"k"), &record(), false)).unwrap();
        let expected = json!([
            {"path": "x.c", "access": "kind+reg", "is": "file", "content": Digest::of(b"abc").hex()},
            {"path": "/usr/x.h", "access": "kind", "is": "absent"},
        ]);
        assert_eq!(told["inputs"], expected);
        assert_eq!(
            told["outputs"],
            json!([{"path": "l", "is": "link", "text": "x.c"}])
        );
    }

    #[test]
    fn people_get_a_line_a_name() {
        let expected = "cc x.c\n  < x.c (kind+reg)\n  < /usr/x.h (absent)\n  > l (link)";
        assert_eq!(text(&record()), expected);
    }
}
