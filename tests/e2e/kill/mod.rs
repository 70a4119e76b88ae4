//! Builds that come to a bad end: killed, interrupted, without room, without their cache.
//!
//! After each of them nothing of the build is left running or mounted, the sources are as they were, no
//! output is torn, the next build makes what a bare one makes, and the cache is whole.

mod blow;
mod cache;
mod end;
pub mod left;
mod pages;
mod room;
pub mod small;
mod storm;
mod story;
mod together;
