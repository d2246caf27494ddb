//! What the servers themselves say of runs, for those who have no journal of theirs; and how such a run is ended.
//!
//! Invariant: as in `fence.rs`: nobody opens the source who has not won the row, nor the target where it was not won.

use super::dialect::TABLES;
use super::{Record, SCHEMA, Server};
use crate::error::{Error, Result};
use crate::journal::Permit;
use std::collections::BTreeMap;

/// What is written down on one server: the word for each run.
pub type Rulings = BTreeMap<String, String>;

impl Server {
    /// Returns how each run was decided here: `open`, `promote` or `unfence`.
    ///
    /// # Errors
    /// [`Error::Remote`] where it cannot be asked.
    pub async fn decisions(&self) -> Result<Rulings> {
        self.rulings("decision").await
    }

    /// Returns how the fence of each run stands here: `fenced`, `lifted` or `superseded`.
    ///
    /// # Errors
    /// [`Error::Remote`] where it cannot be asked.
    pub async fn fences(&self) -> Result<Rulings> {
        self.rulings("fence").await
    }

    /// Returns the runs whose decision stands open here, with the seconds since each began.
    ///
    /// # Errors
    /// [`Error::Remote`] where it cannot be asked.
    pub async fn undecided(&self) -> Result<Vec<(String, u64)>> {
        if !self.has_rulings().await? {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT run, GREATEST(TIMESTAMPDIFF(SECOND, opened, NOW(6)), 0) AS seconds FROM {SCHEMA}.decision \
             WHERE state='open'"
        );
        let sets = self.rescue().packet(&sql).await?;
        let pair = |row| Ok((self.field(row, "run")?.to_owned(), self.number(row, "seconds")?));
        sets.iter().flatten().map(pair).collect()
    }

    async fn has_rulings(&self) -> Result<bool> {
        let row = self.rescue().row(&format!("SELECT ({TABLES}) = 2 AS there")).await?;
        self.flag(&row, "there")
    }

    async fn rulings(&self, table: &str) -> Result<Rulings> {
        if !self.has_rulings().await? {
            return Ok(Rulings::new());
        }
        let sets = self.rescue().packet(&format!("SELECT run, state FROM {SCHEMA}.{table}")).await?;
        let pair = |row| Ok((self.field(row, "run")?.to_owned(), self.field(row, "state")?.to_owned()));
        sets.iter().flatten().map(pair).collect()
    }

    /// Opens a target again that won its promotion and was closed since, by a restart for example. One packet.
    ///
    /// # Errors
    /// [`Error::Remote`] where it did not win, or was fenced by another run since.
    pub async fn reopen(&self, _permit: &Permit, run: &str) -> Result<()> {
        let sql = self.dialect_by(self.rescue()).await?.reopen(run);
        let row = self.rescue().row(&sql).await?;
        if self.read_only(&row)? {
            return Err(Error::remote(&self.name, format!("run {run} did not win it, or another run fenced it since")));
        }
        Ok(())
    }

    /// Returns the last transaction that replication brought here, applied or not; what the server has, where it follows
    /// nobody.
    ///
    /// # Errors
    /// [`Error::Remote`] where it cannot be asked.
    pub async fn received(&self) -> Result<String> {
        let dialect = self.dialect_by(self.rescue()).await?;
        let sets = self.rescue().packet(dialect.received()).await?;
        // Of a named channel, somebody else's, nothing is meant.
        let default = |row: &&Record| !matches!(row.get("Connection_name"), Some(Some(name)) if !name.is_empty());
        let position =
            |row: &Record| ["position", "Gtid_IO_Pos"].iter().find_map(|key| row.get(*key).cloned().flatten());
        let received = sets.iter().flatten().find(default).and_then(position).filter(|text| !text.is_empty());
        match received {
            Some(received) => dialect.normal(&received),
            None => Ok(self.status_for_rescue().await?.position),
        }
    }

    /// Opens a server whose former primary is given up: its fences are lifted, for nobody else will. One packet.
    pub async fn open_alone(&self, _permit: &Permit) -> Result<()> {
        let sql = self.dialect_by(self.rescue()).await?.open_alone();
        self.rescue().packet(&sql).await.map(|_| ())
    }
}
