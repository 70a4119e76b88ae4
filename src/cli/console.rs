//! The only place that writes to the user's streams. A stream that nobody reads is no error.

use super::error::CommandError;
use crate::report::size;
use serde::Serialize;
use std::fmt::Display;
use std::io::{BufWriter, IsTerminal, Write};

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

/// A line on standard error as it is, for programs.
pub(super) fn raw(text: impl Display) {
    error_line(&text.to_string());
}

/// Why a command of ours could not be done.
pub(super) fn error(error: &CommandError) {
    error_line(&error.to_string());
}

/// The answer of a command of ours, on standard output.
pub(super) fn answer(text: impl Display) {
    let mut to = BufWriter::with_capacity(AT_ONCE, std::io::stdout());
    let _gone = writeln!(to, "{text}").and_then(|()| to.flush());
}

/// The same as JSON.
pub(super) fn json(answer: &impl Serialize) {
    let mut to = BufWriter::with_capacity(AT_ONCE, std::io::stdout());
    let written = serde_json::to_writer_pretty(&mut to, answer).map_err(std::io::Error::from);
    let _gone = written
        .and_then(|()| writeln!(to))
        .and_then(|()| to.flush());
}

/// Bytes of an answer that are written at once: shorter ones do not mix with those of other processes.
const AT_ONCE: usize = 1 << 16;

/// In one write, so that lines of several processes do not mix.
fn error_line(text: &str) {
    let _gone = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// How far something has come, on a line of the terminal that goes away at the end. Nothing elsewhere.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    live: bool,
    shown: u64,
}

impl Progress {
    /// Bytes between two looks of the line.
    const STEP: u64 = 16 << 20;

    pub(super) fn new(what: &'static str) -> Self {
        let dumb = super::place::variable("TERM").is_none_or(|term| term == "dumb");
        Self {
            what,
            live: std::io::stderr().is_terminal() && !dumb,
            shown: 0,
        }
    }

    /// So many bytes are done.
    pub(super) fn show(&mut self, bytes: u64) {
        if self.live && bytes >= self.shown + Self::STEP {
            self.shown = bytes;
            let line = format!("\r\x1b[Krfs: {} {}", self.what, size::text(bytes));
            let _gone = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown > 0 {
            let _gone = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
