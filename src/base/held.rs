//! What a step had to wait for before it started.

use serde::{Deserialize, Serialize};

/// How long a step was held back at its start, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Microseconds.
    pub held_us: u64,
    /// `memory`, `cpu pressure`, `memory pressure`, `io pressure`, or some of them.
    pub held_by: String,
}
