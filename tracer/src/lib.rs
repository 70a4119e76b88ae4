//! The spy.
