//! What is under way on the primary that a fence would wait for, or cut; and who reads its binlog, and is left behind.

use super::testing::readers;
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
    pub to: Rc<Server>,
    pub servers: Vec<Rc<Server>>,
    /// The servers' own account: it may read the binlog without a word.
    pub replication: String,
}

/// Says for how long semi-synchronous replication may hold a commit up.
async fn semi_sync(notes: &mut Notes, server: &Server, why: &str) -> Result<()> {
    for &(enabled, timeout) in server.dialect().await?.words().semi_sync {
        let variables = server.variables(&[enabled, timeout]).await?;
        let limit = variables.get(timeout).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        if variables.get(enabled).is_some_and(|on| on == "ON") && limit > 1_000 {
            let what = format!("semi-synchronous replication may hold a commit for {limit} ms, and {why}");
            notes.warn(&server.name, what, format!("SET GLOBAL {timeout}=1000"));
        }
    }
    Ok(())
}

impl Topic for Workload {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("workload");
        for work in self.from.long_work(LONG).await? {
            notes.warn(&self.from.name, work, "let it finish or end it: the fence waits for a statement, and a transaction that is open then is refused");
        }
        for work in self.to.long_work(LONG).await.unwrap_or_default() {
            notes.warn(&self.to.name, work, "let it finish or end it: what it holds, replication may have to wait for");
        }
        semi_sync(&mut notes, &self.from, "the fence waits for commits").await?;
        semi_sync(
            &mut notes,
            &self.to,
            "the first writes after the flip would wait for a replica that has to connect first",
        )
        .await?;
        // Such a tool looks in for a moment only, so that its account is enough.
        let connected = self.from.connected().await?;
        for account in self.from.account_names().await? {
            if OTHER_TOOLS.iter().any(|tool| account.to_lowercase().contains(tool)) {
                let how = if connected.contains_key(&account) { "is connected" } else { "has an account" };
                let what = format!("{account} {how}: a tool that may move the primary by itself");
                notes.warn(&self.from.name, what, "pause it until the soak is over");
            }
        }
        readers(&mut notes, &self.from, &self.replication).await?;
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
