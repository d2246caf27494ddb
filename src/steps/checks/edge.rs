//! Whether every CDN service can be switched.

use super::{Notes, Topic};
use crate::edge::{Fastly, Quota};
use crate::error::Result;
use crate::event::Finding;
use crate::settings::{Edge, Purge};
use crate::steps::Switch;
use crate::steps::edge::Writes;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The services, and the addresses that nodes own.
pub struct EdgeReady {
    pub fastly: Fastly,
    pub edge: Edge,
    pub switches: Vec<Rc<Switch>>,
    /// Addresses of either side that have a counterpart on the other.
    pub owned: BTreeSet<String>,
    /// The last budget that was seen, where its hour still runs.
    pub quota: Option<Quota>,
    /// Whether nothing is switched this time, so that there is time to wait.
    pub staging_only: bool,
}

impl EdgeReady {
    /// Compares the writes to come with those that are left.
    fn budget(&self, notes: &mut Notes, sum: Writes) {
        // Where nothing is left to be staged, one write asks for the budget.
        let asked = u64::from(sum.staging == 0 && sum.switch > 0);
        let (needed, kept) =
            if self.staging_only { (sum.staging, 0) } else { (sum.staging + asked + sum.switch, sum.back) };
        if needed == 0 {
            return;
        }
        let limit = self.edge.writes_per_hour;
        let left = self.quota.map_or_else(
            || format!("how many of {limit} are left this hour is not known before the first"),
            |quota| format!("{} left this hour", quota.left),
        );
        let found = format!("needs {needed} writes, {left}, {kept} kept for the way back");
        if needed + kept <= self.quota.map_or(limit, |quota| quota.left) {
            notes.warn("writes", found, "nothing: it is a forecast");
        } else if self.staging_only {
            notes.warn("writes", found, "nothing: when none is left it waits for the next hour, and goes on");
        } else {
            let mend = "make the versions ready an hour before (salt-run salt.cmd migrate_fastly.stage), or wait for the next hour; where the account has more, set migrate:edge:writes_per_hour";
            notes.block("writes", found, mend);
        }
    }
}

impl Topic for EdgeReady {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("edge");
        match self.fastly.scopes().await {
            Ok(scopes) if scopes.iter().any(|scope| scope == "global") => {}
            Ok(scopes) => notes.block(
                "token",
                format!("its scopes are [{}]", scopes.join(", ")),
                "make a token of scope global for these services",
            ),
            Err(error) => {
                notes.block("token", error.to_string(), "correct migrate:edge:token and migrate:edge:api");
                return Ok(notes.findings);
            }
        }
        let mut sum = Writes::default();
        let looks = join_all(self.switches.iter().map(|switch| switch.look())).await;
        for (switch, look) in self.switches.iter().zip(looks) {
            let (name, Some(service)) = (&switch.name, self.edge.services.get(&switch.name)) else { continue };
            match look {
                Ok(look) => {
                    sum.staging += look.writes.staging;
                    sum.switch += look.writes.switch;
                    sum.back += look.writes.back;
                    for (backend, address) in &look.backends {
                        if !self.owned.contains(address) && !service.leave.contains(backend) {
                            let mend = format!(
                                "give the node with {address} a counterpart in migrate:nodes, or name {backend} in migrate:edge:services:{name}:leave"
                            );
                            notes.block(
                                name,
                                format!("backend {backend} points to {address}, which no node of both sides owns"),
                                mend,
                            );
                        }
                    }
                    for draft in look.drafts {
                        notes.warn(
                            name,
                            format!("version {draft} is somebody's draft: activated later, it would point back"),
                            format!(
                                "let its owner delete it, or clone it anew after the switch (service {})",
                                service.id
                            ),
                        );
                    }
                }
                Err(error) => notes.block(
                    name,
                    error.to_string(),
                    format!("correct migrate:edge:services:{name}:id, or activate a version, or take it out"),
                ),
            }
            if service.probe.is_none() && !self.staging_only {
                notes.warn(
                    name,
                    "it has no probe, so the API's word is taken for the edge's",
                    format!("set migrate:edge:services:{name}:probe"),
                );
            }
            if service.purge == Purge::Nothing && !self.staging_only {
                notes.warn(
                    name,
                    "nothing is purged, so pages cached before the switch live on",
                    format!("set migrate:edge:services:{name}:purge"),
                );
            }
        }
        self.budget(&mut notes, sum);
        Ok(notes.findings)
    }
}
