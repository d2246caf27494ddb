//! What hosts are by a file of states: what is held on one side, what search engines are told, what stands still.

use super::deed::Deed;
use crate::error::Result;
use crate::journal::Permit;
use crate::outside::Outside;
use crate::site::{self, HostStates};
use crate::step::{Earlier, Seen, Step, Undo};

/// `true` while every host is as `on` makes it.
pub struct HostState {
    pub outside: Outside,
    pub on: HostStates,
    /// What takes it back.
    pub off: HostStates,
    /// What it shall be.
    pub want: bool,
    /// Why an abort leaves it; nothing where an abort takes it back.
    pub kept: Option<&'static str>,
}

impl Step for HostState {
    type Fact = bool;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<bool, ()>> {
        // What is half one way and half the other is not as it should be, whichever that is.
        let fact =
            if self.want { self.on.stands(&self.outside).await? } else { !self.off.stands(&self.outside).await? };
        Ok(Seen { fact, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(self.want)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, ()>> {
        let applied = if *to { &self.on } else { &self.off };
        applied.apply(&self.outside, permit).await?;
        Ok(Seen { fact: *to, evidence: () })
    }

    fn undo(&self) -> Undo<bool> {
        self.kept.map_or(Undo::Restore, Undo::Keep)
    }
}

/// The same for whoever has to do without some hosts: those that answer are made so, and nobody is looked at before.
pub struct AsFarAsReached {
    pub step: HostState,
    /// Seconds to wait for a sign of life.
    pub seconds: u64,
}

impl Deed for AsFarAsReached {
    /// The hosts that are silent.
    type Evidence = Vec<String>;

    const KEPT: &'static str = "hosts stay as they are";

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<Vec<String>> {
        let HostState { outside, on, off, want, .. } = &self.step;
        let mut states = if *want { on.clone() } else { off.clone() };
        let silent = site::silent(outside, &states.hosts, self.seconds).await?;
        states.hosts.retain(|host| !silent.contains(host));
        states.apply(outside, permit).await?;
        Ok(silent)
    }
}
