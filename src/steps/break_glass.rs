//! Whether both primaries' hosts have the page for the worst night, in the words that their servers understand.

use super::host_files::{Contents, HostFiles};
use crate::database::Server;
use crate::database::dialect::Dialect;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// Writes the page in the words of a family of servers.
type Page = Box<dyn Fn(&'static dyn Dialect, &Opening) -> String>;

/// The page on each host.
pub struct BreakGlass {
    /// Whose words are used: the primary that serves as the page is written.
    pub server: Rc<Server>,
    /// The domain in which a server rests that booted closed.
    pub quarantine: u32,
    pub page: Page,
    /// Where it stands; its own content does not count.
    pub files: HostFiles,
}

/// What a primary has beside being open, and what one that booted closed has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The GTID domain in which the site writes; nothing where there are none.
    pub domain: Option<u32>,
    /// Whether scheduled events run.
    pub scheduler: bool,
}

impl Step for BreakGlass {
    type Fact = Contents;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Contents, ()>> {
        self.files.observe().await
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Contents> {
        let (dialect, status) = (self.server.dialect().await?, self.server.status().await?);
        let domain = match status.own.domain {
            Some(domain) if domain == self.quarantine => dialect.site_domain(&status, self.quarantine)?,
            domain => domain,
        };
        let page = (self.page)(dialect, &Opening { domain, scheduler: status.event_scheduler == "ON" });
        Ok(self.files.all(Some(&page)))
    }

    async fn set(&self, permit: &Permit, to: &Contents, earlier: &Earlier) -> Result<Seen<Contents, ()>> {
        self.files.set(permit, to, earlier).await
    }

    fn half_done(&self, found: &Contents, old: &Contents, new: &Contents) -> bool {
        self.files.half_done(found, old, new)
    }

    fn undo(&self) -> Undo<Contents> {
        self.files.undo()
    }
}
