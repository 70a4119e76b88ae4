//! Changing what a stopped thread does next, by its registers. The only file that knows a machine.
//!
//! Two places to do it: at the *entry* of a call (a seccomp stop of ptrace), and *after* a call that
//! returned to a stop without being carried out (an attach during a notification), where another call
//! is made by going back to the instruction that made the first.

use crate::call::{Abi, Call};
use crate::ptrace::Stopped;
use std::io;

/// The ABI of this program itself.
#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE: Abi = Abi::X86_64;
/// The ABI of this program itself.
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE: Abi = Abi::Aarch64;

/// exit_group(2) in the tables that a caller on this machine may use.
#[cfg(target_arch = "x86_64")]
pub(crate) const EXIT_GROUP: [(Abi, u32); 2] = [(Abi::X86_64, 231), (Abi::I386, 252)];
/// exit_group(2) in the tables that a caller on this machine may use.
#[cfg(target_arch = "aarch64")]
pub(crate) const EXIT_GROUP: [(Abi, u32); 1] = [(Abi::Aarch64, 94)];

/// What a thread does when it goes on from a stop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    /// Its call returns `-errno`.
    Return(i32),
    /// It makes the same call (again).
    Call,
    /// It calls exit_group(2) with this status, with the cookie that the filter lets pass.
    Exit {
        /// Exit status.
        code: i32,
        /// See [`crate::filter::Pass`].
        cookie: u64,
    },
}

/// Whether a caller through this table can be turned aside on this machine.
pub(crate) fn can_redirect(abi: Abi) -> bool {
    exit_group(abi).is_some()
}

fn exit_group(abi: Abi) -> Option<u32> {
    // A caller of x32 may use the plain number as well, and the instruction is the same.
    let table = if abi == Abi::X32 { NATIVE } else { abi };
    EXIT_GROUP.iter().find(|e| e.0 == table).map(|e| e.1)
}

fn unsupported() -> io::Error {
    io::Error::from_raw_os_error(libc::EOPNOTSUPP)
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::{Abi, Call, Next, Stopped, exit_group, io, unsupported};
    use crate::filter::cookie_of;

    /// `syscall` and `int 0x80` are both two bytes long; a 32-bit `sysenter` returns behind an `int 0x80`.
    const INSTRUCTION: u64 = 2;
    /// Value of `orig_rax` outside any call: nothing is restarted.
    const NO_CALL: u64 = u64::MAX;

    fn set_exit(regs: &mut libc::user_regs_struct, abi: Abi, code: i32, cookie: u64) {
        let (code, cookie) = (u64::from(code as u32), cookie_of(abi, cookie));
        if abi == Abi::I386 {
            (regs.rbx, regs.rbp) = (code, cookie);
        } else {
            (regs.rdi, regs.r9) = (code, cookie);
        }
    }

    pub(crate) fn at_entry(stopped: &Stopped, call: &Call, next: Next) -> io::Result<()> {
        let mut regs = stopped.registers()?;
        match next {
            Next::Call => return Ok(()),
            Next::Return(errno) => {
                regs.orig_rax = NO_CALL;
                regs.rax = i64::from(-errno) as u64;
            }
            Next::Exit { code, cookie } => {
                regs.orig_rax = u64::from(exit_group(call.abi).ok_or_else(unsupported)?);
                set_exit(&mut regs, call.abi, code, cookie);
            }
        }
        stopped.set_registers(regs)
    }

    pub(crate) fn after_call(stopped: &Stopped, call: &Call, next: Next) -> io::Result<()> {
        let mut regs = stopped.registers()?;
        match next {
            Next::Return(errno) => regs.rax = i64::from(-errno) as u64,
            Next::Call => {
                regs.rip -= INSTRUCTION;
                let bit = if call.abi == Abi::X32 { 0x4000_0000 } else { 0 };
                regs.rax = u64::from(call.nr | bit);
            }
            Next::Exit { code, cookie } => {
                regs.rip -= INSTRUCTION;
                regs.rax = u64::from(exit_group(call.abi).ok_or_else(unsupported)?);
                set_exit(&mut regs, call.abi, code, cookie);
            }
        }
        regs.orig_rax = NO_CALL;
        stopped.set_registers(regs)
    }

    pub(crate) fn leave_entry(stopped: &Stopped, call: &Call, next: Next) -> io::Result<()> {
        // With the call taken away at its entry the thread is as it is after the call.
        after_call(stopped, call, next)
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::{Call, Next, Stopped, exit_group, io, unsupported};

    const INSTRUCTION: u64 = 4;

    fn set_exit(regs: &mut libc::user_regs_struct, code: i32, cookie: u64) {
        (regs.regs[0], regs.regs[5]) = (u64::from(code as u32), cookie);
    }

    pub(crate) fn at_entry(stopped: &Stopped, call: &Call, next: Next) -> io::Result<()> {
        let mut regs = stopped.registers()?;
        match next {
            Next::Call => return Ok(()),
            Next::Return(errno) => {
                stopped.set_call(-1)?;
                regs.regs[0] = i64::from(-errno) as u64;
            }
            Next::Exit { code, cookie } => {
                let nr = exit_group(call.abi).ok_or_else(unsupported)?;
                stopped.set_call(nr as i32)?;
                set_exit(&mut regs, code, cookie);
            }
        }
        stopped.set_registers(regs)
    }

    pub(crate) fn after_call(stopped: &Stopped, call: &Call, next: Next) -> io::Result<()> {
        let mut regs = stopped.registers()?;
        match next {
            Next::Return(errno) => regs.regs[0] = i64::from(-errno) as u64,
            Next::Call => {
                regs.pc -= INSTRUCTION;
                regs.regs[0] = call.args[0];
                regs.regs[8] = u64::from(call.nr);
            }
            Next::Exit { code, cookie } => {
                regs.pc -= INSTRUCTION;
                regs.regs[8] = u64::from(exit_group(call.abi).ok_or_else(unsupported)?);
                set_exit(&mut regs, code, cookie);
            }
        }
        stopped.set_registers(regs)?;
        // Outside any call: nothing is restarted.
        stopped.set_call(-1)
    }

    pub(crate) fn leave_entry(stopped: &Stopped, call: &Call, next: Next) -> io::Result<()> {
        after_call(stopped, call, next)
    }
}

pub(crate) use machine::{after_call, at_entry, leave_entry};
