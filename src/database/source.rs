//! Replication: who a server follows.
//!
//! Invariant: a server is pointed to a source only once that source has everything the server has, so that no position
//! is ever asked for that the source does not know. Passwords stay out of the general log.

use super::quote::text;
use super::{Record, Server};
use crate::error::{Error, Result};
use crate::journal::Permit;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The name of the channel that only proves that a way exists.
const TRIAL: &str = "saltext_migrate_trial";

/// A server's default replication channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Address and port of the source.
    pub source: String,
    /// The source's server id, once it was connected to.
    pub source_id: u32,
    /// `Yes`, `Connecting`, `Preparing` or `No`.
    pub receiving: String,
    pub applying: bool,
    /// The last error of either thread, or nothing.
    pub error: String,
    /// Seconds of delay that were configured on purpose.
    pub delay: u64,
    /// Filters that are configured.
    pub filters: Vec<String>,
}

impl Channel {
    pub(super) fn read(server: &Server, row: &Record) -> Result<Self> {
        let word = |key: &str| row.get(key).and_then(Option::as_deref).unwrap_or_default().to_owned();
        let error = [word("Last_IO_Error"), word("Last_SQL_Error")]
            .into_iter()
            .filter(|error| !error.is_empty())
            .collect::<Vec<_>>();
        let filters = [
            "Replicate_Do_DB",
            "Replicate_Ignore_DB",
            "Replicate_Do_Table",
            "Replicate_Ignore_Table",
            "Replicate_Wild_Do_Table",
            "Replicate_Wild_Ignore_Table",
        ];
        Ok(Self {
            source: format!("{}:{}", server.field(row, "Master_Host")?, server.field(row, "Master_Port")?),
            source_id: server.number(row, "Master_Server_Id")?,
            receiving: word("Slave_IO_Running"),
            applying: word("Slave_SQL_Running") == "Yes",
            error: error.join("; "),
            delay: word("SQL_Delay").parse().unwrap_or(0),
            filters: filters
                .into_iter()
                .map(|key| (key, word(key)))
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
        })
    }

    /// Tells whether both threads run without an error.
    pub fn healthy(&self) -> bool {
        self.receiving == "Yes" && self.applying && self.error.is_empty()
    }
}

impl Server {
    /// Makes the server follow a source from where it stands.
    ///
    /// `former_primary` says that it may have written what replication did not bring.
    ///
    /// # Errors
    /// [`Error::Deadline`] where the source does not get everything the server has, or the channel does not run.
    pub async fn follow(&self, _permit: &Permit, source: &Server, former_primary: bool) -> Result<()> {
        let limit = self.settings.databases.deadlines.replication;
        self.session.packet("STOP SLAVE").await?;
        let position = self.status().await?.position;
        if !source.has(&position, limit).await? {
            return Err(Error::Deadline {
                what: format!("{}: receiving what {} has ({position})", source.name, self.name),
                limit_ms: limit,
            });
        }
        let demote = if former_primary { ", MASTER_DEMOTE_TO_SLAVE=1" } else { "" };
        let change =
            format!("CHANGE MASTER TO {}, MASTER_USE_GTID=slave_pos{demote}; START SLAVE", self.connection_to(source));
        self.unlogged(&change).await?;
        self.runs("", limit, Channel::healthy).await
    }

    /// Makes the server follow nobody, and forget whom it followed.
    pub async fn unfollow(&self, _permit: &Permit) -> Result<()> {
        self.session.packet("STOP SLAVE; RESET SLAVE ALL").await.map(|_| ())
    }

    /// Proves that the server could follow a source: reads from it over a channel of its own, applies nothing.
    ///
    /// By file and position, for a GTID position that still moves cannot be asked for.
    ///
    /// # Errors
    /// [`Error::Remote`] with the reason why it cannot (address, login, TLS, binlog).
    pub async fn try_to_follow(&self, permit: &Permit, source: &Server) -> Result<()> {
        self.forget_trial(permit).await?;
        let now = source.session.row("SHOW MASTER STATUS").await?;
        let (file, position) = (source.field(&now, "File")?, source.number::<u64>(&now, "Position")?);
        let change = format!(
            "CHANGE MASTER '{TRIAL}' TO {}, MASTER_USE_GTID=no, MASTER_LOG_FILE={}, MASTER_LOG_POS={position}; \
             START SLAVE '{TRIAL}' IO_THREAD",
            self.connection_to(source),
            text(file)
        );
        self.unlogged(&change).await?;
        let limit = self.settings.databases.deadlines.replication.min(10_000);
        let proof = self.runs(TRIAL, limit, |channel| channel.receiving == "Yes" && channel.error.is_empty()).await;
        self.forget_trial(permit).await?;
        proof
    }

    /// Removes the channel of the trial, if it is there: armed, it would start to apply after a restart.
    pub async fn forget_trial(&self, _permit: &Permit) -> Result<()> {
        if self.status().await?.other_channels.iter().any(|name| name == TRIAL) {
            self.session.packet(&format!("STOP SLAVE '{TRIAL}'; RESET SLAVE '{TRIAL}' ALL")).await?;
        }
        Ok(())
    }

    fn connection_to(&self, source: &Server) -> String {
        let databases = &self.settings.databases;
        let account = &databases.accounts.replication;
        let tls = databases.tls.as_ref().map_or_else(String::new, |tls| {
            let verify = u8::from(tls.verify_hostname);
            format!(
                ", MASTER_SSL=1, MASTER_SSL_CA={}, MASTER_SSL_VERIFY_SERVER_CERT={verify}",
                text(&tls.ca.to_string_lossy())
            )
        });
        format!(
            "MASTER_HOST={}, MASTER_PORT={}, MASTER_USER={}, MASTER_PASSWORD={}, MASTER_CONNECT_RETRY=1{tls}",
            text(&source.address.to_string()),
            source.port,
            text(&account.user),
            text(account.password.reveal())
        )
    }

    /// Runs statements with a password in them past the general log.
    async fn unlogged(&self, sql: &str) -> Result<()> {
        self.session.packet("SET SESSION sql_log_off=1").await?;
        let result = self.session.packet(sql).await;
        self.session.packet("SET SESSION sql_log_off=0").await?;
        result.map(|_| ())
    }

    /// Waits until a channel runs; the server has no wait for this, so it is asked, outside of any window.
    async fn runs(&self, channel: &str, limit_ms: u64, good: impl Fn(&Channel) -> bool) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(limit_ms);
        loop {
            let sets = self.session.packet("SHOW ALL SLAVES STATUS").await?;
            let row = sets
                .iter()
                .flatten()
                .find(|row| row.get("Connection_name").and_then(Option::as_deref) == Some(channel));
            let seen = row.map(|row| Channel::read(self, row)).transpose()?;
            match seen {
                Some(seen) if good(&seen) => return Ok(()),
                Some(seen) if seen.receiving == "No" && !seen.error.is_empty() => {
                    return Err(Error::remote(&self.name, format!("cannot follow {}: {}", seen.source, seen.error)));
                }
                Some(seen) if Instant::now() >= until => {
                    let what = format!(
                        "{}: following {} (receiving {}, applying {}, {})",
                        self.name, seen.source, seen.receiving, seen.applying, seen.error
                    );
                    return Err(Error::Deadline { what, limit_ms });
                }
                None if Instant::now() >= until => return Err(Error::remote(&self.name, "the channel is gone")),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}
