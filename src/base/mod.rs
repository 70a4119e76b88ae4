//! Values only: what the rooms of rfs say to each other. Nothing here touches a file or a process.

pub mod access;
pub mod cpuset;
pub mod difference;
pub mod digest;
pub mod held;
pub mod identity;
pub mod makeflags;
pub mod name;
pub mod policy;
pub mod reason;
pub mod record;
pub mod scrap;
pub mod seen;
pub mod time;
pub mod topology;

pub use access::Access;
pub use difference::{Difference, difference};
pub use digest::{Digest, Hasher};
pub use held::Held;
pub use identity::Identity;
pub use name::Name;
pub use reason::{Cause, Change, Miss, Refusal};
pub use record::{
    Chunk, Command, Cost, Dep, Output, Placement, Provenance, Record, Stamp, Start, State, Stdin,
    Touched, What,
};
pub use scrap::Scraps;
pub use seen::{JobId, Kind, PathId, Seen};
