//! Records that were decoded a moment ago. A configure script runs one command line hundreds of times with
//! other contents: each look-up goes through the records of all of them.

use crate::base::Record;
use crate::store::Origin;
use std::collections::HashMap;
use std::sync::Arc;

/// Records under a key from which on they are kept: fewer are decoded at once.
const MANY: usize = 4;
/// Deps of all records that are kept; a dep takes some hundred bytes.
const MAX_DEPS: usize = 50_000;

/// Records by their serial numbers, which name them for as long as their file lives.
#[derive(Debug, Default)]
pub(in crate::cache) struct Decoded {
    from: Option<Origin>,
    records: HashMap<u32, Arc<Record>>,
    n_deps: usize,
}

impl Decoded {
    /// A record of a file.
    pub(super) fn get(&self, from: &Origin, serial: u32) -> Option<Arc<Record>> {
        if self.from.as_ref() != Some(from) {
            return None;
        }
        self.records.get(&serial).cloned()
    }

    /// Keeps the records of one key.
    pub(super) fn keep(&mut self, from: Origin, records: &[(u32, Arc<Record>)]) {
        if records.len() < MANY {
            return;
        }
        if self.from.as_ref() != Some(&from) || self.n_deps > MAX_DEPS {
            self.records.clear();
            self.n_deps = 0;
            self.from = Some(from);
        }
        for (serial, record) in records {
            // The last number is that of all that come after it as well.
            if *serial == u32::MAX {
                continue;
            }
            if self.records.insert(*serial, record.clone()).is_none() {
                self.n_deps += record.deps.len();
            }
        }
    }
}
