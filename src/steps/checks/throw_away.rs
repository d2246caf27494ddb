//! Whether a replica can be opened for a moment: it follows a site that lives, and nobody is there to write on it.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// The replica that is rehearsed on, and the primary whose part it plays.
pub struct ThrowAway {
    pub source: Rc<Server>,
    pub replica: Rc<Server>,
    /// Accounts that may be connected: the servers' own, and those that write past `read_only` in any case.
    pub known: Vec<String>,
}

impl Topic for ThrowAway {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("rehearsal");
        if self.source.status().await?.read_only {
            let mend = "a rehearsal is before the flip: after a revert it can be had again";
            notes.block(&self.source.name, "it refuses writes, so there is no flip to rehearse", mend);
        }
        let (name, status) = (&self.replica.name, self.replica.status().await?);
        match &status.channel {
            None => {
                notes.block(name, "it follows nobody, and may be the primary: it was not touched", "attach it again")
            }
            Some(channel) if !channel.healthy() => {
                let found = format!("its replication from {} stands: {}", channel.source, channel.error);
                notes.block(name, found, "mend the channel: salt-run migrate.status");
            }
            Some(_) => {}
        }
        for (account, connections) in self.replica.connected().await? {
            if !self.known.contains(&account) {
                let found = format!("{account} has {connections} connections open, and could write while it is open");
                notes.block(name, found, "rehearse on a replica that nobody uses, or end them");
            }
        }
        if status.event_scheduler == "ON" && !self.replica.events().await?.is_empty() {
            let found = "scheduled events are enabled on it, and could write while it is open";
            notes.block(name, found, "SET GLOBAL event_scheduler=OFF there");
        }
        Ok(notes.findings)
    }
}
