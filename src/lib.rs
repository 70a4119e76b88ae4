//! rfs.
