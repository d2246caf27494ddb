//! Whether the data of both primaries was compared lately, and was the same.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::proof::Proof;
use crate::steps::checksum_subject;
use serde_json::Value;
use std::path::PathBuf;

/// How many differences are shown one by one.
const SHOWN: usize = 5;

/// The record of a comparison.
pub struct DataCompared {
    pub source: String,
    pub replica: String,
    pub state_dir: PathBuf,
    pub hours: f64,
    /// Stands for the two servers.
    pub hash: String,
}

impl Topic for DataCompared {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("data");
        let compare = format!("salt-run migrate.checksum {} {}", self.source, self.replica);
        let pair = format!("{} and {}", self.source, self.replica);
        let Some(proof) = Proof::read(&self.state_dir, &checksum_subject(&self.source, &self.replica))? else {
            notes.doubt(&self.replica, format!("the data of {pair} was never compared whole"), compare);
            return Ok(notes.findings);
        };
        if proof.hash != self.hash {
            let found = format!("the data of {pair} was compared when one of them was another server");
            notes.doubt(&self.replica, found, &compare);
        }
        if !proof.fresh(self.hours) {
            let found = format!(
                "the data of {pair} was compared {:.0} hours ago; {} is the limit",
                proof.age() / 3600.0,
                self.hours
            );
            notes.doubt(&self.replica, found, &compare);
        }
        let differences = proof.evidence["differences"].as_array().map(Vec::as_slice).unwrap_or_default();
        let word = |found: &Value, key: &str| found[key].as_str().unwrap_or_default().to_owned();
        for found in differences.iter().take(SHOWN) {
            let what = format!("{}: {} at {}", word(found, "table"), word(found, "what"), word(found, "place"));
            notes.block(
                &self.replica,
                what,
                format!("seed {} anew, or mend the rows there; then {compare}", self.replica),
            );
        }
        for (table, why) in proof.evidence["left_out"].as_object().into_iter().flatten() {
            let why = why.as_str().unwrap_or_default();
            notes.warn(&self.replica, format!("{table} was not compared: {why}"), "compare it by hand, or convert it");
        }
        if differences.len() > SHOWN {
            let more = format!("{} further differences of the data of {pair}", differences.len() - SHOWN);
            notes.block(&self.replica, more, &compare);
        }
        Ok(notes.findings)
    }
}
