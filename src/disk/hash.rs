//! Reading open files through the hash.

use super::{At, Disk, Result, path_of};
use crate::base::{Digest, Hasher};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes read at once: enough for BLAKE3 to use the widest registers, little enough for the L2 cache.
const CHUNK: usize = 128 * 1024;

/// Digest and size of the content of an open file, whatever its offset, which stays.
///
/// # Errors
/// What pread(2) says.
pub fn hash(file: &File) -> Result<(Digest, u64)> {
    read_through(file, |_, _| Ok(()))
}

/// Copies the content of `from`, whatever its offset, into the empty file `to` at `path`, and gives
/// digest and size of what was copied. Stretches of zeros become holes.
///
/// # Errors
/// What pread(2) and pwrite(2) say; `to` is then a part of the copy.
pub fn copy_hashed(disk: &dyn Disk, from: &File, to: &File, path: &Path) -> Result<(Digest, u64)> {
    let mut ends_in_hole = false;
    let (digest, size) = read_through(from, |bytes, offset| {
        ends_in_hole = bytes.iter().all(|b| *b == 0);
        if ends_in_hole {
            return Ok(());
        }
        disk.write_at(to, path, bytes, offset)
    })?;
    if ends_in_hole {
        disk.set_len(to, path, size)?;
    }
    Ok((digest, size))
}

fn read_through(
    file: &File,
    mut each: impl FnMut(&[u8], u64) -> Result<()>,
) -> Result<(Digest, u64)> {
    let len = file.metadata().map_or(0, |meta| meta.len());
    // Touching fresh pages costs more than hashing a small file: one byte more, to see the end.
    let room = usize::try_from(len).map_or(CHUNK, |len| len.clamp(511, CHUNK - 1) + 1);
    let mut buffer = vec![0; room];
    let mut hasher = Hasher::default();
    let mut offset = 0;
    loop {
        let bytes = match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok((hasher.finish(), offset)),
            Ok(n) => &buffer[..n],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).at("read", &path_of(file)),
        };
        hasher.update(bytes);
        each(bytes, offset)?;
        offset += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_has_the_digest_of_its_source_and_its_holes() {
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(b"head", 0).unwrap();
        from.set_len(3 << 20).unwrap();
        let to = tempfile::tempfile().unwrap();
        let (digest, size) = copy_hashed(&RealDisk, &from, &to, Path::new("to")).unwrap();
        assert_eq!(size, 3 << 20);
        assert_eq!(hash(&to).unwrap(), (digest, size));
        assert_eq!(hash(&from).unwrap(), (digest, size));
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
