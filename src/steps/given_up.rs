//! A primary that is given up: what its other side received is all there is, and that side opens alone.
//!
//! Invariant: the other side opens only after it applied everything that it received, and not while the primary that is
//! given up answers and accepts writes.

use super::deed::Deed;
use crate::database::{Server, Writers};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// `true` once everything that was received is applied.
pub struct ReceivedApplied {
    pub server: Rc<Server>,
    pub limit_ms: u64,
}

/// What a side had when it was opened alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Received {
    pub position: String,
}

impl Deed for ReceivedApplied {
    type Evidence = Received;

    const KEPT: &'static str = "it only waited";

    async fn carry_out(&self, _permit: &Permit, _earlier: &Earlier) -> Result<Received> {
        let position = self.server.received().await?;
        if !self.server.has(&position, self.limit_ms).await? {
            return Err(Error::Deadline {
                what: format!("{}: applying what it received, up to {position}", self.server.name),
                limit_ms: self.limit_ms,
            });
        }
        Ok(Received { position })
    }
}

/// The domain of a server that writes again: the one in which the site wrote until now.
pub struct FormerDomain {
    pub server: Rc<Server>,
    pub quarantine: u32,
}

impl Step for FormerDomain {
    type Fact = Option<u32>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Option<u32>, ()>> {
        Ok(Seen { fact: self.server.status().await?.own.domain, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Option<u32>> {
        self.server.dialect().await?.site_domain(&self.server.status().await?, self.quarantine)
    }

    async fn set(&self, permit: &Permit, to: &Option<u32>, _earlier: &Earlier) -> Result<Seen<Option<u32>, ()>> {
        if let Some(domain) = to {
            self.server.set_domain(permit, *domain, Writers::Everybody).await?;
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<Option<u32>> {
        Undo::Restore
    }

    fn lasts(&self) -> bool {
        // Its file still says that it was fenced, until its role at boot is written behind the commit point.
        false
    }
}

/// `true` once the server accepts writes without the primary that is given up.
pub struct OpenedAlone {
    pub server: Rc<Server>,
    pub given_up: Rc<Server>,
}

impl Step for OpenedAlone {
    type Fact = bool;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<bool, ()>> {
        Ok(Seen { fact: !self.server.status_for_rescue().await?.read_only, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, ()>> {
        if *to {
            // It may have come back since the checks.
            if self.given_up.status().await.is_ok_and(|status| !status.read_only) {
                return Err(Error::remote(
                    &self.given_up.name,
                    "it answers again and accepts writes; nothing was opened",
                ));
            }
            self.server.open_alone(permit).await?;
        } else {
            self.server.close(permit).await?;
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Restore
    }

    fn lasts(&self) -> bool {
        // As the domain: a reboot closes it until then.
        false
    }
}
