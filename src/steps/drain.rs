//! Whether edits in flight had their time.

use super::deed::Deed;
use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::Earlier;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often the source is looked at while somebody is still at work: it has no wait for that. InnoDB shows its
/// transactions anew only to who has not looked for 100 ms.
const TICK: Duration = Duration::from_millis(120);

/// `true` once the time has passed since the last notice went up, and whoever was at work by then is done, or has had the
/// limit.
pub struct Drain {
    pub source: Rc<Server>,
    /// The nodes that show the notice: only their requests heed it.
    pub nodes: Vec<IpAddr>,
    pub time: Duration,
    pub limit: Duration,
}

/// How the drain went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    pub waited_ms: u64,
    /// How many were still at work when the limit came.
    pub left: u64,
}

impl Deed for Drain {
    type Evidence = Drained;

    const KEPT: &'static str = "time does not come back";

    async fn carry_out(&self, _permit: &Permit, _earlier: &Earlier) -> Result<Drained> {
        let began = Instant::now();
        // Who comes later has seen the notice.
        let last = self.source.last_connection().await?;
        // The one permitted timer: a request that has not asked the database for anything yet is seen nowhere.
        tokio::time::sleep(self.time).await;
        let mut left = self.source.at_work(&self.nodes, last, self.time).await?;
        while left > 0 && began.elapsed() < self.limit {
            tokio::time::sleep(TICK).await;
            left = self.source.at_work(&self.nodes, last, self.time).await?;
        }
        let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Drained { waited_ms, left })
    }
}
