//! The state of a run, folded from its records by one pure function.
//!
//! Invariant: an illegal transition is refused, when writing as when reading back.

use super::Record;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything is as the phase wants it.
    Done,
    /// Everything is as it was before.
    Aborted,
    /// It went no further, and left what it had made.
    Stopped,
    /// Its target is gone for good, and somebody went back without it.
    GivenUp,
}

/// How far one step got.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum StepState {
    Unchanged { fact: Value, evidence: Value },
    Started { old: Value, new: Value },
    Done { old: Value, new: Value, evidence: Value },
    Released { fact: Value, evidence: Value },
    Undone { fact: Value },
    Kept,
}

/// When a step began and ended, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Span {
    pub began: f64,
    pub ended: f64,
}

/// How far a run got.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RunState {
    pub run: String,
    pub phase: String,
    pub settings_hash: String,
    pub steps: BTreeMap<String, StepState>,
    pub spans: BTreeMap<String, Span>,
    pub committed: bool,
    pub aborting: Option<String>,
    pub finished: Option<Outcome>,
    /// The last problem of each step that failed.
    pub problems: BTreeMap<String, String>,
    /// Why each finding that would have blocked was taken on.
    pub forced: BTreeMap<String, String>,
    pub records: u64,
}

impl RunState {
    /// Tells when the run began, in seconds since the Unix epoch: its name ends with that, in milliseconds.
    pub fn began(&self) -> f64 {
        self.run.rsplit_once('-').and_then(|(_, at)| at.parse::<f64>().ok()).unwrap_or_default() / 1000.0
    }

    /// Returns the state after one more record.
    ///
    /// # Errors
    /// [`Error::Journal`] where the record cannot follow what came before.
    pub fn next(&self, record: &Record) -> Result<Self> {
        let mut next = self.clone();
        next.records += 1;
        let illegal =
            |why: &str| Err(Error::Journal(format!("record {} of run {}: {why}: {record:?}", next.records, self.run)));
        if self.finished.is_some() {
            return illegal("the run is finished");
        }
        if self.run.is_empty() != matches!(record, Record::Begun { .. }) {
            return illegal("a run begins once, and first");
        }
        match record {
            Record::Begun { run, phase, settings_hash } => {
                next.run.clone_from(run);
                next.phase.clone_from(phase);
                next.settings_hash.clone_from(settings_hash);
            }
            Record::Forced { finding, reason } => {
                next.forced.insert(finding.clone(), reason.clone());
            }
            Record::Unchanged { step, fact, evidence } => {
                if matches!(self.steps.get(step), Some(StepState::Started { .. } | StepState::Undone { .. })) {
                    return illegal("a started step is never unchanged");
                }
                next.put(step, StepState::Unchanged { fact: fact.clone(), evidence: evidence.clone() });
            }
            Record::Started { step, old, new } => {
                match self.steps.get(step) {
                    None | Some(StepState::Unchanged { .. }) => {}
                    // A reboot took it back, or people's work: an abort has the same value to restore.
                    Some(StepState::Done { old: was, new: became, .. })
                        if self.committed || (was == old && became == new) => {}
                    _ => {
                        return illegal(
                            "a step starts once before the commit point, or again from the same value to the same",
                        );
                    }
                }
                if self.aborting.is_some() {
                    return illegal("nothing starts while the run goes back");
                }
                next.put(step, StepState::Started { old: old.clone(), new: new.clone() });
            }
            Record::Done { step, evidence, .. } => {
                let Some(StepState::Started { old, new }) = self.steps.get(step) else {
                    return illegal("only a started step is done");
                };
                let (old, new) = (old.clone(), new.clone());
                next.put(step, StepState::Done { old, new, evidence: evidence.clone() });
            }
            Record::Released { step, fact } => match self.steps.get(step) {
                Some(StepState::Done { evidence, .. } | StepState::Unchanged { evidence, .. }) => {
                    let evidence = evidence.clone();
                    next.put(step, StepState::Released { fact: fact.clone(), evidence });
                }
                _ => return illegal("only what is held is released"),
            },
            Record::Failed { step, problem } => {
                next.problems.insert(step.clone(), problem.clone());
            }
            Record::Committed { .. } => next.committed = true,
            Record::Aborting { why } => {
                if self.committed {
                    return illegal("a committed run does not go back");
                }
                next.aborting = Some(why.clone());
            }
            Record::Undone { step, fact } => {
                if self.aborting.is_none() || !self.was_started(step) {
                    return illegal("only a started step of a run that goes back is undone");
                }
                next.put(step, StepState::Undone { fact: fact.clone() });
            }
            Record::Kept { step, .. } => {
                if self.aborting.is_none() || !self.was_started(step) {
                    return illegal("only a started step of a run that goes back is kept");
                }
                next.put(step, StepState::Kept);
            }
            Record::Finished { outcome } => {
                let back = matches!(outcome, Outcome::Aborted | Outcome::Stopped);
                if *outcome != Outcome::GivenUp && back != self.aborting.is_some() {
                    return illegal("a run that went back is aborted, or stopped, and no other");
                }
                next.finished = Some(*outcome);
            }
        }
        // A decision that was found to be taken outranks the wish to go back.
        if next.committed {
            next.aborting = None;
        }
        Ok(next)
    }

    /// Names the steps that may have changed the world.
    pub fn started(&self) -> impl Iterator<Item = &str> {
        self.steps
            .iter()
            .filter(|(_, state)| !matches!(state, StepState::Unchanged { .. }))
            .map(|(step, _)| step.as_str())
    }

    /// Notes when a record that was read back was written.
    pub(super) fn at(&mut self, record: &Record, at: f64) {
        match record {
            Record::Started { step, .. } => {
                self.spans.insert(step.clone(), Span { began: at, ended: at });
            }
            Record::Done { step, .. } => {
                if let Some(span) = self.spans.get_mut(step) {
                    span.ended = at;
                }
            }
            _ => {}
        }
    }

    fn was_started(&self, step: &str) -> bool {
        matches!(self.steps.get(step), Some(StepState::Started { .. } | StepState::Done { .. }))
    }

    fn put(&mut self, step: &str, state: StepState) {
        self.problems.remove(step);
        self.steps.insert(step.to_owned(), state);
    }
}
