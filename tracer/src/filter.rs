//! The kernel filter as data: which system calls stop for the supervisor, as a seccomp-BPF program.
//!
//! The program is made from tables of rules, for whatever ABIs the tables are for; nothing here depends
//! on the machine that compiles it. This file does not know what any call means and makes no system call.
//!
//! Order within the program: architecture, then the number by binary search, then arguments. Until the
//! decision for an always-allowed call no other field is loaded, so that the kernel can answer these
//! calls from its bitmap without running the program (`seccomp_cache_prepare`).

use crate::call::Abi;

/// What becomes of one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// The kernel carries it out; nobody is told.
    Allow,
    /// It stops for the supervisor.
    Trap,
    /// It fails with `ENOSYS`.
    Enosys,
    /// It stops for the supervisor if the test holds, else it is allowed.
    TrapIf(Test),
}

/// A test of the arguments of a call. Arguments are numbered from 0 to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// The low 32 bits, unsigned, are at most this.
    ArgAtMost(u8, u32),
    /// The low 32 bits are this.
    ArgIs(u8, u32),
    /// Any of the 64 bits is set.
    ArgNonZero(u8),
    /// Any of these bits is set.
    ArgHasBits(u8, u32),
    /// None of these bits is set.
    ArgLacksBits(u8, u32),
    /// At least one holds.
    Any(&'static [Self]),
    /// All hold.
    All(&'static [Self]),
}

impl Test {
    /// Whether the test holds for these arguments: what the program computes, said directly.
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let arg = |n: u8| args.get(usize::from(n)).copied();
        let low = |n: u8| arg(n).map(|v| v & 0xffff_ffff);
        match *self {
            Self::ArgAtMost(n, max) => low(n).is_some_and(|v| v <= u64::from(max)),
            Self::ArgIs(n, value) => low(n).is_some_and(|v| v == u64::from(value)),
            Self::ArgNonZero(n) => arg(n).is_some_and(|v| v != 0),
            Self::ArgHasBits(n, mask) => low(n).is_some_and(|v| v & u64::from(mask) != 0),
            Self::ArgLacksBits(n, mask) => low(n).is_some_and(|v| v & u64::from(mask) == 0),
            Self::Any(tests) => tests.iter().any(|t| t.holds(args)),
            Self::All(tests) => tests.iter().all(|t| t.holds(args)),
        }
    }
}

/// The rules of one ABI. A number that no row names traps.
#[derive(Debug, Clone)]
pub struct Table {
    /// The ABI. Calls of an ABI without a table trap.
    pub abi: Abi,
    /// Number (x32: without the x32 bit) and treatment, in any order; of equal numbers the first counts.
    pub rows: Vec<(u32, Treatment)>,
}

/// Calls that pass although they would trap: those that carry a secret in their sixth argument.
#[derive(Debug, Clone)]
pub struct Pass {
    /// The secret. ABIs of 32 bits use its low half.
    pub cookie: u64,
    /// The calls that may use it.
    pub calls: Vec<(Abi, u32)>,
}

/// What "traps" means for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A notification on the listener (`SECCOMP_RET_USER_NOTIF`).
    Notify,
    /// A ptrace event (`SECCOMP_RET_TRACE`).
    Trace,
}

/// One instruction, in the layout of `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a condition holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A program could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel takes no more than `BPF_MAXINSNS`.
    #[error("seccomp filter has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
    /// A test names an argument above 5 or is so large that a jump cannot cross it.
    #[error("the test of system call {nr} of {abi:?} cannot be made into a seccomp filter")]
    Test {
        /// Table.
        abi: Abi,
        /// Call.
        nr: u32,
    },
    /// Calls of this ABI cannot be told apart by the kernel's architecture value.
    #[error("no filter can be made for {0:?}")]
    Abi(Abi),
}

/// Number bit that marks the calls of x32 (`__X32_SYSCALL_BIT`).
const X32_BIT: u32 = 0x4000_0000;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;

const MAX_INSNS: usize = 4096;

// linux/bpf_common.h, linux/filter.h
const LD_W_ABS: u16 = 0x20;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

// linux/seccomp.h
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const ENOSYS: u32 = 38;

// struct seccomp_data
const AT_NR: u32 = 0;
const AT_ARCH: u32 = 4;
const AT_ARGS: u32 = 16;

/// The ABI of a call and its number in that ABI's table, from what the kernel says of it.
pub fn abi_of(audit_arch: u32, nr: u32) -> (Abi, u32) {
    match audit_arch {
        AUDIT_ARCH_X86_64 if nr & X32_BIT != 0 => (Abi::X32, nr & !X32_BIT),
        AUDIT_ARCH_X86_64 => (Abi::X86_64, nr),
        AUDIT_ARCH_I386 => (Abi::I386, nr),
        AUDIT_ARCH_AARCH64 => (Abi::Aarch64, nr),
        AUDIT_ARCH_ARM => (Abi::Arm, nr),
        other => (Abi::Unknown(other), nr),
    }
}

fn audit_arch(abi: Abi) -> Result<u32, Error> {
    match abi {
        Abi::X86_64 | Abi::X32 => Ok(AUDIT_ARCH_X86_64),
        Abi::I386 => Ok(AUDIT_ARCH_I386),
        Abi::Aarch64 => Ok(AUDIT_ARCH_AARCH64),
        Abi::Arm => Ok(AUDIT_ARCH_ARM),
        Abi::Unknown(_) => Err(Error::Abi(abi)),
    }
}

/// Makes the program for these tables.
///
/// # Errors
/// When the rules do not fit into what the kernel takes.
pub fn program(tables: &[Table], action: Action, pass: Option<&Pass>) -> Result<Vec<Insn>, Error> {
    let trap = match action {
        Action::Notify => RET_USER_NOTIF,
        Action::Trace => RET_TRACE,
    };
    let mut arches: Vec<u32> = Vec::new();
    for table in tables {
        let arch = audit_arch(table.abi)?;
        if !arches.contains(&arch) {
            arches.push(arch);
        }
    }
    let mut program = vec![stmt(LD_W_ABS, AT_ARCH)];
    for arch in arches {
        let mut leaves = Vec::new();
        for table in tables {
            if audit_arch(table.abi)? == arch {
                leaves.extend(self::leaves(table, trap, pass)?);
            }
        }
        let mut body = vec![stmt(LD_W_ABS, AT_NR)];
        body.extend(search(&ranges(leaves, trap)));
        program.push(jump(JEQ, arch, 1, 0));
        program.push(stmt(JA, offset(body.len())?));
        program.extend(body);
    }
    program.push(stmt(RET, trap));
    if program.len() > MAX_INSNS {
        return Err(Error::TooLong(program.len()));
    }
    Ok(program)
}

/// Numbers from `first` up to the next range's first, and the code that decides about them.
struct Range {
    first: u32,
    code: Vec<Insn>,
}

fn leaves(table: &Table, trap: u32, pass: Option<&Pass>) -> Result<Vec<Range>, Error> {
    let bit = if table.abi == Abi::X32 { X32_BIT } else { 0 };
    let calls = pass.map_or(&[][..], |p| &p.calls);
    // A call that may pass needs a row, and what has none traps.
    let more = calls
        .iter()
        .filter(|c| c.0 == table.abi)
        .map(|c| (c.1, Treatment::Trap));
    let mut out = Vec::with_capacity(table.rows.len());
    for (nr, treatment) in table.rows.iter().copied().chain(more) {
        let cookie = pass
            .filter(|p| p.calls.contains(&(table.abi, nr)))
            .map(|p| cookie_of(table.abi, p.cookie));
        let code = leaf(treatment, trap, cookie).ok_or(Error::Test { abi: table.abi, nr })?;
        out.push(Range {
            first: nr | bit,
            code,
        });
    }
    Ok(out)
}

/// The value that the sixth argument of a passing call holds in this ABI.
pub(crate) fn cookie_of(abi: Abi, cookie: u64) -> u64 {
    match abi {
        Abi::X86_64 | Abi::Aarch64 | Abi::X32 => cookie,
        Abi::I386 | Abi::Arm | Abi::Unknown(_) => cookie & 0xffff_ffff,
    }
}

/// Covers all numbers: what no row names traps, and equal neighbours become one range.
fn ranges(mut leaves: Vec<Range>, trap: u32) -> Vec<Range> {
    leaves.sort_by_key(|l| l.first);
    leaves.dedup_by_key(|l| l.first);
    let unlisted = vec![stmt(RET, trap)];
    let mut out: Vec<Range> = Vec::with_capacity(leaves.len() + 1);
    let mut add = |first: u32, code: Vec<Insn>| {
        if out.last().is_none_or(|last| last.code != code) {
            out.push(Range { first, code });
        }
    };
    let mut next = Some(0);
    for leaf in leaves {
        if next.is_some_and(|n| n < leaf.first) {
            add(next.unwrap_or_default(), unlisted.clone());
        }
        next = leaf.first.checked_add(1);
        add(leaf.first, leaf.code);
    }
    if let Some(next) = next {
        add(next, unlisted);
    }
    out
}

fn search(ranges: &[Range]) -> Vec<Insn> {
    let (left, right) = match ranges {
        [] => return Vec::new(),
        [one] => return one.code.clone(),
        _ => ranges.split_at(ranges.len() / 2),
    };
    let pivot = right[0].first;
    let (left, right) = (search(left), search(right));
    let mut out = Vec::with_capacity(left.len() + right.len() + 2);
    match u8::try_from(left.len()) {
        Ok(skip) => out.push(jump(JGE, pivot, skip, 0)),
        // Conditional jumps reach 255 instructions, unconditional ones any number.
        Err(_) => {
            out.push(jump(JGE, pivot, 0, 1));
            out.push(stmt(JA, u32::try_from(left.len()).unwrap_or(u32::MAX)));
        }
    }
    out.extend(left);
    out.extend(right);
    out
}

fn leaf(treatment: Treatment, trap: u32, cookie: Option<u64>) -> Option<Vec<Insn>> {
    let mut on_trap = Vec::new();
    if let Some(cookie) = cookie {
        let (low, high) = halves(cookie);
        on_trap.extend([
            load_low(5)?,
            jump(JEQ, low, 0, 3),
            load_high(5)?,
            jump(JEQ, high, 0, 1),
            stmt(RET, RET_ALLOW),
        ]);
    }
    on_trap.push(stmt(RET, trap));
    Some(match treatment {
        Treatment::Allow => vec![stmt(RET, RET_ALLOW)],
        Treatment::Enosys => vec![stmt(RET, RET_ERRNO | ENOSYS)],
        Treatment::Trap => on_trap,
        Treatment::TrapIf(test) => {
            // The test falls through when it holds, else skips what is done then.
            let mut code = condition(&test, 0, u8::try_from(on_trap.len()).ok()?)?;
            code.extend(on_trap);
            code.push(stmt(RET, RET_ALLOW));
            code
        }
    })
}

/// Code that goes on `yes` instructions after its end if the test holds, else `no` instructions after it.
fn condition(test: &Test, yes: u8, no: u8) -> Option<Vec<Insn>> {
    Some(match *test {
        Test::ArgAtMost(arg, max) => vec![load_low(arg)?, jump(JGT, max, no, yes)],
        Test::ArgIs(arg, value) => vec![load_low(arg)?, jump(JEQ, value, yes, no)],
        Test::ArgHasBits(arg, mask) => vec![load_low(arg)?, jump(JSET, mask, yes, no)],
        Test::ArgLacksBits(arg, mask) => vec![load_low(arg)?, jump(JSET, mask, no, yes)],
        Test::ArgNonZero(arg) => vec![
            load_low(arg)?,
            jump(JEQ, 0, 0, yes.checked_add(2)?),
            load_high(arg)?,
            jump(JEQ, 0, no, yes),
        ],
        Test::Any(tests) => chain(tests, yes, no, false)?,
        Test::All(tests) => chain(tests, yes, no, true)?,
    })
}

/// Tests one after another, built from the last to the first: each leaves the chain as soon as the
/// answer is known, over the code of those that follow.
fn chain(tests: &[Test], yes: u8, no: u8, all: bool) -> Option<Vec<Insn>> {
    let Some((last, others)) = tests.split_last() else {
        return Some(vec![stmt(JA, u32::from(if all { yes } else { no }))]);
    };
    let mut code = condition(last, yes, no)?;
    for test in others.iter().rev() {
        let over = u8::try_from(code.len()).ok()?;
        let mut first = if all {
            condition(test, 0, no.checked_add(over)?)?
        } else {
            condition(test, yes.checked_add(over)?, 0)?
        };
        first.extend(code);
        code = first;
    }
    Some(code)
}

fn stmt(code: u16, k: u32) -> Insn {
    Insn {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Insn {
    Insn { code, jt, jf, k }
}

fn load_low(arg: u8) -> Option<Insn> {
    (arg < 6).then(|| stmt(LD_W_ABS, AT_ARGS + 8 * u32::from(arg)))
}

/// All supported machines are little-endian: the high half comes second.
fn load_high(arg: u8) -> Option<Insn> {
    (arg < 6).then(|| stmt(LD_W_ABS, AT_ARGS + 8 * u32::from(arg) + 4))
}

fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

fn offset(len: usize) -> Result<u32, Error> {
    u32::try_from(len).ok().ok_or(Error::TooLong(len))
}

#[cfg(test)]
mod tests;
