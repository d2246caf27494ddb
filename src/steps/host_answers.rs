//! Whether a host answers, so that it can be told what to do.

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::{Call, Outside};
use crate::step::{Earlier, Seen, Step, Undo};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// `true` once the host answers.
pub struct HostAnswers {
    pub outside: Outside,
    pub host: String,
    pub limit_ms: u64,
}

/// How long one question may take, in seconds.
const SECONDS: u64 = 5;

impl HostAnswers {
    async fn answers(&self) -> Result<bool> {
        let hosts = [self.host.clone()];
        let said = self.outside.call_some(&hosts, vec![Call::new("test.ping", json!({}))], SECONDS).await?;
        Ok(said.get(&self.host).is_some_and(|said| said.first() == Some(&Ok(Value::Bool(true)))))
    }
}

impl Step for HostAnswers {
    type Fact = bool;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<bool, ()>> {
        Ok(Seen { fact: self.answers().await?, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, _permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, ()>> {
        let until = Instant::now() + Duration::from_millis(self.limit_ms);
        while !self.answers().await? {
            if Instant::now() >= until {
                let what = format!("{}: an answer to a ping", self.host);
                return Err(Error::Deadline { what, limit_ms: self.limit_ms });
            }
            // A host that nobody knows yet is answered for at once.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(Seen { fact: *to, evidence: () })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("a host that answers is no change of ours")
    }
}
