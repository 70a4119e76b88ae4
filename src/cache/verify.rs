//! Looks at every byte of the cache.

use super::sound::sound;
use super::{Cache, Error};
use crate::base::{Digest, Record, What};
use crate::disk;
use crate::store::{self, Store, history};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a look at everything found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Whole contents.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Weak keys with whole records.
    pub keys: u64,
    /// Their records.
    pub records: u64,
    /// Records of which an output's content is lost: they cannot be served, and are replaced when their
    /// step has run again.
    pub lost: u64,
    /// Contents that no record names.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// What was wrong, a message a file. Damaged files are removed; foreign ones are left.
    pub wrong: Vec<String>,
}

impl Cache {
    /// Hashes every blob and decodes all records. Damaged files are removed, as they would be when they
    /// are used. `progress` is told of the bytes looked at so far.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<Report, disk::Error> {
        let mut report = Report::default();
        let mut done = 0;
        let mut blobs = BTreeMap::new();
        for found in self.walk()? {
            let Some(digest) = found.digest else {
                let path = found.path.display();
                report.wrong.push(format!("{path} is not of the cache"));
                continue;
            };
            match self.check(&digest) {
                Ok(size) => {
                    report.blobs += 1;
                    report.blob_bytes += size;
                    blobs.insert(digest, size);
                }
                // Dropped by somebody while we walk.
                Err(Error::Missing(_)) => {}
                Err(error) => report.wrong.push(error.to_string()),
            }
            done += found.meta.len();
            progress(done);
        }
        let mut named = BTreeSet::new();
        match self.verify_index(&blobs, &mut named, &mut report) {
            Ok(bytes) => progress(done + bytes),
            Err((store, error)) => report.wrong.push(self.lose(&store, error)),
        }
        for (digest, size) in &blobs {
            if !named.contains(digest) {
                report.orphans += 1;
                report.orphan_bytes += size;
            }
        }
        Ok(report)
    }

    /// Reads every page and every record of the index. Gives its size.
    fn verify_index(
        &self,
        blobs: &BTreeMap<Digest, u64>,
        named: &mut BTreeSet<Digest>,
        report: &mut Report,
    ) -> Result<u64, (Arc<Store>, store::Error)> {
        let (store, told) = self.index();
        report.wrong.extend(told);
        let Some(store) = store else {
            return Ok(0);
        };
        let mut read = || -> Result<u64, store::Error> {
            let snapshot = store.snapshot()?;
            snapshot.check()?;
            for execution in history::all(&*snapshot)? {
                let record = history::record(&*snapshot, execution)?;
                if sound(&record).is_err() {
                    return Err(history::unsound(&*snapshot, "a record that cannot be"));
                }
                report.records += 1;
                named.extend(contents(&record).map(|(digest, _)| digest));
                let is_there = |(digest, size)| blobs.get(&digest) == Some(&size);
                report.lost += u64::from(!contents(&record).all(is_there));
            }
            report.keys = history::n_keys(&*snapshot)?.into();
            Ok(snapshot.file_bytes())
        };
        read().map_err(|error| (store.clone(), error))
    }
}

/// Digests and sizes of the contents that a record's outputs name.
pub(super) fn contents(record: &Record) -> impl Iterator<Item = (Digest, u64)> {
    record
        .outputs
        .iter()
        .filter_map(|output| match output.what {
            What::File { digest, size, .. } => Some((digest, size)),
            What::Absent
            | What::Link(_)
            | What::Dir(_)
            | What::Fifo(_)
            | What::HardLink(_)
            | What::Attributes(_) => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::sound::tests::{file, record};
    use crate::disk::RealDisk;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    #[test]
    #[allow(clippy::disallowed_methods)] // damages the cache
    fn all_that_is_wrong_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("c"), Arc::new(RealDisk)).unwrap();
        let key = |n: u8| Digest::of(&[n]);
        for (n, content) in [(1, "one"), (2, "two"), (3, "three")] {
            cache.insert_bytes(content.as_bytes()).unwrap();
            let outputs = vec![file("o", content.as_bytes()), file("p", b"one")];
            let record = Record {
                outputs,
                ..record()
            };
            cache.add(&key(n), record).unwrap();
        }
        let orphan = cache.insert_bytes(b"nobody's").unwrap();
        let whole = cache.verify(&mut |_| ()).unwrap();
        let expected = Report {
            blobs: 4,
            blob_bytes: 19,
            keys: 3,
            records: 3,
            orphans: 1,
            orphan_bytes: 8,
            ..Report::default()
        };
        assert_eq!(whole, expected);
        let stats = cache.stats().unwrap();
        assert_eq!((stats.blobs, stats.blob_bytes, stats.keys), (4, 19, 3));

        let two = cache.blob_path(&Digest::of(b"two"));
        fs::set_permissions(&two, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&two, "tWo").unwrap();
        fs::write(cache.blob_path(&orphan).with_file_name("README"), "").unwrap();
        let mut looked_at = vec![];
        let report = cache.verify(&mut |done| looked_at.push(done)).unwrap();
        assert_eq!(report.wrong.len(), 2, "{:?}", report.wrong);
        assert!(looked_at.len() == 5 && looked_at.is_sorted());
        assert_eq!((report.blobs, report.keys, report.lost), (3, 3, 1));
        assert_eq!((report.orphans, report.orphan_bytes), (1, 8));
        // Damaged files are gone, so that only what is not ours is left to complain of.
        assert_eq!(cache.verify(&mut |_| ()).unwrap().wrong.len(), 1);

        let index = dir.path().join("c/index");
        let mut bytes = fs::read(&index).unwrap();
        for page in bytes.chunks_mut(4096).skip(16) {
            page[9] ^= 1;
        }
        fs::write(&index, bytes).unwrap();
        let cache = Cache::open(&dir.path().join("c"), Arc::new(RealDisk)).unwrap();
        let report = cache.verify(&mut |_| ()).unwrap();
        assert_eq!((report.wrong.len(), report.records), (2, 0));
        assert_eq!(report.orphans, 3);
        assert_eq!(cache.verify(&mut |_| ()).unwrap().wrong.len(), 1);
    }
}
