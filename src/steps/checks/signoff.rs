//! Whether everybody who must say go has said so, and about what is there now.
//!
//! Invariant: a sign-off holds for what was seen when it was given. Whatever of that changes makes it stale, and is named.

use super::{Notes, Topic};
use crate::engine::{self, Graph};
use crate::error::Result;
use crate::event::Finding;
use crate::proof::{Proof, digest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What people sign: everything that they could have looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// Of the pillar, secrets left out.
    pub pillar: String,
    /// Of each fact that the phase would change, by step.
    pub plan: BTreeMap<String, String>,
    /// Of the comparison of old and new; nothing where there was none.
    pub comparison: Option<String>,
    /// The last run that moved the site; nothing where none did.
    pub after: Option<String>,
}

impl Basis {
    /// Hashes the whole.
    pub fn hash(&self) -> String {
        digest(&json!(self))
    }

    /// Names what of it is not as it was.
    fn changes(&self, then: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.after != then.after {
            changes.push(format!(
                "{} moved the site since",
                self.after.as_deref().unwrap_or("a run that is not on record")
            ));
        }
        if self.comparison != then.comparison {
            changes.push("the comparison of old and new shows something else".to_owned());
        }
        let steps: Vec<&str> = self
            .plan
            .keys()
            .chain(then.plan.keys().filter(|step| !self.plan.contains_key(*step)))
            .filter(|step| self.plan.get(*step) != then.plan.get(*step))
            .map(String::as_str)
            .collect();
        if !steps.is_empty() {
            changes.push(format!("the plan changed in {}", steps.join(", ")));
        }
        if self.pillar != then.pillar {
            changes.push("the pillar changed".to_owned());
        }
        changes
    }
}

/// What one role said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signed {
    pub role: String,
    pub who: String,
    pub note: String,
    /// Seconds since the Unix epoch.
    pub until: f64,
    pub basis: Basis,
}

/// The record of a role at a gate.
pub fn subject(gate: &str, role: &str) -> String {
    format!("signoff.{gate}.{role}")
}

/// Reads what a role said, and when; nothing where it said nothing.
///
/// # Errors
/// [`crate::error::Error::Journal`] where the record cannot be read.
pub fn signed(state_dir: &Path, gate: &str, role: &str) -> Result<Option<(f64, Signed)>> {
    let Some(proof) = Proof::read(state_dir, &subject(gate, role))? else { return Ok(None) };
    let signed = serde_json::from_value(proof.evidence)
        .map_err(|error| crate::error::Error::Journal(format!("the sign-off of {role}: {error}")))?;
    Ok(Some((proof.at, signed)))
}

/// A gate, and who must have signed.
pub struct SignedOff {
    pub state_dir: PathBuf,
    pub gate: &'static str,
    pub roles: Vec<String>,
    pub pillar: String,
    pub after: Option<String>,
    /// What is signed: the phase without this check.
    pub graph: Rc<Graph>,
}

impl SignedOff {
    /// Gathers what would be signed now.
    ///
    /// # Errors
    /// Whatever hinders looking.
    pub async fn basis(&self) -> Result<Basis> {
        let facts = engine::facts(&self.graph).await?;
        Ok(Basis {
            pillar: self.pillar.clone(),
            plan: facts.into_iter().map(|(step, fact)| (step, digest(&json!(fact)))).collect(),
            comparison: Proof::read(&self.state_dir, "comparison")?.map(|proof| proof.hash),
            after: self.after.clone(),
        })
    }

    /// Says why a role's sign-off does not hold; nothing where it does.
    ///
    /// # Errors
    /// [`crate::error::Error::Journal`] where the record cannot be read.
    pub fn missing(&self, role: &str, now: &Basis) -> Result<Option<String>> {
        let Some((_, signed)) = signed(&self.state_dir, self.gate, role)? else {
            return Ok(Some("has not signed off".into()));
        };
        if crate::event::now() > signed.until {
            return Ok(Some(format!("the sign-off of {} is no longer valid: its time is over", signed.who)));
        }
        let changes = now.changes(&signed.basis);
        if changes.is_empty() {
            return Ok(None);
        }
        Ok(Some(format!("the sign-off of {} is stale: {}", signed.who, changes.join("; "))))
    }
}

impl Topic for SignedOff {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("signoff");
        let now = self.basis().await?;
        for role in &self.roles {
            if let Some(problem) = self.missing(role, &now)? {
                let gate = if self.gate == "flip" { String::new() } else { format!(" gate={}", self.gate) };
                let mend =
                    format!("look at the plan again, then: salt-run migrate.signoff role={role} note='...'{gate}");
                notes.doubt(role, problem, mend);
            }
        }
        Ok(notes.findings)
    }
}

/// A gate at which nobody is asked: the phase goes without.
pub struct NobodySigns(pub &'static str);

impl Topic for NobodySigns {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("signoff");
        let mend = format!("where people should say go first, name their roles: migrate:signoff:{}", self.0);
        notes.warn(self.0, "nobody is asked: the pillar names no role", mend);
        Ok(notes.findings)
    }
}
