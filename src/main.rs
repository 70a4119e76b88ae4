//! rfs.
fn main() {}
