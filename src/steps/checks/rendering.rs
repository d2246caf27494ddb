//! Whether the site's own states render, and would do anything, on hosts of the old side: a dry run.

use super::{Notes, Topic};
use crate::error::{Error, Result};
use crate::event::Finding;
use crate::site::States;
use serde_json::Value;

/// The hosts whose states are run without doing anything.
pub struct Rendering {
    pub hosts: Vec<States>,
}

/// So many states are named in a finding.
const NAMED: usize = 5;

impl Topic for Rendering {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("states");
        for states in &self.hosts {
            match states.amiss(&Value::Null).await {
                Ok(amiss) if amiss.is_empty() => {}
                Ok(amiss) => {
                    let named: Vec<&str> = amiss.keys().take(NAMED).map(String::as_str).collect();
                    let found = format!("{} states would change something, or fail: {}", amiss.len(), named.join(", "));
                    notes.warn(
                        &states.host,
                        found,
                        "bring them into line: what is not so on the old side will not be so on the new",
                    );
                }
                // It blocks until somebody who knows better says why: the new side is made by these states.
                Err(Error::Remote { problem, .. }) => {
                    notes.doubt(&states.host, problem, "correct the states or the pillar, or start the minion")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(notes.findings)
    }
}
