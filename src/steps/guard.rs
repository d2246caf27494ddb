//! Whether a second process stands ready to take the run back, should this one die or hang.

use crate::error::Result;
use crate::journal::Permit;
use crate::outside::Outside;
use crate::step::{Earlier, Seen, Step, Undo};

/// `true` once the guard has its own connections open and watches this process.
pub struct GuardReady {
    pub outside: Outside,
    /// Whether the caller started a guard; a test of the engine alone does not.
    pub expected: bool,
}

impl Step for GuardReady {
    type Fact = bool;
    /// Whether there is a guard.
    type Evidence = bool;

    async fn observe(&self) -> Result<Seen<bool, bool>> {
        Ok(Seen { fact: false, evidence: false })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, _permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, bool>> {
        if self.expected {
            self.outside.guard_ready().await?;
        }
        Ok(Seen { fact: *to, evidence: self.expected })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("the guard leaves with the run")
    }
}
