//! Why a command of ours could not be done, in words for people, and the exit status for it.

use std::fmt;

/// What kind of failure it is; decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// rfs could not do its own part.
    Failed,
    /// The command was found but cannot be executed.
    NotExecutable,
    /// The command was not found.
    NotFound,
}

/// What can be done where nothing better is known.
const ELSE: &str =
    "`rfs doctor` tells what this machine lacks; `rfs bugreport` gathers what others need to know";

/// A failure with its remedies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommandError {
    kind: Kind,
    message: String,
    hints: Vec<String>,
}

impl CommandError {
    /// A failure of our own part. The message is lower case and has no final stop.
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Self::of(Kind::Failed, message)
    }

    /// A failure of this kind.
    pub(super) fn of(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            hints: Vec::new(),
        }
    }

    /// With a remedy.
    pub(super) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// The exit status of rfs.
    pub(super) fn status(&self) -> i32 {
        match self.kind {
            Kind::Failed => super::FAILED,
            Kind::NotExecutable => 126,
            Kind::NotFound => 127,
        }
    }
}

/// One line for the failure, one for each remedy. A command that cannot be executed is no error of ours,
/// so that it reads as a shell would say it.
impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Failed => write!(f, "rfs: error: {}", self.message)?,
            Kind::NotExecutable | Kind::NotFound => write!(f, "rfs: {}", self.message)?,
        }
        for hint in &self.hints {
            write!(f, "\nrfs: hint: {hint}")?;
        }
        match self.kind {
            Kind::Failed if self.hints.is_empty() => write!(f, "\nrfs: hint: {ELSE}"),
            Kind::Failed | Kind::NotExecutable | Kind::NotFound => Ok(()),
        }
    }
}

impl std::error::Error for CommandError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_follow_on_their_own_lines() {
        let error = CommandError::new("cannot read x").hint("make it readable");
        assert_eq!(
            error.to_string(),
            "rfs: error: cannot read x\nrfs: hint: make it readable"
        );
        assert_eq!(error.status(), 125);
    }

    #[test]
    fn no_failure_leaves_its_reader_alone() {
        let told = CommandError::new("cannot read x").to_string();
        assert!(told.contains("\nrfs: hint: `rfs doctor`"), "{told}");
    }

    #[test]
    fn what_cannot_be_executed_reads_as_from_a_shell() {
        let error = CommandError::of(Kind::NotFound, "mkae: command not found");
        assert_eq!(error.to_string(), "rfs: mkae: command not found");
        assert_eq!(error.status(), 127);
    }
}
