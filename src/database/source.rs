//! Replication: who a server follows.
//!
//! Invariant: a server is pointed to a source only once that source has everything the server has, so that no position
//! is ever asked for that the source does not know, where that would end the channel. Passwords stay out of the general log.

use super::dialect::{Columns, Source};
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
    /// Whether it goes over TLS.
    pub tls: bool,
}

impl Channel {
    pub(super) fn read(server: &Server, columns: &Columns, row: &Record) -> Result<Self> {
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
            "Replicate_Rewrite_DB",
            // What these drop counts as arrived.
            "Replicate_Ignore_Server_Ids",
            "Replicate_Do_Domain_Ids",
            "Replicate_Ignore_Domain_Ids",
        ];
        Ok(Self {
            source: format!("{}:{}", server.field(row, columns.host)?, server.field(row, columns.port)?),
            source_id: server.number(row, columns.server_id)?,
            receiving: word(columns.receiving),
            applying: word(columns.applying) == "Yes",
            error: error.join("; "),
            tls: word(columns.tls) == "Yes",
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
    /// `former_primary` says that what counts of it is what its binlog has.
    ///
    /// # Errors
    /// [`Error::Deadline`] where the source does not get everything the server has, or the channel does not run.
    pub async fn follow(&self, _permit: &Permit, source: &Server, former_primary: bool) -> Result<()> {
        let limit = self.settings.databases.deadlines.replication;
        let dialect = self.dialect().await?;
        self.session.packet(dialect.words().stop).await?;
        let quarantine = self.settings.databases.quarantine_domain;
        let status = self.status().await?;
        // What a former primary got when it was a replica itself, and has in no binlog, is of a domain long dead.
        let has = if former_primary { &status.binlog_position } else { &status.position };
        let position = dialect.source_needs(has, quarantine)?;
        if let Some(position) = position
            && !source.has(&position, limit).await?
        {
            return Err(Error::Deadline {
                what: format!("{}: receiving what {} has ({position})", source.name, self.name),
                limit_ms: limit,
            });
        }
        let (ours, theirs) = (self.status().await?.position, source.status().await?.binlog_position);
        let at = dialect.begins_at(&ours, &theirs, quarantine)?;
        self.unlogged(&dialect.follow(&self.connection_to(source), at.as_deref())).await?;
        self.runs("", limit, Channel::healthy).await
    }

    /// Has the server keep its source, and neither receive nor apply.
    pub async fn rest(&self, _permit: &Permit) -> Result<()> {
        let dialect = self.dialect().await?;
        self.session.packet(dialect.words().stop).await.map(|_| ())
    }

    /// Proves that a former primary wrote nothing of its own that its successor has not.
    ///
    /// # Errors
    /// [`Error::Apart`] with the last of such transactions, where replication would stop at them.
    pub async fn not_apart(&self, successor: &Server) -> Result<()> {
        // First the one that may have more: what it has by then, the other was sent before.
        let (status, theirs) = (self.status().await?, successor.status().await?);
        let quarantine = self.settings.databases.quarantine_domain;
        match self.dialect().await?.apart(&status, &theirs, quarantine)? {
            None => Ok(()),
            Some(gtids) => Err(Error::Apart { server: self.name.clone(), primary: successor.name.clone(), gtids }),
        }
    }

    /// Makes the server follow nobody, and forget whom it followed.
    pub async fn unfollow(&self, _permit: &Permit) -> Result<()> {
        let dialect = self.dialect().await?;
        self.session.packet(dialect.words().forget).await.map(|_| ())
    }

    /// Proves that the server could follow a source: reads from it over a channel of its own, applies nothing.
    ///
    /// # Errors
    /// [`Error::Remote`] with the reason why it cannot (address, login, TLS, binlog).
    pub async fn try_to_follow(&self, permit: &Permit, source: &Server) -> Result<()> {
        self.forget_trial(permit).await?;
        let dialect = self.dialect().await?;
        let at = match dialect.trial_from() {
            Some(sql) => Some(source.session.row(sql).await?),
            None => None,
        };
        self.unlogged(&dialect.try_to_follow(TRIAL, &self.connection_to(source), at.as_ref())).await?;
        let limit = self.settings.databases.deadlines.replication.min(10_000);
        let proof = self.runs(TRIAL, limit, |channel| channel.receiving == "Yes" && channel.error.is_empty()).await;
        self.forget_trial(permit).await?;
        proof
    }

    /// Removes the channel of the trial, if it is there: armed, it would start to apply after a restart.
    pub async fn forget_trial(&self, _permit: &Permit) -> Result<()> {
        if self.status().await?.other_channels.iter().any(|name| name == TRIAL) {
            let dialect = self.dialect().await?;
            self.session.packet(&dialect.forget_channel(TRIAL)).await?;
        }
        Ok(())
    }

    fn connection_to<'a>(&'a self, source: &Server) -> Source<'a> {
        let databases = &self.settings.databases;
        let account = &databases.accounts.replication;
        Source {
            address: source.address,
            port: source.port,
            user: &account.user,
            password: account.password.reveal(),
            tls: databases.tls.as_ref().map(|tls| (tls.ca.as_path(), tls.verify_hostname)),
        }
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
        let words = self.dialect().await?.words();
        let until = Instant::now() + Duration::from_millis(limit_ms);
        loop {
            let sets = self.session.packet(words.channels).await?;
            let row = sets
                .iter()
                .flatten()
                .find(|row| row.get(words.columns.channel).and_then(Option::as_deref) == Some(channel));
            let seen = row.map(|row| Channel::read(self, &words.columns, row)).transpose()?;
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
