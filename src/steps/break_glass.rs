//! Whether both primaries' hosts have the page for the worst night, in the words that their servers understand.

use super::host_files::{Contents, HostFiles};
use crate::database::Server;
use crate::database::dialect::Dialect;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// The page on each host.
pub struct BreakGlass {
    /// Whose words are used.
    pub server: Rc<Server>,
    pub page: Box<dyn Fn(&'static dyn Dialect) -> String>,
    /// Where it stands; its own content does not count.
    pub files: HostFiles,
}

impl Step for BreakGlass {
    type Fact = Contents;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Contents, ()>> {
        self.files.observe().await
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Contents> {
        let page = (self.page)(self.server.dialect().await?);
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
