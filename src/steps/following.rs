//! Whom a server follows.

use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// A server's source, as `address:port`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Following {
    pub source: Option<String>,
    /// Whether both replication threads run.
    pub running: bool,
}

/// The source a server has, and the one it should have.
pub struct Follow {
    pub server: Rc<Server>,
    pub source: Option<Rc<Server>>,
    /// Every server it may ever be pointed to.
    pub known: Vec<Rc<Server>>,
    /// The primary that took over from it; such a server may have written what replication did not bring.
    pub successor: Option<Rc<Server>>,
    /// Why an abort leaves it where it is; else it follows again whom it followed.
    pub left: Option<&'static str>,
}

impl Step for Follow {
    type Fact = Following;
    /// Its position.
    type Evidence = String;

    async fn observe(&self) -> Result<Seen<Following, String>> {
        let status = self.server.status().await?;
        let running = status.channel.as_ref().is_some_and(|channel| channel.applying && channel.receiving != "No");
        let fact = Following { source: status.channel.map(|channel| channel.source), running };
        Ok(Seen { fact, evidence: status.position })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Following> {
        let source = self.source.as_ref().map(|source| source.place());
        Ok(Following { running: source.is_some(), source })
    }

    async fn set(&self, permit: &Permit, to: &Following, _earlier: &Earlier) -> Result<Seen<Following, String>> {
        match &to.source {
            None => self.server.unfollow(permit).await?,
            Some(place) => {
                let source = self.known.iter().find(|server| server.place() == *place).ok_or_else(|| {
                    Error::remote(&self.server.name, format!("it followed {place}, which the pillar does not name"))
                })?;
                if let Some(successor) = &self.successor {
                    self.server.not_apart(successor).await?;
                }
                self.server.follow(permit, source, self.successor.is_some()).await?;
                // Somebody had stopped it before it was pointed elsewhere.
                if !to.running {
                    self.server.rest(permit).await?;
                }
            }
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<Following> {
        self.left.map_or(Undo::Restore, Undo::Leave)
    }

    fn rebooted(&self, found: &Following, _old: &Following, new: &Following) -> bool {
        // Its own files may tell a server not to replicate at boot.
        !found.running && found.source == new.source
    }

    fn half_done(&self, found: &Following, old: &Following, new: &Following) -> bool {
        // Before it is pointed anywhere it is stopped, so that its position stands; and started, then stopped where it was.
        found.source == old.source || found.source == new.source
    }
}
