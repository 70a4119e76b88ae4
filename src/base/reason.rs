//! Why something was served, run or refused. Reasons name files.

use super::{Name, State};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a path differs from what a record says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It was absent and is there now.
    Appeared,
    /// It was there and is absent now.
    Vanished,
    /// It is of another type.
    Type,
    /// Its permissions or owners differ.
    Mode,
    /// Its size differs.
    Size,
    /// Its content differs.
    Content,
    /// The text of the symbolic link differs.
    LinkText,
    /// Other names are in the directory.
    Names,
    /// Its time stamp differs and the program looked at time stamps.
    TimeStamp,
    /// Its place in the order of time stamps differs.
    TimeOrder,
    /// It could not be looked at: errno.
    Unreadable(i32),
    /// It has extended attributes.
    Attributes,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Appeared => "appeared",
            Self::Vanished => "vanished",
            Self::Type => "changed (type)",
            Self::Mode => "changed (permissions)",
            Self::Size => "changed (size)",
            Self::Content => "changed (content)",
            Self::LinkText => "changed (link)",
            Self::Names => "changed (names in the directory)",
            Self::TimeStamp => "changed (time stamp)",
            Self::TimeOrder => "changed (order of time stamps)",
            Self::Attributes => "changed (extended attributes)",
            Self::Unreadable(errno) => return write!(f, "could not be read (errno {errno})"),
        };
        f.write_str(text)
    }
}

/// The first thing that is not as a record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The path.
    pub name: Name,
    /// How it differs.
    pub change: Change,
    /// What the record says of it, where it says so.
    pub was: Option<State>,
    /// What was found, as far as it was looked at.
    pub is: Option<State>,
}

impl Cause {
    /// One of which nothing more is known.
    #[must_use]
    pub fn of(name: Name, change: Change) -> Self {
        Self {
            name,
            change,
            was: None,
            is: None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.change)
    }
}

/// Why a step was not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Miss {
    /// Nothing is known of this command in this place with this environment.
    Unknown,
    /// What was looked at differs: the first difference from the record that came closest to holding.
    Changed(Box<Cause>),
    /// The record was there but a blob was lost or damaged.
    Blob(String),
    /// Serving was switched off.
    Off,
}

impl Miss {
    /// What differs, where that is the reason.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Changed(cause) => Some(cause),
            Self::Unknown | Self::Blob(_) | Self::Off => None,
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not seen before"),
            Self::Changed(cause) => cause.fmt(f),
            Self::Blob(what) => write!(f, "stored output unusable: {what}"),
            Self::Off => f.write_str("serving is switched off"),
        }
    }
}

/// Why an execution may not be cached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
