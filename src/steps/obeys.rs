//! Whom the minion of a host obeys: every master of a list at once, so that one that is silent strands nobody.

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::Call;
use crate::site::States;
use crate::step::{Earlier, Seen, Step, Undo};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Seconds within which a minion says whom it obeys.
const SECONDS: u64 = 5;
/// Between two questions to a minion that restarts.
const TICK: Duration = Duration::from_millis(200);

/// The masters with which the minion that runs was started, where they were told by us.
pub struct Obeys {
    /// What writes them down, and restarts the minion.
    pub states: States,
    pub masters: Vec<String>,
    /// How it is restarted; nothing means as its unit is.
    pub restart: Option<String>,
    pub limit_ms: u64,
}

impl Obeys {
    /// Asks the minion itself: a file says nothing of a minion that did not read it.
    async fn obeyed(&self) -> Result<Vec<String>> {
        let hosts = [self.states.host.clone()];
        let call = Call::new("config.get", json!({"key": "migrate_masters"}));
        let said = self.states.outside.call_some(&hosts, vec![call], SECONDS).await?;
        let masters = said.get(&self.states.host).and_then(|said| said.first()?.as_ref().ok().cloned());
        // Whoever is silent, or was told by somebody else, obeys nobody that we know of.
        Ok(masters.and_then(|masters| serde_json::from_value(masters).ok()).unwrap_or_default())
    }

    fn pillar(&self) -> Value {
        let mut told = json!({"masters": self.masters});
        if let Some(restart) = &self.restart {
            told["restart"] = json!(restart);
        }
        json!({"saltext_migrate": told})
    }
}

impl Step for Obeys {
    type Fact = Vec<String>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Vec<String>, ()>> {
        Ok(Seen { fact: self.obeyed().await?, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Vec<String>> {
        Ok(self.masters.clone())
    }

    async fn set(&self, permit: &Permit, to: &Vec<String>, _earlier: &Earlier) -> Result<Seen<Vec<String>, ()>> {
        let until = Instant::now() + Duration::from_millis(self.limit_ms);
        match self.states.apply(permit, &self.pillar()).await {
            // It may have restarted before its answer was sent.
            Err(Error::Remote { problem, .. }) if problem.starts_with("did not answer") => {}
            other => {
                other?;
            }
        }
        loop {
            if self.obeyed().await? == *to {
                return self.observe().await;
            }
            if Instant::now() >= until {
                let what = format!("{}: its minion, to obey {}", self.states.host, to.join(", "));
                return Err(Error::Deadline { what, limit_ms: self.limit_ms });
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn undo(&self) -> Undo<Vec<String>> {
        Undo::Leave("a minion that obeys two masters is stranded by neither")
    }
}
