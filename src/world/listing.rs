//! Names in a directory, as a step would have seen them before it changed any.

use crate::base::{Digest, digest::Framed};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Names and the type letter of each (`f d l p s c`), sorted.
pub type Names = BTreeMap<Vec<u8>, u8>;

/// Reads a directory. `.rfs` is left out in the workspace's root, as the view does.
///
/// # Errors
/// As opendir(3) and readdir(3).
pub fn read(dir: &Path, root: &Path) -> io::Result<Names> {
    let mut names = Names::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let letter = if kind.is_file() {
            b'f'
        } else if kind.is_dir() {
            b'd'
        } else if kind.is_symlink() {
            b'l'
        } else if kind.is_fifo() {
            b'p'
        } else if kind.is_socket() {
            b's'
        } else {
            b'c'
        };
        names.insert(entry.file_name().into_vec(), letter);
    }
    if dir == root {
        names.remove(std::ffi::OsStr::new(".rfs").as_bytes());
    }
    Ok(names)
}

/// The digest that stands for the names in a record.
#[must_use]
pub fn digest(names: &Names) -> Digest {
    let mut framed = Framed::new("rfs names 1");
    for (name, letter) in names {
        framed.part(name).number(u64::from(*letter));
    }
    framed.finish()
}
