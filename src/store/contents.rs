//! Contents by number: digest and size.

use super::Error;
use super::layout::{u32_at, u64_at};
use super::pages::{Pages, PagesMut};
use super::schema::{CONTENTS, CONTENTS_BY_DIGEST};
use crate::base::Digest;

/// The number of a content, which is added if it is new. `size` may be 0 if it is not known.
pub(super) fn intern(pages: &mut impl PagesMut, digest: &Digest, size: u64) -> Result<u32, Error> {
    if let Some(id) = find(pages, digest)? {
        return Ok(id);
    }
    let mut record = [0; 40];
    record[..32].copy_from_slice(&digest.0);
    record[32..].copy_from_slice(&size.to_le_bytes());
    let id = CONTENTS.add(pages, &record)?;
    CONTENTS_BY_DIGEST.insert(pages, u32_at(&digest.0, 0), id)?;
    Ok(id)
}

/// The number of a content.
pub(super) fn find(pages: &impl Pages, digest: &Digest) -> Result<Option<u32>, Error> {
    CONTENTS_BY_DIGEST.find(pages, u32_at(&digest.0, 0), |id| {
        Ok(CONTENTS.get(pages, id)?.starts_with(&digest.0))
    })
}

/// Digest and size.
pub(super) fn get(pages: &impl Pages, id: u32) -> Result<(Digest, u64), Error> {
    let record = CONTENTS.get(pages, id)?;
    let mut digest = Digest([0; 32]);
    digest.0.copy_from_slice(&record[..32]);
    Ok((digest, u64_at(record, 32)))
}
