//! Whether the target has, right now, what the source wrote up to a moment ago.

use super::deed::Deed;
use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::Earlier;
use std::rc::Rc;

/// How often the target catches up, before a fence or after a copy: the last time it has almost nothing left to do.
const ROUNDS: usize = 3;
/// How long it is waited for in one go, in milliseconds: then the target is asked whether it still goes on.
const PIECE_MS: u64 = 4_000;

/// `true` once the target was seen right behind the source, so that nobody waits for a backlog behind a fence.
pub struct CaughtUp {
    pub source: Rc<Server>,
    pub target: Rc<Server>,
    pub limit_ms: u64,
}

impl Deed for CaughtUp {
    type Evidence = ();

    const KEPT: &'static str = "it only looked";

    async fn carry_out(&self, _permit: &Permit, _earlier: &Earlier) -> Result<()> {
        for _ in 0..ROUNDS {
            let position = self.source.binlog_position().await?;
            let mut left = self.limit_ms;
            while !self.target.has(&position, left.min(PIECE_MS)).await? {
                left = left.saturating_sub(PIECE_MS);
                let what = format!("{}: catching up with {}", self.target.name, self.source.name);
                if left == 0 {
                    return Err(Error::Deadline { what, limit_ms: self.limit_ms });
                }
                if let Some(channel) = self.target.status().await?.channel
                    && !channel.error.is_empty()
                {
                    return Err(Error::remote(&self.target.name, format!("its replication stands: {}", channel.error)));
                }
            }
        }
        Ok(())
    }
}
