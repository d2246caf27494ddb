//! The account's budget of writes, and how long a client may wait for the next.
//!
//! Invariant: only answers to writes tell it, so before the first write nothing is known; nobody guesses.

use crate::error::{Error, Result};
use crate::event::{self, Event, Happening};
use crate::outside::Outside;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// How many writes the account has left, as an answer told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    pub left: u64,
    /// When it is full again, in seconds since the Unix epoch.
    pub resets: u64,
}

impl Quota {
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
        Some(Self { left: number("fastly-ratelimit-remaining")?, resets: number("fastly-ratelimit-reset")? })
    }

    /// Tells whether the hour that it speaks of is still running.
    pub fn holds(&self) -> bool {
        event::now() < seconds(self.resets)
    }
}

/// The leave to wait for the next hour's budget: given to what runs before anybody is bothered, and to nothing else.
#[derive(Clone)]
pub struct Patience {
    pub outside: Outside,
    pub limit: Duration,
}

impl Patience {
    /// Waits until the budget is full again; a signal ends the wait.
    ///
    /// # Errors
    /// [`Error::Deadline`] where that is too far off, [`Error::Interrupted`] on a signal.
    pub(super) async fn wait(&self, run: &str, resets: u64, waited: Duration) -> Result<()> {
        // Their clock and ours differ a little, and the first second is everybody's.
        let wait = Duration::from_secs_f64((seconds(resets) - event::now()).max(0.0) + 1.0);
        if waited + wait > self.limit {
            let what = format!(
                "the account's next writes: none is left, and the budget is full again in {} s",
                wait.as_secs()
            );
            return Err(Error::Deadline { what, limit_ms: u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX) });
        }
        self.outside.tell(Event {
            run: run.to_owned(),
            phase: "edge".into(),
            happening: Happening::Warning,
            step: None,
            at: event::now(),
            milliseconds: None,
            detail: json!(format!("no write is left this hour; going on in {} s", wait.as_secs())),
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            why = self.outside.interrupted() => Err(Error::Interrupted(why)),
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn seconds(moment: u64) -> f64 {
    moment as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn a_budget_is_read_from_both_headers_or_not_at_all() {
        let mut headers = HeaderMap::new();
        headers.insert("fastly-ratelimit-remaining", HeaderValue::from_static("940"));
        assert_eq!(Quota::read(&headers), None);
        headers.insert("fastly-ratelimit-reset", HeaderValue::from_static("1450000000"));
        assert_eq!(Quota::read(&headers), Some(Quota { left: 940, resets: 1_450_000_000 }));
        headers.insert("fastly-ratelimit-reset", HeaderValue::from_static("soon"));
        assert_eq!(Quota::read(&headers), None);
    }
}
