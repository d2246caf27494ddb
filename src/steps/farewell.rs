//! What ends with the move on hosts, servers and the controller: the reverse replication, accounts, the keys of minions,
//! and the last backup.
//!
//! Invariant: none of it is undone, and each is asked for anew by the same command where it was not reached.

use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::{Call, Outside};
use crate::proof::Proof;
use crate::settings::Backup;
use crate::site::HostStates;
use crate::step::{Earlier, Seen, Step, Undo};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Why nothing here is taken back.
const OVER: &str = "the way back was given up; the same command goes on";

/// Whom the former primary follows: nobody, in the end.
pub struct ReverseEnded {
    pub server: Rc<Server>,
    /// Whether its node was stopped by an earlier run, which does so after this.
    pub stopped: bool,
    pub state_dir: PathBuf,
    /// The run that moved the site: a later one makes it a fact of the past.
    pub after: Option<String>,
}

const REVERSE: &str = "reverse-ended";

impl ReverseEnded {
    fn on_record(&self) -> Result<bool> {
        let proof = Proof::read(&self.state_dir, REVERSE)?;
        Ok(proof.is_some_and(|proof| Some(&proof.hash) == self.after.as_ref()))
    }
}

impl Step for ReverseEnded {
    type Fact = Option<String>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Self::Fact, ()>> {
        match self.server.status().await {
            Ok(status) => Ok(Seen { fact: status.channel.map(|channel| channel.source), evidence: () }),
            // Its node is stopped by now, and it followed nobody when that was done.
            Err(_) if self.stopped || self.on_record()? => Ok(Seen { fact: None, evidence: () }),
            Err(error) => Err(error),
        }
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Self::Fact> {
        Ok(None)
    }

    async fn set(&self, permit: &Permit, _to: &Self::Fact, _earlier: &Earlier) -> Result<Seen<Self::Fact, ()>> {
        self.server.unfollow(permit).await?;
        let seen = self.observe().await?;
        if seen.fact.is_none() {
            let hash = self.after.clone().unwrap_or_default();
            Proof::new(REVERSE, hash, json!({"server": self.server.name})).keep(&self.state_dir)?;
        }
        Ok(seen)
    }

    fn undo(&self) -> Undo<Self::Fact> {
        Undo::Leave(OVER)
    }
}

/// The accounts of a user, as `user@host`: none, in the end.
pub struct UserDropped {
    pub server: Rc<Server>,
    pub user: String,
}

impl Step for UserDropped {
    type Fact = BTreeSet<String>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Self::Fact, ()>> {
        Ok(Seen { fact: self.server.accounts_of(&self.user).await?.into_iter().collect(), evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Self::Fact> {
        Ok(BTreeSet::new())
    }

    async fn set(&self, permit: &Permit, to: &Self::Fact, _earlier: &Earlier) -> Result<Seen<Self::Fact, ()>> {
        for account in self.observe().await?.fact.difference(to) {
            self.server.drop_account(permit, account).await?;
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<Self::Fact> {
        Undo::Leave(OVER)
    }

    fn half_done(&self, found: &Self::Fact, old: &Self::Fact, new: &Self::Fact) -> bool {
        new.is_subset(found) && found.is_subset(old)
    }
}

/// Those of some minions whose keys the controller accepts: none, in the end.
pub struct KeysRevoked {
    pub outside: Outside,
    pub minions: Vec<String>,
}

impl Step for KeysRevoked {
    type Fact = BTreeSet<String>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Self::Fact, ()>> {
        Ok(Seen { fact: self.outside.accepted(&self.minions).await?.into_iter().collect(), evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Self::Fact> {
        Ok(BTreeSet::new())
    }

    async fn set(&self, permit: &Permit, to: &Self::Fact, _earlier: &Earlier) -> Result<Seen<Self::Fact, ()>> {
        let accepted: Vec<String> = self.observe().await?.fact.difference(to).cloned().collect();
        self.outside.revoke(permit, &accepted).await?;
        self.observe().await
    }

    fn undo(&self) -> Undo<Self::Fact> {
        Undo::Leave(OVER)
    }

    fn half_done(&self, found: &Self::Fact, old: &Self::Fact, new: &Self::Fact) -> bool {
        new.is_subset(found) && found.is_subset(old)
    }
}

/// `true` once a last backup of the old side was taken, and seen to be whole.
pub struct LastBackup {
    pub outside: Outside,
    pub host: String,
    pub backup: Backup,
    pub state_dir: PathBuf,
    /// The run that moved the site: a backup from before it is not the last.
    pub after: Option<String>,
}

const BACKUP: &str = "last-backup";

/// Reads the record of the last backup, where it was taken since the site was moved by that run.
///
/// # Errors
/// [`Error::Journal`] where the record cannot be read.
pub fn last_backup(state_dir: &Path, after: Option<&String>) -> Result<Option<Proof>> {
    Ok(Proof::read(state_dir, BACKUP)?.filter(|proof| Some(&proof.hash) == after))
}

impl Step for LastBackup {
    type Fact = bool;
    /// The hash of the file.
    type Evidence = Option<String>;

    async fn observe(&self) -> Result<Seen<bool, Option<String>>> {
        // The file is carried away by people, and its host goes: what was seen of it is what is left.
        let proof = last_backup(&self.state_dir, self.after.as_ref())?;
        let sum = proof.as_ref().and_then(|proof| proof.evidence["sha256"].as_str().map(str::to_owned));
        Ok(Seen { fact: proof.is_some(), evidence: sum })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, _to: &bool, _earlier: &Earlier) -> Result<Seen<bool, Option<String>>> {
        let seconds = self.backup.seconds;
        let states = HostStates {
            hosts: vec![self.host.clone()],
            states: "migrate.host.backup",
            told: json!({"path": self.backup.path, "options": self.backup.options, "seconds": seconds}),
            seconds: seconds + 60,
        };
        states.apply(&self.outside, permit).await?;
        let asked = vec![Call::new("file.get_hash", json!({"path": self.backup.path, "form": "sha256"}))];
        let said = self.outside.call(std::slice::from_ref(&self.host), asked, seconds).await?;
        let sum = said.into_values().flatten().next();
        let Some(Ok(serde_json::Value::String(sum))) = sum else {
            return Err(Error::remote(
                &self.host,
                format!("the sum of {}: unexpected answer {sum:?}", self.backup.path),
            ));
        };
        let evidence = json!({"host": self.host, "path": self.backup.path, "sha256": sum});
        Proof::new(BACKUP, self.after.clone().unwrap_or_default(), evidence).keep(&self.state_dir)?;
        self.observe().await
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("a backup harms nobody")
    }
}
