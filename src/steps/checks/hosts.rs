//! Whether the hosts answer on which files must change in the window, and what stays undone on those that need not.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use crate::outside::Outside;
use crate::site;
use std::rc::Rc;

/// The minions that a transfer needs.
pub struct Hosts {
    pub outside: Outside,
    pub minions: Vec<String>,
    pub seconds: u64,
    /// Database servers that have no minion, so nobody keeps their role over a reboot but they themselves.
    pub without_minion: Vec<Rc<Server>>,
}

impl Topic for Hosts {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("hosts");
        if let Err(error) = site::answering(&self.outside, &self.minions, self.seconds).await {
            notes.block(
                "minions",
                error.to_string(),
                "start the minion, accept its key, and see that test.ping answers",
            );
        }
        for server in &self.without_minion {
            if server.keeps_its_role().await.unwrap_or(false) {
                continue;
            }
            notes.warn(
                &server.name,
                "it has no minion, so its role would not outlive a reboot",
                "set its minion in migrate:nodes",
            );
        }
        Ok(notes.findings)
    }
}

/// The minions that a phase asks, and does without where they are silent.
pub struct HostsSpared {
    pub outside: Outside,
    pub minions: Vec<String>,
    pub seconds: u64,
    /// What stays undone there, and how it is done by hand.
    pub undone: &'static str,
    pub mend: &'static str,
}

impl Topic for HostsSpared {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("hosts");
        for host in site::silent(&self.outside, &self.minions, self.seconds).await? {
            notes.warn(&host, format!("it does not answer: {}", self.undone), self.mend);
        }
        Ok(notes.findings)
    }
}
