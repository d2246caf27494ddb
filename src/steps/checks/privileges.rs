//! Who could write past the fence, and whether we may let it fall.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// The accounts of both primaries.
pub struct Privileges {
    pub primaries: Vec<Rc<Server>>,
    /// Account names that may have the right: the tool's own, and those the pillar names.
    pub known: Vec<String>,
    /// The tool's own account.
    pub admin: String,
}

impl Topic for Privileges {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("privileges");
        for server in &self.primaries {
            let not_allowed = server.not_allowed().await?.join(", ");
            if !not_allowed.is_empty() {
                // Found now, for the fence would find it behind the notice.
                let mend = format!("GRANT {not_allowed} ON *.* TO it; docs/what-it-needs.md has all of its grants");
                notes.doubt(&server.name, format!("{} has not {not_allowed}", self.admin), mend);
            }
            let connected = server.connected().await?;
            let accounts = server.may_bypass_fence().await?;
            let procedures = server.bypassing_procedures(&accounts).await?;
            if !procedures.is_empty() {
                notes.doubt(
                    &server.name,
                    format!("whoever may call them writes past the fence: {}", procedures.join(", ")),
                    "ALTER PROCEDURE … SQL SECURITY INVOKER, or give them a definer without READ_ONLY ADMIN",
                );
            }
            for account in accounts {
                let user = account.split('@').next().unwrap_or_default();
                if !self.known.iter().any(|known| known == user) {
                    let mend = format!(
                        "REVOKE READ_ONLY ADMIN, SUPER ON *.* FROM it and let its sessions reconnect, or name {user} in migrate:databases:may_bypass_fence"
                    );
                    notes.doubt(&server.name, format!("{account} can write past the fence"), mend);
                } else if let Some(connections) = connected.get(user) {
                    // It is known to be quiet; that it is there while the fence falls should still be known.
                    let what = format!("{user} can write past the fence, and has {connections} connections open");
                    notes.warn(
                        &server.name,
                        what,
                        "see that none of them writes: heartbeats, monitoring, a forgotten client",
                    );
                }
            }
        }
        Ok(notes.findings)
    }
}
