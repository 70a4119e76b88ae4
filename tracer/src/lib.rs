//! The spy: what every process of a build reads, writes and starts.
//!
//! Correctness comes from a kernel filter (seccomp) that stops every call which can carry information in
//! or out of a process by name. This crate gives out typed [`event::Event`]s with resolved paths; it knows
//! nothing of steps or caches.

pub mod call;
pub mod event;
pub mod filter;
mod line;
pub mod memory;
mod notify;
mod pool;
mod prefix;
mod ptrace;
mod reaper;
mod regs;
mod seccomp;
pub mod spawn;
pub mod table;
mod trace;
mod walk;

pub use reaper::Ended;
