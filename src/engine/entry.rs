//! The four ways into a run, and what it tells in the end.
//!
//! Invariant: whoever comes in holds the lock, but for the rescue, which writes no journal.

use super::plan::{Force, Plan, plan, plan_the_rest};
use super::run::Run;
use super::{Change, Graph, Role};
use crate::error::{Error, Result};
use crate::event::{Finding, Happening};
use crate::journal::{Journal, Record, RunState};
use crate::outside::Outside;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything is as the phase wants it, and something was changed for it.
    Done,
    /// Everything already was as the phase wants it.
    Unchanged,
    /// It failed before the commit point, and everything is as it was.
    Aborted,
    /// It stands in the middle, or left what it had made; `error` says where and what to type.
    Stopped,
}

/// What a run that went no further has made, or may have made, and left.
#[derive(Debug, Clone, Serialize)]
pub struct Left {
    pub step: String,
    pub why: String,
}

/// One step of a report.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    pub id: String,
    /// Seconds since the Unix epoch.
    pub started: f64,
    pub seconds: f64,
    pub result: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Report {
    pub run: String,
    pub phase: String,
    pub verdict: Verdict,
    pub error: Option<Error>,
    pub steps: Vec<StepReport>,
    pub changes: Vec<Change>,
    pub findings: Vec<Finding>,
    /// What each step saw, by step.
    pub evidence: BTreeMap<String, Value>,
    /// What is left of a run that is over, and was not carried to its end.
    pub left: Vec<Left>,
}

impl Report {
    /// Tells whether the run is over, however it ended, so that another may begin.
    pub fn over(&self) -> bool {
        self.verdict != Verdict::Stopped || !self.left.is_empty()
    }
}

/// Carries a phase out on the world as it is. The caller holds the lock.
///
/// # Errors
/// Whatever stood in the way before the first step; later failures are in the report.
pub async fn apply(
    graph: &Graph,
    state_dir: &Path,
    settings_hash: &str,
    abort_within: Duration,
    force: &Force,
    outside: &Outside,
) -> Result<Report> {
    // Whoever asks for the end while it is only looked has it at once.
    let mut plan = tokio::select! {
        plan = plan(graph) => plan?,
        why = outside.interrupted() => return Err(Error::Interrupted(why)),
    };
    plan.force(force)?;
    if plan.refused() {
        return Err(Error::Refused(plan.findings));
    }
    if plan.changes.is_empty() {
        return Ok(Report {
            run: String::new(),
            phase: graph.phase.clone(),
            verdict: Verdict::Unchanged,
            error: None,
            steps: Vec::new(),
            changes: Vec::new(),
            findings: plan.findings,
            evidence: BTreeMap::new(),
            left: Vec::new(),
        });
    }
    let mut journal = Journal::begin(state_dir, &graph.phase, settings_hash)?;
    for finding in &force.findings {
        journal.keep(Record::Forced { finding: finding.clone(), reason: force.reason.clone() })?;
    }
    let mut run = Run::new(graph, journal, abort_within, outside);
    run.needed = plan.needed();
    run.adopt(&plan);
    run.tell(Happening::Begun, None, json!({"steps": plan.changes.len()}), None);
    Ok(run.conclude(plan, None).await)
}

/// Goes on with a run that died: forward, or back if it was going back. The caller holds the lock.
///
/// # Errors
/// Whatever stood in the way before the first step; later failures are in the report.
pub async fn resume(graph: &Graph, journal: Journal, abort_within: Duration, outside: &Outside) -> Result<Report> {
    let mut run = Run::new(graph, journal, abort_within, outside);
    run.recall();
    let state = run.journal.borrow().state().clone();
    run.tell(Happening::Resumed, None, json!({"aborting": state.aborting, "committed": state.committed}), None);
    if let Some(why) = state.aborting {
        // Should the decision turn out to be taken, everything that is there is needed for the way forward.
        run.needed = all_but_checks(graph);
        return Ok(run.conclude(Plan::default(), Some(Error::Interrupted(why))).await);
    }
    // Ahead of everything that is only looked at: people may be waiting.
    run.recall_commit().await;
    let recalled = run.earlier.borrow().clone();
    let plan = match plan_the_rest(graph, recalled).await {
        Ok(plan) => plan,
        // There is only the way forward: what does not answer holds up what depends on it, and nothing else.
        Err(_) if state.committed => {
            run.needed = all_but_checks(graph);
            return Ok(run.conclude(Plan::default(), None).await);
        }
        Err(error) => return Err(error),
    };
    let begun = state.started().next().is_some();
    // Findings are about a run that has not begun; one that has is judged by its own steps, but for what it asks anew.
    let blocking = plan.findings.iter().filter(|finding| finding.blocking).any(|finding| {
        !begun || graph.asks_anew.contains(&finding.topic.as_str()) && !state.forced.contains_key(&finding.id)
    });
    if blocking {
        let why = Error::Refused(plan.findings.clone());
        return Ok(run.conclude(plan, Some(why)).await);
    }
    run.needed = graph.with_guards(plan.needed().into_iter().chain(state.started().map(str::to_owned)).collect());
    run.adopt(&plan);
    Ok(run.conclude(plan, None).await)
}

/// Takes a run back; one that turns out to be committed is finished instead. The caller holds the lock.
pub async fn abort(graph: &Graph, journal: Journal, why: &str, abort_within: Duration, outside: &Outside) -> Report {
    let mut run = Run::new(graph, journal, abort_within, outside);
    run.recall();
    run.recall_commit().await;
    run.needed = all_but_checks(graph);
    run.conclude(Plan::default(), Some(Error::Interrupted(why.to_owned()))).await
}

fn all_but_checks(graph: &Graph) -> BTreeSet<String> {
    graph.nodes().iter().filter(|node| node.role != Role::Check).map(|node| node.id.clone()).collect()
}

/// Takes a run of another process back that hangs with its lock held; its journal is not written.
pub async fn rescue(graph: &Graph, state: RunState, abort_within: Duration, outside: &Outside) -> Report {
    let mut run = Run::new(graph, Journal::of_another(state), abort_within, outside);
    run.recall();
    match run.settle_commit().await {
        // It passed the commit point, so the source is rightly fenced, and the rest is the other process's to finish.
        Ok(true) => {
            return run.report(
                Verdict::Stopped,
                Some(Error::Committed("the run passed its commit point".into())),
                Plan::default(),
            );
        }
        Err(undecided) => return run.report(Verdict::Stopped, Some(undecided), Plan::default()),
        Ok(false) => {}
    }
    let why = Error::Deadline { what: "the run's window, with the source fenced".into(), limit_ms: 0 };
    match run.back(&why).await {
        Ok(left) => run.went_back(left, why, Plan::default()),
        Err(problem) => run.report(Verdict::Stopped, Some(problem), Plan::default()),
    }
}
