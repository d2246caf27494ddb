//! What is under way on the primary that a fence would wait for, or cut.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

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
        for server in &self.servers {
            for transaction in server.prepared_transactions().await? {
                notes.block(
                    &server.name,
                    format!("a prepared XA transaction: {transaction}"),
                    "XA COMMIT or XA ROLLBACK it: it would keep its locks on the other side",
                );
            }
        }
        Ok(notes.findings)
    }
}
