//! Whether every transaction of every server came from the primary.

use super::{Notes, Topic};
use crate::database::{Harm, Server};
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// How the transactions are looked at.
const SEE: &str = "mariadb-binlog of its last binlog, on MySQL mysqlbinlog --include-gtids";

/// The binlog states of all servers against that of the one that writes.
pub struct Transactions {
    pub servers: Vec<Rc<Server>>,
    pub from: Rc<Server>,
    pub to: Rc<Server>,
    /// The domain in which a fenced former primary writes what harms nobody.
    pub quarantine_domain: u32,
}

impl Topic for Transactions {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("transactions");
        // The replicas first: what they have by then, the primary has had before.
        let mut states = Vec::new();
        for server in self.servers.iter().filter(|server| server.name != self.from.name) {
            let Ok(status) = server.status().await else { continue };
            states.push((server, status));
        }
        let Ok(primary) = self.from.status().await else { return Ok(notes.findings) };
        let domain = primary.own.domain;
        if domain == Some(self.quarantine_domain) {
            let what = format!("it writes in domain {}, which is for what harms nobody", self.quarantine_domain);
            match self.from.dialect().await?.site_domain(&primary, self.quarantine_domain)? {
                // It booted closed and was opened by hand: the transfer itself goes back to the site's domain.
                Some(site) if domain != Some(site) => notes.warn(
                    &self.from.name,
                    what,
                    format!("SET GLOBAL gtid_domain_id={site} there, and have its sessions connect anew"),
                ),
                _ => notes.doubt(
                    &self.from.name,
                    what,
                    "give migrate:databases:quarantine_domain a number in which nobody writes",
                ),
            }
        }
        for (server, status) in states.iter().filter(|(_, status)| status.family == primary.family) {
            let name = &server.name;
            for found in server.dialect().await?.errant(status, &primary, self.quarantine_domain)? {
                let what = format!("transaction {} is not on {}", found.gtids, self.from.name);
                match found.harm {
                    Harm::Quarantined => notes.warn(
                        name,
                        what,
                        format!("see what it is ({SEE}); it stands in a domain of its own, where it harms nothing"),
                    ),
                    Harm::Stops => notes.doubt(
                        name,
                        what,
                        format!("see what it is ({SEE}), bring what matters to the primary, and seed this server anew: replication will stop at it"),
                    ),
                    Harm::Spreads if *name == self.to.name => notes.doubt(
                        name,
                        what,
                        format!("see what it is ({SEE}), and bring what matters to the primary: everybody would get it from here. FLUSH, ANALYZE and the like harm nobody"),
                    ),
                    Harm::Spreads | Harm::Stays => {
                        notes.warn(name, what, format!("see what it is ({SEE}), and whether the primary needs it"));
                    }
                }
            }
        }
        Ok(notes.findings)
    }
}
