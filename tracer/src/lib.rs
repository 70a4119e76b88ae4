//! The spy: what every process of a build reads, writes and starts.
//!
//! Correctness comes from a kernel filter (seccomp) that stops every call which can carry information in
//! or out of a process by name. This crate gives out typed [`event::Event`]s with resolved paths; it knows
//! nothing of steps or caches.

pub mod call;
mod crew;
mod cwd;
mod decode;
mod decode_fds;
mod decode_names;
mod decode_peers;
mod descriptors;
pub mod event;
mod exec;
mod fast;
pub mod filter;
mod line;
mod links;
pub mod memory;
mod notify;
mod pidfd;
mod pool;
mod prefix;
pub mod probe;
mod proc_files;
mod process;
mod program;
mod ptrace;
mod reaper;
mod regs;
mod seccomp;
mod slab;
pub mod spawn;
mod standby;
mod supervise;
pub mod supervisor;
pub mod table;
mod tally;
mod trace;
pub mod views;
mod walk;

pub use event::Observer;
pub use fast::has_library;
pub use pidfd::users;
pub use reaper::Ended;
pub use spawn::{Backend, Error};
pub use supervise::{Launch, Launched, Preload, Running, launch};
