//! The names that programs call, as the C library exports them: with the aliases for large files and of
//! the checks that `_FORTIFY_SOURCE` adds. What has flags or a mode that are not plain, and what begins
//! at another directory, makes its call the slow way.
#![allow(unsafe_code)]

use crate::calls::{self, AT_SYMLINK_NOFOLLOW, DIRECTORY, Stat, Statx, result};
use crate::real;
use crate::sys::{self, AT_FDCWD};
use crate::waits;
use core::ffi::{c_char, c_int, c_uint, c_void};
use core::ptr::null_mut;

const O_NONBLOCK: c_int = 0o4000;
const O_CLOEXEC: c_int = 0o2_000_000;
const EINVAL: isize = 22;

macro_rules! export {
    ($(fn [$($name:ident),+] $arguments:tt -> $ret:ty $body:block)*) => {
        $(export_each! { [$($name)+] $arguments $ret $body })*
    };
}

macro_rules! export_each {
    ([$($name:ident)+] $arguments:tt $ret:ty $body:block) => {
        $(export_one! { $name $arguments $ret $body })+
    };
}

macro_rules! export_one {
    ($name:ident ($($arg:ident: $ty:ty),*) $ret:ty $body:block) => {
        #[cfg_attr(rfs_preload, unsafe(no_mangle))]
        unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: the program keeps the contract of the function that it calls.
            (unsafe { $body }) as $ret
        }
    };
}

export! {
    fn [open, open64, __open, __open64] (path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
        result(calls::open(AT_FDCWD, path, flags, mode))
    }
    fn [__open_2, __open64_2] (path: *const c_char, flags: c_int) -> c_int {
        result(calls::open(AT_FDCWD, path, flags, 0))
    }
    fn [openat, openat64] (dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
        result(calls::open(dir, path, flags, mode))
    }
    fn [__openat_2, __openat64_2] (dir: c_int, path: *const c_char, flags: c_int) -> c_int {
        result(calls::open(dir, path, flags, 0))
    }
    fn [stat, stat64] (path: *const c_char, buf: *mut Stat) -> c_int {
        result(calls::stat(AT_FDCWD, path, buf, 0))
    }
    fn [lstat, lstat64] (path: *const c_char, buf: *mut Stat) -> c_int {
        result(calls::stat(AT_FDCWD, path, buf, AT_SYMLINK_NOFOLLOW))
    }
    fn [fstatat, fstatat64] (dir: c_int, path: *const c_char, buf: *mut Stat, flags: c_int) -> c_int {
        result(calls::stat(dir, path, buf, flags))
    }
    fn [__xstat, __xstat64] (version: c_int, path: *const c_char, buf: *mut Stat) -> c_int {
        result(versioned(version, AT_FDCWD, path, buf, 0))
    }
    fn [__lxstat, __lxstat64] (version: c_int, path: *const c_char, buf: *mut Stat) -> c_int {
        result(versioned(version, AT_FDCWD, path, buf, AT_SYMLINK_NOFOLLOW))
    }
    fn [__fxstatat, __fxstatat64] (
        version: c_int,
        dir: c_int,
        path: *const c_char,
        buf: *mut Stat,
        flags: c_int
    ) -> c_int {
        result(versioned(version, dir, path, buf, flags))
    }
    fn [statx] (
        dir: c_int,
        path: *const c_char,
        flags: c_int,
        mask: c_uint,
        buf: *mut Statx
    ) -> c_int {
        result(calls::statx(dir, path, flags, mask, buf))
    }
    fn [access] (path: *const c_char, mode: c_int) -> c_int {
        result(calls::access(AT_FDCWD, path, mode, 0))
    }
    fn [faccessat] (dir: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int {
        result(calls::access(dir, path, mode, flags))
    }
    fn [readlink] (path: *const c_char, buf: *mut c_char, size: usize) -> isize {
        result(calls::readlink(path, buf, size))
    }
    fn [realpath] (path: *const c_char, resolved: *mut c_char) -> *mut c_char {
        real::path(path, resolved)
    }
    fn [canonicalize_file_name] (path: *const c_char) -> *mut c_char {
        real::path(path, null_mut())
    }
    fn [opendir] (path: *const c_char) -> *mut c_void {
        let flags = DIRECTORY | O_NONBLOCK | O_CLOEXEC;
        match result(calls::open(AT_FDCWD, path, flags, 0)) {
            -1 => null_mut(),
            fd => held(fd, fdopendir(fd as c_int)),
        }
    }
    fn [fopen, fopen64] (path: *const c_char, mode: *const c_char) -> *mut c_void {
        match reads_only(mode) {
            None => _IO_fopen(path, mode),
            Some(flags) => match result(calls::open(AT_FDCWD, path, flags, 0)) {
                -1 => null_mut(),
                fd => held(fd, fdopen(fd as c_int, mode)),
            }
        }
    }
}

export! {
    fn [wait, __wait] (status: *mut c_int) -> c_int {
        result(waits::wait4(-1, status, 0, null_mut()))
    }
    fn [waitpid, __waitpid] (pid: c_int, status: *mut c_int, options: c_int) -> c_int {
        result(waits::wait4(pid, status, options, null_mut()))
    }
    fn [wait3] (status: *mut c_int, options: c_int, usage: *mut c_void) -> c_int {
        result(waits::wait4(-1, status, options, usage))
    }
    fn [wait4] (pid: c_int, status: *mut c_int, options: c_int, usage: *mut c_void) -> c_int {
        result(waits::wait4(pid, status, options, usage))
    }
    fn [waitid] (idtype: c_int, id: c_uint, info: *mut waits::Info, options: c_int) -> c_int {
        result(waits::waitid(idtype, id, info, options))
    }
}

unsafe extern "C" {
    fn fdopen(fd: c_int, mode: *const c_char) -> *mut c_void;
    fn fdopendir(fd: c_int) -> *mut c_void;
    /// What fopen was called first, and still is.
    fn _IO_fopen(path: *const c_char, mode: *const c_char) -> *mut c_void;
}

/// The object that took a descriptor over; if it did not, the descriptor is closed.
fn held(fd: isize, object: *mut c_void) -> *mut c_void {
    if object.is_null() {
        sys::close(fd);
    }
    object
}

/// The stat of programs that were linked long ago.
unsafe fn versioned(
    version: c_int,
    dir: c_int,
    path: *const c_char,
    buf: *mut Stat,
    flags: c_int,
) -> isize {
    if !matches!(version, 0 | 1) {
        return -EINVAL;
    }
    // SAFETY: as the caller says.
    unsafe { calls::stat(dir, path, buf, flags) }
}

/// Flags of an open for a mode of fopen(3) that only reads and has no character set.
unsafe fn reads_only(mode: *const c_char) -> Option<c_int> {
    let mut flags = 0;
    for at in 0..8 {
        // SAFETY: the string has not ended before.
        let byte = unsafe { mode.wrapping_add(at).read() } as u8;
        match (at, byte) {
            (0, b'r') | (1.., b'b' | b'm' | b'c') => {}
            (1.., b'e') => flags |= O_CLOEXEC,
            (1.., 0) => return Some(flags),
            _ => return None,
        }
    }
    None
}
