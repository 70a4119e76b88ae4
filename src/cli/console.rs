//! The only place that writes to the user's streams. A stream that nobody reads is no error.

use super::error::CommandError;
use std::fmt::Display;
use std::io::Write;

/// A line of ours on standard error.
pub(super) fn tell(text: impl Display) {
    error_line(&format!("rfs: {text}"));
}

/// Something that the user should know, and what can be done.
pub(super) fn warn(text: impl Display, hint: Option<&str>) {
    let mut lines = format!("rfs: warning: {text}");
    if let Some(hint) = hint {
        lines.push_str("\nrfs: hint: ");
        lines.push_str(hint);
    }
    error_line(&lines);
}

/// Why a command of ours could not be done.
pub(super) fn error(error: &CommandError) {
    error_line(&error.to_string());
}

/// The answer of a command of ours, on standard output.
pub(super) fn answer(text: impl Display) {
    let _gone = std::io::stdout().write_all(format!("{text}\n").as_bytes());
}

/// In one write, so that lines of several processes do not mix.
fn error_line(text: &str) {
    let _gone = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
