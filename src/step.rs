//! A step: one fact about the world, and the value the migration wants it to have.
//!
//! Invariant: plan, apply, resume and undo all follow from the one declaration here; there is no second definition of
//! any of them. What changes the world takes a [`Permit`], which only a durable `started` record makes.

use crate::error::{Error, Result};
use crate::journal::Permit;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// What a look at the world showed: the fact, and the evidence seen in the act.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen<F, E> {
    pub fact: F,
    pub evidence: E,
}

/// What becomes of a fact when the run is aborted.
#[derive(Debug, Clone, PartialEq)]
pub enum Undo<F> {
    /// The value it had is set again.
    Restore,
    /// It stays, for this reason, and nothing that counts is other than it was.
    Keep(&'static str),
    /// What was made stays, or what was taken away stays away, for this reason: the same command goes on from there.
    Leave(&'static str),
    /// A transient fact: once the steps `until` are done, `rest` is set; an abort restores what it was.
    Held { until: Vec<String>, rest: F },
}

/// The evidence of the steps before, by step id.
#[derive(Debug, Clone, Default)]
pub struct Earlier(Rc<BTreeMap<String, Value>>);

impl Earlier {
    /// Reads what an earlier step saw.
    ///
    /// # Errors
    /// [`Error::NotYet`] where that step has not run.
    pub fn of<E: DeserializeOwned>(&self, step: &str) -> Result<E> {
        let value = self.0.get(step).ok_or_else(|| Error::NotYet(format!("what {step} will see")))?;
        serde_json::from_value(value.clone()).map_err(|error| Error::Journal(format!("evidence of {step}: {error}")))
    }

    pub(crate) fn insert(&mut self, step: &str, evidence: Value) {
        Rc::make_mut(&mut self.0).insert(step.to_owned(), evidence);
    }

    /// Takes what a later look showed, unless the step is known already: what a run saw before it changed anything counts.
    pub(crate) fn insert_if_new(&mut self, step: &str, evidence: Value) {
        Rc::make_mut(&mut self.0).entry(step.to_owned()).or_insert(evidence);
    }
}

/// One fact about the world, and the value the migration wants it to have.
pub trait Step {
    /// Only what is decided, or must be restored.
    type Fact: PartialEq + Serialize + DeserializeOwned + Clone;
    /// What was seen in the act: positions, versions, timings.
    type Evidence: Serialize + DeserializeOwned;

    /// Looks, and changes nothing.
    fn observe(&self) -> impl Future<Output = Result<Seen<Self::Fact, Self::Evidence>>>;

    /// Says what the fact should be, from settings and what earlier steps saw.
    fn want(&self, earlier: &Earlier) -> impl Future<Output = Result<Self::Fact>>;

    /// Makes the fact what it should be, and returns what it then is. Setting twice is setting once.
    fn set(
        &self,
        permit: &Permit,
        to: &Self::Fact,
        earlier: &Earlier,
    ) -> impl Future<Output = Result<Seen<Self::Fact, Self::Evidence>>>;

    /// Says what an abort does.
    fn undo(&self) -> Undo<Self::Fact>;

    /// Whether `set` itself refuses when the world is no longer as observed, so that no second look is due before it.
    fn compares_and_sets(&self) -> bool {
        false
    }

    /// Whether the fact outlives a reboot. One that does not is set once more behind the commit point, where it is found as
    /// it was: there is only the way forward then.
    fn lasts(&self) -> bool {
        true
    }

    /// Whether what is found, where the fact was `new` already, is what a reboot makes of it.
    fn rebooted(&self, found: &Self::Fact, old: &Self::Fact, _new: &Self::Fact) -> bool {
        !self.lasts() && found == old
    }

    /// Whether what a run made true becomes untrue by itself, as people go on with their work: a run that died has it made
    /// true once more.
    fn wanes(&self) -> bool {
        false
    }

    /// Whether a value that is neither as it was nor as it should be is what a `set` that died leaves behind.
    fn half_done(&self, _found: &Self::Fact, _old: &Self::Fact, _new: &Self::Fact) -> bool {
        false
    }
}

/// A boxed future of the one task that runs everything.
pub(crate) type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A step with its types erased to JSON, for the engine alone.
pub(crate) trait Erased {
    fn observe(&self) -> Local<'_, Result<Seen<Value, Value>>>;
    fn want<'a>(&'a self, earlier: &'a Earlier) -> Local<'a, Result<Value>>;
    fn set<'a>(
        &'a self,
        permit: &'a Permit,
        to: &'a Value,
        earlier: &'a Earlier,
    ) -> Local<'a, Result<Seen<Value, Value>>>;
    fn undo(&self) -> Result<Undo<Value>>;
    fn compares_and_sets(&self) -> bool;
    fn rebooted(&self, found: &Value, old: &Value, new: &Value) -> bool;
    fn wanes(&self) -> bool;
    fn half_done(&self, found: &Value, old: &Value, new: &Value) -> bool;
}

impl<S: Step> Erased for S {
    fn observe(&self) -> Local<'_, Result<Seen<Value, Value>>> {
        Box::pin(async { erase(Step::observe(self).await?) })
    }

    fn want<'a>(&'a self, earlier: &'a Earlier) -> Local<'a, Result<Value>> {
        Box::pin(async { to_json(&Step::want(self, earlier).await?) })
    }

    fn set<'a>(
        &'a self,
        permit: &'a Permit,
        to: &'a Value,
        earlier: &'a Earlier,
    ) -> Local<'a, Result<Seen<Value, Value>>> {
        Box::pin(async {
            let to = serde_json::from_value(to.clone())
                .map_err(|error| Error::Journal(format!("the journaled value does not fit: {error}")))?;
            erase(Step::set(self, permit, &to, earlier).await?)
        })
    }

    fn undo(&self) -> Result<Undo<Value>> {
        Ok(match Step::undo(self) {
            Undo::Restore => Undo::Restore,
            Undo::Keep(why) => Undo::Keep(why),
            Undo::Leave(why) => Undo::Leave(why),
            Undo::Held { until, rest } => Undo::Held { until, rest: to_json(&rest)? },
        })
    }

    fn compares_and_sets(&self) -> bool {
        Step::compares_and_sets(self)
    }

    fn rebooted(&self, found: &Value, old: &Value, new: &Value) -> bool {
        facts(found, old, new).is_some_and(|(found, old, new)| Step::rebooted(self, &found, &old, &new))
    }

    fn wanes(&self) -> bool {
        Step::wanes(self)
    }

    fn half_done(&self, found: &Value, old: &Value, new: &Value) -> bool {
        facts(found, old, new).is_some_and(|(found, old, new)| Step::half_done(self, &found, &old, &new))
    }
}

fn facts<F: DeserializeOwned>(found: &Value, old: &Value, new: &Value) -> Option<(F, F, F)> {
    let fact = |value: &Value| serde_json::from_value(value.clone()).ok();
    Some((fact(found)?, fact(old)?, fact(new)?))
}

fn erase<F: Serialize, E: Serialize>(seen: Seen<F, E>) -> Result<Seen<Value, Value>> {
    Ok(Seen { fact: to_json(&seen.fact)?, evidence: to_json(&seen.evidence)? })
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::Journal(error.to_string()))
}
