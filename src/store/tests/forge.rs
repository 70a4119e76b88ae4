//! Pages of a store changed on purpose, with right checksums.

use super::random::Random;
use crate::disk::RealDisk;
use crate::store::layout::PAGE;
use crate::store::schema::SCHEMA;
use crate::store::{Durability, Pages, PagesMut, Segment, Store};
use std::path::Path;
use std::sync::Arc;

/// Changes some numbers of some pages of any tables of the store in `path`, the same for the same seed.
pub(crate) fn forge(path: &Path, seed: u64) {
    let mut random = Random(seed);
    let mut below = |n: usize| usize::try_from(random.below(n as u64)).unwrap();
    let store = Store::open(path, SCHEMA, Arc::new(RealDisk)).unwrap();
    let mut txn = store.begin().unwrap();
    for _ in 0..=below(4) {
        let segment = Segment(u8::try_from(below(13)).unwrap());
        let n_pages = txn.n_pages(segment);
        if n_pages == 0 {
            continue;
        }
        let no = u32::try_from(below(n_pages as usize)).unwrap();
        let page = txn.page_mut(segment, no).unwrap();
        let full = page.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        for _ in 0..=below(3) {
            let at = below(full).min(PAGE - 4);
            match below(6) {
                0 => page[at] ^= 1 << below(8),
                1 => page[at] = 0xff,
                2 => page[at..at + 4].fill(0xff),
                3 => page[at..at + 4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes()),
                4 => page.copy_within(at..(at + below(40)).min(PAGE), 0),
                _ => page[at] = u8::try_from(below(256)).unwrap(),
            }
        }
    }
    txn.commit(Durability::Lazy).unwrap();
}
