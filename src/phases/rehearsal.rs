//! The rehearsal: the flip's steps at the CDN on the copied services, those at the databases on a throw-away replica; and the
//! budget that the flip then keeps to.
//!
//! Invariant: a rehearsal changes copies and that replica alone. What it measured may only shorten the time that a flip
//! takes, never lengthen it.

use super::edge::{patient, settings_of};
use crate::database::Servers;
use crate::edge::{Fastly, Prober};
use crate::engine::{self, Force, Graph, Report, Role, Verdict};
use crate::error::{Error, Result};
use crate::journal::{Journal, Lock};
use crate::outside::Outside;
use crate::proof::Proof;
use crate::settings::{Edge, Probe, Purge, Service, Settings, Side};
use crate::steps::checks::{Check, ThrowAway};
use crate::steps::{Decision, Once, REHEARSAL, ReadOnly, Rehearsal, Rehearsed, Rounds, Switch, Tables, TakenOver};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// How many times as long as in the rehearsal a step may take, and how much longer in any case: at the CDN, at a database.
const TIMES: f64 = 5.0;
const MORE_MS: (f64, f64) = (2_000.0, 500.0);
/// The step at the throw-away replica.
const DATABASES: &str = "databases-rehearsed";

/// Rehearses every service that has a copy, all at once as a flip does, then the databases; keeps what was measured, and
/// the budget. Returns what is foretold beside the report.
///
/// # Errors
/// [`Error::Settings`] or [`Error::NotYet`] where there is nothing to rehearse on; whatever stood in the way before the
/// first step.
pub async fn rehearse(settings: &Settings, outside: &Outside) -> Result<(Report, Value)> {
    let _lock = Lock::take(&settings.state_dir, "migrate.rehearse")?;
    if let Some(journal) = Journal::unfinished(&settings.state_dir)? {
        return Err(Error::HeldByAnother(format!("run {} is not finished", journal.state().run)));
    }
    let graph = graph(settings, outside).await?;
    let folder = settings.state_dir.join("rehearsal");
    // A journal of its own, for a rehearsal that died is no run to go on with: the next one begins anew.
    let _ = std::fs::remove_dir_all(&folder);
    let within = Duration::from_millis(settings.databases.deadlines.abort);
    let report = engine::apply(&graph, &folder, &settings.hash, within, &Force::default(), outside).await?;
    if report.verdict != Verdict::Done {
        return Ok((report, Value::Null));
    }
    let (evidence, foretold) = measured(&report);
    Proof::new(REHEARSAL, settings.hash.clone(), evidence).keep(&settings.state_dir)?;
    Ok((report, foretold))
}

/// Gathers what was seen, and what it means for a flip: for each part what to expect, and its budget.
fn measured(report: &Report) -> (Value, Value) {
    let services: BTreeMap<String, Rehearsal> = report
        .evidence
        .iter()
        .filter_map(|(id, seen)| {
            let name = id.strip_prefix("rehearsed.")?.to_owned();
            Some((name, serde_json::from_value(seen.clone()).ok()?))
        })
        .collect();
    let rounds = report.evidence.get(DATABASES).and_then(|seen| serde_json::from_value::<Rounds>(seen.clone()).ok());
    let part = |predicted: f64, slowest: f64, more: f64| json!({"predicted_ms": predicted, "budget_ms": slowest * TIMES + more});
    let mut foretold = json!({});
    let slowest = services.values().map(|seen| seen.activated_ms).reduce(f64::max);
    if let Some(slowest) = slowest {
        foretold["edge"] = part(slowest, slowest, MORE_MS.0);
    }
    if let Some(rounds) = &rounds {
        for (name, times) in [("fence", &rounds.fence), ("promotion", &rounds.promotion)] {
            foretold[name] = part(times.median_ms, times.slowest_ms, MORE_MS.1);
        }
    }
    (json!({"services": services, "databases": rounds, "foretold": foretold}), foretold)
}

/// Reads how long the first proof of a switch may be waited for: as configured, or as rehearsed where that is less.
///
/// # Errors
/// [`Error::Journal`] where the record cannot be read.
pub fn proof_within(settings: &Settings, edge: &Edge) -> Result<Duration> {
    let configured = Duration::from_millis(edge.deadlines.proof);
    let budget = budget(&settings.state_dir, "edge")?;
    Ok(budget.map_or(configured, |budget| budget.min(configured)))
}

/// Returns the settings with what a flip may take at the databases: as configured, or as rehearsed where that is less.
///
/// # Errors
/// [`Error::Journal`] where the record cannot be read.
pub fn within_budget(settings: &Settings) -> Result<Settings> {
    let mut settings = settings.clone();
    let limits = &mut settings.databases.deadlines;
    for (part, limit) in [("fence", &mut limits.fence), ("promotion", &mut limits.catch_up)] {
        let budget = budget(&settings.state_dir, part)?.and_then(|budget| u64::try_from(budget.as_millis()).ok());
        *limit = budget.map_or(*limit, |budget| budget.min(*limit));
    }
    Ok(settings)
}

fn budget(state_dir: &Path, part: &str) -> Result<Option<Duration>> {
    let proof = Proof::read(state_dir, REHEARSAL)?;
    let budget = proof.and_then(|proof| proof.evidence["foretold"][part]["budget_ms"].as_f64());
    Ok(budget.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()))
}

async fn graph(settings: &Settings, outside: &Outside) -> Result<Graph> {
    let mut graph = Graph::new("rehearse");
    if settings.edge.is_some() || settings.rehearsal.is_none() {
        copies(&mut graph, settings, outside).await?;
    }
    databases(&mut graph, settings);
    if graph.nodes().is_empty() {
        return Err(Error::NotYet("a copy of a service to rehearse on: the test makes those of the pillar".into()));
    }
    graph.checked()
}

async fn copies(graph: &mut Graph, settings: &Settings, outside: &Outside) -> Result<()> {
    let edge = settings_of(settings)?;
    let fastly = patient(&Fastly::new(edge)?, edge, outside);
    for (name, service) in &edge.services {
        let Some(copy) = fastly.copies(Some(&service.id)).await?.into_iter().next() else { continue };
        let switch = Rc::new(Switch {
            fastly: fastly.clone(),
            name: format!("{name} (its copy)"),
            id: copy.id,
            prober: probe(service).map(|probe| Prober::new(&probe, name)).transpose()?,
            to: "new, as rehearsed",
            // It points to the new side already: what is rehearsed is the switch, not where to.
            addresses: BTreeMap::new(),
            leave: Vec::new(),
            purge: Purge::Nothing,
            proof: Duration::from_millis(edge.deadlines.proof),
            seen: RefCell::default(),
        });
        graph.add(format!("rehearsed.{name}"), Role::Fact, Once(Rehearsed(switch)));
    }
    Ok(())
}

/// Adds the databases' part, after the CDN's as in a flip.
fn databases(graph: &mut Graph, settings: &Settings) {
    let replica = settings.rehearsal.as_ref().and_then(|told| Servers::beside(settings, &told.replica));
    let Some(replica) = replica else { return };
    let before = graph.ids(Role::Fact);
    let source = Servers::new(settings).primary(Side::Old);
    let databases = &settings.databases;
    let accounts = &databases.accounts;
    let mut known = databases.may_bypass_fence.clone();
    known.extend([accounts.replication.user.clone(), accounts.marker.user.clone()]);
    let check = ThrowAway { source: source.clone(), replica: replica.clone(), known };
    graph.add("check.rehearsal", Role::Check, Check(check)).serves([DATABASES]);
    let closed = format!("read-only.{}", replica.name);
    // A rehearsal that was killed may have left it open.
    graph.add(&closed, Role::Fact, ReadOnly(replica.clone()));
    let tables = format!("tables.{}", replica.name);
    graph.add(&tables, Role::Guard, Tables { server: replica.clone() }).after([&closed]).serves([DATABASES]);
    let decision = Once(Decision { target: replica.clone() });
    graph.add("decision", Role::Guard, decision).after([&tables]).serves([DATABASES]);
    let taken = TakenOver { source, replica, limit_ms: databases.max_lag };
    graph.add(DATABASES, Role::Fact, Once(taken)).after(["decision"]).after(before);
}

/// Asks for the copy's own domain at the same points of presence.
fn probe(service: &Service) -> Option<Probe> {
    let (probe, copy) = (service.probe.as_ref()?, service.copy.as_ref()?);
    let mut url = reqwest::Url::parse(&probe.url).ok()?;
    url.set_host(Some(copy.domains.first()?)).ok()?;
    Some(Probe { url: url.to_string(), ..probe.clone() })
}
