//! What was looked at: only that can invalidate.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of ways in which a path was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Access(u16);

impl Access {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Whether it exists and of what type it is.
    pub const KIND: Self = Self(1);
    /// Permission bits and owners.
    pub const MODE: Self = Self(2);
    /// Size of a regular file.
    pub const SIZE: Self = Self(4);
    /// Content of a regular file.
    pub const REG: Self = Self(8);
    /// Text of a symbolic link.
    pub const LNK: Self = Self(16);
    /// Names in a directory.
    pub const LIST: Self = Self(32);
    /// The exact time stamp of last modification.
    pub const MTIME: Self = Self(64);
    /// The order of its time stamp among those of the other paths looked at in this way.
    pub const ORDER: Self = Self(128);
    /// Written over whole without a look at what was there: what counts is whether it was absent or a
    /// regular file with the permissions that it had.
    pub const OVER: Self = Self(256);
    /// Replaced whole by rename(2): what counts is that it was not a directory.
    pub const OUST: Self = Self(512);
    /// Looked at by a program that then removes what is there and makes it anew. If it does so, what counts is
    /// whether it was absent or any regular file, for a link that leads nowhere is written through; if it does
    /// not, what stat(2) tells.
    pub const PEEK: Self = Self(1024);
    /// That a regular file has no other names: a record cannot say which ones those are.
    pub const SINGLE: Self = Self(2048);
    /// That it has no extended attributes: a record cannot say which ones those are.
    pub const PLAIN: Self = Self(4096);
    /// Everything.
    pub const ALL: Self = Self(8191);
    /// What stat(2) tells, time stamps apart.
    pub const STAT: Self = Self(1 | 2 | 4);

    /// Whether all of `other` is in the set.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    #[must_use]
    pub fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The set as a number, for what stores it.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }

    /// What [`Self::bits`] gave; unknown bits are dropped.
    #[must_use]
    pub fn from_bits(bits: u16) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The set without `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Access {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Access {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 13] = [
            "kind", "mode", "size", "reg", "lnk", "list", "mtime", "order", "over", "oust", "peek",
            "single", "plain",
        ];
        let set: Vec<_> = NAMES
            .iter()
            .enumerate()
            .filter(|(i, _)| self.0 >> i & 1 == 1)
            .map(|(_, n)| *n)
            .collect();
        f.write_str(&set.join("+"))
    }
}
