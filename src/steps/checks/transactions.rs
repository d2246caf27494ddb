//! Whether every transaction of every server came from the primary.

use super::{Notes, Topic};
use crate::database::Server;
use crate::database::gtid::errant;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// The binlog states of all servers against that of the one that writes.
pub struct Transactions {
    pub servers: Vec<Rc<Server>>,
    pub from: Rc<Server>,
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
            states.push((&server.name, status.binlog_state));
        }
        let Ok(primary) = self.from.status().await else { return Ok(notes.findings) };
        for (name, state) in states {
            for found in errant(&state, &primary.binlog_state, primary.server_id)? {
                let what = format!("transaction {} is not on {}", found.gtid, self.from.name);
                if found.gtid.domain == self.quarantine_domain {
                    let mend = "see what it is (mysqlbinlog --gtid-start-pos); it stands in a domain of its own, where it harms nothing";
                    notes.warn(name, what, mend);
                } else if found.ahead {
                    let mend = "see what it is (mysqlbinlog --gtid-start-pos), bring what matters to the primary, and seed this server anew: replication will stop at it";
                    notes.doubt(name, what, mend);
                } else {
                    notes.warn(
                        name,
                        what,
                        "see what it is (mysqlbinlog --gtid-start-pos), and whether the primary needs it",
                    );
                }
            }
        }
        Ok(notes.findings)
    }
}
