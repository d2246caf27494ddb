//! What a running server lacks for the way back, and can only have by a restart that people plan.

use super::host_files::MARK;
use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::outside::Outside;
use crate::site::{self, HostFile};
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// What its configuration says, where it needs to say anything: the next restart brings it.
pub struct AtRestart {
    pub outside: Outside,
    pub server: Rc<Server>,
    pub file: HostFile,
    pub seconds: u64,
}

impl AtRestart {
    async fn content(&self) -> Result<String> {
        // The primary's own binlog setting stands where it is, for its name is the site's.
        let updates = self.server.dialect().await?.words().replica_updates;
        Ok(format!("{MARK}: the way back needs it; takes effect at a restart.\n[mysqld]\n{updates}=ON\n"))
    }
}

impl Step for AtRestart {
    /// The file, where it is needed or there.
    type Fact = Option<String>;
    /// Whether the server lacks it still.
    type Evidence = bool;

    async fn observe(&self) -> Result<Seen<Option<String>, bool>> {
        let files = [self.file.clone()];
        let lacks = !self.server.status().await?.log_replica_updates;
        let mut found = site::read(&self.outside, &files, self.seconds).await?;
        Ok(Seen { fact: found.remove(&self.file.key()).flatten(), evidence: lacks })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Option<String>> {
        let seen = self.observe().await?;
        Ok(if seen.evidence || seen.fact.is_some() { Some(self.content().await?) } else { None })
    }

    async fn set(
        &self,
        permit: &Permit,
        to: &Option<String>,
        _earlier: &Earlier,
    ) -> Result<Seen<Option<String>, bool>> {
        let contents = [(self.file.key(), to.clone())].into();
        site::write(&self.outside, permit, std::slice::from_ref(&self.file), &contents, self.seconds).await?;
        Ok(Seen { fact: to.clone(), evidence: true })
    }

    fn undo(&self) -> Undo<Option<String>> {
        Undo::Leave("it changes nothing before a restart, which people plan")
    }
}
