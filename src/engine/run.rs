//! A run: a graph, its journal, and the way forward.
//!
//! Invariant: nothing starts before its `started` record is durable; a `set` that runs is awaited, never dropped; before
//! the commit point a failure leads back, after it only forward.

use super::entry::{Left, Report, StepReport, Verdict};
use super::plan::Plan;
use super::{Graph, Node, Role, foreign};
use crate::drill::{self, Moment};
use crate::error::{Error, Result};
use crate::event::{self, Event, Happening};
use crate::journal::{Journal, Outcome, Record, StepState};
use crate::outside::Outside;
use crate::step::{Earlier, Local, Seen, Undo};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Where a node stands in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Running,
    Finished,
    Failed,
}

pub(super) struct Run<'a> {
    pub(super) graph: &'a Graph,
    pub(super) journal: RefCell<Journal>,
    pub(super) outside: &'a Outside,
    pub(super) abort_within: Duration,
    pub(super) earlier: RefCell<Earlier>,
    pub(super) needed: BTreeSet<String>,
    planned: BTreeMap<String, Seen<Value, Value>>,
    progress: RefCell<BTreeMap<String, Progress>>,
    released: RefCell<BTreeSet<String>>,
    /// That the commit step was seen to have taken effect, where the journal could not be told.
    decided: Cell<bool>,
    steps: RefCell<Vec<StepReport>>,
    evidence: RefCell<BTreeMap<String, Value>>,
    /// Events that wait for the commit.
    held_back: RefCell<Option<Vec<Event>>>,
}

/// How a step came to be as it should.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carried {
    /// It already was, before the run.
    Unchanged,
    /// An earlier process of the run had done it, and it stands.
    Stands,
    Done,
}

/// What a future of the run was about.
enum Work {
    Carry(String),
    Release(String),
}

impl<'a> Run<'a> {
    pub(super) fn new(graph: &'a Graph, journal: Journal, abort_within: Duration, outside: &'a Outside) -> Self {
        Self {
            graph,
            journal: RefCell::new(journal),
            outside,
            abort_within,
            earlier: RefCell::default(),
            needed: BTreeSet::new(),
            planned: BTreeMap::new(),
            progress: RefCell::default(),
            released: RefCell::default(),
            decided: Cell::default(),
            steps: RefCell::default(),
            evidence: RefCell::default(),
            held_back: RefCell::default(),
        }
    }

    /// Takes over what the plan saw.
    pub(super) fn adopt(&mut self, plan: &Plan) {
        for (id, seen) in &plan.seen {
            if !self.needed.contains(id) {
                self.earlier.borrow_mut().insert_if_new(id, seen.evidence.clone());
            }
        }
        self.planned = plan.seen.clone();
        for id in self.graph.ids(Role::Check) {
            self.progress.borrow_mut().insert(id, Progress::Finished);
        }
    }

    /// Takes over what the journal says was done.
    pub(super) fn recall(&mut self) {
        let state = self.journal.borrow().state().clone();
        let mut done: Vec<_> = state.spans.iter().filter(|(_, span)| span.ended > span.began).collect();
        done.sort_by(|(_, one), (_, other)| one.began.total_cmp(&other.began));
        self.steps.get_mut().extend(done.into_iter().map(|(id, span)| StepReport {
            id: id.clone(),
            started: span.began,
            seconds: span.ended - span.began,
            result: "done".to_owned(),
        }));
        for (id, step) in &state.steps {
            let (evidence, released) = match step {
                StepState::Done { evidence, .. } => (evidence, false),
                StepState::Released { evidence, .. } => (evidence, true),
                StepState::Unchanged { evidence, .. } => (evidence, false),
                _ => continue,
            };
            self.saw(id, evidence.clone());
            // A fact that was reached is looked at again, for drift; a guard's work is over.
            if self.graph.node(id).is_ok_and(|node| node.role == Role::Guard) || released {
                self.progress.borrow_mut().insert(id.clone(), Progress::Finished);
            }
            if released {
                self.released.borrow_mut().insert(id.clone());
            }
        }
        self.needed.extend(state.started().map(str::to_owned));
    }

    /// Sees that a decision that was taken stands, whatever does not answer before it: what people wait for depends on it
    /// alone. One that does not stand is carried out once more, behind the few steps without which that would be wrong;
    /// where none are named, or one of them cannot be, it waits for the steps before it, as ever.
    pub(super) async fn recall_commit(&self) {
        if !self.committed() {
            return;
        }
        for node in self.graph.nodes().iter().filter(|node| node.role == Role::Commit && !self.is_done(&node.id)) {
            let (new, told) = match self.journal.borrow().state().steps.get(&node.id).cloned() {
                Some(StepState::Done { new, .. }) => (new, true),
                // An earlier attempt at this very thing.
                Some(StepState::Started { new, .. }) => (new, false),
                _ => continue,
            };
            let stands = match node.step.observe().await {
                Ok(seen) if seen.fact == new && told => true,
                Ok(_) => !node.again_after.is_empty() && self.carry_again(node).await.is_ok(),
                Err(_) => false,
            };
            if stands {
                self.progress.borrow_mut().insert(node.id.clone(), Progress::Finished);
            }
        }
    }

    async fn carry_again(&self, commit: &Node) -> Result<()> {
        for id in &commit.again_after {
            self.carry(self.graph.node(id)?).await?;
            self.progress.borrow_mut().insert(id.clone(), Progress::Finished);
        }
        self.carry(commit).await
    }

    fn committed(&self) -> bool {
        self.decided.get() || self.journal.borrow().state().committed
    }

    pub(super) fn saw(&self, id: &str, evidence: Value) {
        self.earlier.borrow_mut().insert(id, evidence.clone());
        self.evidence.borrow_mut().insert(id.to_owned(), evidence);
    }

    pub(super) fn tell(&self, happening: Happening, step: Option<&str>, detail: Value, took: Option<Duration>) {
        let event = Event {
            run: self.journal.borrow().state().run.clone(),
            phase: self.graph.phase.clone(),
            happening,
            step: step.map(str::to_owned),
            at: event::now(),
            milliseconds: took.map(|took| took.as_secs_f64() * 1000.0),
            detail,
        };
        match &mut *self.held_back.borrow_mut() {
            Some(events) => events.push(event),
            None => self.outside.tell(event),
        }
    }

    /// Tells what was kept back.
    fn tell_all(&self) {
        for event in self.held_back.take().into_iter().flatten() {
            self.outside.tell(event);
        }
    }

    /// Goes forward, or back where `back` says why, until the run is over or cannot go on.
    pub(super) async fn conclude(self, plan: Plan, mut back: Option<Error>) -> Report {
        if self.committed() {
            back = None;
        }
        let mut overruled = false;
        loop {
            let error = match back.take() {
                Some(why) => why,
                None => match self.forward().await {
                    Some(error) => error,
                    None => {
                        let finished = self.journal.borrow_mut().keep(Record::Finished { outcome: Outcome::Done });
                        return match finished {
                            Ok(()) => self.report(Verdict::Done, None, plan),
                            Err(error) => self.report(Verdict::Stopped, Some(error), plan),
                        };
                    }
                },
            };
            if self.committed() {
                return self.report(Verdict::Stopped, Some(error), plan);
            }
            match self.settle_commit().await {
                Ok(true) => continue,
                Err(undecided) => return self.report(Verdict::Stopped, Some(undecided), plan),
                Ok(false) => {}
            }
            match self.back(&error).await {
                Ok(left) => return self.went_back(left, error, plan),
                // It was decided for the way forward after we looked; what it decided may still be on its way, and setting
                // it again finishes it. Once: what fails then is not a matter of moments.
                Err(Error::Committed(_)) if !overruled => overruled = true,
                Err(problem) => return self.report(Verdict::Stopped, Some(both(&error, &problem)), plan),
            }
        }
    }

    /// Runs whatever is ready until nothing is; returns the first failure.
    async fn forward(&self) -> Option<Error> {
        let mut running: FuturesUnordered<Local<'_, (Work, Result<()>)>> = FuturesUnordered::new();
        let mut failure: Option<Error> = None;
        // A failed step of an earlier attempt of this process is tried again once the run is committed.
        self.progress.borrow_mut().retain(|_, progress| *progress != Progress::Failed);
        loop {
            // Whoever asked for the end came too late for it: from here there is only the way forward.
            if self.committed() {
                failure.take_if(|failure| matches!(failure, Error::Interrupted(_)));
            }
            if failure.is_none() || self.committed() {
                // First, for people wait for it.
                for (node, rest) in self.releasable() {
                    self.released.borrow_mut().insert(node.id.clone());
                    running.push(Box::pin(
                        async move { (Work::Release(node.id.clone()), self.release(node, rest).await) },
                    ));
                }
                for node in self.ready() {
                    self.progress.borrow_mut().insert(node.id.clone(), Progress::Running);
                    running.push(Box::pin(async { (Work::Carry(node.id.clone()), self.carry(node).await) }));
                }
            }
            if running.is_empty() {
                self.tell_all();
                return failure;
            }
            let watching = failure.is_none() && !self.committed();
            tokio::select! {
                biased;
                Some((work, result)) = running.next() => match (work, result) {
                    (Work::Carry(id), Ok(())) => { self.progress.borrow_mut().insert(id, Progress::Finished); }
                    (Work::Release(_), Ok(())) => {}
                    (Work::Carry(id) | Work::Release(id), Err(error)) => {
                        self.progress.borrow_mut().insert(id.clone(), Progress::Failed);
                        self.released.borrow_mut().remove(&id);
                        self.tell_all();
                        self.tell(Happening::Failed, Some(&id), json!(error.to_string()), None);
                        let _ = self.journal.borrow_mut().note(Record::Failed { step: id, problem: error.to_string() });
                        failure.get_or_insert(error);
                    }
                },
                why = self.outside.interrupted(), if watching => { failure = Some(Error::Interrupted(why)); }
            }
        }
    }

    fn finished(&self, id: &str) -> bool {
        !self.needed.contains(id) || self.is_done(id)
    }

    fn is_done(&self, id: &str) -> bool {
        self.progress.borrow().get(id) == Some(&Progress::Finished)
    }

    fn ready(&self) -> Vec<&'a Node> {
        let waiting = |node: &&Node| self.needed.contains(&node.id) && !self.progress.borrow().contains_key(&node.id);
        let free = |node: &&Node| node.after.iter().all(|id| self.finished(id));
        self.graph.nodes().iter().filter(waiting).filter(free).collect()
    }

    fn releasable(&self) -> Vec<(&'a Node, Value)> {
        let mut releasable = Vec::new();
        for node in self.graph.nodes().iter().filter(|node| self.needed.contains(&node.id) && self.finished(&node.id)) {
            if self.released.borrow().contains(&node.id) {
                continue;
            }
            if let Ok(Undo::Held { until, rest }) = node.step.undo()
                && until.iter().all(|id| self.finished(id))
            {
                releasable.push((node, rest));
            }
        }
        releasable
    }

    /// Brings one step's fact to what it should be.
    async fn carry(&self, node: &Node) -> Result<()> {
        let (began, clock) = (event::now(), Instant::now());
        let result = self.carry_silently(node).await;
        let word = match &result {
            Ok(Carried::Unchanged) => "unchanged",
            Ok(Carried::Done | Carried::Stands) => "done",
            Err(error) => error.kind(),
        };
        // One that stands was reported with the time that it took when it was done.
        if !matches!(result, Ok(Carried::Stands)) {
            let (id, started, seconds) = (node.id.clone(), began, clock.elapsed().as_secs_f64());
            self.steps.borrow_mut().push(StepReport { id, started, seconds, result: word.to_owned() });
        }
        if let Ok(carried) = &result {
            let happening = if *carried == Carried::Unchanged { Happening::Unchanged } else { Happening::Done };
            let evidence = self.evidence.borrow().get(&node.id).cloned().unwrap_or_default();
            self.tell(happening, Some(&node.id), evidence, Some(clock.elapsed()));
        }
        result.map(|_| ())
    }

    async fn carry_silently(&self, node: &Node) -> Result<Carried> {
        let earlier = self.earlier.borrow().clone();
        let recorded = self.journal.borrow().state().steps.get(&node.id).cloned();
        let seen = match self.planned.get(&node.id) {
            Some(seen) if node.step.compares_and_sets() && recorded.is_none() => seen.clone(),
            _ => node.step.observe().await?,
        };
        let drift = |old: &Value, new: &Value, found: &Value| {
            Err(Error::Drift {
                step: node.id.clone(),
                old: old.to_string(),
                new: new.to_string(),
                found: found.to_string(),
            })
        };
        let (permit, want) = match recorded {
            Some(StepState::Done { new, .. }) if seen.fact == new => return Ok(Carried::Stands),
            Some(StepState::Done { old, new, .. }) => {
                let committed = self.journal.borrow().state().committed;
                let again = if committed { node.step.rebooted(&seen.fact, &old, &new) } else { node.step.wanes() };
                if !again {
                    return drift(&old, &new, &seen.fact);
                }
                (self.journal.borrow_mut().start(&node.id, &old, &new)?, new)
            }
            Some(StepState::Started { old, new }) => {
                if foreign(node, &seen.fact, &old, &new) {
                    return drift(&old, &new, &seen.fact);
                }
                if seen.fact == new {
                    self.record_done(node, seen)?;
                    return Ok(Carried::Done);
                }
                let permit = self.journal.borrow().permit(&node.id).ok_or_else(|| Error::Journal(node.id.clone()))?;
                (permit, new)
            }
            _ => {
                let want = node.step.want(&earlier).await?;
                let held = matches!(node.step.undo()?, Undo::Held { .. });
                // A held step is always started, for its release needs the permit.
                if seen.fact == want && !held {
                    let (fact, evidence) = (seen.fact, seen.evidence);
                    self.saw(&node.id, evidence.clone());
                    self.journal.borrow_mut().note(Record::Unchanged { step: node.id.clone(), fact, evidence })?;
                    return Ok(Carried::Unchanged);
                }
                drill::step(&node.id, Moment::Before)?;
                let permit = self.journal.borrow_mut().start(&node.id, &seen.fact, &want)?;
                (permit, want)
            }
        };
        self.tell(Happening::Started, Some(&node.id), json!({"new": want}), None);
        let commits = self.graph.nodes().iter().any(|one| one.role == Role::Commit && !self.finished(&one.id));
        if node.quiet && commits && !self.committed() {
            self.held_back.borrow_mut().get_or_insert_default();
        }
        let now = node.step.set(&permit, &want, &earlier).await?;
        drill::step(&node.id, Moment::After)?;
        if now.fact != want {
            return drift(&seen.fact, &want, &now.fact);
        }
        self.record_done(node, now)?;
        Ok(Carried::Done)
    }

    fn record_done(&self, node: &Node, now: Seen<Value, Value>) -> Result<()> {
        self.saw(&node.id, now.evidence.clone());
        let mut journal = self.journal.borrow_mut();
        journal.note(Record::Done { step: node.id.clone(), fact: now.fact, evidence: now.evidence })?;
        if node.role == Role::Commit && !journal.state().committed {
            journal.note(Record::Committed { step: node.id.clone() })?;
            drop(journal);
            self.tell(Happening::Committed, Some(&node.id), Value::Null, None);
            self.tell_all();
        }
        Ok(())
    }

    async fn release(&self, node: &Node, rest: Value) -> Result<()> {
        let clock = Instant::now();
        let permit = self
            .journal
            .borrow()
            .permit(&node.id)
            .ok_or_else(|| Error::Journal(format!("{} was not started", node.id)))?;
        let earlier = self.earlier.borrow().clone();
        let now = node.step.set(&permit, &rest, &earlier).await?;
        if now.fact != rest {
            return Err(Error::Drift {
                step: node.id.clone(),
                old: rest.to_string(),
                new: rest.to_string(),
                found: now.fact.to_string(),
            });
        }
        // It is at rest, whether or not the journal can be told; a run that goes on lets it go once more.
        let noted = self.journal.borrow_mut().note(Record::Released { step: node.id.clone(), fact: rest.clone() });
        if let Err(error) = noted {
            self.tell(Happening::Warning, Some(&node.id), json!(error.to_string()), None);
        }
        self.tell(Happening::Released, Some(&node.id), rest, Some(clock.elapsed()));
        Ok(())
    }

    /// Finds out whether a commit step that was started took effect; true where it did.
    ///
    /// # Errors
    /// [`Error::Undecided`] where it cannot be known within the abort's deadline.
    pub(super) async fn settle_commit(&self) -> Result<bool> {
        if self.committed() {
            return Ok(true);
        }
        for node in self.graph.nodes().iter().filter(|node| node.role == Role::Commit) {
            let new = match self.journal.borrow().state().steps.get(&node.id) {
                Some(StepState::Started { new, .. } | StepState::Done { new, .. }) => new.clone(),
                _ => continue,
            };
            let until = Instant::now() + self.abort_within;
            let seen = loop {
                match node.step.observe().await {
                    Ok(seen) => break seen,
                    Err(error) if Instant::now() >= until => {
                        return Err(Error::Undecided(format!(
                            "whether {} took effect cannot be seen ({error}); nothing was taken back",
                            node.id
                        )));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            };
            if seen.fact == new {
                let was_done =
                    matches!(self.journal.borrow().state().steps.get(&node.id), Some(StepState::Done { .. }));
                let recorded = if was_done {
                    self.journal.borrow_mut().note(Record::Committed { step: node.id.clone() })
                } else {
                    self.record_done(node, seen)
                };
                // A journal that cannot be written does not make it less so.
                self.decided.set(true);
                if let Err(error) = recorded {
                    self.tell(Happening::Warning, Some(&node.id), json!(error.to_string()), None);
                }
                self.progress.borrow_mut().insert(node.id.clone(), Progress::Finished);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells how a run ended that went back: all the way, or leaving what it had made.
    pub(super) fn went_back(self, left: Vec<Left>, error: Error, plan: Plan) -> Report {
        let verdict = if left.is_empty() { Verdict::Aborted } else { Verdict::Stopped };
        Report { left, ..self.report(verdict, Some(error), plan) }
    }

    pub(super) fn report(self, verdict: Verdict, error: Option<Error>, plan: Plan) -> Report {
        let detail = json!({"verdict": verdict, "error": error.as_ref().map(ToString::to_string)});
        self.tell(Happening::Finished, None, detail, None);
        let run = self.journal.borrow().state().run.clone();
        Report {
            run,
            phase: self.graph.phase.clone(),
            verdict,
            error,
            steps: self.steps.into_inner(),
            changes: plan.changes,
            findings: plan.findings,
            evidence: self.evidence.into_inner(),
            left: Vec::new(),
        }
    }
}

fn both(first: &Error, second: &Error) -> Error {
    match second {
        Error::Undecided(problem) => Error::Undecided(format!("{problem} (the run was going back because: {first})")),
        Error::NotUndone(problem) => Error::NotUndone(format!("{problem} (the run was going back because: {first})")),
        other => Error::NotUndone(format!("{other} (the run was going back because: {first})")),
    }
}
