//! Whether the run's decision row stands open on the target.

use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// `true` once the row is there; a new run always needs one of its own.
pub struct Decision {
    pub target: Rc<Server>,
}

impl Step for Decision {
    type Fact = bool;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<bool, ()>> {
        Ok(Seen { fact: false, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, ()>> {
        self.target.open_decision(permit).await?;
        Ok(Seen { fact: *to, evidence: () })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("the row says how the run was decided, and decides nothing any more")
    }
}
