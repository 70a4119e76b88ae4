//! Reading open files through the hash. Holes are hashed without being read.

use super::copy::next_data;
use super::{At, Disk, Result, path_of};
use crate::base::{Digest, Hasher};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Files with fewer bytes in holes are read as they are.
const SPARSE: u64 = 1 << 20;

/// Bytes read at once: enough for BLAKE3 to use the widest registers, little enough for the L2 cache.
const CHUNK: usize = 128 * 1024;

/// Digest and size of the content of an open file, whatever its offset, which moves if it has holes.
///
/// # Errors
/// What pread(2) says.
pub fn hash(file: &File) -> Result<(Digest, u64)> {
    read_through(file, |_, _| Ok(()))
}

/// Copies the content of `from`, whatever its offset, which moves if it has holes, into the empty file `to` at `path`, and gives
/// digest and size of what was copied. Stretches of zeros become holes.
///
/// # Errors
/// What pread(2) and pwrite(2) say; `to` is then a part of the copy.
pub fn copy_hashed(disk: &dyn Disk, from: &File, to: &File, path: &Path) -> Result<(Digest, u64)> {
    let mut ends_in_hole = false;
    let (digest, size) = read_through(from, |bytes, offset| {
        ends_in_hole = is_zero(bytes);
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

static ZEROS: [u8; CHUNK] = [0; CHUNK];

fn is_zero(bytes: &[u8]) -> bool {
    ZEROS.get(..bytes.len()) == Some(bytes)
}

fn read_through(
    file: &File,
    mut each: impl FnMut(&[u8], u64) -> Result<()>,
) -> Result<(Digest, u64)> {
    let meta = file.metadata().ok();
    let len = meta.as_ref().map_or(0, std::fs::Metadata::len);
    let stored = meta.map_or(0, |meta| meta.blocks().saturating_mul(512));
    let sparse = len.saturating_sub(stored) >= SPARSE;
    // Touching fresh pages costs more than hashing a small file: one byte more, to see the end.
    let room = usize::try_from(len).map_or(CHUNK, |len| len.clamp(511, CHUNK - 1) + 1);
    let mut buffer = vec![0; room];
    let mut hasher = Hasher::default();
    let mut offset = 0;
    // Where the known data ends; after it may come a hole.
    let mut data_end = 0;
    loop {
        if sparse && offset == data_end {
            let data = next_data(file, offset, len).at("lseek", &path_of(file))?;
            let start = data.map_or(len, |(start, _)| start);
            while offset < start {
                let hole = usize::try_from(start - offset).map_or(CHUNK, |hole| hole.min(CHUNK));
                hasher.update(&ZEROS[..hole]);
                each(&ZEROS[..hole], offset)?;
                offset += hole as u64;
            }
            data_end = data.map_or(u64::MAX, |(_, end)| end);
        }
        let known = if sparse { data_end - offset } else { u64::MAX };
        let want = usize::try_from(known).map_or(room, |known| known.min(room));
        let bytes = match file.read_at(&mut buffer[..want], offset) {
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

    #[test]
    fn holes_are_hashed_as_the_zeros_that_they_stand_for() {
        let mut whole = vec![0; 5 << 20];
        for at in [0, 1_500_000, (5 << 20) - 1] {
            whole[at] = 7;
        }
        for len in [whole.len(), whole.len() - 1, 3 << 20] {
            let sparse = tempfile::tempfile().unwrap();
            for at in (0..len).filter(|at| whole[*at] != 0) {
                sparse.write_all_at(&[7], at as u64).unwrap();
            }
            sparse.set_len(len as u64).unwrap();
            assert!(sparse.metadata().unwrap().blocks() * 512 < 1 << 20);
            let expected = (Digest::of(&whole[..len]), len as u64);
            assert_eq!(hash(&sparse).unwrap(), expected);
        }
    }
}
