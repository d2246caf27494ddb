//! The commands at the CDN alone: copies, staging ahead of the day, how every service stands.

use crate::edge::Fastly;
use crate::engine::Report;
use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::phases::{self, Phase};
use crate::settings::Settings;
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

/// Runs one of them: `plan`, `apply` or `status`.
pub async fn run(verb: &str, settings: &Settings, arguments: &Value, outside: &Outside) -> Result<Value> {
    let only = arguments.get("service").and_then(Value::as_str);
    let phase = || Phase::named(arguments.get("phase").and_then(Value::as_str).unwrap_or_default());
    match verb {
        "plan" => {
            let plan = phases::plan_edge(phase()?, settings, outside, only).await?;
            Ok(json!({"phase": plan.phase, "changes": plan.changes, "findings": plan.findings,
                      "unchanged": plan.unchanged, "refused": plan.refused()}))
        }
        "apply" => Ok(told(phases::apply_edge(phase()?, settings, outside, only).await?)),
        _ => status(settings, only).await,
    }
}

/// Tells what a run at the CDN did.
pub fn told(report: Report) -> Value {
    let error = report.error.as_ref();
    json!({
        "verdict": report.verdict,
        "run": report.run,
        "phase": report.phase,
        "changes": report.changes,
        "findings": report.findings,
        "seen": report.evidence,
        "error": error.map(|error| json!({"kind": error.kind(), "message": error.to_string(), "hint": error.hint()})),
    })
}

/// Shows how services stand: the active version, where its backends point, our drafts, the copies.
async fn status(settings: &Settings, only: Option<&str>) -> Result<Value> {
    let edge = settings.edge.as_ref().ok_or_else(|| Error::NotYet("a CDN in migrate:edge".into()))?;
    let fastly = Fastly::new(edge)?;
    let copies = fastly.copies(None).await?;
    let chosen = edge.services.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    let shown = chosen.map(async |(name, service)| -> Result<(String, Value)> {
        let active = fastly.active(&service.id).await?;
        let ours = fastly.versions(&service.id).await?.into_iter().filter(|version| !version.active);
        let ours: Vec<Value> = ours
            .filter(|version| version.comment.starts_with("saltext-migrate: "))
            .map(|version| {
                json!({"version": version.number, "locked": version.locked, "staging": version.staging,
                                  "comment": version.comment})
            })
            .collect();
        let twins: Vec<Value> = copies
            .iter()
            .filter(|copy| copy.source == service.id)
            .map(|copy| json!({"id": copy.id, "name": copy.name, "version": copy.active}))
            .collect();
        let value = json!({"id": service.id, "version": active.as_ref().map(|active| active.number),
                           "backends": active.map(|active| active.backends), "ours": ours, "copies": twins});
        Ok((name.clone(), value))
    });
    Ok(Value::Object(try_join_all(shown).await?.into_iter().collect::<Map<String, Value>>()))
}
