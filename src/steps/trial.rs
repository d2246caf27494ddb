//! Whether the way back was tried: the source can read the target's binlog.

use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// `true` once the source of the transfer has connected to the target as a replica does.
pub struct ReverseTrial {
    pub source: Rc<Server>,
    pub target: Rc<Server>,
}

impl Step for ReverseTrial {
    type Fact = bool;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<bool, ()>> {
        Ok(Seen { fact: false, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, ()>> {
        if *to {
            self.source.try_to_follow(permit, &self.target).await?;
        } else {
            self.source.forget_trial(permit).await?;
        }
        Ok(Seen { fact: *to, evidence: () })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Restore
    }
}
