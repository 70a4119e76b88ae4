//! Which workspaces are mounted here, as the kernel tells it: no mount is touched, so that a dead one does no harm.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mounted workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is mounted.
    pub at: PathBuf,
    /// The directory that it shows.
    pub backing: PathBuf,
    /// Minor number of its device.
    pub minor: u32,
    /// The user who mounted it.
    pub uid: u32,
}

/// A line of proc_pid_mountinfo(5).
#[derive(Debug)]
struct Line {
    at: PathBuf,
    /// Ours, if it is one of ours and stands by itself.
    ours: Option<Entry>,
}

/// All that are not covered, in the order in which they were mounted.
///
/// # Errors
/// The list of mounts cannot be read.
pub fn all() -> io::Result<Vec<Entry>> {
    Ok(visible(&read()?))
}

/// The one that is mounted at `path`, which has no symbolic links.
///
/// # Errors
/// The list of mounts cannot be read.
pub fn at(path: &Path) -> io::Result<Option<Entry>> {
    Ok(all()?.into_iter().find(|entry| entry.at == path))
}

/// The one that `path` lies in, which has no symbolic links and need not exist.
///
/// # Errors
/// The list of mounts cannot be read.
pub fn over(path: &Path) -> io::Result<Option<Entry>> {
    let mut lines = read()?;
    // The deepest, and of several the last.
    lines.retain(|line| path.starts_with(&line.at));
    let depth = |line: &Line| line.at.components().count();
    Ok(lines
        .into_iter()
        .max_by_key(depth)
        .and_then(|line| line.ours))
}

fn visible(lines: &[Line]) -> Vec<Entry> {
    let last = |at: &Path| lines.iter().rposition(|line| line.at == at);
    let uncovered = lines
        .iter()
        .enumerate()
        .filter(|(place, line)| last(&line.at) == Some(*place));
    uncovered
        .filter_map(|(_, line)| line.ours.clone())
        .collect()
}

fn read() -> io::Result<Vec<Line>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .collect())
}

fn parse(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let at = unescaped(fields.nth(1)?);
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let (kind, source, options) = (rest.next()?, unescaped(rest.next()?), rest.next()?);
    let minor = device.split_once(':')?.1.parse().ok()?;
    // What a build mounts for itself has no path for its source.
    let ours = (kind == b"fuse.rfs" && source.is_absolute()).then(|| Entry {
        at: at.clone(),
        backing: source,
        minor,
        uid: option(options, b"user_id=").unwrap_or(0),
    });
    Some(Line { at, ours })
}

fn option(options: &[u8], name: &[u8]) -> Option<u32> {
    let mut options = options.split(|byte| *byte == b',');
    let value = options.find_map(|option| option.strip_prefix(name))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A field, in which blanks and the like are written as `\\` and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        text.lines()
            .filter_map(|line| parse(line.as_bytes()))
            .collect()
    }

    #[test]
    fn mounts_of_ours_are_known_by_type_and_source() {
        let found = visible(&lines(
            "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
             30 22 0:50 / /w/a\\040b rw,nosuid shared:7 master:3 - fuse.rfs /w/a\\040b rw,user_id=7,group_id=7\n\
             31 22 0:51 / /w/c rw - fuse.rfs rfs rw,user_id=0\n\
             32 22 0:52 / /w/d rw - fuse.rfs /w/src rw,user_id=0\n\
             33 22 0:53 / /w/d rw - tmpfs none rw\n",
        ));
        assert_eq!(
            found,
            [Entry {
                at: "/w/a b".into(),
                backing: "/w/a b".into(),
                minor: 50,
                uid: 7
            }]
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_mount() {
        assert!(lines("\n31 22\n31 22 x / /w rw - fuse.rfs /w rw\n").is_empty());
    }
}
