//! Who must say go before the site is moved, and before the old side is taken down.
//!
//! Invariant: no role stands twice at one gate.

use super::Settings;
use super::check::wrong;
use crate::error::Result;
use serde::Deserialize;

/// The value of `migrate:signoff`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signoff {
    /// Roles that must sign before a flip.
    pub flip: Vec<String>,
    /// Roles that must sign before clean-up.
    pub cleanup: Vec<String>,
    /// For how many hours a sign-off holds.
    pub hours: f64,
}

impl Default for Signoff {
    fn default() -> Self {
        Self { flip: Vec::new(), cleanup: Vec::new(), hours: 72.0 }
    }
}

impl Signoff {
    /// Lists the roles of a gate; nothing where the gate has no name of ours.
    pub fn roles(&self, gate: &str) -> Option<&[String]> {
        match gate {
            "flip" => Some(&self.flip),
            "cleanup" => Some(&self.cleanup),
            _ => None,
        }
    }
}

pub(super) fn consistent(settings: &Settings) -> Result<()> {
    let signoff = &settings.signoff;
    if !(signoff.hours > 0.0 && signoff.hours.is_finite()) {
        let hint = "72 lets people sign on Friday for Sunday night";
        return Err(wrong("signoff:hours", &signoff.hours.to_string(), "hours, more than 0", hint));
    }
    for (gate, roles) in [("flip", &signoff.flip), ("cleanup", &signoff.cleanup)] {
        for (number, role) in roles.iter().enumerate() {
            let path = format!("signoff:{gate}:{number}");
            if role.trim().is_empty() {
                return Err(wrong(&path, "an empty name", "the name of a role", "for example operations"));
            }
            if roles.iter().take(number).any(|before| before == role) {
                return Err(wrong(&path, role, "a role that stands once", "one person signs for one role"));
            }
        }
    }
    Ok(())
}
