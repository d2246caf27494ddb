//! Whether the chain was just timed: markers from the source to the target.

use super::deed::Deed;
use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::Earlier;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Duration;

/// How many markers are sent; the median counts.
const MARKERS: u64 = 9;

/// What the markers showed, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// From the controller to the source and back.
    pub round_trip_ms: f64,
    /// Median from a marker's commit on the source to its arrival on the target.
    pub floor_ms: f64,
    /// Median from the source's answer to the target's: what a fence and a promotion will take.
    pub predicted_ms: f64,
}

/// `true` once markers have crossed the chain within the limit.
pub struct MarkerTrial {
    pub source: Rc<Server>,
    pub target: Rc<Server>,
    pub limit_ms: u64,
}

impl Deed for MarkerTrial {
    type Evidence = Timing;

    const KEPT: &'static str = "markers are rows of our own table";

    async fn carry_out(&self, _permit: &Permit, _earlier: &Earlier) -> Result<Timing> {
        // The connections that will count are opened now.
        self.source.warm().await?;
        self.target.warm().await?;
        let (mut trips, mut floors, mut predictions) = (Vec::new(), Vec::new(), Vec::new());
        for seq in 0..MARKERS {
            let trip = self.source.round_trip().await?;
            let marked = self.source.mark(seq).await?;
            if !self.target.has(&marked.position, self.limit_ms).await? {
                let what =
                    format!("a marker from {} to {}: replication lags or stands", self.source.name, self.target.name);
                return Err(Error::Deadline { what, limit_ms: self.limit_ms });
            }
            let whole = marked.sent.elapsed();
            trips.push(trip);
            floors.push(whole.saturating_sub(trip / 2));
            predictions.push(whole.saturating_sub(marked.answered));
        }
        let evidence =
            Timing { round_trip_ms: median(trips), floor_ms: median(floors), predicted_ms: median(predictions) };
        Ok(evidence)
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}
