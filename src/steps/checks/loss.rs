//! Whether going back without the new primary is what somebody means: it may be alive, and what it took is lost.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// The topic's name, by which its one forceable finding is found.
pub const TOPIC: &str = "loss";

/// A primary that is to be given up, and what was said about it.
pub struct LossAccepted {
    pub given_up: Rc<Server>,
    pub server: Rc<Server>,
    /// The position behind which everything is lost, as somebody typed it.
    pub accepted: String,
    /// The server that somebody says is off.
    pub off: String,
}

impl Topic for LossAccepted {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new(TOPIC);
        let (lost, kept) = (&self.given_up.name, &self.server.name);
        let status = match self.server.status().await {
            Ok(status) => status,
            Err(error) => {
                notes.block(kept, error.to_string(), "bring it back: it is all that there would be");
                return Ok(notes.findings);
            }
        };
        if !status.read_only {
            notes.block(kept, "it accepts writes already", "salt-run migrate.status");
            return Ok(notes.findings);
        }
        match self.given_up.status().await {
            Ok(theirs) if !theirs.read_only => {
                notes.block(lost, "it answers and accepts writes", "salt-run migrate.revert: it loses nothing");
                return Ok(notes.findings);
            }
            Ok(theirs) => notes.warn(
                lost,
                format!("it answers, is closed, and holds everything up to {}", theirs.position),
                "consider opening it again instead, by the break-glass page: that loses nothing",
            ),
            Err(error) if self.off != *lost => notes.block(
                lost,
                format!("{error}; it may be alive all the same, and accept writes from people who reach it"),
                format!("make sure that it is off (power, console), and say so: is_off={lost}"),
            ),
            Err(_) => {
                // What a server keeps itself stands above its files.
                let itself = self.server.dialect().await?.keeps_its_role();
                let closed = if itself { "no network" } else { "read_only=1 in its role file, or no network" };
                notes.warn(
                    lost,
                    "it does not answer, and somebody says that it is off; it would come back open to writes",
                    format!("before it is started again: {closed}; then seed it from {kept}"),
                );
            }
        }
        let received = self.server.received().await?;
        if self.accepted.replace(' ', "") == received {
            notes.doubt(
                lost,
                format!("whatever it acknowledged after {received} is lost: {kept} never received it"),
                format!("bring {lost} back, and lose nothing"),
            );
        } else {
            notes.block(
                lost,
                format!("accept_loss is {:?}, and the last that {kept} received is {received}", self.accepted),
                format!("if what {lost} acknowledged after that may be lost: accept_loss={received}"),
            );
        }
        if status.event_scheduler != "ON" {
            notes.warn(
                kept,
                format!("its event scheduler is {}", status.event_scheduler),
                "SET GLOBAL event_scheduler=ON afterwards, if its events shall run there",
            );
        }
        Ok(notes.findings)
    }
}
