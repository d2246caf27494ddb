//! The flip's steps at the databases rehearsed on one throw-away replica, which plays both primaries in turn: it takes over
//! as the target does, and is fenced as the source is.
//!
//! Invariant: of production only positions are read. The replica never stops following, writes nothing that replication
//! would carry, and refuses writes in the end, however that comes.

use super::caught_up::CaughtUp;
use super::deed::Deed;
use super::fence::Fence;
use super::promotion::Promotion;
use crate::database::{Fenced, Server};
use crate::error::{Error, Result};
use crate::event;
use crate::journal::Permit;
use crate::step::{Earlier, Step};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Instant;

/// How often the steps are gone through; a single time may be any.
const ROUNDS: usize = 9;

/// `true` once the replica was opened and closed, as often as it takes to know how long that lasts.
pub struct TakenOver {
    /// The primary that serves.
    pub source: Rc<Server>,
    pub replica: Rc<Server>,
    /// How long the replica may need for what the source wrote up to a moment before.
    pub limit_ms: u64,
}

/// How long each step of the window took, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rounds {
    /// Until the replica was right behind the source: a few looks.
    pub caught_up_ms: f64,
    pub fence: Times,
    /// From the source's word of what it wrote until the replica had that and took over: how long both would be closed.
    pub promotion: Times,
}

/// The times of one step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    pub median_ms: f64,
    pub slowest_ms: f64,
}

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        Self { median_ms: at(times.len() / 2), slowest_ms: at(times.len().saturating_sub(1)) }
    }
}

impl Deed for TakenOver {
    type Evidence = Rounds;

    const KEPT: &'static str = "the replica refuses writes again, and follows";

    async fn carry_out(&self, permit: &Permit, earlier: &Earlier) -> Result<Rounds> {
        // The connections that will count are opened now.
        self.replica.warm().await?;
        self.source.round_trip().await?;
        let result = self.rounds(permit, earlier).await;
        let follows = match self.closed_again(permit, result.is_err()).await {
            Ok(follows) => follows,
            Err(open) => {
                let why = result.err().map_or_else(String::new, |error| format!("; it was open because: {error}"));
                let by_hand = self.replica.dialect().await?.words().close_by_hand;
                let found = format!("it may still accept writes ({open}); close it: {by_hand}{why}");
                return Err(Error::remote(&self.replica.name, found));
            }
        };
        let rounds = result?;
        if !follows {
            return Err(Error::remote(&self.replica.name, "its replication stands since the rehearsal"));
        }
        Ok(rounds)
    }
}

impl TakenOver {
    async fn rounds(&self, permit: &Permit, earlier: &Earlier) -> Result<Rounds> {
        const FENCE: &str = "fence";
        const PROMOTION: &str = "promotion";
        let ms = |began: Instant| began.elapsed().as_secs_f64() * 1000.0;
        let began = Instant::now();
        let (source, replica) = (&self.source, &self.replica);
        let behind = CaughtUp { source: source.clone(), target: replica.clone(), limit_ms: self.limit_ms };
        behind.carry_out(permit, earlier).await?;
        let caught_up_ms = ms(began);
        let promotion = Promotion { target: replica.clone(), fence: FENCE.into() };
        let fence = Fence {
            source: replica.clone(),
            target: replica.clone(),
            promotion: PROMOTION.into(),
            announced: String::new(),
            limit_ms: self.limit_ms,
        };
        let (mut fences, mut promotions) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut earlier = earlier.clone();
            let position = source.binlog_position().await?;
            let began = Instant::now();
            let fenced = serde_json::to_value(Fenced { position, seen_at: event::steady() });
            earlier.insert(FENCE, fenced.map_err(|error| Error::Journal(error.to_string()))?);
            promotion.set(permit, &true, &earlier).await?;
            promotions.push(ms(began));
            let began = Instant::now();
            fence.set(permit, &true, &earlier).await?;
            fences.push(ms(began));
        }
        Ok(Rounds { caught_up_ms, fence: Times::of(fences), promotion: Times::of(promotions) })
    }

    /// Sees that the replica refuses writes, and makes it where a round `failed`; tells whether it follows.
    async fn closed_again(&self, permit: &Permit, failed: bool) -> Result<bool> {
        if failed {
            self.replica.close(permit).await?;
        }
        let status = self.replica.status_for_rescue().await?;
        if !status.read_only {
            return Err(Error::remote(&self.replica.name, "it is not read-only"));
        }
        Ok(status.channel.is_some_and(|channel| channel.healthy()))
    }
}
