//! Whether the source is fenced.

use crate::database::{Fenced, Server};
use crate::error::{Error, Result};
use crate::event;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// `true` while nothing but replication can write to the source.
pub struct Fence {
    pub source: Rc<Server>,
    pub target: Rc<Server>,
    /// The id of the promotion in the same graph.
    pub promotion: String,
}

impl Step for Fence {
    type Fact = bool;
    type Evidence = Fenced;

    async fn observe(&self) -> Result<Seen<bool, Fenced>> {
        let status = self.source.status().await?;
        let evidence = Fenced { position: status.binlog_position, seen_at: event::now() };
        Ok(Seen { fact: status.read_only, evidence })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, Fenced>> {
        if *to {
            return Ok(Seen { fact: true, evidence: self.source.fence(permit).await? });
        }
        match self.target.decide_to_go_back(permit).await {
            Ok(()) => {}
            // Our journal proves that no promotion was ever sent, so nobody can have opened the target for this run.
            Err(Error::Remote { .. }) if !permit.started(&self.promotion) => {}
            Err(error) => return Err(error),
        }
        self.source.unfence(permit).await?;
        let status = self.source.status_for_rescue().await?;
        let evidence = Fenced { position: status.binlog_position, seen_at: event::now() };
        Ok(Seen { fact: status.read_only, evidence })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Restore
    }

    fn compares_and_sets(&self) -> bool {
        true
    }
}
