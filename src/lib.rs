//! rfs: a filesystem for builds. Read the rooms by their numbers in doc/architecture.md.

pub mod attest;
pub mod base;
pub mod cache;
pub mod cli;
pub mod disk;
pub mod engine;
pub mod mount;
pub mod query;
pub mod record;
pub mod report;
pub mod rules;
pub mod runner;
pub mod snapshot;
pub mod store;
pub mod watch;
pub mod world;
