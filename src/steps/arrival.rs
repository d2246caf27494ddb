//! Whether what the primary now writes arrives everywhere.

use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// `true` once a marker of the primary was seen on every other server.
pub struct Arrival {
    pub primary: Rc<Server>,
    pub others: Vec<Rc<Server>>,
    pub limit_ms: u64,
}

impl Step for Arrival {
    type Fact = bool;
    /// The marker's position.
    type Evidence = String;

    async fn observe(&self) -> Result<Seen<bool, String>> {
        Ok(Seen { fact: false, evidence: String::new() })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, _permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, String>> {
        let marked = self.primary.mark(0).await?;
        for server in &self.others {
            if !server.has(&marked.position, self.limit_ms).await? {
                let what = format!("a marker from {} to {}", self.primary.name, server.name);
                return Err(Error::Deadline { what, limit_ms: self.limit_ms });
            }
        }
        Ok(Seen { fact: *to, evidence: marked.position })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("a marker is a row of our own table")
    }
}
