//! Whether the source is fenced.

use super::announced::SourceWas;
use crate::database::{Fenced, Server, Status};
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
    /// The id of the step that saw, before anything, what a restart of the source would change.
    pub announced: String,
    /// How long the target may need for what the source wrote up to a moment before the fence.
    pub limit_ms: u64,
}

impl Fence {
    /// Opens the source, once it is decided that the target does not; tells how the source then stands.
    pub(super) async fn lift(&self, permit: &Permit, earlier: &Earlier) -> Result<Status> {
        match self.target.decide_to_go_back(permit, permit.run()).await {
            Ok(()) => alone(&self.source, &self.target).await?,
            // Our journal proves that no promotion was ever sent, so nobody can have opened the target for this run.
            Err(Error::Remote { .. }) if !permit.started(&self.promotion) => {}
            Err(error) => return Err(error),
        }
        // Of a run that died before it had written this down, nothing was touched.
        let was: SourceWas = earlier.of(&self.announced).unwrap_or_default();
        self.source.unfence(permit, permit.run(), was.domain).await?;
        self.source.status_for_rescue().await
    }
}

/// Sees that a target does not take writes, before its source is opened: who went back without the other side opened it, and
/// whatever a run's decision says of that run, there must not be two.
///
/// # Errors
/// [`Error::Undecided`] where it does, [`Error::Remote`] where it cannot be asked.
pub(super) async fn alone(source: &Server, target: &Server) -> Result<()> {
    if target.status_for_rescue().await?.read_only {
        return Ok(());
    }
    Err(Error::Undecided(format!("{} accepts writes, so {} is not opened beside it", target.name, source.name)))
}

impl Step for Fence {
    type Fact = bool;
    type Evidence = Fenced;

    async fn observe(&self) -> Result<Seen<bool, Fenced>> {
        // As for the way back: the other connection may hang in a statement of ours.
        let status = self.source.status_for_rescue().await?;
        let evidence = Fenced { position: status.binlog_position, seen_at: event::steady() };
        Ok(Seen { fact: status.read_only, evidence })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, earlier: &Earlier) -> Result<Seen<bool, Fenced>> {
        if *to {
            // As late as can be: whatever the target has not got yet, people wait for behind the fence.
            let written = self.source.announce_fence(permit).await?;
            if !self.target.has(&written, self.limit_ms).await? {
                let what = format!("{}: catching up with {} before the fence", self.target.name, self.source.name);
                return Err(Error::Deadline { what, limit_ms: self.limit_ms });
            }
            return Ok(Seen { fact: true, evidence: self.source.fence(permit).await? });
        }
        let status = self.lift(permit, earlier).await?;
        let evidence = Fenced { position: status.binlog_position, seen_at: event::steady() };
        Ok(Seen { fact: status.read_only, evidence })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Restore
    }

    fn compares_and_sets(&self) -> bool {
        true
    }
}
