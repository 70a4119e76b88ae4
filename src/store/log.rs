//! An append-only file of frames, which several processes may extend at a time. Knows no frame's meaning.
//!
//! The file is a header (8 bytes of magic, format version, crc32 of both) and frames (length of the
//! payload, crc32 of length and payload, payload); numbers are little-endian u32. A writer holds flock(2)
//! and appends a whole frame by one write, so that readers need no lock. What a killed writer left at the
//! end is cut off by the next one. A rewrite replaces the file by rename.

use super::Error;
use crate::disk::{self, At, Disk};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Magic, version, crc.
const HEADER: usize = 16;
/// Length, crc.
const FRAME: usize = 8;

/// What the file holds.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// The first bytes of the file.
    pub magic: [u8; 8],
    /// Older versions are dropped, newer ones left alone.
    pub version: u32,
}

/// A log, read up to its end.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    format: Format,
    disk: Arc<dyn Disk>,
    /// Up to where which file is known to be good.
    good: Option<Good>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Good {
    ino: u64,
    end: u64,
}

impl Log {
    /// Reads a log and gives each payload to `each`, in order. No file is an empty log; the file is made
    /// by the first [`Self::append`]. Damage is pushed to `damage`: a damaged frame is left out, and
    /// where no frame can be made out, the log ends.
    ///
    /// # Errors
    /// A newer rfs wrote the file, or it cannot be read.
    pub fn open(
        path: &Path,
        format: Format,
        disk: Arc<dyn Disk>,
        damage: &mut Vec<Error>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Self, Error> {
        let mut log = Self {
            path: path.to_owned(),
            format,
            disk,
            good: None,
        };
        let mut file = match OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(log),
            Err(error) => return Err(error).at("open", path)?,
        };
        let (ino, bytes) = log.read(&mut file)?;
        let scan = log.scan(&bytes)?;
        for payload in &scan.payloads {
            each(&bytes[payload.clone()]);
        }
        damage.extend(scan.damage);
        log.good = Some(Good {
            ino,
            end: scan.end as u64,
        });
        Ok(log)
    }

    /// Appends one frame.
    ///
    /// # Errors
    /// A newer rfs wrote the file meanwhile, or a system call fails; the log is as it was then, or ends
    /// in a part of the frame that the next writer cuts off.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), Error> {
        let (mut file, ino) = self.lock()?;
        let len = file.metadata().at("fstat", &self.path)?.len();
        let end = match self.good {
            Some(good) if good == (Good { ino, end: len }) => len,
            // Others wrote to it, or it is another file.
            Some(_) | None => {
                let (_, bytes) = self.read(&mut file)?;
                self.scan(&bytes)?.end as u64
            }
        };
        if end < len {
            self.disk.set_len(&file, &self.path, end)?;
        }
        let mut bytes = Vec::with_capacity(HEADER + FRAME + payload.len());
        if end == 0 {
            bytes.extend_from_slice(&self.header());
        }
        push_frame(&mut bytes, payload);
        self.good = None;
        self.disk.append(&file, &self.path, &bytes)?;
        let end = end + bytes.len() as u64;
        self.good = Some(Good { ino, end });
        Ok(())
    }

    /// Replaces all frames by those that `change` makes of them.
    ///
    /// # Errors
    /// As [`Self::append`]; the log is as it was then.
    pub fn rewrite(
        &mut self,
        change: impl FnOnce(&mut dyn DoubleEndedIterator<Item = &[u8]>) -> Vec<Vec<u8>>,
    ) -> Result<(), Error> {
        let (mut file, _) = self.lock()?;
        let (_, bytes) = self.read(&mut file)?;
        let scan = self.scan(&bytes)?;
        let payloads = change(&mut scan.payloads.iter().map(|range| &bytes[range.clone()]));
        let mut fresh = self.header().to_vec();
        for payload in &payloads {
            push_frame(&mut fresh, payload);
        }
        let new_path = self.path.with_extension("new");
        // Only a writer that was killed can have left one: we have the lock.
        match self.disk.unlink(&new_path) {
            Err(error) if error.source.kind() != io::ErrorKind::NotFound => Err(error)?,
            Ok(()) | Err(_) => {}
        }
        let new = self.disk.create(&new_path, 0o600)?;
        self.disk.write_at(&new, &new_path, &fresh, 0)?;
        let ino = new.metadata().at("fstat", &new_path)?.ino();
        self.disk.rename(&new_path, &self.path)?;
        let end = fresh.len() as u64;
        self.good = Some(Good { ino, end });
        Ok(())
    }

    /// Opens and locks the file that has the log's name; gives its inode.
    fn lock(&self) -> Result<(File, u64), Error> {
        loop {
            let file = self.disk.open_append(&self.path)?;
            disk::lock(&*self.disk, &file, &self.path)?;
            let ino = file.metadata().at("fstat", &self.path)?.ino();
            // While we waited it may have been replaced.
            if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == ino) {
                return Ok((file, ino));
            }
        }
    }

    fn read(&self, file: &mut File) -> Result<(u64, Vec<u8>), Error> {
        let meta = file.metadata().at("fstat", &self.path)?;
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
        file.read_to_end(&mut bytes).at("read", &self.path)?;
        Ok((meta.ino(), bytes))
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&self.format.magic);
        header[8..12].copy_from_slice(&self.format.version.to_le_bytes());
        let crc = crc32fast::hash(&header[..12]);
        header[12..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Finds the frames. Fails only if a newer rfs wrote the file.
    fn scan(&self, bytes: &[u8]) -> Result<Scan, Error> {
        let mut scan = Scan::default();
        match self.version(bytes) {
            Some(version) if version == self.format.version => scan.end = HEADER,
            Some(found) if found > self.format.version => {
                return Err(Error::Newer {
                    path: self.path.clone(),
                    found,
                    known: self.format.version,
                });
            }
            // An older one: forgotten, not wrong.
            Some(_) => return Ok(scan),
            None => {
                // What a writer that was killed at its first frame leaves is no damage.
                if !self.header().starts_with(bytes) {
                    scan.damage
                        .push(self.damaged(0, "no header; all of it is left out"));
                }
                return Ok(scan);
            }
        }
        while scan.end < bytes.len() {
            let rest = &bytes[scan.end..];
            match frame(rest) {
                Frame::Good(payload) => {
                    scan.payloads
                        .push(scan.end + payload.start..scan.end + payload.end);
                    scan.end += payload.end;
                }
                Frame::Bad(len) if matches!(frame(&rest[len..]), Frame::Good(_)) => {
                    scan.damage
                        .push(self.damaged(scan.end, "one entry is left out"));
                    scan.end += len;
                }
                Frame::Bad(_) => {
                    scan.damage
                        .push(self.damaged(scan.end, "the rest is left out"));
                    break;
                }
                Frame::Torn => break,
            }
        }
        Ok(scan)
    }

    fn version(&self, bytes: &[u8]) -> Option<u32> {
        let (header, crc) = bytes.get(..HEADER)?.split_at(12);
        let whole = crc == crc32fast::hash(header).to_le_bytes();
        let version = header.strip_prefix(&self.format.magic)?;
        whole.then(|| le32(version))
    }

    fn damaged(&self, at: usize, what: &'static str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            at: at as u64,
            what,
        }
    }
}

#[derive(Debug, Default)]
struct Scan {
    payloads: Vec<Range<usize>>,
    /// Where the next frame goes: after the last good one.
    end: usize,
    damage: Vec<Error>,
}

enum Frame {
    /// Where its payload lies.
    Good(Range<usize>),
    /// Its crc is wrong; the next one may begin after so many bytes.
    Bad(usize),
    /// The bytes end in the middle of it.
    Torn,
}

fn frame(bytes: &[u8]) -> Frame {
    let Some((head, rest)) = bytes.split_at_checked(FRAME) else {
        return Frame::Torn;
    };
    let (len, crc) = head.split_at(4);
    let Some(payload) = rest.get(..le32(len) as usize) else {
        return Frame::Torn;
    };
    let end = FRAME + payload.len();
    if crc_of(len, payload).to_le_bytes() == crc {
        Frame::Good(FRAME..end)
    } else {
        Frame::Bad(end)
    }
}

fn push_frame(bytes: &mut Vec<u8>, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("BUG: a frame of 4 GiB");
    let len = len.to_le_bytes();
    bytes.extend_from_slice(&len);
    bytes.extend_from_slice(&crc_of(&len, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
}

fn crc_of(len: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(len);
    crc.update(payload);
    crc.finalize()
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
}

#[cfg(test)]
mod tests;
