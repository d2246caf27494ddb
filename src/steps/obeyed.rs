//! Whether a second master is obeyed: minions answer what it asks them itself.

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::Outside;
use crate::step::{Earlier, Seen, Step, Undo};
use std::time::{Duration, Instant};

/// The minions that do not answer the master on a host; none is what is wanted.
pub struct Obeyed {
    pub outside: Outside,
    /// The host of the master, which has a minion itself.
    pub host: String,
    pub minions: Vec<String>,
    /// How its master asks minions; nothing means by its usual command.
    pub ask: Option<String>,
    pub limit_ms: u64,
}

impl Obeyed {
    async fn silent(&self) -> Result<Vec<String>> {
        let heard = self.outside.heard(&self.host, &self.minions, self.ask.as_deref()).await?;
        Ok(self.minions.iter().filter(|minion| !heard.contains(minion)).cloned().collect())
    }
}

impl Step for Obeyed {
    type Fact = Vec<String>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Vec<String>, ()>> {
        Ok(Seen { fact: self.silent().await?, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn set(&self, _permit: &Permit, to: &Vec<String>, _earlier: &Earlier) -> Result<Seen<Vec<String>, ()>> {
        let until = Instant::now() + Duration::from_millis(self.limit_ms);
        loop {
            // Each question waits for its answers.
            let silent = self.silent().await?;
            if silent.is_empty() {
                return Ok(Seen { fact: to.clone(), evidence: () });
            }
            if Instant::now() >= until {
                let problem = format!(
                    "its master is not answered by {}: minions keep one key for all masters, so both must have the same; \
                     and they must reach it",
                    silent.join(", ")
                );
                return Err(Error::remote(&self.host, problem));
            }
        }
    }

    fn half_done(&self, _found: &Vec<String>, _old: &Vec<String>, _new: &Vec<String>) -> bool {
        // Some came, and the others are on their way.
        true
    }

    fn undo(&self) -> Undo<Vec<String>> {
        Undo::Keep("a master that is obeyed asks nothing of anybody by itself")
    }
}
