//! The library that the supervisor puts into dynamic programs: it wraps the calls of the C library that
//! look at names, makes the system call with a secret by which the kernel filter lets it pass, and notes
//! what was seen in memory that it shares with the supervisor. So it does with those that wait for children.
//!
//! It can only make things quicker: what it misses, and what it is not sure of, it calls without the
//! secret, and the filter stops that. It knows nothing of what its notes mean. It needs no start-up, takes
//! no memory but its pages and never waits. doc/preload.md says why it is right.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(rfs_preload),
    allow(dead_code, reason = "only the shared object calls it")
)]

mod calls;
mod names;
mod notes;
mod real;
mod sys;
mod waits;
pub mod wire;

#[cfg(rfs_preload)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
