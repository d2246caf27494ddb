//! Whether edits in flight had their time: the one permitted timer.

use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::time::Duration;

/// `true` once the time has passed since the last notice went up.
pub struct Drain {
    pub time: Duration,
}

impl Step for Drain {
    type Fact = bool;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<bool, ()>> {
        Ok(Seen { fact: false, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, _permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, ()>> {
        tokio::time::sleep(self.time).await;
        Ok(Seen { fact: *to, evidence: () })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("time does not come back")
    }
}
