//! The report of a run: stable keys, described by `docs/report.schema.json`.

use crate::database::{Fenced, Promoted, Servers};
use crate::engine::{Report, Verdict};
use crate::error::{Error, Result};
use crate::phases::{KEPT, ids};
use crate::settings::Settings;
use crate::steps::{Inventory, Timing};
use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

/// Writes the report of a run beside its journal and returns it, with what the caller shows.
pub async fn write(settings: &Settings, report: Report) -> Result<Value> {
    let document = document(settings, &report).await;
    if report.verdict != Verdict::Unchanged {
        let folder = settings.state_dir.join("reports");
        let path = folder.join(format!("{}.json", report.run));
        // A report that cannot be written must not turn a finished run into a failed one.
        let written = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).and_then(|()| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(document.to_string().as_bytes())
        });
        if let Err(error) = written {
            log::warn!("the report could not be written to {}: {error}", path.display());
        }
    }
    let error = report.error.as_ref();
    Ok(json!({
        "verdict": report.verdict,
        "run": report.run,
        "phase": report.phase,
        "changes": report.changes,
        "findings": report.findings,
        "left": report.left,
        "error": error.map(|error| json!({"kind": error.kind(), "message": error.to_string(), "hint": error.hint()})),
        "report": document,
    }))
}

/// Reads the last report.
///
/// # Errors
/// [`Error::Journal`] where there is none, or it cannot be read.
pub fn last(settings: &Settings) -> Result<Value> {
    let folder = settings.state_dir.join("reports");
    let newest = fs::read_dir(&folder)
        .ok()
        .and_then(|entries| {
            entries
                .filter_map(std::result::Result::ok)
                .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
        })
        .ok_or_else(|| Error::Journal(format!("no report in {}; every run writes one", folder.display())))?;
    let text = fs::read_to_string(newest.path()).map_err(|error| Error::Journal(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| Error::Journal(format!("{}: {error}", newest.path().display())))
}

async fn document(settings: &Settings, report: &Report) -> Value {
    let fence: Option<Fenced> = evidence(report, ids::FENCE);
    let promotion: Option<Promoted> = evidence(report, ids::PROMOTION);
    let timing: Option<Timing> = evidence(report, ids::CHAIN_TIMED);
    let promoted_here = report.steps.iter().any(|step| step.id == ids::PROMOTION && step.result == "done");
    let window = match (&fence, &promotion) {
        (Some(fence), Some(promotion)) if promoted_here => Some((promotion.seen_at - fence.seen_at) * 1000.0),
        _ => None,
    };
    // A fence of before this machine booted is on another clock.
    let window = window.filter(|window| *window >= 0.0);
    let prepared = report.phase == "prepare";
    let servers = Servers::new(settings);
    // The databases have no part in it, and may not be there yet.
    let asked: &[_] = if prepared { &[] } else { servers.all() };
    let asked = asked.iter().map(|server| async move { (server.name.clone(), server.status().await) });
    let mut versions: Map<String, Value> = join_all(asked)
        .await
        .into_iter()
        .map(|(name, status)| (name, status.map_or(Value::Null, |status| Value::String(status.version))))
        .collect();
    versions.insert("saltext-migrate".into(), env!("CARGO_PKG_VERSION").into());
    let mut document = json!({
        "runs": [{
            "run": report.run,
            "direction": report.phase,
            "result": report.verdict,
            "error": report.error.as_ref().map(ToString::to_string),
            "forced": report.findings.iter().filter_map(|finding| Some((&finding.id, finding.forced.as_ref()?)))
                .map(|(finding, reason)| json!({"finding": finding, "reason": reason})).collect::<Vec<Value>>(),
            "predicted_ms": timing.as_ref().map(|timing| timing.predicted_ms),
            "window_ms": window,
            "floor_ms": timing.as_ref().map(|timing| timing.floor_ms),
            "steps": report.steps,
            "users": Value::Null,
        }],
        "versions": versions,
        "rtt_ms": timing.map(|timing| timing.round_trip_ms),
        "settings_hash": settings.hash,
    });
    let signed = super::people::signed(&report.phase, settings);
    if signed != json!([]) {
        document["runs"][0]["signoffs"] = signed;
    }
    if let Some(inventory) = evidence::<Inventory>(report, KEPT).filter(|_| report.phase == "cleanup") {
        document["runs"][0]["removed"] = report
            .changes
            .iter()
            .filter(|change| !change.guard)
            .map(|change| json!({"step": change.step, "was": change.old, "is": change.new}))
            .collect();
        document["runs"][0]["kept"] = json!(inventory.kept);
        document["runs"][0]["rotate"] = json!(inventory.rotate);
    }
    if !report.left.is_empty() {
        document["runs"][0]["left"] = json!(report.left);
    }
    if prepared {
        document["runs"][0]["servers"] = super::cloud::servers(report);
    }
    document
}

fn evidence<E: DeserializeOwned>(report: &Report, step: &str) -> Option<E> {
    serde_json::from_value(report.evidence.get(step)?.clone()).ok()
}
