//! The commands that are for people: sign-offs, the comparison of old and new, the rehearsal, the announcement.

use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::phases::{self, signoff};
use crate::settings::Settings;
use crate::steps;
use serde_json::{Value, json};

/// Runs one of them; nothing where it is none.
///
/// # Errors
/// Whatever stood in the way.
pub async fn run(command: &str, settings: &Settings, arguments: &Value, outside: &Outside) -> Result<Option<Value>> {
    let text = |key: &str| arguments.get(key).and_then(Value::as_str).unwrap_or_default();
    Ok(Some(match command {
        "signoff" => {
            let gate = if text("gate").is_empty() { "flip" } else { text("gate") };
            if !text("role").is_empty() {
                signoff::give(gate, text("role"), text("who"), text("note"), settings, outside).await?;
            }
            let all = signoff::all(gate, settings, outside).await?;
            let missing: Vec<&str> =
                all.iter().filter(|one| one.missing.is_some()).map(|one| one.role.as_str()).collect();
            json!({"gate": gate, "signoffs": all, "missing": missing})
        }
        "compare" => {
            let seen = steps::compared(settings).await?;
            serde_json::to_value(&seen).map_err(|error| Error::Journal(error.to_string()))?
        }
        "rehearse" => {
            let (report, foretold) = phases::rehearse(settings, outside).await?;
            let mut told = super::edge::told(report);
            told["foretold"] = foretold;
            told
        }
        "announcement" => json!(phases::announcement(settings)?),
        _ => return Ok(None),
    }))
}

/// Lists, for a report, who said go before a phase.
pub fn signed(phase: &str, settings: &Settings) -> Value {
    if !matches!(phase, "flip" | "cleanup") {
        return json!([]);
    }
    let records = signoff::records(phase, settings).unwrap_or_default();
    records
        .iter()
        .filter(|one| one.at.is_some())
        .map(|one| json!({"role": one.role, "who": one.who, "note": one.note, "at": one.at, "until": one.until}))
        .collect()
}
