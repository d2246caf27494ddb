//! Whether the source was told that this run is about to close it: from here on an abort opens it again, whoever closed it.
//!
//! The fence is not the only one: a restart of the source closes it once its role at boot says so.

use super::fence::Fence;
use crate::database::Writers;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};

/// `true` once the fence's row is on the source; a new run always needs one of its own. It stands in the graph twice: first ahead
/// of whatever may close the source, and once more where it is undone first.
pub struct Announced {
    pub fence: Fence,
    /// The id of the step that saw, before anything, what a restart of the source would change.
    pub id: String,
}

/// What of the source a restart would change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceWas {
    pub domain: Option<u32>,
    pub scheduler: bool,
}

impl Announced {
    async fn source(&self) -> Result<SourceWas> {
        let status = self.fence.source.status_for_rescue().await?;
        Ok(SourceWas { domain: status.own.domain, scheduler: status.event_scheduler == "ON" })
    }

    /// Gives the source back what a restart took.
    async fn as_it_was(&self, permit: &Permit, was: &SourceWas) -> Result<()> {
        let is = self.source().await?;
        if let Some(domain) = was.domain.filter(|_| is.domain != was.domain) {
            // As for one that takes over: a session keeps the domain it began with.
            self.fence.source.set_domain(permit, domain, Writers::Everybody).await?;
        }
        if was.scheduler && !is.scheduler {
            self.fence.source.schedule_events(permit, true).await?;
        }
        Ok(())
    }
}

impl Step for Announced {
    type Fact = bool;
    type Evidence = SourceWas;

    async fn observe(&self) -> Result<Seen<bool, SourceWas>> {
        Ok(Seen { fact: false, evidence: self.source().await? })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, earlier: &Earlier) -> Result<Seen<bool, SourceWas>> {
        if *to {
            let was = self.source().await?;
            self.fence.source.announce_fence(permit).await?;
            return Ok(Seen { fact: true, evidence: was });
        }
        let status = self.fence.lift(permit, earlier).await?;
        // Of a run that died before it had written this down, nothing was touched.
        let was: SourceWas = earlier.of(&self.id).unwrap_or_default();
        self.as_it_was(permit, &was).await?;
        Ok(Seen { fact: status.read_only, evidence: was })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Restore
    }
}
