//! What the library and the supervisor share: names, the layout of a slab, and of an entry in it.
//!
//! A slab is a page of control words and a ring of entries. The process writes entries and the tail, the
//! supervisor everything else; it trusts no byte of it. This file makes no system call.

/// The file that the loader reads for libraries to load before all others.
pub const LIST: &[u8] = b"/etc/ld.so.preload";
/// The library's name for the loader. It names no file: the supervisor answers the open. Runtimes of
/// sanitizers demand to be the first library, but overlook names that begin like this.
pub const LIBRARY: &str = "linux-rfs/preload.so";
/// Directory descriptor of the openat(2) by which a process asks for a slab; no descriptor has it.
pub const HELLO: i32 = -0x0072_6673;
/// Directory descriptor of the openat(2) by which a process tells that it has waited for a child which a
/// signal ended: the third argument is the child's number, the fourth the signal. No descriptor has it.
pub const KILLED: i32 = HELLO - 1;
/// Third argument of the first of these calls: changes with the layout.
pub const VERSION: u32 = 3;

/// Bytes of a slab's control page.
pub const CONTROL: usize = 4096;
/// Bytes of its ring.
pub const RING: usize = 1 << 16;
/// Bytes of a slab.
pub const SLAB: usize = CONTROL + RING;
/// Control word: where the process has written to, in bytes since the start; the ring holds it modulo
/// [`RING`].
pub const TAIL: usize = 0;
/// Control word: up to where the supervisor has read.
pub const HEAD: usize = 4;
/// Control word: not zero when the process is to note nothing any more.
pub const STOP: usize = 8;
/// Control word: another number after each change of the working directory.
pub const CWD: usize = 12;
/// Control word: bytes of the guarded name; 0 where nothing is guarded. A path is noted only if it is absolute
/// and does not have that name in it: other looks must stop.
pub const GUARD: usize = 16;
/// The guarded name, in words of four bytes.
pub const GUARDED: usize = 64;
/// Bytes of the longest that can be guarded.
pub const MAX_GUARD: usize = 256;

/// What a process that asks for a slab shows, and the supervisor fills in.
#[repr(C)]
#[derive(Debug)]
pub struct Hello {
    /// A name, for a kernel without a supervisor.
    pub name: [u8; 16],
    /// The rest, as bytes: cookie, offset of the slab.
    pub answer: [u8; ANSWER],
}

/// Bytes of the supervisor's answer.
pub const ANSWER: usize = 16;

/// Longer paths are not noted.
pub const MAX_PATH: usize = 1023;
/// Bytes of the longest entry.
pub const MAX_ENTRY: usize = FIXED + OBJECT + MAX_PATH + 1;

const FIXED: usize = 12;
const OBJECT: usize = 32;
const HAS_OBJECT: u8 = 1;

/// Fills the ring up to its end, where an entry does not fit.
const PAD: u8 = 0;

/// What a process did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// open(2) for reading; `arg` has the flags.
    Open = 1,
    /// stat(2).
    Stat = 2,
    /// lstat(2).
    Lstat = 3,
    /// access(2); `arg` has the mode.
    Access = 4,
    /// readlink(2); `arg` has the hash of the text.
    Readlink = 5,
}

/// What it was told of an object by stat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Object {
    /// Type and permissions.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Last modification, ns since 1970.
    pub mtime: i64,
    /// Last status change, ns since 1970.
    pub ctime: i64,
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What was done.
    pub kind: Kind,
    /// How it failed; 0 if it did not.
    pub errno: u16,
    /// See [`Kind`].
    pub arg: u32,
    /// What was found.
    pub object: Option<Object>,
    /// The path as passed.
    pub path: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Bytes that it takes, a multiple of 8.
    #[must_use]
    pub fn len(&self) -> usize {
        let object = if self.object.is_some() { OBJECT } else { 0 };
        (FIXED + object + self.path.len()).next_multiple_of(8)
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// A number that is the same for entries that say the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let object = self.object.unwrap_or_default();
        let mut hash = hash(self.path);
        for word in [
            u64::from(self.kind as u8) << 48 | u64::from(self.errno) << 32 | u64::from(self.arg),
            u64::from(object.mode),
            object.size,
            object.mtime as u64,
            object.ctime as u64,
        ] {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        }
        hash
    }

    /// Writes it to the beginning of `to`, which has room for it.
    pub fn write(&self, to: &mut [u8]) {
        let len = self.len();
        let flags = if self.object.is_some() { HAS_OBJECT } else { 0 };
        let mut put = Put { to, at: 0 };
        put.bytes(&(len as u16).to_le_bytes());
        put.bytes(&[self.kind as u8, flags]);
        put.bytes(&self.errno.to_le_bytes());
        put.bytes(&(self.path.len() as u16).to_le_bytes());
        put.bytes(&self.arg.to_le_bytes());
        if let Some(object) = &self.object {
            put.bytes(&u64::from(object.mode).to_le_bytes());
            put.bytes(&object.size.to_le_bytes());
            put.bytes(&object.mtime.to_le_bytes());
            put.bytes(&object.ctime.to_le_bytes());
        }
        put.bytes(self.path);
    }

    /// Reads the entry at the beginning of `from` and tells how many bytes it took; no entry where it is
    /// padding. None if the bytes are no entry.
    #[must_use]
    pub fn read(from: &'a [u8]) -> Option<(Option<Self>, usize)> {
        let mut get = Get { from, at: 0 };
        let len = usize::from(u16::from_le_bytes(get.bytes()?));
        let [kind, flags] = get.bytes()?;
        if len == 0 || len % 8 != 0 || len > from.len() {
            return None;
        }
        let kind = match kind {
            PAD => return Some((None, len)),
            1 => Kind::Open,
            2 => Kind::Stat,
            3 => Kind::Lstat,
            4 => Kind::Access,
            5 => Kind::Readlink,
            _ => return None,
        };
        let errno = u16::from_le_bytes(get.bytes()?);
        let path_len = usize::from(u16::from_le_bytes(get.bytes()?));
        let arg = u32::from_le_bytes(get.bytes()?);
        let object = if flags & HAS_OBJECT != 0 {
            Some(Object {
                mode: u64::from_le_bytes(get.bytes()?) as u32,
                size: u64::from_le_bytes(get.bytes()?),
                mtime: i64::from_le_bytes(get.bytes()?),
                ctime: i64::from_le_bytes(get.bytes()?),
            })
        } else {
            None
        };
        let path = from.get(get.at..get.at.checked_add(path_len)?)?;
        let entry = Self {
            kind,
            errno,
            arg,
            object,
            path,
        };
        let sane = entry.len() == len && (1..=MAX_PATH).contains(&path_len) && !path.contains(&0);
        sane.then_some((Some(entry), len))
    }
}

/// Padding of `len` bytes.
#[must_use]
pub fn pad(len: usize) -> [u8; 4] {
    let [low, high] = (len as u16).to_le_bytes();
    [low, high, PAD, 0]
}

/// FNV-1a of 64 bits.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// What [`Kind::Readlink`] carries of a link's text.
#[must_use]
pub fn text_hash(text: &[u8]) -> u32 {
    let hash = hash(text);
    (hash ^ hash >> 32) as u32
}

struct Put<'a> {
    to: &'a mut [u8],
    at: usize,
}

impl Put<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        if let Some(place) = self.to.get_mut(self.at..self.at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.at += bytes.len();
    }
}

struct Get<'a> {
    from: &'a [u8],
    at: usize,
}

impl Get<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.from.get(self.at..self.at + N)?.try_into().ok();
        self.at += N;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: [Entry<'static>; 3] = [
        Entry {
            kind: Kind::Stat,
            errno: 2,
            arg: 0,
            object: None,
            path: b"x",
        },
        Entry {
            kind: Kind::Open,
            errno: 0,
            arg: 0x8_0000,
            object: Some(Object {
                mode: 0o10_0644,
                size: 1 << 40,
                mtime: -1,
                ctime: i64::MAX,
            }),
            path: b"/a/b",
        },
        Entry {
            kind: Kind::Readlink,
            errno: 0,
            arg: 7,
            object: None,
            path: &[b'y'; MAX_PATH],
        },
    ];

    fn written() -> ([u8; 2 * MAX_ENTRY], usize) {
        let mut bytes = [0xff; 2 * MAX_ENTRY];
        let mut at = 0;
        for entry in ENTRIES {
            entry.write(&mut bytes[at..]);
            at += entry.len();
        }
        bytes[at..at + 4].copy_from_slice(&pad(8));
        (bytes, at + 8)
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        let (bytes, len) = written();
        let mut at = 0;
        for entry in ENTRIES {
            let (read, n) = Entry::read(&bytes[at..len]).unwrap();
            assert_eq!((read, n), (Some(entry), entry.len()));
            at += n;
        }
        assert_eq!(Entry::read(&bytes[at..len]), Some((None, 8)));
        assert!(ENTRIES.iter().all(|e| e.len() <= MAX_ENTRY));
    }

    #[test]
    fn no_byte_breaks_the_reader() {
        let (good, len) = written();
        for at in 0..200 {
            for value in 0..=255 {
                let mut bad = good;
                bad[at] = value;
                let mut from = &bad[..len];
                while let Some((_, n)) = Entry::read(from) {
                    assert!(n >= 8 && n % 8 == 0 && n <= from.len());
                    from = &from[n..];
                }
            }
        }
        for end in 0..len {
            if let Some((_, n)) = Entry::read(&good[..end]) {
                assert!(n <= end);
            }
        }
    }

    #[test]
    fn whatever_differs_has_another_hash() {
        let [a, b, _] = ENTRIES;
        let others = [
            Entry { errno: 20, ..a },
            Entry { arg: 1, ..a },
            Entry {
                kind: Kind::Lstat,
                ..a
            },
            Entry { path: b"z", ..a },
            Entry {
                object: Some(Object::default()),
                ..b
            },
            b,
        ];
        assert!(others.iter().all(|other| other.hash() != a.hash()));
        assert_ne!(others[4].hash(), b.hash());
    }
}
