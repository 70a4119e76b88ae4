//! What was true of a path, in a few words and as JSON.

use crate::base::State;
use serde_json::{Value, json};

/// In a few words: `content 0123456789ab`, `absent`, `a link to x`.
pub(super) fn text(state: &State) -> String {
    match state {
        State::Absent => "absent".to_owned(),
        State::File {
            digest: Some(digest),
            ..
        } => format!("content {}", short(&digest.hex())),
        State::File { size, mode, .. } => format!("a file of {size} bytes, mode {:o}", mode[0]),
        State::Dir {
            list: Some(digest), ..
        } => format!("names {}", short(&digest.hex())),
        State::Dir { .. } => "a directory".to_owned(),
        State::Link(text, _) => format!("a link to {}", text.escape_ascii()),
        State::Other(mode, _) => format!("of mode {:o}", mode[0]),
        State::Hidden(errno) => format!("unreadable (errno {errno})"),
    }
}

/// For programs.
pub(super) fn json(state: &State) -> Value {
    match state {
        State::Absent => json!({"is": "absent"}),
        State::File {
            size, digest, mode, ..
        } => json!({
            "is": "file",
            "size": size,
            "mode": mode,
            "content": digest.map(|digest| digest.hex()),
        }),
        State::Dir { mode, list, .. } => json!({
            "is": "directory",
            "mode": mode,
            "names": list.map(|digest| digest.hex()),
        }),
        State::Link(text, _) => json!({"is": "link", "text": text.escape_ascii().to_string()}),
        State::Other(mode, _) => json!({"is": "other", "mode": mode}),
        State::Hidden(errno) => json!({"is": "hidden", "errno": errno}),
    }
}

/// The kind alone.
pub(super) fn kind(state: &State) -> &'static str {
    match state {
        State::Absent => "absent",
        State::File { .. } => "file",
        State::Dir { .. } => "directory",
        State::Link(..) => "link",
        State::Other(..) => "other",
        State::Hidden(_) => "hidden",
    }
}

/// Enough of a digest to tell two apart.
pub(super) fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}
