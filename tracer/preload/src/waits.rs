//! Waiting for children. A process that is killed before it makes a call that stops is known to nobody but
//! its parent, by what the parent's wait says. So waits stop, unless they carry the secret: then the library
//! tells, by a call that stops, when a child was ended by a signal, which is rare.
#![allow(unsafe_code)]

use crate::notes;
use crate::sys;
use crate::wire;
use core::ffi::{c_int, c_uint, c_void};

const SIGCHLD: c_int = 17;
const CLD_KILLED: c_int = 2;
const CLD_DUMPED: c_int = 3;
/// What wait(2) says of a child that has stopped, or goes on.
const NOT_ENDED: c_int = 0x7f;
const PTHREAD_CANCEL_ASYNCHRONOUS: c_int = 1;

unsafe extern "C" {
    fn pthread_setcanceltype(new: c_int, old: *mut c_int) -> c_int;
}

/// The beginning of `siginfo_t` as waitid(2) fills it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Info {
    signo: c_int,
    errno: c_int,
    code: c_int,
    fill: c_int,
    pid: c_int,
    uid: c_uint,
    status: c_int,
}

/// Makes a wait with the secret. A thread that waits can be cancelled, as in the C library.
///
/// # Safety
/// As [`sys::call`].
unsafe fn call(nr: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let mut before: c_int = 0;
    // SAFETY: the place is ours. Nothing is held that a cancelled thread would keep.
    unsafe { pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &raw mut before) };
    // SAFETY: as the caller says; the calls have four arguments, waitid(2) five.
    let ret = unsafe { sys::call(nr, [a, b, c, d, 0, notes::cookie()]) };
    // SAFETY: what was there before.
    unsafe { pthread_setcanceltype(before, &raw mut before) };
    ret
}

/// wait4(2), as a system call returns.
///
/// # Safety
/// As wait4(2).
pub(crate) unsafe fn wait4(
    pid: c_int,
    status: *mut c_int,
    options: c_int,
    usage: *mut c_void,
) -> isize {
    let mut own: c_int = 0;
    let place = if status.is_null() {
        &raw mut own
    } else {
        status
    };
    let args = [
        pid as usize,
        place as usize,
        options as usize,
        usage as usize,
    ];
    // SAFETY: as the caller says; in place of no status there is ours.
    let ret = unsafe { call(sys::WAIT4, args) };
    if ret > 0 {
        // SAFETY: the kernel has just written it.
        let signal = unsafe { place.read_unaligned() } & 0x7f;
        if signal != 0 && signal != NOT_ENDED {
            tell(ret as c_int, signal);
        }
    }
    ret
}

/// waitid(2), as a system call returns.
///
/// # Safety
/// As waitid(2).
pub(crate) unsafe fn waitid(idtype: c_int, id: c_uint, info: *mut Info, options: c_int) -> isize {
    let args = [
        idtype as usize,
        id as usize,
        info as usize,
        options as usize,
    ];
    if info.is_null() {
        let [a, b, c, d] = args;
        // SAFETY: as the caller says. Who does not hear of what is waited for stops.
        return unsafe { sys::call(sys::WAITID, [a, b, c, d, 0, 0]) };
    }
    // SAFETY: as the caller says.
    let ret = unsafe { call(sys::WAITID, args) };
    if ret == 0 {
        // SAFETY: the kernel has just filled it.
        let info = unsafe { info.read_unaligned() };
        if info.signo == SIGCHLD && matches!(info.code, CLD_KILLED | CLD_DUMPED) {
            tell(info.pid, info.status);
        }
    }
    ret
}

/// A child was ended by a signal.
#[cold]
fn tell(child: c_int, signal: c_int) {
    let name = c"linux-rfs-killed";
    let args = [
        wire::KILLED as usize,
        name.as_ptr() as usize,
        child as usize,
        signal as usize,
        0,
        0,
    ];
    // SAFETY: without a supervisor this opens a name below a descriptor that nothing has.
    unsafe { sys::call(sys::OPENAT, args) };
}
