//! The checks before a transfer, one topic per file. Each is a step whose fact is its list of blocking findings.
//!
//! Invariant: a check reads only, and gathers everything it finds before anybody is told.

mod accounts;
mod backup;
mod cloud;
mod comparison;
mod configuration;
mod copies;
mod data;
mod edge;
mod files;
mod fleet;
mod hosts;
mod keys;
mod leaving;
mod likeness;
mod loss;
mod names;
mod network;
mod others;
mod privileges;
mod rendering;
mod room;
mod seeding;
mod signoff;
mod singletons;
mod testing;
mod throw_away;
mod topology;
mod transactions;
mod tripwire;
mod uncommitted;
mod uploads;
mod versions;
mod volumes;
mod workload;

pub use accounts::Accounts;
pub use backup::BackupCameBack;
pub use cloud::{CloudReached, reached};
pub use comparison::ComparisonMade;
pub use configuration::Configuration;
pub use copies::CopiesReady;
pub use data::DataCompared;
pub use edge::EdgeReady;
pub use files::FilesDiffer;
pub use fleet::FleetFits;
pub use hosts::{Hosts, HostsSpared};
pub use keys::KeysFree;
pub use leaving::{BackupKept, Disused, OldNodesAre, Soaked};
pub use likeness::Likeness;
pub use loss::{LossAccepted, TOPIC as LOSS};
pub use names::{Moved, NamesBeside};
pub use network::NetworkReady;
pub use others::OthersAtWork;
pub use privileges::Privileges;
pub use rendering::Rendering;
pub use room::{Room, file_system, of_servers as room_of};
pub use seeding::Copyable;
pub use signoff::{NobodySigns, Signed, SignedOff, signed, subject};
pub use singletons::{SingletonsThere, There};
pub use testing::Following;
pub use throw_away::ThrowAway;
pub use topology::Topology;
pub use transactions::Transactions;
pub use tripwire::{Deserted, Tripwire};
pub use uncommitted::Uncommitted;
pub use uploads::UploadsLacking;
pub use versions::Versions;
pub use volumes::{OldHome, VolumesLeft};
pub use workload::Workload;

use crate::error::{Error, Result};
use crate::event::Finding;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use sha2::{Digest, Sha256};
use std::future::Future;

/// One topic that is looked into.
pub trait Topic {
    /// Looks, and returns everything that was found.
    fn look(&self) -> impl Future<Output = Result<Vec<Finding>>>;
}

/// A topic as a step.
pub struct Check<T>(pub T);

/// A topic of a later phase: what blocks that one is told now, and hinders nobody yet.
pub struct Later<T>(pub T);

impl<T: Topic> Topic for Later<T> {
    async fn look(&self) -> Result<Vec<Finding>> {
        let told = self.0.look().await?;
        Ok(told.into_iter().map(|finding| Finding { blocking: false, forceable: false, ..finding }).collect())
    }
}

impl<T: Topic> Step for Check<T> {
    /// The blocking findings.
    type Fact = Vec<Finding>;
    /// All findings.
    type Evidence = Vec<Finding>;

    async fn observe(&self) -> Result<Seen<Vec<Finding>, Vec<Finding>>> {
        let findings = self.0.look().await?;
        let blocking = findings.iter().filter(|finding| finding.blocking).cloned().collect();
        Ok(Seen { fact: blocking, evidence: findings })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn set(&self, _: &Permit, _: &Vec<Finding>, _: &Earlier) -> Result<Seen<Vec<Finding>, Vec<Finding>>> {
        Err(Error::Refused(self.0.look().await?))
    }

    fn undo(&self) -> Undo<Vec<Finding>> {
        Undo::Keep("a check changes nothing")
    }
}

/// Gathers the findings of one topic.
struct Notes {
    topic: &'static str,
    findings: Vec<Finding>,
}

impl Notes {
    fn new(topic: &'static str) -> Self {
        Self { topic, findings: Vec::new() }
    }

    fn block(&mut self, subject: &str, found: impl Into<String>, mend: impl Into<String>) {
        self.note(subject, found.into(), mend.into(), true, false);
    }

    /// What blocks, unless somebody who knows better takes it on themselves.
    fn doubt(&mut self, subject: &str, found: impl Into<String>, mend: impl Into<String>) {
        self.note(subject, found.into(), mend.into(), true, true);
    }

    fn warn(&mut self, subject: &str, found: impl Into<String>, mend: impl Into<String>) {
        self.note(subject, found.into(), mend.into(), false, false);
    }

    /// Blocks where a limit leaves no room for what is asked for.
    fn within(&mut self, what: &str, asked: u64, used: u64, most: Option<u64>) {
        if let Some(most) = most
            && asked > 0
            && used + asked > most
        {
            let found = format!("the project may have {most}, has {used}, and {asked} more are asked for");
            self.block(what, found, format!("have the quota raised by {}", used + asked - most));
        }
    }

    fn note(&mut self, subject: &str, found: String, mend: String, blocking: bool, forceable: bool) {
        let digest = Sha256::digest(found.as_bytes());
        let id = format!("{}/{subject}/{:02x}{:02x}", self.topic, digest[0], digest[1]);
        let (topic, subject) = (self.topic.to_owned(), subject.to_owned());
        self.findings.push(Finding { topic, subject, found, mend, blocking, id, forceable, forced: None });
    }
}
