//! Whether a server of the new side refuses writes while people try it.

use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// `true` while it refuses.
pub struct ReadOnly(pub Rc<Server>);

impl Step for ReadOnly {
    type Fact = bool;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<bool, ()>> {
        Ok(Seen { fact: self.0.status().await?.read_only, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, ()>> {
        // Who follows nobody may be the one that serves.
        if *to && self.0.status().await?.channel.is_none() {
            return Err(Error::remote(&self.0.name, "it follows nobody, and may be the primary: it was not touched"));
        }
        if *to {
            self.0.refuse_writes(permit).await?;
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("a replica refuses writes in any case")
    }
}
