//! Folds what a step did into a record. Pure: every look at the world is handed in.

mod dirs;
pub mod fold;
pub mod seen;
pub mod step;

pub use fold::{Folded, Pending, fold};
pub use step::{Entry, Step, Wrote};
