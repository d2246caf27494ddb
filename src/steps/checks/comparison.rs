//! Whether old and new were compared, lately and as the pillar is now, and what differed.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::proof::Proof;
use crate::steps::COMPARISON;
use serde_json::Value;
use std::path::PathBuf;

/// How many differences are shown one by one.
const SHOWN: usize = 10;

/// The record of the comparison.
pub struct ComparisonMade {
    pub state_dir: PathBuf,
    pub valid_hours: f64,
    /// The hash of the pillar.
    pub pillar: String,
}

impl Topic for ComparisonMade {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("comparison");
        let again = "salt-run migrate.compare";
        let Some(proof) = Proof::read(&self.state_dir, COMPARISON)? else {
            notes.doubt("record", "old and new were not compared", again);
            return Ok(notes.findings);
        };
        if !proof.fresh(self.valid_hours) {
            let found = format!("old and new were compared {:.0} hours ago", proof.age() / 3600.0);
            notes.doubt("record", found, again);
        } else if proof.evidence["pillar"].as_str() != Some(&self.pillar) {
            notes.doubt("record", "the pillar changed since old and new were compared", again);
        }
        let differences = proof.evidence.pointer("/seen/differences").and_then(Value::as_array);
        let differences = differences.map(Vec::as_slice).unwrap_or_default();
        let word = |found: &Value, key: &str| found[key].as_str().unwrap_or_default().to_owned();
        for found in differences.iter().take(SHOWN) {
            let what = format!("{}: old {}; new {}", word(found, "what"), word(found, "old"), word(found, "new"));
            notes.doubt(&word(found, "url"), what, format!("mend it, or name it under migrate:compare; then {again}"));
        }
        if differences.len() > SHOWN {
            let more = format!("{} further differences", differences.len() - SHOWN);
            notes.doubt("record", more, format!("{again} shows them all"));
        }
        Ok(notes.findings)
    }
}
