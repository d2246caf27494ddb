//! The way back, before the commit point.
//!
//! Invariant: what was started last is undone first; an undo never waits for the journal (the disk may be full); an undo
//! that fails delays only what depends on it; a value that is not ours is shown, not overwritten.

use super::entry::Left;
use super::foreign;
use super::run::Run;
use crate::error::{Error, Result};
use crate::event::Happening;
use crate::journal::{Outcome, Record, StepState};
use crate::step::{Local, Undo};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

impl Run<'_> {
    /// Undoes every step that was started; returns those whose work stays, or may, and why.
    ///
    /// # Errors
    /// [`Error::Committed`] where the decision turns out to be taken; [`Error::NotUndone`] with what could not be undone.
    pub(super) async fn back(&self, why: &Error) -> Result<Vec<Left>> {
        self.tell(Happening::Aborting, None, json!(why.to_string()), None);
        if self.journal.borrow().state().aborting.is_none() {
            let _ = self.journal.borrow_mut().keep(Record::Aborting { why: why.to_string() });
        }
        let mut open: BTreeMap<String, (Value, Value)> = BTreeMap::new();
        for (id, state) in &self.journal.borrow().state().steps {
            if let StepState::Started { old, new } | StepState::Done { old, new, .. } = state {
                open.insert(id.clone(), (old.clone(), new.clone()));
            }
        }
        let mut failed: BTreeMap<String, Error> = BTreeMap::new();
        let mut begun: BTreeSet<String> = BTreeSet::new();
        let mut running: FuturesUnordered<Local<'_, (String, Result<()>)>> = FuturesUnordered::new();
        loop {
            let ready: Vec<String> = open
                .keys()
                .filter(|id| !begun.contains(*id))
                .filter(|id| !open.keys().any(|other| other != *id && self.comes_after(other, id)))
                .cloned()
                .collect();
            for id in ready {
                begun.insert(id.clone());
                let (old, new) = open[&id].clone();
                running.push(Box::pin(async move {
                    let result = self.undo(&id, &old, &new).await;
                    (id, result)
                }));
            }
            let Some((id, result)) = running.next().await else { break };
            match result {
                Ok(()) => {
                    open.remove(&id);
                }
                Err(error) => {
                    self.tell(Happening::Failed, Some(&id), json!(format!("undo: {error}")), None);
                    failed.insert(id, error);
                }
            }
        }
        if let Some(committed) = failed.values().find(|error| matches!(error, Error::Committed(_))) {
            return Err(committed.clone());
        }
        if open.is_empty() {
            let left = self.left()?;
            let outcome = if left.is_empty() { Outcome::Aborted } else { Outcome::Stopped };
            let _ = self.journal.borrow_mut().keep(Record::Finished { outcome });
            return Ok(left);
        }
        let problems: Vec<String> = failed.iter().map(|(id, error)| format!("{id}: {error}")).collect();
        let waiting: Vec<&str> = open.keys().filter(|id| !failed.contains_key(*id)).map(String::as_str).collect();
        let behind =
            if waiting.is_empty() { String::new() } else { format!("; waiting for these: {}", waiting.join(", ")) };
        Err(Error::NotUndone(format!("{}{behind}", problems.join("; "))))
    }

    /// Names what was started and stays: whether a request that failed has made something cannot always be known.
    fn left(&self) -> Result<Vec<Left>> {
        let started: Vec<String> = self.journal.borrow().state().started().map(str::to_owned).collect();
        let mut left = Vec::new();
        for step in started {
            if let Undo::Leave(why) = self.graph.node(&step)?.step.undo()? {
                left.push(Left { step, why: why.to_owned() });
            }
        }
        Ok(left)
    }

    /// Tells whether one step comes, directly or through others, after another.
    fn comes_after(&self, later: &str, sooner: &str) -> bool {
        let Ok(node) = self.graph.node(later) else { return false };
        node.after.iter().any(|id| id == sooner || self.comes_after(id, sooner))
    }

    async fn undo(&self, id: &str, old: &Value, new: &Value) -> Result<()> {
        let node = self.graph.node(id)?;
        if let Undo::Keep(why) | Undo::Leave(why) = node.step.undo()? {
            let _ = self.journal.borrow_mut().note(Record::Kept { step: id.to_owned(), why: why.to_owned() });
            self.tell(Happening::Kept, Some(id), json!(why), None);
            return Ok(());
        }
        let permit = self.journal.borrow().permit(id).ok_or_else(|| Error::Journal(format!("{id} was not started")))?;
        let earlier = self.earlier.borrow().clone();
        let clock = Instant::now();
        let attempt = async || {
            let seen = node.step.observe().await?;
            let drift = |found: &Value| Error::Drift {
                step: id.to_owned(),
                old: new.to_string(),
                new: old.to_string(),
                found: found.to_string(),
            };
            if foreign(node, &seen.fact, old, new) {
                return Err(drift(&seen.fact));
            }
            let now = node.step.set(&permit, old, &earlier).await?;
            if now.fact == *old { Ok(()) } else { Err(drift(&now.fact)) }
        };
        loop {
            match attempt().await {
                Ok(()) => break,
                Err(error @ (Error::Committed(_) | Error::Drift { .. })) => return Err(error),
                Err(error) if clock.elapsed() >= self.abort_within => return Err(error),
                Err(error) => {
                    self.tell(Happening::Warning, Some(id), json!(format!("undo, trying again: {error}")), None);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
        let _ = self.journal.borrow_mut().note(Record::Undone { step: id.to_owned(), fact: old.clone() });
        self.tell(Happening::Undone, Some(id), json!({"fact": old}), Some(clock.elapsed()));
        Ok(())
    }
}
