//! rfs: a filesystem for builds. Read the rooms by their numbers in doc/architecture.md.

pub mod base;
pub mod report;
pub mod runner;
