//! Whether files and packages of a host are as its states say.

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::site::States;
use crate::step::{Earlier, Seen, Step, Undo};
use serde_json::Value;

/// The states of a host that are not as they should be; none is what is wanted.
pub struct Applied {
    pub states: States,
    /// What the states are told beside the host's own pillar.
    pub pillar: Value,
    /// Whether they are run until nothing is left to do, as a whole tree of states is.
    pub until_clean: bool,
}

/// What a host shows that does not answer: it may not be there yet.
const SILENT: &str = "it does not answer";

impl Step for Applied {
    type Fact = Vec<String>;
    /// What was changed.
    type Evidence = Vec<String>;

    async fn observe(&self) -> Result<Seen<Vec<String>, Vec<String>>> {
        let amiss = match self.states.amiss(&self.pillar).await {
            Ok(amiss) => amiss.into_keys().collect(),
            Err(Error::Remote { problem, .. }) if problem.starts_with("did not answer") => vec![SILENT.to_owned()],
            Err(error) => return Err(error),
        };
        Ok(Seen { fact: amiss, evidence: Vec::new() })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn set(&self, permit: &Permit, to: &Vec<String>, _: &Earlier) -> Result<Seen<Vec<String>, Vec<String>>> {
        let first = self.states.apply(permit, &self.pillar).await;
        if !self.until_clean {
            return Ok(Seen { fact: to.clone(), evidence: first? });
        }
        // The first run of a whole tree may fail; the second may not, and must leave nothing to do.
        let second = self.states.apply(permit, &self.pillar).await?;
        let left = self.states.amiss(&self.pillar).await?;
        if !left.is_empty() {
            let names: Vec<String> = left.into_keys().collect();
            let problem =
                format!("states that never come to rest: {}; let each say when it has nothing to do", names.join(", "));
            return Err(Error::remote(&self.states.host, problem));
        }
        Ok(Seen { fact: to.clone(), evidence: first.unwrap_or(second) })
    }

    fn half_done(&self, _found: &Vec<String>, _old: &Vec<String>, _new: &Vec<String>) -> bool {
        // States that ran in part are gone on with.
        true
    }

    fn undo(&self) -> Undo<Vec<String>> {
        Undo::Leave("what a host needs goes on to be used by the next run")
    }
}
