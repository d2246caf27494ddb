//! Two servers seen at one point of the source's history, while both go on.
//!
//! Invariant: where a replica's channel stands still for it, then only while the lock of the pin is held. A second
//! connection waits for that lock on the server itself and starts the channel when it gets it: at the end of the pin, when
//! the process that pins dies, or when the limit is over.

use super::quote::text;
use super::server::seconds;
use super::{Server, Session, endpoint};
use crate::error::{Error, Result};
use crate::journal::Permit;
use futures_util::future::join;
use std::time::{Duration, Instant};

/// The name of the lock on the replica.
const LOCK: &str = "saltext_migrate.checksum";
/// That of the one by which the second connection shows that it waits.
const WAITING: &str = "saltext_migrate.checksum.waiting";

/// How long whoever met a commit lets be.
const AGAIN: Duration = Duration::from_millis(2);
/// Milliseconds for one statement that reads a snapshot.
const READING: u64 = 3_600_000;

/// A snapshot of each of two servers, at one position.
pub struct Pinned {
    pub position: String,
    pub source: Session,
    pub replica: Session,
}

impl Server {
    fn another_session(&self) -> Session {
        let account = &self.settings.databases.accounts.admin;
        Session::new(endpoint(&self.settings, &self.name, self.address, account, true))
    }

    /// One that reads whole tables, where they have no key.
    fn patient_session(&self) -> Session {
        let account = &self.settings.databases.accounts.admin;
        let mut endpoint = endpoint(&self.settings, &self.name, self.address, account, true);
        endpoint.statement_ms = endpoint.statement_ms.max(READING);
        Session::new(endpoint)
    }

    /// Sees a source and one of its replicas, direct or not, at one position. Where the source tells a snapshot's position,
    /// the replica's channel is stopped for as long as it needs to get there.
    ///
    /// # Errors
    /// [`Error::Remote`] where the replica does not follow; [`Error::Deadline`] where it does not get there in time, or
    /// where nobody tells positions and the writes leave no gap. The channel runs in each case.
    pub async fn pin(&self, _permit: &Permit, replica: &Server) -> Result<Pinned> {
        let (ours, theirs) = (self.status().await?, replica.status().await?);
        for (server, mode) in [(self, &ours.own.gtid_mode), (replica, &theirs.own.gtid_mode)] {
            if let Some(mode) = mode.as_ref().filter(|mode| *mode != "ON") {
                let problem = format!("gtid_mode is {mode}, and then nobody knows what a snapshot shows");
                return Err(Error::remote(&server.name, problem));
            }
        }
        let runs = theirs.channel.is_some_and(|channel| channel.receiving == "Yes" && channel.applying);
        if !runs {
            return Err(Error::remote(&replica.name, "its replication does not run, so nothing was stopped"));
        }
        let limit = self.settings.databases.max_lag.min(self.settings.databases.deadlines.catch_up);
        let pinned =
            Pinned { position: String::new(), source: self.patient_session(), replica: replica.patient_session() };
        match self.dialect().await?.pinning() {
            Pinning::Told { snapshot } => self.stopping(replica, pinned, snapshot, limit).await,
            Pinning::Between { snapshot, same } => {
                let uuid = ours.own.uuid.unwrap_or_default();
                let same = |here: &str, there: &str| same(here, there, &uuid);
                self.between(replica, pinned, snapshot, same, limit).await
            }
        }
    }

    /// Takes snapshots of both until there are two between the same commits. There is no event to wait for: the gap is
    /// gone when anybody could be told of it.
    async fn between(
        &self,
        replica: &Server,
        mut pinned: Pinned,
        snapshot: &str,
        same: impl Fn(&str, &str) -> Result<bool>,
        limit: u64,
    ) -> Result<Pinned> {
        let until = Instant::now() + Duration::from_millis(limit);
        let dialect = replica.dialect().await?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let what = format!(
                    "{} and {}: a moment between two commits, seen on both (compare when fewer people write)",
                    self.name, replica.name
                );
                return Err(Error::Deadline { what, limit_ms: limit });
            }
            let here = pinned.source.row(snapshot).await?;
            if !self.flag(&here, "quiet")? {
                // Each look holds what commits wait for.
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            let position = self.field(&here, "position")?.to_owned();
            let wait = dialect.wait(&position, u64::try_from(left.as_millis()).unwrap_or(limit).max(1));
            let there = pinned.replica.row(&format!("{wait}; {snapshot}")).await?;
            if self.flag(&there, "quiet")? && same(&position, self.field(&there, "position")?)? {
                pinned.position = position;
                return Ok(pinned);
            }
        }
    }

    async fn stopping(&self, replica: &Server, pinned: Pinned, snapshot: &str, limit: u64) -> Result<Pinned> {
        let (holder, starter) = (replica.another_session(), replica.another_session());
        let taken = |session, name, wait| taken(session, &replica.name, name, wait);
        taken(&holder, LOCK, 0).await?;
        taken(&starter, WAITING, 0).await?;
        // Whatever becomes of us, the server itself starts the channel.
        let start = format!(
            "BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; \
             DO RELEASE_LOCK({waiting}); DO GET_LOCK({lock}, {limit}); START SLAVE; DO RELEASE_LOCK({lock}); END",
            waiting = text(WAITING),
            lock = text(LOCK),
            limit = seconds(limit * 2),
        );
        let work = async {
            taken(&holder, WAITING, 5).await?;
            let result = self.at_one_point(replica, &holder, pinned, snapshot, limit).await;
            // The channel starts now, not when the connection ends.
            holder.packet(&format!("DO RELEASE_LOCK({})", text(LOCK))).await?;
            result
        };
        let (started, result) = join(starter.packet(&start), work).await;
        let pinned = result?;
        started?;
        Ok(pinned)
    }

    /// All of it over the connection that holds the lock: whoever waits for that then comes after what still runs there.
    async fn at_one_point(
        &self,
        replica: &Server,
        holder: &Session,
        mut pinned: Pinned,
        snapshot: &str,
        limit: u64,
    ) -> Result<Pinned> {
        holder.packet("STOP SLAVE").await?;
        let until = Instant::now() + Duration::from_millis(limit);
        let dialect = replica.dialect().await?;
        // A transaction is logged, and sent on, before the source itself shows it: the replica may be ahead of a snapshot.
        let logged = self.binlog_position().await?;
        let position = loop {
            let row = pinned.source.row(snapshot).await?;
            let position = self.field(&row, "position")?.to_owned();
            if dialect.holds(&position, &logged)? {
                break position;
            }
            if Instant::now() >= until {
                let what = format!("{}: what is in its binlog up to {logged}, to be committed", self.name);
                return Err(Error::Deadline { what, limit_ms: limit });
            }
            tokio::time::sleep(AGAIN).await;
        };
        // Both threads, for the one that applies has no such word of its own.
        holder.packet(&format!("START SLAVE UNTIL master_gtid_pos={}", text(&position))).await?;
        let waited = holder.row(&dialect.wait(&position, limit)).await?;
        if self.field(&waited, "waited")? != "0" {
            let what = format!("{}: getting to {position}", replica.name);
            return Err(Error::Deadline { what, limit_ms: limit });
        }
        // It waits until both threads are out, whatever they were about.
        holder.packet("STOP SLAVE").await?;
        pinned.replica.packet(snapshot).await?;
        pinned.position = position;
        Ok(pinned)
    }
}

/// Tells whether a replica at the second position has seen of the source what the first one says, and no more; the third is
/// the source's UUID.
pub type Same = fn(&str, &str, &str) -> Result<bool>;

/// How a server is pinned.
pub enum Pinning {
    /// `snapshot` begins a snapshot, and answers its `position`.
    Told { snapshot: &'static str },
    /// It answers whether the snapshot is `quiet`: at `position` before and after it, with no commit under way.
    Between { snapshot: &'static str, same: Same },
}

async fn taken(session: &Session, server: &str, name: &str, wait: u64) -> Result<()> {
    let row = session.row(&format!("SELECT GET_LOCK({}, {wait}) AS taken", text(name))).await?;
    match row.get("taken").cloned().flatten().as_deref() {
        Some("1") => Ok(()),
        _ => Err(Error::HeldByAnother(format!("somebody else compares {server}"))),
    }
}
