//! Whether the target has, right now, what the source wrote up to a moment ago.

use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// How often the target catches up before the fence: the last time it has almost nothing left to do.
const ROUNDS: usize = 3;

/// `true` once the target was seen right behind the source, so that nobody waits for a backlog behind a fence.
pub struct CaughtUp {
    pub source: Rc<Server>,
    pub target: Rc<Server>,
    pub limit_ms: u64,
}

impl Step for CaughtUp {
    type Fact = bool;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<bool, ()>> {
        Ok(Seen { fact: false, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, _permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, ()>> {
        for _ in 0..ROUNDS {
            let position = self.source.binlog_position().await?;
            if !self.target.has(&position, self.limit_ms).await? {
                let what = format!("{}: catching up with {} before the fence", self.target.name, self.source.name);
                return Err(Error::Deadline { what, limit_ms: self.limit_ms });
            }
        }
        Ok(Seen { fact: *to, evidence: () })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("it only looked")
    }
}
