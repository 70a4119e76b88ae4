//! Copying the content of one open file to another in the cheapest way there is.

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes read or written in one call where the kernel does not copy by itself.
const CHUNK: usize = 128 * 1024;

/// Makes the empty file `to` a copy of the regular file `from`: shared blocks (FICLONE), else
/// copy_file_range(2), else reading and writing. Holes stay holes.
///
/// Moves the file offset of `from`, so that its open file description must not be shared with anybody
/// who cares.
///
/// # Errors
/// What the system calls say; `to` is then a part of the copy.
pub fn copy(from: &File, to: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let size = from.metadata()?.len();
    let mut offset = 0;
    while let Some((start, end)) = next_data(from, offset, size)? {
        copy_range(from, to, start, end)?;
        offset = end;
    }
    to.set_len(size)
}

/// The next stretch of data in `from` at or after `offset`.
pub(super) fn next_data(from: &File, offset: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if offset >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(from, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A filesystem without SEEK_DATA: all of it is data.
        Err(Errno::INVAL) => return Ok(Some((offset, size))),
        Err(errno) => return Err(errno.into()),
    };
    let end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
    Ok((start < size).then_some((start, end.min(size))))
}

fn copy_range(from: &File, to: &File, mut start: u64, end: u64) -> io::Result<()> {
    while start < end {
        let (mut at, mut to_at) = (start, start);
        let want = usize::try_from(end - start).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut to_at), want) {
            // Cut by somebody while we copy, or one of the filesystems that say 0 for "cannot".
            Ok(0) => return read_write(from, to, start, end),
            Ok(n) => start += n as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return read_write(from, to, start, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn read_write(from: &File, to: &File, mut start: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while start < end {
        let want = usize::try_from(end - start).unwrap_or(CHUNK).min(CHUNK);
        let n = match from.read_at(&mut buffer[..want], start) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all_at(&buffer[..n], start)?;
        start += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn holes_stay_holes_and_bytes_stay_bytes() {
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(b"head", 0).unwrap();
        from.write_all_at(b"tail", 8 << 20).unwrap();
        from.set_len((9 << 20) + 7).unwrap();
        let to = tempfile::tempfile().unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(to.metadata().unwrap().len(), (9 << 20) + 7);
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
        let mut bytes = [0; 4];
        to.read_exact_at(&mut bytes, 8 << 20).unwrap();
        assert_eq!(&bytes, b"tail");
    }

    #[test]
    fn reading_and_writing_gives_the_same_bytes() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(&content, 0).unwrap();
        let to = tempfile::tempfile().unwrap();
        read_write(&from, &to, 0, content.len() as u64).unwrap();
        let mut copied = vec![0; content.len()];
        to.read_exact_at(&mut copied, 0).unwrap();
        assert!(copied == content);
    }
}
