//! The gates of people: what they sign, and the check that asks for it.
//!
//! Invariant: what is signed is the phase's graph as it is built for the phase itself, so that nobody signs another plan.

use super::Phase;
use crate::engine::{Graph, Role};
use crate::error::{Error, Result};
use crate::event;
use crate::journal::{Lock, Outcome, runs};
use crate::outside::Outside;
use crate::proof::Proof;
use crate::settings::Settings;
use crate::steps::checks::{Check, NobodySigns, Signed, SignedOff, signed, subject};
use serde::Serialize;
use std::rc::Rc;

/// How one role stands at a gate.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    pub role: String,
    pub who: Option<String>,
    pub note: Option<String>,
    /// Seconds since the Unix epoch.
    pub at: Option<f64>,
    pub until: Option<f64>,
    /// Why it does not hold; nothing where it does.
    pub missing: Option<String>,
}

/// Names the last run that moved the site, one way or the other.
///
/// # Errors
/// [`Error::Journal`] where the journals cannot be read.
pub fn last_move(settings: &Settings) -> Result<Option<String>> {
    let moved = |phase: &str| matches!(phase, "flip" | "revert" | super::loss::NAME);
    let last = runs(&settings.state_dir)?
        .into_iter()
        .rev()
        .find(|run| moved(&run.phase) && (run.committed || run.finished == Some(Outcome::Done)));
    Ok(last.map(|run| run.run))
}

/// Adds the gate to a phase's graph; where the pillar names no roles for it, it only says so.
///
/// # Errors
/// [`Error::Journal`] where the journals cannot be read.
pub fn gated(
    mut graph: Graph,
    bare: impl FnOnce() -> Result<Graph>,
    gate: &'static str,
    settings: &Settings,
) -> Result<Graph> {
    let roles = settings.signoff.roles(gate).unwrap_or_default();
    if roles.is_empty() {
        graph.add("check.signoff", Role::Check, Check(NobodySigns(gate)));
    } else {
        let check = check(bare()?, gate, settings)?;
        graph.add("check.signoff", Role::Check, Check(check));
    }
    // Once the site has moved, what is left to do is no question any more.
    if gate == "flip" {
        graph.serve("check.signoff", &[super::ids::FENCE, super::ids::PROMOTION]);
    }
    graph.checked()
}

fn check(graph: Graph, gate: &'static str, settings: &Settings) -> Result<SignedOff> {
    Ok(SignedOff {
        state_dir: settings.state_dir.clone(),
        gate,
        roles: settings.signoff.roles(gate).unwrap_or_default().to_vec(),
        pillar: settings.hash.clone(),
        after: last_move(settings)?,
        graph: Rc::new(graph),
    })
}

/// Writes down that a role says go to what is there now.
///
/// # Errors
/// [`Error::Settings`] where the pillar names no such role, or the sign-off says nothing; whatever hinders looking.
pub async fn give(gate: &str, role: &str, who: &str, note: &str, settings: &Settings, outside: &Outside) -> Result<()> {
    let wrong = |path: &str, found: String, expected: String, hint: &str| {
        Err(Error::Settings { path: path.into(), found, expected, hint: hint.into() })
    };
    let (gate, roles) = gate_of(gate, settings)?;
    if !roles.iter().any(|known| known == role) {
        let expected = if roles.is_empty() {
            format!("a role of migrate:signoff:{gate}, which names none")
        } else {
            format!("one of {}", roles.join(", "))
        };
        return wrong("role", format!("{role:?}"), expected, "the roles stand in the pillar key migrate:signoff");
    }
    if note.trim().is_empty() {
        let hint = "for example note='read 40 pages, all as on the old side'";
        return wrong("note", "nothing".into(), "what was looked at".into(), hint);
    }
    let _lock = Lock::take(&settings.state_dir, "migrate.signoff")?;
    let check = check(bare(gate, settings, outside)?, gate, settings)?;
    let basis = check.basis().await?;
    if settings.compare.is_some() && basis.comparison.is_none() {
        return Err(Error::NotYet("a comparison of old and new to sign: salt-run migrate.compare".into()));
    }
    let until = event::now() + settings.signoff.hours * 3600.0;
    let signed = Signed { role: role.into(), who: who.into(), note: note.trim().into(), until, basis };
    let evidence = serde_json::to_value(&signed).map_err(|error| Error::Journal(error.to_string()))?;
    Proof::new(&subject(gate, role), signed.basis.hash(), evidence).keep(&settings.state_dir)
}

/// Tells how every role of a gate stands.
///
/// # Errors
/// [`Error::Settings`] where there is no such gate; whatever hinders looking.
pub async fn all(gate: &str, settings: &Settings, outside: &Outside) -> Result<Vec<Standing>> {
    let (gate, roles) = gate_of(gate, settings)?;
    if roles.is_empty() {
        return Ok(Vec::new());
    }
    let check = check(bare(gate, settings, outside)?, gate, settings)?;
    let now = check.basis().await?;
    let mut all = Vec::new();
    for role in roles {
        all.push(Standing { missing: check.missing(role, &now)?, ..on_record(gate, role, settings)? });
    }
    Ok(all)
}

/// Tells what is on record of each role at a gate, without a look at the plan.
///
/// # Errors
/// [`Error::Journal`] where a record cannot be read.
pub fn records(gate: &str, settings: &Settings) -> Result<Vec<Standing>> {
    settings.signoff.roles(gate).unwrap_or_default().iter().map(|role| on_record(gate, role, settings)).collect()
}

fn on_record(gate: &str, role: &str, settings: &Settings) -> Result<Standing> {
    let found = signed(&settings.state_dir, gate, role)?;
    let (at, signed) = found.map_or((None, None), |(at, signed)| (Some(at), Some(signed)));
    Ok(Standing {
        role: role.to_owned(),
        at,
        until: signed.as_ref().map(|signed| signed.until),
        who: signed.as_ref().map(|signed| signed.who.clone()),
        note: signed.map(|signed| signed.note),
        missing: None,
    })
}

fn gate_of<'a>(gate: &str, settings: &'a Settings) -> Result<(&'static str, &'a [String])> {
    let gate = match gate {
        "flip" => "flip",
        "cleanup" => "cleanup",
        other => {
            return Err(Error::Settings {
                path: "gate".into(),
                found: format!("{other:?}"),
                expected: "flip or cleanup".into(),
                hint: "a sign-off is for the flip where nothing else is said".into(),
            });
        }
    };
    Ok((gate, settings.signoff.roles(gate).unwrap_or_default()))
}

fn bare(gate: &str, settings: &Settings, outside: &Outside) -> Result<Graph> {
    let phase = if gate == "flip" { Phase::Flip } else { Phase::Cleanup };
    phase.unsigned(settings, &crate::database::Servers::new(settings), outside, true)
}
