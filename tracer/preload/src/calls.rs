//! The functions of the C library that look at names, with its meaning and its errors.
//!
//! Each makes its call with the secret, if that may be, and notes what came of it; whatever is not plain
//! goes the slow way: the same call without the secret, which the filter stops. Nothing here is told by
//! halves: what cannot be noted is undone and made again the slow way.
#![allow(unsafe_code)]

use crate::notes::{self, State, ready};
use crate::sys::{self, AT_FDCWD};
use crate::wire::{self, Entry, Kind, MAX_PATH, Object};
use core::ffi::{c_char, c_int, c_uint};
use core::mem::MaybeUninit;

/// The smallest there is.
const PAGE: usize = 4096;
const ENOENT: isize = 2;
const EINTR: isize = 4;
const ENOMEM: isize = 12;
const EFAULT: isize = 14;
const ENOTDIR: isize = 20;
const EINVAL: isize = 22;
const ENFILE: isize = 23;
const EMFILE: isize = 24;

pub(crate) const AT_SYMLINK_NOFOLLOW: c_int = 0x100;
pub(crate) const AT_EACCESS: c_int = 0x200;
const AT_NO_AUTOMOUNT: c_int = 0x800;
const AT_STATX_SYNC_TYPE: c_int = 0x6000;
/// What may be asked for besides reading: access mode, creation and all else is not plain.
const PLAIN_FLAGS: c_int = 0o400 | 0o4000 | 0o100_000 | 0o2_000_000 | DIRECTORY | NOFOLLOW;
#[cfg(target_arch = "x86_64")]
pub(crate) const DIRECTORY: c_int = 0o200_000;
#[cfg(target_arch = "x86_64")]
const NOFOLLOW: c_int = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const DIRECTORY: c_int = 0o40_000;
#[cfg(target_arch = "aarch64")]
const NOFOLLOW: c_int = 0o100_000;
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// The result of a function that returns -1 and sets errno. A success leaves errno alone.
pub(crate) fn result(ret: isize) -> isize {
    if ret >= 0 {
        return ret;
    }
    set_errno(-ret);
    -1
}

pub(crate) fn set_errno(errno: isize) {
    // SAFETY: the C library gives the address of this thread's errno.
    let place = unsafe { __errno_location() };
    // SAFETY: as above.
    unsafe { place.write(errno as c_int) };
}

/// A path copied from the caller, who may pass the same memory for the result.
pub(crate) struct Path {
    bytes: [MaybeUninit<u8>; MAX_PATH],
    len: usize,
}

impl Path {
    /// Copies a path that can be noted: short, and not one whose meaning depends on who asks and when.
    ///
    /// # Safety
    /// `path` is what the program passes for a string.
    unsafe fn copy(path: *const c_char) -> Option<Self> {
        let mut copy = Self {
            bytes: [const { MaybeUninit::uninit() }; MAX_PATH],
            len: 0,
        };
        loop {
            let at = path.wrapping_add(copy.len);
            if (copy.len == 0 || (at as usize) % PAGE == 0) && !sys::is_readable(at as usize) {
                return None;
            }
            // SAFETY: the string has not ended before, and its page has just been read by the kernel.
            let byte = unsafe { at.read() } as u8;
            if byte == 0 {
                break;
            }
            copy.bytes.get_mut(copy.len)?.write(byte);
            copy.len += 1;
        }
        let text = copy.text();
        let own = text.starts_with(b"/proc") || text.starts_with(b"/dev");
        (!text.is_empty() && !own && !text.starts_with(b"//")).then_some(copy)
    }

    /// Whether the result would overwrite the path, which may have to be asked for again.
    fn meets(&self, path: *const c_char, to: usize, size: usize) -> bool {
        let from = path as usize;
        from < to.saturating_add(size) && to <= from + self.len
    }

    pub(crate) fn text(&self) -> &[u8] {
        // SAFETY: so many bytes have been written.
        unsafe { core::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.len) }
    }
}

/// Errors that say what is there.
fn says(errno: isize) -> bool {
    matches!(errno, ENOENT | ENOTDIR)
}

/// Errors that say nothing of names and do not come again.
fn says_nothing(errno: isize) -> bool {
    matches!(errno, EINTR | ENOMEM | EFAULT | EMFILE | ENFILE)
}

/// The kernel's `struct stat`, which is the C library's.
#[repr(C, align(8))]
pub(crate) struct Stat([u64; WORDS]);

#[cfg(target_arch = "x86_64")]
const WORDS: usize = 18;
#[cfg(target_arch = "aarch64")]
const WORDS: usize = 16;
/// The word that has the mode in its low half.
#[cfg(target_arch = "x86_64")]
const MODE: usize = 3;
#[cfg(target_arch = "aarch64")]
const MODE: usize = 2;

impl Stat {
    const NONE: Self = Self([0; WORDS]);

    fn object(&self) -> Object {
        Object {
            mode: self.0[MODE] as u32,
            size: self.0[6],
            mtime: nanoseconds(self.0[11] as i64, self.0[12]),
            ctime: nanoseconds(self.0[13] as i64, self.0[14]),
        }
    }
}

fn nanoseconds(seconds: i64, rest: u64) -> i64 {
    seconds
        .wrapping_mul(1_000_000_000)
        .wrapping_add(rest as i64)
}

/// One call that is made with the secret, and what is needed to note it.
struct Fast<'a> {
    state: &'static State,
    path: &'a [u8],
}

impl<'a> Fast<'a> {
    fn new(path: &'a [u8]) -> Option<Self> {
        let state = ready()?;
        (!state.is_guarded(path)).then_some(Self { state, path })
    }

    /// # Safety
    /// As [`sys::call`].
    unsafe fn call(&self, nr: usize, args: [usize; 5]) -> isize {
        let [a, b, c, d, e] = args;
        // SAFETY: the caller answers for the arguments; the sixth is used by none of the calls.
        unsafe { sys::call(nr, [a, b, c, d, e, notes::cookie()]) }
    }

    fn note(&self, kind: Kind, arg: u32, errno: isize, object: Option<Object>) -> bool {
        let entry = Entry {
            kind,
            errno: errno as u16,
            arg,
            object,
            path: self.path,
        };
        // How often a directory was looked at tells something; how often a file was does not.
        let once = object.is_none_or(|object| object.mode & S_IFMT != S_IFDIR);
        self.state.note(&entry, once)
    }

    /// What is at the path now, for the proof of a call that does not tell.
    fn proof(&self, path: *const c_char) -> Option<Object> {
        let mut stat = Stat::NONE;
        let at = &raw mut stat;
        let args = [AT_FDCWD as usize, path as usize, at as usize, 0, 0];
        // SAFETY: the path is the caller's, the structure ours.
        (unsafe { self.call(sys::NEWFSTATAT, args) } == 0).then(|| stat.object())
    }
}

/// open(2) for reading, as a system call returns.
///
/// # Safety
/// As open(2).
pub(crate) unsafe fn open(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> isize {
    if dir == AT_FDCWD && flags & !PLAIN_FLAGS == 0 {
        // SAFETY: as the caller says.
        if let Some(ret) = unsafe { open_fast(path, flags) } {
            return ret;
        }
    }
    // Without a mode that the flags do not ask for, which may be anything.
    const WITH_MODE: c_int = 0o100 | 0o20_000_000;
    let mode = if flags & WITH_MODE == 0 { 0 } else { mode };
    let args = [
        dir as usize,
        path as usize,
        flags as usize,
        mode as usize,
        0,
        0,
    ];
    // SAFETY: as the caller says.
    unsafe { sys::call(sys::OPENAT, args) }
}

unsafe fn open_fast(path: *const c_char, flags: c_int) -> Option<isize> {
    // SAFETY: as the caller says.
    let copy = unsafe { Path::copy(path) }?;
    let fast = Fast::new(copy.text())?;
    let args = [AT_FDCWD as usize, path as usize, flags as usize, 0, 0];
    // SAFETY: as the caller says.
    let ret = unsafe { fast.call(sys::OPENAT, args) };
    if ret < 0 {
        let noted =
            says_nothing(-ret) || (says(-ret) && fast.note(Kind::Open, flags as u32, -ret, None));
        return noted.then_some(ret);
    }
    let mut stat = Stat::NONE;
    let at = &raw mut stat;
    // SAFETY: the descriptor has just been opened, the structure is ours.
    let got = unsafe { sys::call(sys::FSTAT, [ret as usize, at as usize, 0, 0, 0, 0]) };
    let noted = got == 0 && fast.note(Kind::Open, flags as u32, 0, Some(stat.object()));
    if !noted {
        sys::close(ret);
    }
    noted.then_some(ret)
}

/// stat(2) and lstat(2), as a system call returns.
///
/// # Safety
/// As fstatat(2).
pub(crate) unsafe fn stat(dir: c_int, path: *const c_char, buf: *mut Stat, flags: c_int) -> isize {
    if dir == AT_FDCWD && flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 {
        // SAFETY: as the caller says.
        if let Some(ret) = unsafe { stat_fast(path, buf, flags) } {
            return ret;
        }
    }
    let args = [
        dir as usize,
        path as usize,
        buf as usize,
        flags as usize,
        0,
        0,
    ];
    // SAFETY: as the caller says.
    unsafe { sys::call(sys::NEWFSTATAT, args) }
}

fn stat_kind(flags: c_int) -> Kind {
    if flags & AT_SYMLINK_NOFOLLOW != 0 {
        Kind::Lstat
    } else {
        Kind::Stat
    }
}

unsafe fn stat_fast(path: *const c_char, buf: *mut Stat, flags: c_int) -> Option<isize> {
    // SAFETY: as the caller says.
    let copy = unsafe { Path::copy(path) }?;
    if copy.meets(path, buf as usize, size_of::<Stat>()) {
        return None;
    }
    let fast = Fast::new(copy.text())?;
    let args = [
        AT_FDCWD as usize,
        path as usize,
        buf as usize,
        flags as usize,
        0,
    ];
    // SAFETY: path and structure are the caller's.
    let ret = unsafe { fast.call(sys::NEWFSTATAT, args) };
    if ret == 0 {
        // SAFETY: the kernel has filled it.
        let stat = unsafe { buf.read_unaligned() };
        return fast
            .note(stat_kind(flags), 0, 0, Some(stat.object()))
            .then_some(0);
    }
    let noted = says_nothing(-ret) || (says(-ret) && fast.note(stat_kind(flags), 0, -ret, None));
    noted.then_some(ret)
}

/// `struct statx` as far as it matters.
#[repr(C, align(8))]
pub(crate) struct Statx([u32; 64]);

impl Statx {
    /// Whether the fields are there that make an object.
    fn object(&self) -> Option<Object> {
        const MODE_MTIME_CTIME_SIZE: u32 = 0x3 | 0x40 | 0x80 | 0x200;
        if self.0[0] & MODE_MTIME_CTIME_SIZE != MODE_MTIME_CTIME_SIZE {
            return None;
        }
        let wide = |at: usize| u64::from(self.0[at]) | u64::from(self.0[at + 1]) << 32;
        let time = |at: usize| nanoseconds(wide(at) as i64, u64::from(self.0[at + 2]));
        Some(Object {
            mode: self.0[7] & 0xffff,
            size: wide(10),
            mtime: time(28),
            ctime: time(24),
        })
    }
}

/// statx(2), as a system call returns.
///
/// # Safety
/// As statx(2).
pub(crate) unsafe fn statx(
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    buf: *mut Statx,
) -> isize {
    if dir == AT_FDCWD && flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE) == 0
    {
        // SAFETY: as the caller says.
        if let Some(ret) = unsafe { statx_fast(path, flags, mask, buf) } {
            return ret;
        }
    }
    let args = [
        dir as usize,
        path as usize,
        flags as usize,
        mask as usize,
        buf as usize,
        0,
    ];
    // SAFETY: as the caller says.
    unsafe { sys::call(sys::STATX, args) }
}

unsafe fn statx_fast(
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    buf: *mut Statx,
) -> Option<isize> {
    // SAFETY: as the caller says.
    let copy = unsafe { Path::copy(path) }?;
    if copy.meets(path, buf as usize, size_of::<Statx>()) {
        return None;
    }
    let fast = Fast::new(copy.text())?;
    let args = [
        AT_FDCWD as usize,
        path as usize,
        flags as usize,
        mask as usize,
        buf as usize,
    ];
    // SAFETY: path and structure are the caller's.
    let ret = unsafe { fast.call(sys::STATX, args) };
    if ret == 0 {
        // SAFETY: the kernel has filled it.
        let object = unsafe { buf.read_unaligned() }.object()?;
        return fast.note(stat_kind(flags), 0, 0, Some(object)).then_some(0);
    }
    let noted = says_nothing(-ret) || (says(-ret) && fast.note(stat_kind(flags), 0, -ret, None));
    noted.then_some(ret)
}

/// faccessat(2), as a system call returns.
///
/// # Safety
/// As faccessat(2).
pub(crate) unsafe fn access(dir: c_int, path: *const c_char, mode: c_int, flags: c_int) -> isize {
    if dir == AT_FDCWD && flags & !AT_EACCESS == 0 {
        // SAFETY: as the caller says.
        if let Some(ret) = unsafe { access_fast(path, mode, flags) } {
            return ret;
        }
    }
    let nr = access_number(flags);
    let args = [
        dir as usize,
        path as usize,
        mode as usize,
        flags as usize,
        0,
        0,
    ];
    // SAFETY: as the caller says.
    unsafe { sys::call(nr, args) }
}

/// Only the later call has flags.
fn access_number(flags: c_int) -> usize {
    if flags == 0 {
        sys::FACCESSAT
    } else {
        sys::FACCESSAT2
    }
}

unsafe fn access_fast(path: *const c_char, mode: c_int, flags: c_int) -> Option<isize> {
    // SAFETY: as the caller says.
    let copy = unsafe { Path::copy(path) }?;
    let fast = Fast::new(copy.text())?;
    let args = [
        AT_FDCWD as usize,
        path as usize,
        mode as usize,
        flags as usize,
        0,
    ];
    // SAFETY: as the caller says.
    let ret = unsafe { fast.call(access_number(flags), args) };
    let noted = match -ret {
        0 => fast
            .proof(path)
            .is_some_and(|object| fast.note(Kind::Access, mode as u32, 0, Some(object))),
        errno if says_nothing(errno) => true,
        errno => says(errno) && fast.note(Kind::Access, mode as u32, errno, None),
    };
    noted.then_some(ret)
}

/// readlink(2), as a system call returns.
///
/// # Safety
/// As readlink(2).
pub(crate) unsafe fn readlink(path: *const c_char, buf: *mut c_char, size: usize) -> isize {
    // SAFETY: as the caller says.
    if let Some(ret) = unsafe { readlink_fast(path, buf, size) } {
        return ret;
    }
    let args = [AT_FDCWD as usize, path as usize, buf as usize, size, 0, 0];
    // SAFETY: as the caller says.
    unsafe { sys::call(sys::READLINKAT, args) }
}

unsafe fn readlink_fast(path: *const c_char, buf: *mut c_char, size: usize) -> Option<isize> {
    // SAFETY: as the caller says.
    let copy = unsafe { Path::copy(path) }?;
    if size == 0 {
        return None;
    }
    if copy.meets(path, buf as usize, size) {
        return None;
    }
    let fast = Fast::new(copy.text())?;
    let args = [AT_FDCWD as usize, path as usize, buf as usize, size, 0];
    // SAFETY: as the caller says.
    let ret = unsafe { fast.call(sys::READLINKAT, args) };
    let noted = match -ret {
        // It may have been cut.
        cut if cut == -(size as isize) => false,
        len if len <= 0 => {
            // SAFETY: the kernel has written so many bytes.
            let text = unsafe { core::slice::from_raw_parts(buf.cast(), ret as usize) };
            fast.note(Kind::Readlink, wire::text_hash(text), 0, None)
        }
        errno if says_nothing(errno) => true,
        errno => (says(errno) || errno == EINVAL) && fast.note(Kind::Readlink, 0, errno, None),
    };
    noted.then_some(ret)
}
