//! Runs that nobody carries any more, by what the servers themselves say.
//!
//! Invariant: no journal is needed. A run is ended as its own controller would end it: by its decision row on the target,
//! and only then on the source. Where a primary cannot be asked, nothing is touched.

use super::fence::alone;
use super::given_up::FormerDomain;
use crate::database::{Rulings, Server};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::rc::Rc;

/// The runs that stand between fence and decision, or whose decision is open.
pub struct Orphans {
    pub old: Rc<Server>,
    pub new: Rc<Server>,
    /// Runs whose journal is here and says that they are over: nobody takes them back.
    pub over: BTreeSet<String>,
    /// The domain in which a server rests that booted closed.
    pub quarantine: u32,
}

/// How a run was ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub run: String,
    /// Whether the old side was its source.
    pub from_old: bool,
    /// Whether it was taken back; else it had won, and its target was opened again.
    pub back: bool,
}

impl Orphans {
    /// Has whoever is about to be opened write where the site writes: it may have booted closed, and apart.
    async fn rouse(&self, permit: &Permit, server: &Rc<Server>) -> Result<()> {
        let domain = FormerDomain { server: server.clone(), quarantine: self.quarantine };
        if domain.observe().await?.fact == Some(self.quarantine) {
            let site = domain.want(&Earlier::default()).await?;
            domain.set(permit, &site, &Earlier::default()).await?;
        }
        Ok(())
    }

    async fn found(&self) -> Result<Vec<Ended>> {
        let mut found = Vec::new();
        for (source, target, from_old) in [(&self.old, &self.new, true), (&self.new, &self.old, false)] {
            let (fences, decisions) = (source.fences().await, target.decisions().await);
            let pending = |rulings: &Result<Rulings>, word: &str| match rulings {
                Ok(found) => found.iter().any(|(run, state)| state == word && !self.over.contains(run)),
                Err(_) => false,
            };
            // Where one does not answer, and the other knows of nothing that is under way, nobody waits for anything.
            if (fences.is_err() || decisions.is_err()) && !pending(&fences, "fenced") && !pending(&decisions, "open") {
                continue;
            }
            let (fences, decisions) = (answered(source, fences)?, answered(target, decisions)?);
            let both_closed =
                source.status_for_rescue().await?.read_only && target.status_for_rescue().await?.read_only;
            let refenced = target.fences().await?.values().any(|state| state == "fenced");
            let runs: BTreeSet<&String> = fences.keys().chain(decisions.keys()).collect();
            for run in runs {
                let fenced = fences.get(run).is_some_and(|state| state == "fenced");
                let back = match decisions.get(run).map(String::as_str) {
                    Some("open") => true,
                    Some("promote") if fenced && both_closed && !refenced => false,
                    Some("promote") => continue,
                    _ if fenced => true,
                    _ => continue,
                };
                if back && self.over.contains(run) {
                    continue;
                }
                found.push(Ended { run: run.clone(), from_old, back });
            }
        }
        Ok(found)
    }
}

fn answered(server: &Server, rulings: Result<Rulings>) -> Result<Rulings> {
    rulings.map_err(|error| {
        Error::Undecided(format!(
            "{error}; without {} it cannot be seen how a run was decided, and nothing was touched",
            server.name
        ))
    })
}

impl Step for Orphans {
    type Fact = Vec<String>;
    /// How each run was ended.
    type Evidence = Vec<Ended>;

    async fn observe(&self) -> Result<Seen<Vec<String>, Vec<Ended>>> {
        let found = self.found().await?;
        Ok(Seen { fact: found.iter().map(|one| one.run.clone()).collect(), evidence: found })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn set(&self, permit: &Permit, _: &Vec<String>, _: &Earlier) -> Result<Seen<Vec<String>, Vec<Ended>>> {
        let mut ended = self.found().await?;
        for one in &mut ended {
            let (source, target) = if one.from_old { (&self.old, &self.new) } else { (&self.new, &self.old) };
            match target.decide_to_go_back(permit, &one.run).await {
                Ok(()) => {
                    one.back = true;
                    alone(source, target).await?;
                    self.rouse(permit, source).await?;
                    source.unfence(permit, &one.run, None).await?;
                }
                Err(Error::Committed(_)) => {
                    one.back = false;
                    self.rouse(permit, target).await?;
                    target.reopen(permit, &one.run).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Seen { fact: self.observe().await?.fact, evidence: ended })
    }

    fn undo(&self) -> Undo<Vec<String>> {
        Undo::Keep("a decision is final")
    }

    fn half_done(&self, _: &Vec<String>, _: &Vec<String>, _: &Vec<String>) -> bool {
        true
    }
}
