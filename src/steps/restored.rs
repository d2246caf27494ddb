//! Whether a backup of a new database was taken, and came back: brought to a moment after it was taken, with the data that
//! the server itself had in that moment.
//!
//! Invariant: what runs for it is a server of its own, which nobody reaches and which is gone in the end.

use crate::database::{Pinned, Server, Sum};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::Outside;
use crate::proof::{Proof, digest};
use crate::site::{Work, Worker};
use crate::step::{Earlier, Seen, Step, Undo};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long one look waits for the end of a job, in seconds.
const LOOK: u64 = 3;

/// `true` while the record of a backup that came back counts.
pub struct Restored {
    /// From whose history the moment is taken.
    pub source: Rc<Server>,
    pub server: Rc<Server>,
    pub takes: Worker,
    pub restores: Worker,
    /// What a worker calls the two.
    pub roles: (&'static str, &'static str),
    /// Settings that both jobs share.
    pub told: Vec<(&'static str, String)>,
    pub outside: Outside,
    pub state_dir: PathBuf,
    pub hours: f64,
    pub limit_ms: u64,
}

/// The subject of the record.
pub fn subject(server: &str) -> String {
    format!("backup.{server}")
}

/// Forgets that a backup came back: of a server that has other data now.
///
/// # Errors
/// As [`Proof::forget`].
pub fn forget(state_dir: &Path, server: &str) -> Result<()> {
    Proof::forget(state_dir, &subject(server))
}

type Sums = BTreeMap<String, Sum>;

impl Restored {
    fn hash(&self) -> String {
        digest(&json!([self.server.place(), self.told]))
    }

    /// Sees a job through; one that still works is waited for.
    async fn finish(
        &self,
        permit: &Permit,
        worker: &Worker,
        more: &[(&'static str, String)],
        anew: bool,
    ) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(self.limit_ms);
        if anew || worker.standing(None).await?.work != Work::Working {
            worker.reset(permit).await?;
            let told: Vec<(&str, String)> = self.told.iter().chain(more).cloned().collect();
            worker.begin(permit, &told, "").await?;
        }
        loop {
            let standing = worker.standing(Some(LOOK)).await?;
            match standing.work {
                Work::Done => return Ok(()),
                Work::Failed | Work::Nothing => return Err(Error::remote(&self.server.name, standing.words)),
                Work::Working if Instant::now() >= until => {
                    worker.reset(permit).await?;
                    let what = format!("{}: {}", self.server.name, worker.job);
                    return Err(Error::Deadline { what, limit_ms: self.limit_ms });
                }
                Work::Working => {}
            }
        }
    }

    /// Sums up what the server has in one moment; returns when that is, and the statements that ask for the same.
    async fn moment(&self, permit: &Permit) -> Result<(String, Sums, String)> {
        let tables = self.server.tables().await?;
        let tables: Vec<_> = tables.iter().filter(|table| table.unfit().is_none()).collect();
        // A pin waits for a moment only.
        let written = self.source.binlog_position().await?;
        let until = Instant::now() + Duration::from_millis(self.limit_ms);
        while !self.server.has(&written, LOOK * 1000).await? {
            if Instant::now() >= until {
                let what = format!("{}: catching up with {}", self.server.name, self.source.name);
                return Err(Error::Deadline { what, limit_ms: self.limit_ms });
            }
        }
        let Pinned { position, source, replica } = self.source.pin(permit, &self.server).await?;
        // Else the old primary keeps every old row until all is summed up.
        drop(source);
        let mut sums = Sums::new();
        for table in &tables {
            sums.insert(table.full(), table.total(&replica).await?);
        }
        // As the snapshot was read.
        let zone = "SET time_zone='+00:00';\n".to_owned();
        let asked = std::iter::once(zone).chain(tables.iter().map(|table| table.total_sql())).collect();
        Ok((position, sums, asked))
    }

    async fn restore(&self, permit: &Permit) -> Result<()> {
        self.finish(permit, &self.takes, &[("ROLE", self.roles.0.into())], false).await?;
        let (position, sums, asked) = self.moment(permit).await?;
        let more = [("ROLE", self.roles.1.into()), ("TARGET", position.clone()), ("SUMS", asked)];
        self.finish(permit, &self.restores, &more, true).await?;
        let found = read(&self.restores.result().await?);
        let other = |(table, sum): &(&String, &Sum)| found.get(*table) != Some(*sum);
        let differ: Vec<&str> = sums.iter().filter(other).map(|(table, _)| table.as_str()).collect();
        if !differ.is_empty() {
            let problem = format!(
                "its backup, brought to {position}, is not what the server had then, in {} of {} tables: {}",
                differ.len(),
                sums.len(),
                differ.iter().take(3).copied().collect::<Vec<_>>().join(", ")
            );
            return Err(Error::remote(&self.server.name, problem));
        }
        let rows: u64 = sums.values().map(|sum| sum.rows).sum();
        let evidence = json!({"position": position, "tables": sums.len(), "rows": rows, "host": self.restores.host});
        Proof::new(&subject(&self.server.name), self.hash(), evidence).keep(&self.state_dir)
    }
}

/// Reads table, rows and sum, line by line.
fn read(said: &str) -> Sums {
    let sum = |line: &str| {
        let mut words = line.rsplitn(3, '\t');
        let (crc, rows) = (words.next()?.trim().to_owned(), words.next()?.parse().ok()?);
        Some((words.next()?.to_owned(), Sum { rows, crc }))
    };
    said.lines().filter_map(sum).collect()
}

impl Step for Restored {
    type Fact = bool;
    /// To which moment.
    type Evidence = String;

    async fn observe(&self) -> Result<Seen<bool, String>> {
        // One that is not there yet, or was emptied, is not what came back; a primary is.
        let status = self.server.status().await;
        let stands = status.is_ok_and(|status| status.channel.is_some() || !status.read_only);
        let proof = Proof::read(&self.state_dir, &subject(&self.server.name))?;
        let proof = proof.filter(|proof| stands && proof.fresh(self.hours) && proof.hash == self.hash());
        let position = proof.as_ref().and_then(|proof| proof.evidence["position"].as_str().map(str::to_owned));
        Ok(Seen { fact: proof.is_some(), evidence: position.unwrap_or_default() })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        let status = self.source.status().await?;
        // Once the site has moved there is nothing to prove before it does.
        if status.read_only && status.channel.is_some() { Ok(self.observe().await?.fact) } else { Ok(true) }
    }

    async fn set(&self, permit: &Permit, _to: &bool, _earlier: &Earlier) -> Result<Seen<bool, String>> {
        tokio::select! {
            done = self.restore(permit) => done?,
            // The host goes on by itself; the next run finds what it was about.
            why = self.outside.interrupted() => return Err(Error::Interrupted(why)),
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave("a backup harms nobody")
    }
}
