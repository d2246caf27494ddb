//! What is under way on the primary that a fence would wait for, or cut.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// Accounts of tools that move primaries by themselves, by what their names hold.
const OTHER_TOOLS: [&str; 5] = ["orchestrator", "maxscale", "maxmon", "mha", "repman"];

/// Statements and transactions older than this many seconds are named.
const LONG: u64 = 5;

/// The work of the source, and prepared transactions anywhere.
pub struct Workload {
    pub from: Rc<Server>,
    pub servers: Vec<Rc<Server>>,
}

impl Topic for Workload {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("workload");
        for work in self.from.long_work(LONG).await? {
            notes.warn(&self.from.name, work, "let it finish or end it: the fence waits for a statement, and a transaction that is open then is refused");
        }
        let semi_sync = ["rpl_semi_sync_master_enabled", "rpl_semi_sync_master_timeout"];
        let variables = self.from.variables(&semi_sync).await?;
        let timeout = variables.get(semi_sync[1]).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        if variables.get(semi_sync[0]).is_some_and(|on| on == "ON") && timeout > 1_000 {
            let what = format!(
                "semi-synchronous replication may hold a commit for {timeout} ms, and the fence waits for commits"
            );
            notes.warn(&self.from.name, what, format!("SET GLOBAL {}=1000", semi_sync[1]));
        }
        for account in self.from.connected().await?.keys() {
            if OTHER_TOOLS.iter().any(|tool| account.to_lowercase().contains(tool)) {
                let what = format!("{account} is connected: a tool that may move the primary by itself");
                notes.warn(&self.from.name, what, "pause it until the soak is over");
            }
        }
        for server in &self.servers {
            for transaction in server.prepared_transactions().await? {
                notes.doubt(
                    &server.name,
                    format!("a prepared XA transaction: {transaction}"),
                    "XA COMMIT or XA ROLLBACK it: it would keep its locks on the other side",
                );
            }
        }
        Ok(notes.findings)
    }
}
