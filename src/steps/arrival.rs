//! Whether what the primary now writes arrives everywhere.

use super::deed::Deed;
use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::Earlier;
use std::rc::Rc;

/// `true` once a marker of the primary was seen on every other server.
pub struct Arrival {
    pub primary: Rc<Server>,
    pub others: Vec<Rc<Server>>,
    pub limit_ms: u64,
}

impl Deed for Arrival {
    /// The marker's position.
    type Evidence = String;

    const KEPT: &'static str = "a marker is a row of our own table";

    async fn carry_out(&self, _permit: &Permit, _earlier: &Earlier) -> Result<String> {
        let marked = self.primary.mark(0).await?;
        for server in &self.others {
            if !server.has(&marked.position, self.limit_ms).await? {
                let what = format!("a marker from {} to {}", self.primary.name, server.name);
                return Err(Error::Deadline { what, limit_ms: self.limit_ms });
            }
        }
        Ok(marked.position)
    }
}
