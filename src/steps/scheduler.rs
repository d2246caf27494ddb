//! Whether a primary runs scheduled events.
//!
//! Source of the rule: an event whose definer may bypass `read_only` writes past a fence.

use super::announced::SourceWas;
use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// `true` while the event scheduler runs.
pub struct Scheduler {
    pub server: Rc<Server>,
    /// The step that saw the source as it was before the run touched it.
    pub announced: String,
    /// The scheduler whose work this one takes over; nothing where this one shall stop.
    pub takes_over_from: Option<String>,
}

impl Step for Scheduler {
    type Fact = bool;
    /// Whether it ran before the transfer touched it.
    type Evidence = bool;

    async fn observe(&self) -> Result<Seen<bool, bool>> {
        let on = self.server.status().await?.event_scheduler == "ON";
        Ok(Seen { fact: on, evidence: on })
    }

    async fn want(&self, earlier: &Earlier) -> Result<bool> {
        match &self.takes_over_from {
            None if self.server.dialect().await?.events_pass_a_fence() => Ok(false),
            None => Ok(self.observe().await?.fact),
            Some(other) => {
                // A run that died between stopping it and saying so has only this to go by.
                let ran = match earlier.of::<SourceWas>(&self.announced) {
                    Ok(source) => source.scheduler,
                    Err(_) => earlier.of::<bool>(other)?,
                };
                Ok(ran || self.server.status().await?.event_scheduler == "ON")
            }
        }
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, bool>> {
        self.server.schedule_events(permit, *to).await?;
        // What it did before: a step is only set where that differs.
        Ok(Seen { fact: self.observe().await?.fact, evidence: !*to })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Restore
    }

    fn lasts(&self) -> bool {
        // At boot it is what the server's own files say.
        false
    }
}
