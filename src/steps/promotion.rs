//! Whether the target accepts writes: the commit point.

use crate::database::{Fenced, Promoted, Server};
use crate::error::Result;
use crate::event;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// `true` once the target is open for writes.
pub struct Promotion {
    pub target: Rc<Server>,
    /// The id of the fence in the same graph.
    pub fence: String,
}

impl Step for Promotion {
    type Fact = bool;
    type Evidence = Promoted;

    async fn observe(&self) -> Result<Seen<bool, Promoted>> {
        let status = self.target.status_for_rescue().await?;
        let evidence = Promoted { position: status.binlog_position, seen_at: event::steady() };
        Ok(Seen { fact: !status.read_only, evidence })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, earlier: &Earlier) -> Result<Seen<bool, Promoted>> {
        if *to {
            let fenced: Fenced = earlier.of(&self.fence)?;
            let promoted = self.target.promote(permit, &fenced.position).await?;
            return Ok(Seen { fact: true, evidence: promoted });
        }
        // Once going back is decided, a promotion that is still on its way finds the row taken and opens nothing.
        self.target.decide_to_go_back(permit, permit.run()).await?;
        self.observe().await
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Restore
    }

    fn compares_and_sets(&self) -> bool {
        true
    }

    fn lasts(&self) -> bool {
        // Until its role at boot is written a reboot closes it. It opens again by its decision row, once the fence was seen.
        false
    }
}
