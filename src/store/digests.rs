//! Digests by stat identity, in a store: one entry a file, the oldest forgotten when there are too many.

use super::Error;
use super::layout::{u32_at, u64_at};
use super::pages::{Pages, PagesMut};
use super::schema::{MEMO, MEMO_BY_FILE};
use crate::base::{Digest, Identity};

/// Entries at most: files that are gone would else be remembered for ever.
const MANY: u32 = 1 << 20;
/// The cell that tells which entry is forgotten next.
const HAND: u8 = 0;

/// The digest of the content that a file of this identity had.
pub(super) fn get(pages: &impl Pages, identity: &Identity) -> Result<Option<Digest>, Error> {
    let Some(id) = find(pages, identity)? else {
        return Ok(None);
    };
    let (then, digest) = decode(MEMO.get(pages, id)?);
    Ok((then == *identity).then_some(digest))
}

/// Remembers the digest of a file in place of the one that it had.
pub(super) fn put(
    pages: &mut impl PagesMut,
    identity: &Identity,
    digest: &Digest,
) -> Result<(), Error> {
    put_of(pages, identity, digest, MANY)
}

fn put_of(
    pages: &mut impl PagesMut,
    identity: &Identity,
    digest: &Digest,
    many: u32,
) -> Result<(), Error> {
    let record = encode(identity, digest);
    if let Some(id) = find(pages, identity)? {
        return MEMO.put(pages, id, 0, &record);
    }
    let id = if MEMO.count(pages)? < many {
        MEMO.add(pages, &record)?
    } else {
        let hand = MEMO.cell(pages, HAND)?;
        let id = u32::try_from(hand % u64::from(many)).unwrap_or(0) + 1;
        MEMO.put_cell(pages, HAND, u64::from(id))?;
        let (old, _) = decode(MEMO.get(pages, id)?);
        MEMO_BY_FILE.remove(pages, hash(&old), id)?;
        MEMO.put(pages, id, 0, &record)?;
        id
    };
    MEMO_BY_FILE.insert(pages, hash(identity), id)
}

/// All that is remembered.
pub(super) fn all(pages: &impl Pages) -> impl Iterator<Item = Result<(Identity, Digest), Error>> {
    // What cannot be counted is told once, as one entry.
    let (count, error) = match MEMO.count(pages) {
        Ok(count) => (count, None),
        Err(error) => (0, Some(Err(error))),
    };
    let entries = (1..=count).map(|id| MEMO.get(pages, id).map(decode));
    entries.chain(error)
}

fn find(pages: &impl Pages, identity: &Identity) -> Result<Option<u32>, Error> {
    MEMO_BY_FILE.find(pages, hash(identity), |id| {
        let record = MEMO.get(pages, id)?;
        Ok((u64_at(record, 0), u64_at(record, 8)) == (identity.dev, identity.ino))
    })
}

fn hash(identity: &Identity) -> u32 {
    let mixed = (identity.ino ^ identity.dev.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u32_at(&mixed.to_le_bytes(), 4)
}

fn encode(identity: &Identity, digest: &Digest) -> [u8; 72] {
    let mut record = [0; 72];
    let numbers = [
        identity.dev,
        identity.ino,
        identity.size,
        identity.mtime as u64,
        identity.ctime as u64,
    ];
    for (bytes, number) in record.chunks_exact_mut(8).zip(numbers) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    record[40..].copy_from_slice(&digest.0);
    record
}

fn decode(record: &[u8]) -> (Identity, Digest) {
    let identity = Identity {
        dev: u64_at(record, 0),
        ino: u64_at(record, 8),
        size: u64_at(record, 16),
        mtime: u64_at(record, 24) as i64,
        ctime: u64_at(record, 32) as i64,
    };
    let mut digest = Digest([0; 32]);
    digest.0.copy_from_slice(&record[40..72]);
    (identity, digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::store::Store;
    use std::sync::Arc;

    #[test]
    fn the_oldest_files_are_forgotten_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path, 1, Arc::new(RealDisk)).unwrap();
        let mut txn = store.begin().unwrap();
        let file = |ino: u64| Identity {
            ino,
            size: ino,
            ..Identity::default()
        };
        let digest = |n: u64| Digest::of(&n.to_le_bytes());
        for n in 0..250 {
            put_of(&mut txn, &file(n), &digest(n), 100).unwrap();
        }
        for n in 0..250 {
            let expected = (n >= 150).then(|| digest(n));
            assert_eq!(get(&txn, &file(n)).unwrap(), expected, "{n}");
        }
        assert_eq!(MEMO_BY_FILE.count(&txn).unwrap(), 100);
        let changed = Identity {
            mtime: 9,
            ..file(200)
        };
        put_of(&mut txn, &changed, &digest(1), 100).unwrap();
        assert_eq!(get(&txn, &changed).unwrap(), Some(digest(1)));
        assert_eq!(get(&txn, &file(200)).unwrap(), None);
        assert_eq!(MEMO_BY_FILE.count(&txn).unwrap(), 100);
    }
}
