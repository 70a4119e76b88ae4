//! Looks at every byte of the cache.

use super::actions::{Unreadable, read};
use super::{Cache, Error};
use crate::base::{Digest, Record, What};
use crate::disk;
use std::collections::{BTreeMap, BTreeSet};

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
        for found in self.walk("blobs")? {
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
        for found in self.walk("actions")? {
            let Some(_) = found.digest else {
                let path = found.path.display();
                report.wrong.push(format!("{path} is not of the cache"));
                continue;
            };
            match read(&found.path) {
                Ok(records) => {
                    report.keys += 1;
                    for record in &records {
                        report.records += 1;
                        named.extend(contents(record).map(|(digest, _)| digest));
                        let is_there = |(digest, size)| blobs.get(&digest) == Some(&size);
                        report.lost += u64::from(!contents(record).all(is_there));
                    }
                }
                Err(Unreadable::Io(error)) => report.wrong.push(error.to_string()),
                Err(Unreadable::Damaged(why)) => {
                    let error = self.drop_damaged(found.path, why);
                    report.wrong.push(error.to_string());
                }
            }
            done += found.meta.len();
            progress(done);
        }
        for (digest, size) in &blobs {
            if !named.contains(digest) {
                report.orphans += 1;
                report.orphan_bytes += size;
            }
        }
        Ok(report)
    }
}

/// Digests and sizes of the contents that a record's outputs name.
fn contents(record: &Record) -> impl Iterator<Item = (Digest, u64)> {
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
        fs::write(cache.action_path(&key(3)), "garbage").unwrap();
        fs::write(cache.blob_path(&orphan).with_file_name("README"), "").unwrap();
        let mut looked_at = vec![];
        let report = cache.verify(&mut |done| looked_at.push(done)).unwrap();
        assert_eq!(report.wrong.len(), 3, "{:?}", report.wrong);
        assert!(looked_at.len() == 7 && looked_at.is_sorted());
        assert_eq!((report.blobs, report.keys, report.lost), (3, 2, 1));
        assert_eq!((report.orphans, report.orphan_bytes), (2, 13));
        // Damaged files are gone, so that only what is not ours is left to complain of.
        assert_eq!(cache.verify(&mut |_| ()).unwrap().wrong.len(), 1);
    }
}
