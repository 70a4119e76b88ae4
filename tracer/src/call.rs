//! The seam between the backends and the decoder: one trapped system call and what becomes of it.
//!
//! A backend knows how to stop a thread at a call and let it go; it does not know what calls mean.

use std::os::fd::OwnedFd;

/// Which system call table a call was made through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Abi {
    /// x86-64, 64-bit calls.
    X86_64,
    /// 32-bit calls on x86 (`int 0x80` or a 32-bit program).
    I386,
    /// The x32 ABI on x86-64.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
    /// An architecture that no table describes, by its `AUDIT_ARCH_*` value.
    Unknown(u32),
}

/// One system call at its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The calling thread.
    pub tid: i32,
    /// The table it goes through.
    pub abi: Abi,
    /// Its number in that table (x32: without the x32 bit).
    pub nr: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What becomes of a stopped call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel carries it out.
    Go,
    /// It returns `-errno` without being carried out.
    Fail(i32),
    /// The whole process exits with this status, as if it had called exit_group(2).
    Exit(i32),
    /// The process dies by this signal.
    Signal(i32),
}

/// A thread that waits in a call while its verdict is worked out. To be used only on the thread that was
/// given it.
pub trait Stop {
    /// Whether the thread still waits in the same call; memory read from it before a `false` is worthless.
    fn still_there(&self) -> bool;
    /// Makes sure that `Verdict::Exit` and `Verdict::Signal` can be carried out, and says whether they can.
    /// To be asked before anything that cannot be undone is done in the name of the process.
    fn ready_to_exit(&self) -> bool;
}

/// A decision now, or work that may take its time on another thread while other calls go on.
pub enum Decision {
    /// Decided.
    Now(Verdict),
    /// To be decided by running this on a worker thread.
    Later(Work),
    /// It returns this without being carried out. For a backend that can; others let the call go.
    Return(i64),
    /// It returns a copy of this descriptor (close-on-exec) without being carried out. As above.
    Give(OwnedFd),
}

/// What a worker runs to work out a verdict.
pub type Work = Box<dyn FnOnce(&dyn Stop) -> Verdict + Send>;

impl std::fmt::Debug for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now(v) => write!(f, "Now({v:?})"),
            Self::Later(_) => write!(f, "Later"),
            Self::Return(value) => write!(f, "Return({value})"),
            Self::Give(fd) => write!(f, "Give({fd:?})"),
        }
    }
}

/// Decides about trapped calls.
pub trait Decide: Send + Sync {
    /// A thread is stopped at the entry of `call`. `still_there` tells whether the thread still waits in
    /// the same call; memory read from it before a `false` is worthless.
    fn call(&self, call: &Call, still_there: &dyn Fn() -> bool) -> Decision;

    /// A process that thread `parent` has made was killed before its first call. Only a backend that hears
    /// of births can tell.
    fn stillborn(&self, _child: i32, _parent: i32, _signal: i32) {}
}
