//! What one execution read, wrote, printed and returned.

use super::{Access, Change, Digest, Name, Scraps};
use serde::{Deserialize, Serialize};

/// What was true of a path. Fields that the access kinds of the dep do not cover carry no meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// No such name.
    Absent,
    /// A regular file.
    File {
        /// Permission bits (07777), owner and group.
        mode: [u32; 3],
        /// Bytes.
        size: u64,
        /// Time of last modification, ns since 1970.
        mtime: i64,
        /// Its content, where it was looked at.
        digest: Option<Digest>,
    },
    /// A directory.
    Dir {
        /// Permission bits (07777), owner and group.
        mode: [u32; 3],
        /// Time of last modification, ns since 1970.
        mtime: i64,
        /// Digest of its sorted names with their types, where they were looked at.
        list: Option<Digest>,
    },
    /// A symbolic link: its text, and its time of last modification, ns since 1970.
    Link(Vec<u8>, i64),
    /// A fifo, socket or device: whole mode, owner, group, device number.
    Other([u32; 3], u64),
    /// It cannot be looked at: errno.
    Hidden(i32),
}

impl State {
    /// The first way in which `now` differs from `self`, of those that `access` covers.
    ///
    /// Order of time stamps is a matter of many paths and not looked at here.
    #[must_use]
    pub fn change(&self, now: &Self, access: Access) -> Option<Change> {
        let looked = |kind: Access, differs: bool, change: Change| {
            (access.any(kind) && differs).then_some(change)
        };
        match (self, now) {
            (Self::Absent, Self::Absent) => None,
            (Self::Absent, Self::File { .. }) | (Self::File { .. }, Self::Absent)
                if access == Access::OVER =>
            {
                None
            }
            (Self::Absent | Self::File { .. }, Self::Absent | Self::File { .. })
                if access == Access::PEEK =>
            {
                None
            }
            (old, new) if access == Access::OUST => match (old, new) {
                (Self::Dir { .. }, Self::Dir { .. }) => None,
                (Self::Dir { .. }, _) | (_, Self::Dir { .. }) => Some(Change::Type),
                _ => None,
            },
            (Self::Absent, _) => Some(Change::Appeared),
            (_, Self::Absent) => Some(Change::Vanished),
            (
                Self::File {
                    mode,
                    size,
                    mtime,
                    digest,
                },
                Self::File {
                    mode: mode2,
                    size: size2,
                    mtime: mtime2,
                    digest: digest2,
                },
            ) => looked(Access::MODE | Access::OVER, mode != mode2, Change::Mode)
                .or_else(|| looked(Access::SIZE, size != size2, Change::Size))
                .or_else(|| looked(Access::REG, digest != digest2, Change::Content))
                .or_else(|| looked(Access::MTIME, mtime != mtime2, Change::TimeStamp)),
            (
                Self::Dir { mode, mtime, list },
                Self::Dir {
                    mode: mode2,
                    mtime: mtime2,
                    list: list2,
                },
            ) => looked(Access::MODE, mode != mode2, Change::Mode)
                .or_else(|| looked(Access::LIST, list != list2, Change::Names))
                .or_else(|| looked(Access::MTIME, mtime != mtime2, Change::TimeStamp)),
            (Self::Link(text, mtime), Self::Link(text2, mtime2)) => (text != text2)
                .then_some(Change::LinkText)
                .or_else(|| looked(Access::MTIME, mtime != mtime2, Change::TimeStamp)),
            (Self::Other(mode, dev), Self::Other(mode2, dev2)) => {
                (mode != mode2 || dev != dev2).then_some(Change::Type)
            }
            (Self::Hidden(errno), Self::Hidden(errno2)) if errno == errno2 => None,
            (_, Self::Hidden(errno)) => Some(Change::Unreadable(*errno)),
            (
                Self::File { .. }
                | Self::Dir { .. }
                | Self::Link(..)
                | Self::Other(..)
                | Self::Hidden(_),
                _,
            ) => Some(Change::Type),
        }
    }
}

/// One input: a path, how it was looked at, and what was true of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dep {
    /// The path.
    pub name: Name,
    /// How it was looked at.
    pub access: Access,
    /// What was true of it at the first look.
    pub state: State,
    /// With [`Access::ORDER`]: its place among all such deps by time stamp, equal stamps sharing one; with
    /// [`Self::FUTURE`] for a time stamp in the future of the execution. Else 0.
    pub rank: u32,
}

impl Dep {
    /// In a rank: make(1) and the like compare time stamps with the clock as well.
    pub const FUTURE: u32 = 1 << 31;
}

/// When an output was last modified, as far as a later comparison of time stamps can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stamp {
    /// By being written: its place in the order of the outputs' time stamps.
    Now(u32),
    /// The program set this time: ns since 1970.
    Exact(i64),
    /// Not modified.
    Keep,
}

/// What is to be found at an output's name afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Nothing: it was removed.
    Absent,
    /// A regular file.
    File {
        /// Its content.
        digest: Digest,
        /// Bytes.
        size: u64,
        /// Permission bits (07777).
        mode: u32,
        /// Whether an existing file was written in place (its other hard links show the new content too).
        in_place: bool,
    },
    /// A symbolic link with its text.
    Link(Vec<u8>),
    /// A directory with its permission bits.
    Dir(u32),
    /// A fifo with its permission bits.
    Fifo(u32),
    /// Another name of this file.
    HardLink(Name),
    /// The object stays; only attributes changed: the permission bits afterwards.
    Attributes(u32),
}

impl What {
    /// Whether the same is there afterwards, however it came there.
    #[must_use]
    pub fn leaves_as(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::File {
                    digest, size, mode, ..
                },
                Self::File {
                    digest: digest2,
                    size: size2,
                    mode: mode2,
                    ..
                },
            ) => (digest, size, mode) == (digest2, size2, mode2),
            _ => self == other,
        }
    }
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: Name,
    /// What is there afterwards.
    pub what: What,
    /// Its time stamp.
    pub stamp: Stamp,
    /// Owner and group, where they are not those of the process.
    pub owner: Option<(u32, u32)>,
}

/// A directory that was there before and is there afterwards, in which names were made, removed or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Its name, in the workspace.
    pub name: Name,
    /// The place of its time stamp in the order of the outputs' time stamps ([`Stamp::Now`]).
    pub rank: u32,
    /// Whether more was done in it than to make files that were then written: where those are there
    /// already, they are written over, and the directory keeps its time stamp.
    pub always: bool,
}

/// Bytes written to one of the descriptors that the program was started with, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Descriptor number of the program.
    pub fd: i32,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What an execution read through descriptor 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Stdin {
    /// Nothing: whatever it is, it does not matter.
    #[default]
    Unread,
    /// The end of file that `/dev/null` gives.
    Null,
    /// A regular file from this offset on; its content is a dep. `left` is where it left the offset.
    File {
        /// The file.
        name: Name,
        /// Offset in bytes at the start.
        pos: u64,
        /// Offset in bytes at the end.
        left: u64,
    },
}

/// What an execution cost. Processes that were killed are not counted in: nobody saw what they had used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Microseconds from start to end.
    pub wall_us: u64,
    /// User and system time of all its processes, in microseconds.
    pub cpu_us: u64,
    /// Largest resident set of one of its processes, in bytes.
    pub peak_bytes: u64,
    /// The same of those that belong to no step inside it.
    pub own_bytes: u64,
    /// Page faults that needed the disk.
    pub major_faults: u64,
    /// Switches to another process, wanted or not, of threads that lived until their process ended.
    pub switches: u64,
}

impl Cost {
    /// Counts a process in.
    pub fn add(&mut self, process: &Self) {
        self.cpu_us += process.cpu_us;
        self.peak_bytes = self.peak_bytes.max(process.peak_bytes);
        self.major_faults += process.major_faults;
        self.switches += process.switches;
    }
}

/// Where an execution ran.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Placement {
    /// The place that it was given, none where nobody asked for one.
    pub asked: Option<String>,
    /// The processors that its first process might use at its end, in the kernel's list format.
    pub cpus: String,
    /// The memory nodes, likewise.
    pub nodes: String,
    /// The processor on which its first process ended.
    pub cpu: u32,
}

/// Who ran it, where and when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Host name.
    pub host: String,
    /// User id.
    pub uid: u32,
    /// Seconds since 1970 at the end.
    pub time: i64,
    /// The tracer's backend.
    pub tracer: String,
    /// Version of rfs.
    pub rfs: String,
    /// The machine's packages, memory nodes, cores and processors.
    pub topology: String,
    /// Where it ran.
    pub placement: Placement,
}

/// What was started, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Command {
    /// The program file.
    pub program: Name,
    /// Argument vector, byte for byte.
    pub argv: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: Name,
}

/// What a step was given beside its command. Not of its record: most of it makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Start {
    /// Environment, byte for byte.
    pub env: Vec<Vec<u8>>,
    /// All else that its key is made of, for people: `umask 022`, `descriptor 1: stream`.
    pub around: Vec<String>,
}

/// Everything that is needed to decide whether an execution may be served, and to serve it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// The command for people: its argument vector, lossy.
    pub title: String,
    /// Inputs. What changes most often comes first.
    pub deps: Vec<Dep>,
    /// Outputs, in the order in which they must be made.
    pub outputs: Vec<Output>,
    /// Directories that are no outputs and have other time stamps afterwards.
    pub dirs: Vec<Touched>,
    /// What it printed.
    pub chunks: Vec<Chunk>,
    /// What it read from its standard input.
    pub stdin: Stdin,
    /// Exit status.
    pub status: i32,
    /// Visible uses of the clock or of random numbers.
    pub notes: Vec<String>,
    /// What it cost.
    pub cost: Cost,
    /// Who ran it, where and when.
    pub provenance: Provenance,
    /// What it is a run of.
    pub command: Command,
    /// Weak keys of the steps that it started, in their order.
    pub inner: Vec<Digest>,
    /// Files that it made for those, and removed.
    pub scraps: Scraps,
}

impl Record {
    /// Whether it does from the same inputs what another one does, whenever and wherever the two were made.
    /// Whether two things fall into one tick of the clock, as for directories is not seldom, makes no difference.
    #[must_use]
    pub fn does_as(&self, other: &Self) -> bool {
        self.status == other.status
            && self.stdin == other.stdin
            && self.outputs == other.outputs
            && self.chunks == other.chunks
            && self.deps == other.deps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, content: &[u8]) -> State {
        State::File {
            mode: [0o644, 0, 0],
            size,
            mtime: 1,
            digest: Some(Digest::of(content)),
        }
    }

    #[test]
    fn only_what_was_looked_at_can_invalidate() {
        let (old, new) = (file(1, b"a"), file(1, b"b"));
        assert_eq!(old.change(&new, Access::STAT), None);
        assert_eq!(old.change(&new, Access::REG), Some(Change::Content));
        assert_eq!(
            State::Absent.change(&new, Access::KIND),
            Some(Change::Appeared)
        );
        assert_eq!(
            old.change(&State::Absent, Access::KIND),
            Some(Change::Vanished)
        );
        assert_eq!(
            old.change(&State::Link(vec![], 0), Access::KIND),
            Some(Change::Type)
        );
    }

    #[test]
    fn a_link_has_a_time_stamp_of_its_own() {
        let (old, new) = (State::Link(b"a".into(), 1), State::Link(b"a".into(), 2));
        assert_eq!(old.change(&new, Access::KIND | Access::LNK), None);
        let moved = old.change(&new, Access::KIND | Access::MTIME);
        assert_eq!(moved, Some(Change::TimeStamp));
    }

    #[test]
    fn a_file_written_over_blindly_may_be_absent_or_not() {
        assert_eq!(State::Absent.change(&file(1, b"a"), Access::OVER), None);
        assert_eq!(file(1, b"a").change(&State::Absent, Access::OVER), None);
        assert_eq!(
            file(1, b"a").change(&State::Absent, Access::OVER | Access::KIND),
            Some(Change::Vanished)
        );
    }

    #[test]
    fn a_file_made_anew_may_be_any_file_but_no_link() {
        let (link, old) = (State::Link(b"none".into(), 1), file(1, b"a"));
        assert_eq!(State::Absent.change(&old, Access::PEEK), None);
        assert_eq!(old.change(&file(2, b"bc"), Access::PEEK), None);
        assert_eq!(old.change(&State::Absent, Access::PEEK), None);
        assert_eq!(
            State::Absent.change(&link, Access::PEEK),
            Some(Change::Appeared)
        );
        assert_eq!(old.change(&link, Access::PEEK), Some(Change::Type));
    }
}
