//! In which GTID domain a primary's own sessions write; where there are none (MySQL), there is nothing to keep apart.
//!
//! One `FLUSH TABLES` on a fenced source would end the way back, for its transaction would stand where one of the new
//! primary belongs. In a domain of its own it is harmless, and seen.

use crate::database::{Server, Writers};
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// The domain of a server that takes over: the site's.
pub struct SiteDomain {
    pub server: Rc<Server>,
    /// The primary whose domain is the site's as long as it accepts writes.
    pub primary: Rc<Server>,
    /// The domain that is nobody's to write in; a primary that was opened again after it had booted closed does.
    pub quarantine: u32,
}

impl Step for SiteDomain {
    type Fact = Option<u32>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Option<u32>, ()>> {
        Ok(Seen { fact: self.server.status().await?.own.domain, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Option<u32>> {
        let (dialect, mut status) = (self.server.dialect().await?, self.primary.status().await?);
        if status.read_only {
            status = self.server.status().await?;
            // A replica that booted as one may rest in the quarantine.
            if status.read_only {
                return Ok(status.own.domain);
            }
        }
        match status.own.domain {
            Some(domain) if domain == self.quarantine => dialect.site_domain(&status, self.quarantine),
            domain => Ok(domain),
        }
    }

    async fn set(&self, permit: &Permit, to: &Option<u32>, _earlier: &Earlier) -> Result<Seen<Option<u32>, ()>> {
        // A session keeps the domain it began with, so those of before must not live on.
        if let Some(domain) = to {
            self.server.set_domain(permit, *domain, Writers::Everybody).await?;
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<Option<u32>> {
        Undo::Restore
    }

    fn lasts(&self) -> bool {
        // Its file still says that it follows, until its role at boot is written behind the commit point.
        false
    }
}

/// The domain of a server that was fenced: the quarantine.
pub struct QuarantineDomain {
    pub server: Rc<Server>,
    pub domain: u32,
}

impl Step for QuarantineDomain {
    type Fact = Option<u32>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Option<u32>, ()>> {
        Ok(Seen { fact: self.server.status().await?.own.domain, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Option<u32>> {
        Ok(self.server.status().await?.own.domain.map(|_| self.domain))
    }

    async fn set(&self, permit: &Permit, to: &Option<u32>, _earlier: &Earlier) -> Result<Seen<Option<u32>, ()>> {
        // One `FLUSH` of a session of before, however late, would stand in the site's domain.
        if let Some(domain) = to {
            self.server.set_domain(permit, *domain, Writers::Privileged).await?;
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<Option<u32>> {
        Undo::Restore
    }
}
