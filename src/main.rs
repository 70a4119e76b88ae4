//! The program. Goes without std's start-up code, which would ignore SIGPIPE and open `/dev/null` for
//! closed descriptors 0 to 2: a wrapper hands both on to its command as it found them.
#![no_main]
#![allow(unsafe_code)]

// SAFETY: the name `main` is the C library's entry point; this is the only symbol of that name in the
// program since `no_main` leaves out std's, and it has the type that the C library calls.
#[unsafe(no_mangle)]
extern "C" fn main() -> libc::c_int {
    rfs::cli::main()
}
