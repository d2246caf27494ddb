//! Whether the account has writes enough for the switch and for the way back.

use super::deed::Deed;
use super::edge::Switch;
use crate::edge::{Fastly, Quota};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::Earlier;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// `true` once so many writes are left as the rest of the run, and its way back, can take.
pub struct Budgeted {
    /// A client that may wait: nobody is bothered yet.
    pub fastly: Fastly,
    pub switches: Vec<Rc<Switch>>,
    /// Writes that are still to come.
    pub need: u64,
    /// Writes that are kept for the way back.
    pub keep: u64,
}

/// What was left, and what is needed of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    pub quota: Option<Quota>,
    pub need: u64,
    pub keep: u64,
    /// Writes that this run has sent.
    pub written: u64,
}

impl Deed for Budgeted {
    type Evidence = Budget;

    const KEPT: &'static str = "it only counted";

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<Budget> {
        let mut quota = self.fastly.quota();
        // Only a write tells; where all was staged before, one that changes nothing does.
        if quota.is_none()
            && let Some(switch) = self.switches.first()
        {
            switch.lock_again(permit).await?;
            quota = self.fastly.quota();
        }
        if let Some(known) = quota.filter(|known| known.left < self.need + self.keep) {
            self.fastly.next_hour(permit, known.resets).await.map_err(|error| match error {
                Error::Deadline { limit_ms, .. } => Error::Deadline {
                    what: format!(
                        "writes for the CDN: needs {}, {} kept for the way back, {} left until {} (Unix time)",
                        self.need, self.keep, known.left, known.resets
                    ),
                    limit_ms,
                },
                other => other,
            })?;
        }
        let written = self.fastly.written();
        Ok(Budget { quota, need: self.need, keep: self.keep, written })
    }
}
