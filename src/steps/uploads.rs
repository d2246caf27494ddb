//! Whether the other side has the files that people wrote through the site.
//!
//! Invariant: nothing is taken from either side, and what is newer on the one that gets them stays.

use super::deed::Deed;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::site::{Brought, Lacking, Look, Pass, Trees};
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// How they were carried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    pub files: u64,
    pub passes: u64,
}

impl From<&Brought> for Carried {
    fn from(brought: &Brought) -> Self {
        Self { files: brought.files, passes: brought.passes }
    }
}

/// `true` where the other side lacks nothing of them.
pub struct UploadsThere(pub Rc<Trees>);

impl Step for UploadsThere {
    type Fact = bool;
    type Evidence = Carried;

    async fn observe(&self) -> Result<Seen<bool, Carried>> {
        let lacking = match self.0.lacking(Look::All).await {
            // A node that is not there yet has nothing.
            Err(Error::Remote { problem, .. }) if problem.starts_with("did not answer") => None,
            lacking => lacking?,
        };
        let whole = |lacking: Lacking| lacking.all && lacking.paths.is_empty() && lacking.missing.is_empty();
        Ok(Seen { fact: lacking.is_some_and(whole), evidence: Carried::default() })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, Carried>> {
        let missing = self.0.lacking(Look::First).await?.unwrap_or_default().missing;
        if !missing.is_empty() {
            return Err(Error::remote(&self.0.pushes.host, format!("there is no {}", missing.join(", "))));
        }
        // Who writes meanwhile is the next run's affair, and in the end the flip's.
        let brought = self.0.pass(permit, Pass::Add, self.0.until(), true).await?;
        Ok(Seen { fact: *to, evidence: Carried::from(&brought) })
    }

    /// People go on writing.
    fn wanes(&self) -> bool {
        true
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave("the side they come from has them still, and the next pass needs only what is new")
    }
}

/// Carries what is new just before people are asked to wait, so that little is left for afterwards.
pub struct UploadsAhead(pub Rc<Trees>);

impl Deed for UploadsAhead {
    type Evidence = Carried;

    const KEPT: &'static str = "the side they come from has them still, and keeps what is newer there";

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<Carried> {
        Ok(Carried::from(&self.0.pass(permit, Pass::Add, self.0.until(), true).await?))
    }
}

/// Carries the last of them, once nobody writes any more where they come from.
pub struct UploadsEnded(pub Rc<Trees>);

impl Deed for UploadsEnded {
    type Evidence = Carried;

    const KEPT: &'static str = UploadsAhead::KEPT;

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<Carried> {
        let brought = self.0.pass(permit, Pass::Add, self.0.until(), false).await?;
        if brought.last == 0 {
            return Ok(Carried::from(&brought));
        }
        let problem = format!(
            "somebody still writes there, though its notice is up: {} files in the last of {} passes, for example {}",
            brought.last,
            brought.passes,
            brought.names.join(", ")
        );
        Err(Error::remote(&self.0.pushes.host, problem))
    }
}
