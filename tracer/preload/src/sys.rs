//! System calls without the C library. The only file that knows a machine.
#![allow(unsafe_code)]

use core::ffi::c_void;

/// Current directory instead of a descriptor.
pub(crate) const AT_FDCWD: i32 = -100;

#[cfg(target_arch = "x86_64")]
mod nr {
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const FSTAT: usize = 5;
    pub(crate) const MMAP: usize = 9;
    pub(crate) const MUNMAP: usize = 11;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const MADVISE: usize = 28;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const GETCWD: usize = 79;
    pub(crate) const WAITID: usize = 247;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const NEWFSTATAT: usize = 262;
    pub(crate) const READLINKAT: usize = 267;
    pub(crate) const FACCESSAT: usize = 269;
    pub(crate) const STATX: usize = 332;
    pub(crate) const FACCESSAT2: usize = 439;
}

#[cfg(target_arch = "aarch64")]
mod nr {
    pub(crate) const CLOSE: usize = 57;
    pub(crate) const FSTAT: usize = 80;
    pub(crate) const WAITID: usize = 95;
    pub(crate) const MMAP: usize = 222;
    pub(crate) const MUNMAP: usize = 215;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const MADVISE: usize = 233;
    pub(crate) const WAIT4: usize = 260;
    pub(crate) const GETCWD: usize = 17;
    pub(crate) const OPENAT: usize = 56;
    pub(crate) const NEWFSTATAT: usize = 79;
    pub(crate) const READLINKAT: usize = 78;
    pub(crate) const FACCESSAT: usize = 48;
    pub(crate) const STATX: usize = 291;
    pub(crate) const FACCESSAT2: usize = 439;
}

pub(crate) use nr::*;

/// Makes a call. Negative results are `-errno`.
///
/// # Safety
/// As the call itself, with what its arguments point at.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn call(nr: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the instruction clobbers what is listed, and memory only as the caller answers for.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") nr as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a call. Negative results are `-errno`.
///
/// # Safety
/// As the call itself, with what its arguments point at.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn call(nr: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the instruction clobbers x0 only, and memory only as the caller answers for.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") nr,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3],
            in("x4") args[4], in("x5") args[5],
            options(nostack),
        );
    }
    result
}

/// close(2) of a descriptor of ours.
pub(crate) fn close(fd: isize) {
    // SAFETY: the callers pass descriptors that they have just opened and nobody else knows.
    unsafe { call(CLOSE, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Whether the eight bytes around an address can be read. The kernel is asked to change the signal mask by them in
/// a way that does not exist: it reads them first.
pub(crate) fn is_readable(at: usize) -> bool {
    const EFAULT: isize = 14;
    let (no_way, eight) = (usize::MAX, at & !7);
    // SAFETY: the call changes nothing, and the kernel may be given any address.
    let ret = unsafe { call(RT_SIGPROCMASK, [no_way, eight, 0, 8, 0, 0]) };
    // No mask at all is none to be read.
    ret != -EFAULT && eight != 0
}

/// Private, writable memory; none if there is none.
pub(crate) fn pages(len: usize) -> Option<*mut c_void> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
    map([
        0,
        len,
        PROT_READ_WRITE,
        MAP_PRIVATE_ANONYMOUS,
        usize::MAX,
        0,
    ])
}

/// Maps a part of a file shared and writable.
pub(crate) fn shared(fd: isize, offset: usize, len: usize) -> Option<*mut c_void> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_SHARED: usize = 1;
    map([0, len, PROT_READ_WRITE, MAP_SHARED, fd as usize, offset])
}

fn map(args: [usize; 6]) -> Option<*mut c_void> {
    // SAFETY: a new mapping where the kernel wants it touches nothing that is there.
    let at = unsafe { call(MMAP, args) };
    (at > 0).then_some(at as *mut c_void)
}

/// munmap(2) of what [`pages`] or [`shared`] has mapped.
pub(crate) fn unmap(at: *mut c_void, len: usize) {
    // SAFETY: the callers pass a mapping of their own that they use no more.
    unsafe { call(MUNMAP, [at as usize, len, 0, 0, 0, 0]) };
}

/// madvise(2); tells whether it worked.
pub(crate) fn advise(at: *mut c_void, len: usize, advice: usize) -> bool {
    // SAFETY: the advice says what a fork does with a mapping of ours.
    unsafe { call(MADVISE, [at as usize, len, advice, 0, 0, 0]) == 0 }
}
