//! Whether a new server has its place in the chain.

use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// `true` once it follows its source, or somebody else, or is a primary: where in the chain it stands is for the flip to say.
pub struct Joined {
    pub server: Rc<Server>,
    /// The source that is declared.
    pub source: Rc<Server>,
}

impl Step for Joined {
    type Fact = bool;
    /// Its position.
    type Evidence = String;

    async fn observe(&self) -> Result<Seen<bool, String>> {
        let Ok(status) = self.server.status().await else { return Ok(Seen { fact: false, evidence: String::new() }) };
        // A channel to its source that does not run is told everything once more: whatever it was told may have been wrong.
        let follows =
            status.channel.as_ref().is_some_and(|channel| channel.source != self.source.place() || channel.healthy());
        Ok(Seen { fact: follows || !status.read_only, evidence: status.position })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, _to: &bool, _earlier: &Earlier) -> Result<Seen<bool, String>> {
        self.server.follow(permit, &self.source, false).await?;
        self.observe().await
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave("a replica that follows hinders nobody, and falls behind if it does not")
    }
}
