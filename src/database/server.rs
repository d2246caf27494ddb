//! One database server: who it is, and how it stands.

use super::dialect::{Dialect, Own, spoken};
use super::{Channel, Record, Session, endpoint};
use crate::error::{Error, Result};
use crate::settings::{Node, Settings, Side};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::net::IpAddr;

/// A client of one server.
pub struct Server {
    /// Side and node, as `old-db1`.
    pub name: String,
    pub side: Side,
    pub node: String,
    pub address: IpAddr,
    pub port: u16,
    pub(super) declared: Option<usize>,
    pub(super) settings: Settings,
    /// For everything but the way back.
    pub(super) session: Session,
    /// For the way back, which must not wait behind a statement that hangs.
    pub(super) rescue: Session,
    /// As the account that a fence stops.
    pub(super) marker: Session,
    dialect: Cell<Option<&'static dyn Dialect>>,
}

/// How a server stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub read_only: bool,
    pub server_id: u32,
    /// `MariaDB` or `MySQL`.
    pub family: String,
    pub version: String,
    /// What its own binlog holds.
    pub binlog_position: String,
    /// Everything it has: from its own binlog, or by replication.
    pub position: String,
    /// Whoever ever wrote into its binlog, and up to where.
    pub binlog_state: String,
    pub log_bin: bool,
    pub log_replica_updates: bool,
    pub binlog_format: String,
    pub sync_binlog: u32,
    pub flush_log_at_commit: u32,
    pub event_scheduler: String,
    /// The default replication channel, where it has one.
    pub channel: Option<Channel>,
    /// Names of further replication channels.
    pub other_channels: Vec<String>,
    pub own: Own,
}

impl Server {
    pub(super) fn new(settings: &Settings, side: Side, node: &str, found: &Node, declared: Option<usize>) -> Self {
        let name = format!("{}-{node}", side.word());
        let accounts = &settings.databases.accounts;
        let session = |account, private| Session::new(endpoint(settings, &name, found.private, account, private));
        Self {
            session: session(&accounts.admin, true),
            rescue: session(&accounts.admin, true),
            marker: session(&accounts.marker, false),
            dialect: Cell::new(None),
            side,
            node: node.to_owned(),
            address: found.private,
            port: settings.databases.port,
            declared,
            settings: settings.clone(),
            name,
        }
    }

    /// Returns the address as replication names it.
    pub fn place(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    /// Asks how the server stands; one packet.
    ///
    /// # Errors
    /// [`Error::Remote`] where it cannot be asked, or answers what is not understood.
    pub async fn status(&self) -> Result<Status> {
        self.status_by(&self.session).await
    }

    /// Asks the same over the connection that is kept for the way back.
    pub async fn status_for_rescue(&self) -> Result<Status> {
        self.status_by(&self.rescue).await
    }

    async fn status_by(&self, session: &Session) -> Result<Status> {
        let dialect = self.dialect_by(session).await?;
        let words = dialect.words();
        let mut sets = session.packet(&format!("{}; {}", words.facts, words.channels)).await?.into_iter();
        let facts = sets.next().and_then(|rows| rows.into_iter().next()).unwrap_or_default();
        let mut channel = None;
        let mut other_channels = Vec::new();
        for row in sets.next().unwrap_or_default() {
            match self.field(&row, words.columns.channel)? {
                "" => channel = Some(Channel::read(self, &words.columns, &row)?),
                other => other_channels.push(other.to_owned()),
            }
        }
        let position = |key: &str| dialect.normal(self.field(&facts, key)?);
        let told = |key: &str| facts.get(key).cloned().flatten();
        let flag = |key: &str| facts.get(key).map(|_| self.flag(&facts, key)).transpose();
        Ok(Status {
            read_only: self.read_only(&facts)?,
            server_id: self.number(&facts, "server_id")?,
            family: words.family.to_owned(),
            version: self.field(&facts, "version")?.to_owned(),
            binlog_position: position("binlog_position")?,
            position: position("position")?,
            binlog_state: self.field(&facts, "binlog_state")?.to_owned(),
            log_bin: self.flag(&facts, "log_bin")?,
            log_replica_updates: self.flag(&facts, "updates")?,
            binlog_format: self.field(&facts, "format")?.to_owned(),
            sync_binlog: self.number(&facts, "sync_binlog")?,
            flush_log_at_commit: self.number(&facts, "flush_log")?,
            event_scheduler: self.field(&facts, "events")?.to_uppercase(),
            channel,
            other_channels,
            own: Own {
                uuid: told("uuid"),
                super_read_only: flag("super_read_only")?,
                gtid_mode: told("gtid_mode"),
                purged: told("purged"),
                gtid_strict_mode: flag("strict")?,
                domain: facts.get("domain").map(|_| self.number(&facts, "domain")).transpose()?,
            },
        })
    }

    /// Finds out, once, what the server speaks.
    pub async fn dialect(&self) -> Result<&'static dyn Dialect> {
        self.dialect_by(&self.session).await
    }

    /// The same over the connection that is about to be used, for another one may hang.
    pub(super) async fn dialect_by(&self, session: &Session) -> Result<&'static dyn Dialect> {
        match self.dialect.get() {
            Some(dialect) => Ok(dialect),
            None => {
                let found = spoken(session, &self.name).await?;
                self.dialect.set(Some(found));
                Ok(found)
            }
        }
    }

    /// Asks for what its own binlog holds.
    pub async fn binlog_position(&self) -> Result<String> {
        let dialect = self.dialect().await?;
        let row = self.session.row(dialect.words().binlog_position).await?;
        dialect.normal(self.field(&row, "position")?)
    }

    /// Waits on the server until it has everything up to a position; false where the limit came first.
    pub async fn has(&self, position: &str, limit_ms: u64) -> Result<bool> {
        let dialect = self.dialect().await?;
        if !dialect.waits_for_its_own() {
            let current = self.session.row(dialect.words().position).await?;
            if dialect.holds(self.field(&current, "position")?, position)? {
                return Ok(true);
            }
        }
        let sql = dialect.wait(position, limit_ms.min(4_000));
        let mut left = limit_ms;
        loop {
            let row = self.session.row(&sql).await?;
            if self.field(&row, "waited")? == "0" {
                return Ok(true);
            }
            if left <= 4_000 {
                return Ok(false);
            }
            left -= 4_000;
        }
    }

    pub(super) fn field<'a>(&self, row: &'a Record, key: &str) -> Result<&'a str> {
        row.get(key)
            .and_then(Option::as_deref)
            .ok_or_else(|| Error::remote(&self.name, format!("it does not tell {key}")))
    }

    pub(super) fn number<N: std::str::FromStr>(&self, row: &Record, key: &str) -> Result<N> {
        let text = self.field(row, key)?;
        text.parse().map_err(|_| Error::remote(&self.name, format!("{key} is {text:?}, which is no number in range")))
    }

    pub(super) fn flag(&self, row: &Record, key: &str) -> Result<bool> {
        match self.field(row, key)? {
            "1" | "ON" => Ok(true),
            "0" | "OFF" => Ok(false),
            other => Err(Error::remote(&self.name, format!("{key} is {other:?}, which is neither on nor off"))),
        }
    }

    /// Reads `read_only`, which has more than two values from MariaDB 12 on: whatever is not off is on.
    pub(super) fn read_only(&self, row: &Record) -> Result<bool> {
        Ok(!matches!(self.field(row, "read_only")?, "0" | "OFF"))
    }
}

/// Writes milliseconds as SQL seconds.
pub(super) fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}
