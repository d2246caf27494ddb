//! The plan: what would change, and what stands against it.
//!
//! Invariant: it holds no permit, so it cannot change anything.

use super::{Graph, Role};
use crate::error::{Error, Result};
use crate::event::Finding;
use crate::step::{Earlier, Seen};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One step that would change something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub step: String,
    pub old: Value,
    /// Nothing where only the work itself can tell.
    pub new: Option<Value>,
    pub after: Vec<String>,
    /// Whether the step is there for others' sake only.
    pub guard: bool,
}

/// What a phase would do to the world as it is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    pub phase: String,
    pub changes: Vec<Change>,
    pub findings: Vec<Finding>,
    pub unchanged: Vec<String>,
    #[serde(skip)]
    pub(super) seen: BTreeMap<String, Seen<Value, Value>>,
}

impl Plan {
    pub(super) fn needed(&self) -> BTreeSet<String> {
        self.changes.iter().map(|change| change.step.clone()).collect()
    }

    /// Tells whether any finding stands in the way.
    pub fn refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.blocking)
    }
}

/// Findings that somebody takes on themselves, each by its id, and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Force {
    pub findings: Vec<String>,
    pub reason: String,
}

impl Plan {
    /// Lets findings block no longer, with the reason on record.
    ///
    /// # Errors
    /// [`Error::Settings`] where there is no reason, or no such finding that blocks and may be forced.
    pub fn force(&mut self, force: &Force) -> Result<()> {
        let wrong = |found: String, expected: String| {
            Error::Settings {
            path: "force".into(),
            found,
            expected,
            hint: "salt-run migrate.preflight shows the id of each finding; for example force=privileges/old-db1/3f2a reason='it only reads'".into(),
        }
        };
        if !force.findings.is_empty() && force.reason.trim().is_empty() {
            return Err(wrong("no reason".into(), "a reason beside it, for the report".into()));
        }
        for id in &force.findings {
            let named = self.findings.iter_mut().find(|finding| finding.blocking && finding.id == *id);
            match named {
                Some(finding) if finding.forceable => {
                    finding.blocking = false;
                    finding.forced = Some(force.reason.clone());
                }
                Some(finding) => {
                    return Err(wrong(
                        id.clone(),
                        format!("a finding that may be forced; this one breaks a promise: {}", finding.mend),
                    ));
                }
                None => {
                    let open: Vec<&str> = self
                        .findings
                        .iter()
                        .filter(|finding| finding.blocking)
                        .map(|finding| finding.id.as_str())
                        .collect();
                    let open = if open.is_empty() {
                        "nothing, for nothing blocks".to_owned()
                    } else {
                        format!("one of {}", open.join(", "))
                    };
                    return Err(wrong(id.clone(), open));
                }
            }
        }
        Ok(())
    }
}

/// Looks at the world and says what the phase would change in it.
///
/// # Errors
/// Whatever hinders looking: a server that cannot be asked is not taken for one that agrees.
pub async fn plan(graph: &Graph) -> Result<Plan> {
    plan_the_rest(graph, Earlier::default()).await
}

/// Says what a run has still to change that saw `earlier` before it died: its own work may have changed what it went by.
///
/// # Errors
/// As [`plan`].
pub(super) async fn plan_the_rest(graph: &Graph, mut earlier: Earlier) -> Result<Plan> {
    let mut plan = Plan { phase: graph.phase.clone(), ..Plan::default() };
    let wanted = wanted(graph, &mut plan, &mut earlier).await?;
    let needed = graph.with_guards(wanted.keys().cloned().collect());
    look(graph, &mut plan.seen, |role| matches!(role, Role::Guard | Role::Check), Some(&needed)).await?;
    for node in graph.nodes().iter().filter(|node| needed.contains(&node.id)) {
        let Some(seen) = plan.seen.get(&node.id) else { continue };
        if node.role == Role::Check {
            let findings: Vec<Finding> = serde_json::from_value(seen.evidence.clone())
                .map_err(|error| Error::Journal(format!("findings of {}: {error}", node.id)))?;
            plan.findings.extend(findings);
            continue;
        }
        let new = match wanted.get(&node.id) {
            Some(new) => new.clone(),
            None => match node.step.want(&earlier).await {
                Ok(want) => Some(want),
                Err(Error::NotYet(_)) => None,
                Err(error) => return Err(error),
            },
        };
        plan.changes.push(Change {
            step: node.id.clone(),
            old: seen.fact.clone(),
            new,
            after: node.after.clone(),
            guard: node.role == Role::Guard,
        });
    }
    Ok(plan)
}

/// Says only what the phase is for: each fact that would change, with what it is and shall be. No check looks.
///
/// # Errors
/// As [`plan`].
pub async fn facts(graph: &Graph) -> Result<BTreeMap<String, (Value, Option<Value>)>> {
    let mut plan = Plan::default();
    let wanted = wanted(graph, &mut plan, &mut Earlier::default()).await?;
    let old = |id: &String| plan.seen.get(id).map(|seen| seen.fact.clone()).unwrap_or_default();
    Ok(wanted.into_iter().map(|(id, new)| (id.clone(), (old(&id), new))).collect())
}

/// Looks at every fact, and returns those that are to change; what is as it should be is noted in the plan.
async fn wanted(graph: &Graph, plan: &mut Plan, earlier: &mut Earlier) -> Result<BTreeMap<String, Option<Value>>> {
    look(graph, &mut plan.seen, |role| matches!(role, Role::Fact | Role::Commit), None).await?;
    let mut wanted: BTreeMap<String, Option<Value>> = BTreeMap::new();
    for node in graph.nodes() {
        let Some(seen) = plan.seen.get(&node.id) else { continue };
        match node.step.want(earlier).await {
            Ok(want) if want == seen.fact => {
                earlier.insert_if_new(&node.id, seen.evidence.clone());
                plan.unchanged.push(node.id.clone());
            }
            Ok(want) => {
                wanted.insert(node.id.clone(), Some(want));
            }
            Err(Error::NotYet(_)) => {
                wanted.insert(node.id.clone(), None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(wanted)
}

/// Observes the nodes of some roles, all at once.
async fn look(
    graph: &Graph,
    seen: &mut BTreeMap<String, Seen<Value, Value>>,
    roles: impl Fn(Role) -> bool,
    only: Option<&BTreeSet<String>>,
) -> Result<()> {
    let nodes = graph.nodes().iter().filter(|node| roles(node.role) && only.is_none_or(|only| only.contains(&node.id)));
    let looks = nodes.map(|node| async { (node.id.clone(), node.step.observe().await) });
    for (id, look) in join_all(looks).await {
        seen.insert(id, look?);
    }
    Ok(())
}
