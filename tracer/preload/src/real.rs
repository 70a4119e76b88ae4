//! realpath(3): the steps of the C library, each a readlink(2) that can be noted. Most of what a compiler
//! asks of names it asks in here.
#![allow(unsafe_code)]

use crate::calls::{self, AT_EACCESS, set_errno};
use crate::sys::{self, AT_FDCWD};
use core::ffi::{c_char, c_void};
use core::ptr::null_mut;

/// Longer paths are left to the C library.
const MAX: usize = 1024;
const MAX_LINKS: usize = 40;
const EINVAL: isize = 22;
const ELOOP: isize = 40;

unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    /// realpath with a check of the result's size, behind which the C library calls its own.
    fn __realpath_chk(path: *const c_char, resolved: *mut c_char, size: usize) -> *mut c_char;
}

/// A string that is being put together, NUL and all.
struct Text {
    bytes: [u8; MAX],
    len: usize,
}

impl Text {
    const fn new() -> Self {
        Self {
            bytes: [0; MAX],
            len: 0,
        }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let end = self.len + bytes.len();
        if end >= MAX {
            return Err(Failed::Long);
        }
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.bytes[end] = 0;
        self.len = end;
        Ok(())
    }

    fn cut(&mut self, len: usize) {
        self.len = len;
        self.bytes[len] = 0;
    }

    fn c_str(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }
}

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// Something does not fit.
    Long,
    /// An error.
    With(isize),
}

/// realpath(3).
///
/// # Safety
/// As realpath(3).
pub(crate) unsafe fn path(path: *const c_char, resolved: *mut c_char) -> *mut c_char {
    let mut text = Text::new();
    // SAFETY: as the caller says.
    let found = unsafe { resolve(path, &mut text) };
    if found == Err(Failed::Long) {
        // SAFETY: as the caller says.
        return unsafe { __realpath_chk(path, resolved, usize::MAX) };
    }
    let to = if resolved.is_null() && found.is_ok() {
        // SAFETY: malloc may be called with any size.
        unsafe { malloc(text.len + 1) }.cast()
    } else {
        resolved
    };
    // Of a failure the caller's memory tells how far it came.
    if !to.is_null() {
        // SAFETY: there is room for so many: PATH_MAX in the caller's memory, or what was asked for.
        unsafe { core::ptr::copy_nonoverlapping(text.c_str(), to, text.len + 1) };
    }
    match found {
        Ok(()) => to,
        Err(Failed::With(errno)) => {
            set_errno(errno);
            null_mut()
        }
        Err(Failed::Long) => null_mut(),
    }
}

unsafe fn resolve(path: *const c_char, done: &mut Text) -> Result<(), Failed> {
    if (path as usize) < 4096 {
        return Err(Failed::Long);
    }
    let mut todo = Text::new();
    loop {
        // SAFETY: the string has not ended before.
        let byte = unsafe { path.wrapping_add(todo.len).read() } as u8;
        if byte == 0 {
            break;
        }
        todo.push(&[byte])?;
    }
    if todo.len == 0 {
        // The C library leaves the caller's memory alone then.
        return Err(Failed::Long);
    }
    if todo.bytes[0] != b'/' {
        getcwd(done)?;
    }
    walk(done, todo, &mut Asked)?;
    if done.len == 0 {
        done.push(b"/")?;
    }
    Ok(())
}

fn getcwd(to: &mut Text) -> Result<(), Failed> {
    let args = [to.bytes.as_mut_ptr() as usize, MAX - 1, 0, 0, 0, 0];
    // SAFETY: the kernel writes no more than it is told.
    let len = unsafe { sys::call(sys::GETCWD, args) };
    // A directory that has no name is told without a slash.
    if len <= 1 || to.bytes[0] != b'/' {
        return Err(Failed::Long);
    }
    to.len = len as usize - 1;
    if to.len == 1 {
        to.cut(0);
    }
    Ok(())
}

/// What is asked of the kernel.
trait Ask {
    /// The text of a link, or an errno.
    fn readlink<'a>(&mut self, path: &Text, buf: &'a mut [u8; MAX]) -> Result<&'a [u8], isize>;
    /// Whether a path that ends in a slash can be reached.
    fn reach(&mut self, path: &Text) -> Result<(), isize>;
}

struct Asked;

impl Ask for Asked {
    fn readlink<'a>(&mut self, path: &Text, buf: &'a mut [u8; MAX]) -> Result<&'a [u8], isize> {
        // SAFETY: the path ends with a NUL byte, and the buffer is as long as it is told.
        let ret = unsafe { calls::readlink(path.c_str(), buf.as_mut_ptr().cast(), MAX) };
        match usize::try_from(ret) {
            Ok(len) => Ok(&buf[..len]),
            Err(_) => Err(-ret),
        }
    }

    fn reach(&mut self, path: &Text) -> Result<(), isize> {
        // SAFETY: the path ends with a NUL byte.
        match unsafe { calls::access(AT_FDCWD, path.c_str(), 0, AT_EACCESS) } {
            0 => Ok(()),
            error => Err(-error),
        }
    }
}

/// Walks `todo` from `done`, which is `/` when it is empty.
fn walk(done: &mut Text, mut todo: Text, ask: &mut impl Ask) -> Result<(), Failed> {
    let mut links = 0;
    let mut at = 0;
    if todo.bytes[0] == b'/' {
        done.cut(0);
    }
    loop {
        while todo.bytes[at] == b'/' {
            at += 1;
        }
        let rest = &todo.get()[at..];
        let len = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(len);
        match name {
            b"" => return Ok(()),
            b"." => {
                at += len;
                continue;
            }
            b".." => {
                let up = done.get().iter().rposition(|b| *b == b'/');
                done.cut(up.unwrap_or(0));
                at += len;
                continue;
            }
            _ => {}
        }
        let before = done.len;
        done.push(b"/")?;
        done.push(name)?;
        let mut buf = [0; MAX];
        match ask.readlink(done, &mut buf) {
            Ok(text) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Failed::With(ELOOP));
                }
                if text.len() == MAX {
                    return Err(Failed::Long);
                }
                let mut next = Text::new();
                next.push(text)?;
                next.push(rest)?;
                let up = if text.first() == Some(&b'/') {
                    0
                } else {
                    before
                };
                done.cut(up);
                todo = next;
                at = 0;
            }
            // Whatever the error, the C library asks for a directory then, and takes what that says.
            Err(_) if must_be_dir(rest) => {
                let end = done.len;
                done.push(b"/")?;
                let reached = ask.reach(done);
                done.cut(end);
                reached.map_err(Failed::With)?;
                at += len;
            }
            Err(EINVAL) => at += len,
            Err(errno) => return Err(Failed::With(errno)),
        }
    }
}

/// Whether what follows a name says that it is a directory, without a name in it.
fn must_be_dir(mut rest: &[u8]) -> bool {
    while rest.first() == Some(&b'/') {
        while rest.first() == Some(&b'/') {
            rest = &rest[1..];
        }
        match rest {
            [] | [b'.'] | [b'.', b'.'] | [b'.', b'.', b'/', ..] => return true,
            [b'.', after @ ..] if after[0] == b'/' => rest = after,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A tree in memory: links and directories; what is not named is not there.
    struct Tree(BTreeMap<&'static str, Option<&'static str>>);

    impl Ask for Tree {
        fn readlink<'a>(&mut self, path: &Text, buf: &'a mut [u8; MAX]) -> Result<&'a [u8], isize> {
            let path = std::str::from_utf8(path.get()).unwrap();
            match self.0.get(path) {
                None => Err(2),
                Some(None) => Err(EINVAL),
                Some(Some(text)) => {
                    buf[..text.len()].copy_from_slice(text.as_bytes());
                    Ok(&buf[..text.len()])
                }
            }
        }
        fn reach(&mut self, path: &Text) -> Result<(), isize> {
            let path = std::str::from_utf8(path.get()).unwrap();
            match path.trim_end_matches('/') {
                "/f" => Err(20),
                path if self.0.contains_key(path) => Ok(()),
                _ => Err(2),
            }
        }
    }

    fn real(path: &str) -> Result<String, (String, isize)> {
        let mut tree = Tree(BTreeMap::from([
            ("/a", None),
            ("/a/b", None),
            ("/f", None),
            ("/l", Some("a/b")),
            ("/m", Some("/l/..")),
            ("/o", Some("/o")),
        ]));
        let (mut todo, mut done) = (Text::new(), Text::new());
        todo.push(path.as_bytes()).unwrap();
        done.push(b"/a").unwrap();
        let walked = walk(&mut done, todo, &mut tree);
        let done = String::from_utf8(done.get().to_vec()).unwrap();
        match walked {
            Ok(()) => Ok(done),
            Err(Failed::With(errno)) => Err((done, errno)),
            Err(Failed::Long) => Err((String::new(), 0)),
        }
    }

    #[test]
    fn paths_become_what_they_lead_to() {
        for (path, is) in [
            ("/", ""),
            ("/a//b/", "/a/b"),
            ("b", "/a/b"),
            ("./b/../b/.", "/a/b"),
            ("/l", "/a/b"),
            ("/l/..", "/a"),
            ("/m/b", "/a/b"),
            ("../../f", "/f"),
        ] {
            assert_eq!(real(path), Ok(is.to_owned()), "{path}");
        }
    }

    #[test]
    fn a_failure_tells_how_far_it_came() {
        for (path, at, errno) in [
            ("/a/none/x", "/a/none", 2),
            ("/f/", "/f", 20),
            ("/f/..", "/f", 20),
            ("/f/./../a", "/f", 20),
            ("/none/../a", "/none", 2),
            ("/o", "/o", 40),
        ] {
            assert_eq!(real(path), Err((at.to_owned(), errno)), "{path}");
        }
    }

    #[test]
    fn what_must_be_a_directory() {
        for rest in ["/", "//", "/.", "/..", "/../x", "/./..", "/././"] {
            assert!(must_be_dir(rest.as_bytes()), "{rest}");
        }
        for rest in ["", "/x", "/.x", "/..x", "/./x"] {
            assert!(!must_be_dir(rest.as_bytes()), "{rest}");
        }
    }
}
