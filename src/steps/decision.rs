//! Whether the run's decision row stands open on the target.

use super::deed::Deed;
use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::Earlier;
use std::rc::Rc;

/// `true` once the row is there; a new run always needs one of its own.
pub struct Decision {
    pub target: Rc<Server>,
}

impl Deed for Decision {
    type Evidence = ();

    const KEPT: &'static str = "the row says how the run was decided, and decides nothing any more";

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<()> {
        self.target.open_decision(permit).await?;
        Ok(())
    }
}
