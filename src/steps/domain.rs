//! In which GTID domain a primary's own sessions write.
//!
//! One `FLUSH TABLES` on a fenced source would end the way back, for its transaction would stand where one of the new
//! primary belongs. In a domain of its own it is harmless, and seen.

use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// The domain of a server that takes over: the site's.
pub struct SiteDomain {
    pub server: Rc<Server>,
    /// The primary whose domain is the site's as long as it accepts writes.
    pub primary: Rc<Server>,
}

impl Step for SiteDomain {
    type Fact = u32;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<u32, ()>> {
        Ok(Seen { fact: self.server.status().await?.domain, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<u32> {
        let primary = self.primary.status().await?;
        if primary.read_only { Ok(self.server.status().await?.domain) } else { Ok(primary.domain) }
    }

    async fn set(&self, permit: &Permit, to: &u32, _earlier: &Earlier) -> Result<Seen<u32, ()>> {
        // A session keeps the domain it began with, so those of before must not live on.
        self.server.set_domain(permit, *to, true).await?;
        self.observe().await
    }

    fn undo(&self) -> Undo<u32> {
        Undo::Restore
    }
}

/// The domain of a server that was fenced: the quarantine.
pub struct QuarantineDomain {
    pub server: Rc<Server>,
    pub domain: u32,
}

impl Step for QuarantineDomain {
    type Fact = u32;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<u32, ()>> {
        Ok(Seen { fact: self.server.status().await?.domain, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<u32> {
        Ok(self.domain)
    }

    async fn set(&self, permit: &Permit, to: &u32, _earlier: &Earlier) -> Result<Seen<u32, ()>> {
        self.server.set_domain(permit, *to, false).await?;
        self.observe().await
    }

    fn undo(&self) -> Undo<u32> {
        Undo::Restore
    }
}
