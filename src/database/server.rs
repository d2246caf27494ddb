//! One database server: who it is, and how it stands.

use super::gtid::Position;
use super::{Channel, Record, Session, endpoint};
use crate::error::{Error, Result};
use crate::settings::{Node, Settings, Side};
use serde::{Deserialize, Serialize};
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
}

/// How a server stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub read_only: bool,
    pub server_id: u32,
    pub version: String,
    /// The last transaction of each domain in its own binlog.
    pub binlog_position: String,
    /// The last transaction of each domain that replication applied.
    pub replica_position: String,
    /// Either, whichever is later.
    pub position: String,
    /// Every domain and server that ever wrote into its binlog.
    pub binlog_state: String,
    pub domain: u32,
    pub log_bin: bool,
    pub log_replica_updates: bool,
    pub gtid_strict_mode: bool,
    pub binlog_format: String,
    pub sync_binlog: u32,
    pub flush_log_at_commit: u32,
    pub event_scheduler: String,
    /// The default replication channel, where it has one.
    pub channel: Option<Channel>,
    /// Names of further replication channels.
    pub other_channels: Vec<String>,
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
        let mut sets = session
            .packet(
                "SELECT @@global.read_only AS read_only, @@global.server_id AS server_id, VERSION() AS version, \
                 @@global.gtid_binlog_pos AS binlog_position, @@global.gtid_slave_pos AS replica_position, \
                 @@global.gtid_current_pos AS position, @@global.gtid_binlog_state AS binlog_state, \
                 @@global.gtid_domain_id AS domain, @@global.log_bin AS log_bin, @@global.log_slave_updates AS updates, \
                 @@global.gtid_strict_mode AS strict, @@global.binlog_format AS format, @@global.sync_binlog AS sync_binlog, \
                 @@global.innodb_flush_log_at_trx_commit AS flush_log, @@global.event_scheduler AS events; \
                 SHOW ALL SLAVES STATUS",
            )
            .await?
            .into_iter();
        let facts = sets.next().and_then(|rows| rows.into_iter().next()).unwrap_or_default();
        let mut channel = None;
        let mut other_channels = Vec::new();
        for row in sets.next().unwrap_or_default() {
            match self.field(&row, "Connection_name")? {
                "" => channel = Some(Channel::read(self, &row)?),
                other => other_channels.push(other.to_owned()),
            }
        }
        let position = |key: &str| -> Result<String> { Ok(Position::read(self.field(&facts, key)?)?.to_string()) };
        Ok(Status {
            read_only: self.read_only(&facts)?,
            server_id: self.number(&facts, "server_id")?,
            version: self.field(&facts, "version")?.to_owned(),
            binlog_position: position("binlog_position")?,
            replica_position: position("replica_position")?,
            position: position("position")?,
            binlog_state: self.field(&facts, "binlog_state")?.to_owned(),
            domain: self.number(&facts, "domain")?,
            log_bin: self.flag(&facts, "log_bin")?,
            log_replica_updates: self.flag(&facts, "updates")?,
            gtid_strict_mode: self.flag(&facts, "strict")?,
            binlog_format: self.field(&facts, "format")?.to_owned(),
            sync_binlog: self.number(&facts, "sync_binlog")?,
            flush_log_at_commit: self.number(&facts, "flush_log")?,
            event_scheduler: self.field(&facts, "events")?.to_uppercase(),
            channel,
            other_channels,
        })
    }

    /// Asks for the last transaction of each domain in its own binlog.
    pub async fn binlog_position(&self) -> Result<String> {
        let row = self.session.row("SELECT @@global.gtid_binlog_pos AS position").await?;
        self.field(&row, "position").map(str::to_owned)
    }

    /// Waits on the server until it has everything up to a position; false where the limit came first.
    pub async fn has(&self, position: &str, limit_ms: u64) -> Result<bool> {
        let wanted = Position::read(position)?;
        // A wait for what the server itself wrote would never end: it looks at what replication applied only.
        let current = self.session.row("SELECT @@global.gtid_current_pos AS position").await?;
        if Position::read(self.field(&current, "position")?)?.contains(&wanted) {
            return Ok(true);
        }
        let sql = format!(
            "SELECT MASTER_GTID_WAIT({}, {}) AS waited",
            super::quote::text(position),
            seconds(limit_ms.min(4_000))
        );
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
