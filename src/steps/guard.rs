//! Whether a second process stands ready to take the run back, should this one die or hang.

use super::deed::Deed;
use crate::error::Result;
use crate::journal::Permit;
use crate::outside::Outside;
use crate::step::Earlier;

/// `true` once the guard has its own connections open and watches this process.
pub struct GuardReady {
    pub outside: Outside,
    /// Whether the caller started a guard; a test of the engine alone does not.
    pub expected: bool,
}

impl Deed for GuardReady {
    /// Whether there is a guard.
    type Evidence = bool;

    const KEPT: &'static str = "the guard leaves with the run";

    async fn carry_out(&self, _permit: &Permit, _earlier: &Earlier) -> Result<bool> {
        if self.expected {
            self.outside.guard_ready().await?;
        }
        Ok(self.expected)
    }
}
