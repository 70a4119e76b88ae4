//! The bytes of the header, the slots and the pointers: doc/store.md as code. Knows no system call.

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// A page's bytes.
pub(super) type Page = [u8; PAGE];
/// The version of the format that is described in doc/store.md.
pub(super) const VERSION: u32 = 1;
/// First page that holds data.
pub(super) const FIRST: u32 = 16;
/// Where the text lies that names the writer.
pub(super) const HOLDER: u32 = 9;
/// Pointers in a table page.
pub(super) const FAN_OUT: u32 = 512;
/// Segments of a store.
pub(super) const N_SEGMENTS: usize = 24;
/// Slots, each in two copies: durable 0 and 1, lazy 0 and 1.
pub(super) const N_SLOTS: u32 = 4;
/// Bytes of a slot.
pub(super) const SLOT: usize = 512;
/// Bytes of a header.
pub(super) const HEADER: usize = 40;

const MAGIC: &[u8; 8] = b"rfsstore";
const SLOT_MAGIC: &[u8; 8] = b"rfs-slot";
const SEGMENTS_AT: usize = 48;

/// The kernel's boot id, or another value that differs from one boot to the next.
pub(super) type Boot = [u8; 16];

/// A page and the crc32 that it must have. All zero: a page of zeros that is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ptr {
    pub(super) page: u32,
    pub(super) crc: u32,
}

impl Ptr {
    pub(super) fn is_null(self) -> bool {
        self.page == 0
    }

    /// The pointer number `index` in a table page.
    pub(super) fn read(table: &Page, index: usize) -> Self {
        Self {
            page: u32_at(table, index * 8),
            crc: u32_at(table, index * 8 + 4),
        }
    }

    pub(super) fn write(self, table: &mut Page, index: usize) {
        put_u32(table, index * 8, self.page);
        put_u32(table, index * 8 + 4, self.crc);
    }
}

/// Where a segment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Root {
    pub(super) ptr: Ptr,
    /// Logical pages.
    pub(super) n_pages: u32,
}

impl Root {
    /// Levels of table pages above the data.
    pub(super) fn height(self) -> u32 {
        height(self.n_pages)
    }
}

/// Levels of table pages that so many data pages need.
pub(super) fn height(n_pages: u32) -> u32 {
    let mut height = 0;
    let mut reach = 1;
    while reach < u64::from(n_pages) {
        reach *= u64::from(FAN_OUT);
        height += 1;
    }
    height
}

/// A whole state of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) generation: u64,
    /// Zero for a durable state.
    pub(super) boot: Boot,
    /// Pages of the file that the state may use.
    pub(super) n_pages: u32,
    pub(super) roots: [Root; N_SEGMENTS],
}

impl Slot {
    /// The state of a store in which nothing is.
    pub(super) fn empty() -> Self {
        Self {
            generation: 1,
            boot: Boot::default(),
            n_pages: FIRST,
            roots: [Root::default(); N_SEGMENTS],
        }
    }

    pub(super) fn is_durable(&self) -> bool {
        self.boot == Boot::default()
    }

    pub(super) fn encode(&self, store: u64) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(SLOT_MAGIC);
        put_u64(&mut bytes, 8, store);
        put_u64(&mut bytes, 16, self.generation);
        bytes[24..40].copy_from_slice(&self.boot);
        put_u32(&mut bytes, 40, self.n_pages);
        for (index, root) in self.roots.iter().enumerate() {
            let at = SEGMENTS_AT + index * 12;
            put_u32(&mut bytes, at, root.ptr.page);
            put_u32(&mut bytes, at + 4, root.ptr.crc);
            put_u32(&mut bytes, at + 8, root.n_pages);
        }
        let crc = crc32fast::hash(&bytes[..SLOT - 4]);
        put_u32(&mut bytes, SLOT - 4, crc);
        bytes
    }

    /// None if it is not a whole slot of this store.
    pub(super) fn decode(bytes: &[u8; SLOT], store: u64) -> Option<Self> {
        let whole = u32_at(bytes, SLOT - 4) == crc32fast::hash(&bytes[..SLOT - 4]);
        if !whole || bytes[..8] != *SLOT_MAGIC || u64_at(bytes, 8) != store {
            return None;
        }
        let mut boot = Boot::default();
        boot.copy_from_slice(&bytes[24..40]);
        let mut roots = [Root::default(); N_SEGMENTS];
        for (index, root) in roots.iter_mut().enumerate() {
            let at = SEGMENTS_AT + index * 12;
            *root = Root {
                ptr: Ptr {
                    page: u32_at(bytes, at),
                    crc: u32_at(bytes, at + 4),
                },
                n_pages: u32_at(bytes, at + 8),
            };
        }
        let slot = Self {
            generation: u64_at(bytes, 16),
            boot,
            n_pages: u32_at(bytes, 40),
            roots,
        };
        (slot.n_pages >= FIRST && slot.generation < 1 << 60).then_some(slot)
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    /// The version of the tables, which the layer above gives.
    pub(super) schema: u32,
    /// A random number that tells stores apart.
    pub(super) store: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        put_u32(&mut bytes, 8, self.version);
        put_u32(&mut bytes, 12, self.schema);
        put_u32(&mut bytes, 16, 4096);
        put_u64(&mut bytes, 24, self.store);
        let crc = crc32fast::hash(&bytes[..HEADER - 4]);
        put_u32(&mut bytes, HEADER - 4, crc);
        bytes
    }

    /// None if it is no header.
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let whole = u32_at(bytes, HEADER - 4) == crc32fast::hash(&bytes[..HEADER - 4]);
        let header = Self {
            version: u32_at(bytes, 8),
            schema: u32_at(bytes, 12),
            store: u64_at(bytes, 24),
        };
        (whole && bytes[..8] == *MAGIC).then_some(header)
    }
}

/// The number in 4 bytes; 0 past the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The number in 8 bytes; 0 past the end.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_read_as_it_was_written_and_no_bit_of_it_may_differ() {
        let mut slot = Slot::empty();
        slot.generation = 77;
        slot.boot = [3; 16];
        slot.roots[5] = Root {
            ptr: Ptr { page: 99, crc: 7 },
            n_pages: 513,
        };
        let bytes = slot.encode(42);
        assert_eq!(Slot::decode(&bytes, 42), Some(slot));
        assert_eq!(Slot::decode(&bytes, 43), None);
        for bit in 0..SLOT * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Slot::decode(&bytes, 42), None, "{bit}");
        }
    }

    #[test]
    fn the_height_is_the_least_that_reaches() {
        let heights = [0, 1, 2, 512, 513, 512 * 512, 512 * 512 + 1].map(height);
        assert_eq!(heights, [0, 0, 1, 1, 2, 2, 3]);
    }
}
