//! The switch of a service rehearsed on its copy: a version is cloned, validated, locked, activated, and seen at the edge.
//!
//! Invariant: nothing is written but to the copy, and nobody's pages come from it; the service itself is not even read.

use super::deed::Deed;
use super::edge::{Activated, Everywhere, Staged, Switch};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Step};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Instant;

/// The record's subject.
pub const REHEARSAL: &str = "rehearsal";

/// A copy, as what the flip switches.
pub struct Rehearsed(pub Rc<Switch>);

/// How long each part took, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rehearsal {
    pub staged_ms: f64,
    /// Until the first proof at the edge: what editors wait for.
    pub activated_ms: f64,
    /// Until every point of presence served it.
    pub everywhere_ms: f64,
}

impl Deed for Rehearsed {
    type Evidence = Rehearsal;

    const KEPT: &'static str = "a further version of a copy serves nobody else";

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<Rehearsal> {
        const STAGED: &str = "staged";
        const ACTIVATED: &str = "activated";
        let json = |error: serde_json::Error| Error::Journal(error.to_string());
        let ms = |began: Instant| began.elapsed().as_secs_f64() * 1000.0;
        let mut earlier = Earlier::default();
        let began = Instant::now();
        let staged = Staged(self.0.clone()).set(permit, &true, &earlier).await?;
        let staged_ms = ms(began);
        earlier.insert(STAGED, serde_json::to_value(&staged.evidence).map_err(json)?);
        let began = Instant::now();
        let step = Activated { switch: self.0.clone(), staged: STAGED.into() };
        let activated = step.set(permit, &staged.evidence.backends, &earlier).await?;
        let activated_ms = ms(began);
        earlier.insert(ACTIVATED, serde_json::to_value(&activated.evidence).map_err(json)?);
        let step = Everywhere { switch: self.0.clone(), activated: ACTIVATED.into() };
        step.carry_out(permit, &earlier).await?;
        Ok(Rehearsal { staged_ms, activated_ms, everywhere_ms: ms(began) })
    }
}
