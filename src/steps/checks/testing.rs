//! Whether the new side can be a test site now: it only follows, and who reads the old primary's binlog besides is known.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// The servers of both sides.
pub struct Following {
    pub old: Rc<Server>,
    /// Those of the new side.
    pub new: Vec<Rc<Server>>,
    /// Accounts that may read the binlog without a word: the servers' own.
    pub replication: String,
}

impl Topic for Following {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("test");
        if self.old.status().await?.read_only {
            let mend = "a test is before the flip: go back first (salt-run migrate.revert), or look on (salt-run migrate.status)";
            notes.block(&self.old.name, "it refuses writes, so the new side is no mirror of a site that lives", mend);
        }
        for server in &self.new {
            match &server.status().await?.channel {
                None => notes.block(
                    &server.name,
                    "it follows nobody: testers would see what was, not what is",
                    "attach it again",
                ),
                Some(channel) if !channel.healthy() => {
                    let found = format!("its replication from {} stands: {}", channel.source, channel.error);
                    notes.block(&server.name, found, "mend the channel: salt-run migrate.status");
                }
                Some(_) => {}
            }
        }
        readers(&mut notes, &self.old, &self.replication).await?;
        Ok(notes.findings)
    }
}

/// Names who else reads a primary's binlog, and will do so when it is none any more.
pub(super) async fn readers(notes: &mut Notes, primary: &Server, replication: &str) -> Result<()> {
    for reader in primary.binlog_readers().await? {
        let user = reader.split('@').next().unwrap_or_default();
        if user != replication {
            let found = format!("{reader} reads its binlog, and will go on reading here after the site moved");
            let mend = "point it to the other primary in the soak: its position is a GTID there too";
            notes.warn(&primary.name, found, mend);
        }
    }
    Ok(())
}
