//! How well the migration is while it lasts: how far the replicas are behind, what was proved, what was changed that
//! should stand still, how long the way back is kept, how long certificates hold, how much room the data has.
//!
//! Invariant: it reads only. What cannot be asked is left out here: that a server does not answer is told elsewhere.

use crate::database::{Server, Servers, Status};
use crate::edge::Fastly;
use crate::error::Result;
use crate::event::now;
use crate::journal::{Outcome, RunState, runs};
use crate::outside::Outside;
use crate::phases::{edge::switches, loss, signoff};
use crate::proof::Proof;
use crate::settings::{Settings, Side};
use crate::steps::checks::room_of;
use crate::steps::{COMPARISON, DEFINITIONS, REHEARSAL, checksum_subject};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

/// Gathers it, and adds what is an alarm; `hosts` are asked only where they are given, for one that is gone takes its time.
pub async fn whole(
    settings: &Settings,
    servers: &Servers,
    answers: &BTreeMap<String, Result<Status>>,
    hosts: Option<&Outside>,
    alarms: &mut Vec<String>,
) -> Result<Value> {
    let writable = |server: &Rc<Server>| matches!(answers.get(&server.name), Some(Ok(status)) if !status.read_only);
    let mut open = [Side::Old, Side::New].into_iter().map(|side| servers.primary(side)).filter(writable);
    let primary = open.next().filter(|_| open.next().is_none());
    let mut lag = Value::Null;
    if let Some(primary) = &primary {
        lag = behind(settings, servers, primary, answers, alarms).await;
        still(settings, primary, alarms).await?;
    }
    retention(settings, servers, answers, alarms).await;
    let mut proofs = proofs(settings, alarms)?;
    data(settings, servers, primary.as_ref(), &mut proofs, alarms)?;
    if let (Some(primary), Some(_)) = (&primary, hosts) {
        astray(settings, primary.side, alarms).await;
    }
    let room = match hosts {
        Some(outside) => room(settings, servers, answers, outside, alarms).await,
        None => Value::Null,
    };
    Ok(json!({"lag_ms": lag, "proofs": Value::Object(proofs), "room": room}))
}

/// Names services of the CDN that send people to the side that does not serve: a request that somebody gave up can be
/// carried out late.
async fn astray(settings: &Settings, serving: Side, alarms: &mut Vec<String>) {
    let Some(edge) = &settings.edge else { return };
    let (word, next) =
        if serving == Side::Old { ("new", "salt-run migrate.revert") } else { ("old", "salt-run migrate.flip") };
    // What hinders asking the CDN is told, and hides nothing else.
    let all = Fastly::new(edge).and_then(|fastly| switches(settings, &fastly, serving.other(), None));
    let asked = match all {
        Ok(all) => join_all(all.into_iter().map(async |switch| (switch.name.clone(), switch.astray().await))).await,
        Err(error) => return alarms.push(error.to_string()),
    };
    for (name, found) in asked {
        match found {
            Ok(Some(version)) => {
                alarms.push(format!(
                    "edge.{name}: version {version} serves, and sends people to the {word} side: {next}"
                ));
            }
            Ok(None) => {}
            Err(error) => alarms.push(error.to_string()),
        }
    }
}

/// Shows how much room is left where each server has its data, as far as its host tells.
async fn room(
    settings: &Settings,
    servers: &Servers,
    answers: &BTreeMap<String, Result<Status>>,
    outside: &Outside,
    alarms: &mut Vec<String>,
) -> Value {
    let answering = servers.all().iter().filter(|server| matches!(answers.get(&server.name), Some(Ok(_))));
    let asked: Vec<_> = answering
        .map(|server| {
            let node = settings.node(server.side, &server.node);
            (server.clone(), node.and_then(|node| node.minion.clone()))
        })
        .collect();
    let mut shown = Map::new();
    for (server, disk) in room_of(outside, &asked, settings.notice.host_seconds).await {
        if disk.tight() {
            let found = format!("less than 1 GiB, or than a twentieth, is free on {}, where its data is", disk.mount);
            alarms.push(format!("{}: {found}", server.name));
        }
        let told = json!({"mount": disk.mount, "free_mib": disk.free >> 20, "whole_mib": disk.whole >> 20});
        shown.insert(server.name.clone(), told);
    }
    Value::Object(shown)
}

/// Measures how long each server needs to have what the primary had when it was asked: the whole chain, end to end. The
/// primary's own position is the marker: a row of ours would measure the same, and this looks every few seconds, and writes nothing.
async fn behind(
    settings: &Settings,
    servers: &Servers,
    primary: &Rc<Server>,
    answers: &BTreeMap<String, Result<Status>>,
    alarms: &mut Vec<String>,
) -> Value {
    let Ok(position) = primary.binlog_position().await else { return Value::Null };
    let limit = settings.databases.max_lag;
    // One that follows nobody, or whose channel stands, is told by that.
    let follows = |server: &&Rc<Server>| {
        let channel = answers.get(&server.name).and_then(|answer| answer.as_ref().ok()?.channel.as_ref());
        server.name != primary.name && channel.is_some_and(crate::database::Channel::healthy)
    };
    let asked = servers.all().iter().filter(follows).map(|server| async {
        let began = Instant::now();
        let has = server.has(&position, limit).await;
        (server.name.clone(), has, began.elapsed().as_secs_f64() * 1000.0)
    });
    let mut lag = Map::new();
    for (name, has, ms) in join_all(asked).await {
        match has {
            Ok(true) => {
                lag.insert(name, json!((ms * 10.0).round() / 10.0));
            }
            Ok(false) => {
                alarms.push(format!("{name}: it is more than {limit} ms behind {}", primary.name));
                lag.insert(name, Value::Null);
            }
            Err(_) => {}
        }
    }
    Value::Object(lag)
}

/// Names tables that are not as they were when everything was to stand still.
async fn still(settings: &Settings, primary: &Rc<Server>, alarms: &mut Vec<String>) -> Result<()> {
    if settings.freeze.is_none() || !frozen(&runs(&settings.state_dir)?) {
        return Ok(());
    }
    let Some(proof) = Proof::read(&settings.state_dir, DEFINITIONS)? else { return Ok(()) };
    let Ok(then) = serde_json::from_value::<BTreeMap<String, String>>(proof.evidence) else { return Ok(()) };
    let Ok(now) = primary.definitions().await else { return Ok(()) };
    let changed: Vec<&str> = then
        .keys()
        .chain(now.keys().filter(|table| !then.contains_key(*table)))
        .filter(|table| then.get(*table) != now.get(*table))
        .map(String::as_str)
        .collect();
    if !changed.is_empty() {
        alarms.push(format!("{}: tables were changed that should stand still: {}", primary.name, changed.join(", ")));
    }
    Ok(())
}

/// Tells whether the site stands between a flip and its revert or clean-up.
fn frozen(runs: &[RunState]) -> bool {
    let last = runs.iter().rev().find(|run| {
        matches!(run.phase.as_str(), "flip" | "revert" | loss::NAME | "cleanup")
            && !matches!(run.finished, Some(Outcome::Aborted | Outcome::Stopped))
    });
    last.is_some_and(|run| run.phase == "flip")
}

async fn retention(
    settings: &Settings,
    servers: &Servers,
    answers: &BTreeMap<String, Result<Status>>,
    alarms: &mut Vec<String>,
) {
    const KEPT: &str = "binlog_expire_logs_seconds";
    let wanted = settings.databases.soak_hours * 3600;
    for server in [Side::Old, Side::New].map(|side| servers.primary(side)) {
        if !matches!(answers.get(&server.name), Some(Ok(_))) {
            continue;
        }
        let Ok(told) = server.variables(&[KEPT]).await else { continue };
        let kept = told.get(KEPT).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        if kept > 0 && kept < wanted {
            alarms.push(format!(
                "{}: {KEPT} is {kept}, and the soak takes {wanted}: the way back would break",
                server.name
            ));
        }
    }
}

fn proofs(settings: &Settings, alarms: &mut Vec<String>) -> Result<Map<String, Value>> {
    let mut shown = Map::new();
    for subject in [COMPARISON, REHEARSAL, "last-backup"] {
        if let Some(proof) = Proof::read(&settings.state_dir, subject)? {
            shown
                .insert(subject.to_owned(), json!({"at": proof.at, "hours_ago": (proof.age() / 360.0).round() / 10.0}));
        }
    }
    if let Some(proof) = Proof::read(&settings.state_dir, REHEARSAL)? {
        shown[REHEARSAL]["foretold"] = proof.evidence["foretold"].clone();
    }
    if let Some(proof) = Proof::read(&settings.state_dir, COMPARISON)? {
        let differences = proof.evidence.pointer("/seen/differences").and_then(Value::as_array).map_or(0, Vec::len);
        shown[COMPARISON]["differences"] = json!(differences);
        let days = proof.evidence.pointer("/seen/certificate_days").and_then(Value::as_object);
        let wanted = settings.compare.as_ref().map_or(14.0, |compare| compare.certificate_days);
        for (service, days) in days.into_iter().flatten() {
            let left = days.as_f64().unwrap_or(f64::MAX) - (now() - proof.at) / 86_400.0;
            if left < wanted {
                alarms.push(format!("{service}: the new side's certificate is valid for {left:.1} more days"));
            }
        }
    }
    for gate in ["flip", "cleanup"] {
        let records = signoff::records(gate, settings)?;
        if !records.is_empty() {
            shown.insert(format!("signoff.{gate}"), json!(records));
        }
    }
    Ok(shown)
}

/// Adds when the data of each two servers was last compared, and in how many places it differed.
fn data(
    settings: &Settings,
    servers: &Servers,
    primary: Option<&Rc<Server>>,
    shown: &mut Map<String, Value>,
    alarms: &mut Vec<String>,
) -> Result<()> {
    let hours = settings.databases.checksum_hours.filter(|_| primary.is_some_and(|primary| primary.side == Side::Old));
    for source in servers.all() {
        for replica in servers.all() {
            let (source, replica) = (&source.name, &replica.name);
            let subject = checksum_subject(source, replica);
            let Some(proof) = Proof::read(&settings.state_dir, &subject)? else { continue };
            let again = format!("salt-run migrate.checksum {source} {replica}");
            let differences = proof.evidence["differences"].as_array().map_or(0, Vec::len);
            if differences > 0 {
                alarms.push(format!("{replica}: its data is not that of {source}, in {differences} places: {again}"));
            }
            // The flip would refuse, and whoever waits for it learns that late.
            if let Some(hours) = hours.filter(|hours| !proof.fresh(*hours)) {
                alarms.push(format!("{replica}: it was compared with {source} more than {hours} hours ago: {again}"));
            }
            let left_out = proof.evidence["left_out"].as_object().map_or(0, Map::len);
            let ago = (proof.age() / 360.0).round() / 10.0;
            let told = json!({"at": proof.at, "hours_ago": ago, "differences": differences, "left_out": left_out});
            shown.insert(subject, told);
        }
    }
    Ok(())
}
