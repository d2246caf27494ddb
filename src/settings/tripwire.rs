//! The watch for packets to and from the old side.

use serde::Deserialize;

/// The value of `migrate:tripwire`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tripwire {
    /// Seconds without a crossing that the flip asks for.
    pub quiet: u64,
    /// Seconds to wait for a host's answer.
    pub host_seconds: u64,
}

impl Default for Tripwire {
    fn default() -> Self {
        Self { quiet: 900, host_seconds: 10 }
    }
}
