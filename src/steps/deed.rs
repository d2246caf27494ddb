//! Deeds: what is done once in a run, and leaves nothing to look at.
//!
//! Invariant: a deed is never observed as done, so every run does it anew; within a run the journal says that it was.

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::Outside;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;

/// Something that is done, or waited for, or looked at once more.
pub trait Deed {
    /// What was seen in the act.
    type Evidence: Default + Serialize + DeserializeOwned;

    /// Why an abort leaves it as it is.
    const KEPT: &'static str;

    /// Does it; doing it twice is doing it once.
    fn carry_out(&self, permit: &Permit, earlier: &Earlier) -> impl Future<Output = Result<Self::Evidence>>;
}

/// A deed that only waits, and so is over where somebody asks for the end.
pub struct Patient<D> {
    pub deed: D,
    pub outside: Outside,
}

impl<D: Deed> Deed for Patient<D> {
    type Evidence = D::Evidence;

    const KEPT: &'static str = D::KEPT;

    async fn carry_out(&self, permit: &Permit, earlier: &Earlier) -> Result<D::Evidence> {
        tokio::select! {
            done = self.deed.carry_out(permit, earlier) => done,
            why = self.outside.interrupted() => Err(Error::Interrupted(why)),
        }
    }
}

/// A deed as a step: `true` once it is done.
pub struct Once<D>(pub D);

impl<D: Deed> Step for Once<D> {
    type Fact = bool;
    type Evidence = D::Evidence;

    async fn observe(&self) -> Result<Seen<bool, D::Evidence>> {
        Ok(Seen { fact: false, evidence: D::Evidence::default() })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, earlier: &Earlier) -> Result<Seen<bool, D::Evidence>> {
        Ok(Seen { fact: *to, evidence: self.0.carry_out(permit, earlier).await? })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep(D::KEPT)
    }
}
