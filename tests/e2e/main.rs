//! The end-to-end tests: one binary, a module a topic. They know the program by its face only
//! (arguments, exit status, output, the tree that it leaves), never by its modules.
//!
//! The oracle is the bare command: the same edits and the same commands are done once without and
//! once with rfs, at the same absolute path, and everything that a user could see must be equal.
//! Each wrapped run also states what may run, so that a program that never serves fails too.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests edit files as a user does, not as the disk room does"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stderr, reason = "where a failed test left its files")]
#![allow(missing_docs, reason = "a test's name and its doc line say what it is")]
#![allow(unreachable_pub, reason = "nobody imports a test binary")]

mod dice;
mod probe;
mod run;
mod space;
mod tree;

mod bad;
mod conformance;
mod dated;
mod documented;
mod explained;
mod face;
mod fast;
mod graph;
mod idioms;
mod keep;
mod kill;
mod make;
mod mount;
mod oracle;
mod outside;
mod pipes;
mod probes;
mod progress;
mod projects;
mod rules;
mod same;
mod security;
mod semantics;
mod server;
mod shell;
mod signal;
mod snapshot;
mod start;
mod stream;
mod subtle;
mod terminal;
mod user;
