//! What can be done at the CDN apart from a flip: copies for the tests, and staging ahead of the day.
//!
//! Invariant: each phase stands alone and changes nothing that people see.

use super::transfer::addresses;
use crate::edge::{Fastly, Patience, Prober, Quota};
use crate::engine::{Graph, Role};
use crate::error::{Error, Result};
use crate::journal::{StepState, runs};
use crate::outside::Outside;
use crate::settings::{Edge, Settings, Side};
use crate::steps::checks::{Check, CopiesReady, EdgeReady};
use crate::steps::{Budget, Budgeted, NoTwin, OnStaging, Once, Staged, Switch, Twin, TwinStands};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Returns the CDN's settings.
///
/// # Errors
/// [`Error::Settings`] where the site has none.
pub(super) fn settings_of(settings: &Settings) -> Result<&Edge> {
    settings.edge.as_ref().ok_or_else(|| Error::Settings {
        path: "migrate:edge".into(),
        found: "nothing".into(),
        expected: "the CDN account and its services".into(),
        hint: "pillar-example/migrate.sls shows the key".into(),
    })
}

/// Refuses the name of a service that the pillar does not have.
pub(super) fn known(settings: &Settings, only: Option<&str>) -> Result<()> {
    let services = &settings_of(settings)?.services;
    match only.filter(|only| !services.contains_key(*only)) {
        Some(only) => Err(Error::Settings {
            path: "service".into(),
            found: format!("{only:?}"),
            expected: format!("one of {}", services.keys().cloned().collect::<Vec<_>>().join(", ")),
            hint: "services are named as in migrate:edge:services".into(),
        }),
        None => Ok(()),
    }
}

/// Returns the same client with leave to wait for the next hour's writes.
pub(super) fn patient(fastly: &Fastly, edge: &Edge, outside: &Outside) -> Fastly {
    fastly.patient(Patience { outside: outside.clone(), limit: Duration::from_millis(edge.deadlines.quota) })
}

/// Returns the last budget that any run saw, where its hour still runs.
///
/// # Errors
/// [`Error::Journal`] where the journals cannot be read.
pub(super) fn last_quota(settings: &Settings) -> Result<Option<Quota>> {
    let seen = runs(&settings.state_dir)?.into_iter().rev().find_map(|run| match run.steps.get("edge.budget") {
        Some(StepState::Done { evidence, .. }) => {
            let budget: Budget = serde_json::from_value(evidence.clone()).ok()?;
            // What that run was still to write is not left any more.
            budget.quota.map(|quota| Quota { left: quota.left.saturating_sub(budget.need), ..quota })
        }
        _ => None,
    });
    Ok(seen.filter(Quota::holds))
}

fn twins(settings: &Settings, outside: &Outside, only: Option<&str>) -> Result<Vec<Rc<Twin>>> {
    let edge = settings_of(settings)?;
    let fastly = patient(&Fastly::new(edge)?, edge, outside);
    let declared = edge.services.iter().filter_map(|(name, service)| Some((name, service, service.copy.as_ref()?)));
    let chosen = declared.filter(|(name, ..)| only.is_none_or(|only| only == *name));
    Ok(chosen
        .map(|(name, service, copy)| {
            Rc::new(Twin {
                fastly: fastly.clone(),
                name: name.clone(),
                source: service.id.clone(),
                copy: copy.clone(),
                addresses: addresses(settings, Side::Old),
                leave: service.leave.clone(),
            })
        })
        .collect())
}

/// Adds the copies of all services, or of one, to a graph; returns the ids of the steps.
///
/// # Errors
/// [`Error::Settings`] where the site has no CDN.
pub(super) fn add_copies(
    graph: &mut Graph,
    settings: &Settings,
    outside: &Outside,
    only: Option<&str>,
) -> Result<Vec<String>> {
    let twins = twins(settings, outside, only)?;
    let quota = last_quota(settings)?;
    let writes_per_hour = settings_of(settings)?.writes_per_hour;
    let ids: Vec<String> = twins.iter().map(|twin| format!("edge.{}.copy", twin.name)).collect();
    graph.add("check.copies", Role::Check, Check(CopiesReady { twins: twins.clone(), quota, writes_per_hour }));
    for (id, twin) in ids.iter().zip(&twins) {
        graph.add(id, Role::Fact, TwinStands(twin.clone()));
    }
    graph.serve("check.copies", &ids.iter().map(String::as_str).collect::<Vec<_>>());
    if let Some(twin) = twins.first() {
        // What is left is known only now; the next plan reads it here.
        let step = Once(Budgeted { fastly: twin.fastly.clone(), switches: Vec::new(), need: 0, keep: 0 });
        graph.add("edge.budget", Role::Guard, step).after(&ids).serves(&ids);
    }
    Ok(ids)
}

/// Adds the removal of the copies to a graph; returns the ids of the steps.
///
/// # Errors
/// [`Error::Settings`] where the site has no CDN.
pub(super) fn add_removals(
    graph: &mut Graph,
    settings: &Settings,
    outside: &Outside,
    only: Option<&str>,
) -> Result<Vec<String>> {
    let edge = settings_of(settings)?;
    let fastly = patient(&Fastly::new(edge)?, edge, outside);
    let mut ids = Vec::new();
    // A service whose copy is no longer declared may still have one.
    for (name, service) in edge.services.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let id = format!("edge.{name}.no-copy");
        let step = NoTwin { fastly: fastly.clone(), source: service.id.clone() };
        graph.add(&id, Role::Fact, step);
        ids.push(id);
    }
    Ok(ids)
}

/// Builds what stages every service ahead of the flip; on the staging network, where it is asked for.
///
/// # Errors
/// A defect of the graph.
pub(super) fn staging(
    phase: &str,
    settings: &Settings,
    outside: &Outside,
    only: Option<&str>,
    network: bool,
) -> Result<Graph> {
    let edge = settings_of(settings)?;
    let mut graph = Graph::new(phase);
    let fastly = patient(&Fastly::new(edge)?, edge, outside);
    let switches = switches(settings, &fastly, Side::Old, only)?;
    graph.add("check.edge", Role::Check, Check(ready(settings, &fastly, Side::Old, &switches, true)?));
    let mut ids = Vec::new();
    for switch in &switches {
        let id = format!("edge.{}.staged", switch.name);
        graph.add(&id, Role::Fact, Staged(switch.clone()));
        if network {
            let on = format!("edge.{}.trial", switch.name);
            graph.add(&on, Role::Fact, OnStaging { switch: switch.clone(), staged: id.clone() }).after([&id]);
            ids.push(on);
        }
        ids.push(id);
    }
    let step = Once(Budgeted { fastly, switches: Vec::new(), need: 0, keep: 0 });
    graph.add("edge.budget", Role::Guard, step).after(&ids).serves(&ids);
    graph.checked()
}

/// Lists what becomes of each service when the site moves away from a side.
///
/// # Errors
/// [`Error::Settings`] where a probe is none.
pub fn switches(settings: &Settings, fastly: &Fastly, from: Side, only: Option<&str>) -> Result<Vec<Rc<Switch>>> {
    let Some(edge) = &settings.edge else { return Ok(Vec::new()) };
    let proof = super::rehearsal::proof_within(settings, edge)?;
    let chosen = edge.services.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    chosen
        .map(|(name, service)| {
            Ok(Rc::new(Switch {
                fastly: fastly.clone(),
                name: name.clone(),
                id: service.id.clone(),
                prober: service.probe.as_ref().map(|probe| Prober::new(probe, name)).transpose()?,
                to: from.other().word(),
                addresses: addresses(settings, from),
                leave: service.leave.clone(),
                purge: service.purge.clone(),
                proof,
                seen: RefCell::default(),
            }))
        })
        .collect()
}

/// Builds the check of the services.
///
/// # Errors
/// [`Error::Journal`] where the journals cannot be read.
pub(super) fn ready(
    settings: &Settings,
    fastly: &Fastly,
    from: Side,
    switches: &[Rc<Switch>],
    staging_only: bool,
) -> Result<EdgeReady> {
    let owned = addresses(settings, from).into_iter().flat_map(|(old, new)| [old, new]).collect();
    Ok(EdgeReady {
        fastly: fastly.clone(),
        edge: settings_of(settings)?.clone(),
        switches: switches.to_vec(),
        owned,
        quota: last_quota(settings)?,
        staging_only,
    })
}
