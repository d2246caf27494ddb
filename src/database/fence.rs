//! The fence, the way back from it, and the one row that decides.
//!
//! Invariant: the row `decision` of a run on the target goes one way, from `open` to `promote` or to `unfence`, by
//! compare-and-set; the target opens only in the packet that won `promote`, the source opens again only after
//! `unfence` was won, and only while no other run fences it. A fence that arrives after it was lifted does not take.
//! Both tables are local to their server: they are written past the binlog.

use super::quote::text;
use super::{Server, Session, Writers, dialect};
use crate::error::{Error, Result};
use crate::event;
use crate::journal::Permit;
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::time::Duration;

/// What the fence saw in the act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fenced {
    /// Everything the source ever wrote.
    pub position: String,
    /// Seconds on the controller's steady clock when the fence was seen: the wall's may jump.
    pub seen_at: f64,
}

/// What the promotion saw in the act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promoted {
    /// The target's own position as it opened.
    pub position: String,
    /// Seconds on the controller's steady clock when the promotion was seen.
    pub seen_at: f64,
}

impl Server {
    /// Tells whether the tables that the migration keeps on a primary are there.
    pub async fn has_tables(&self) -> Result<bool> {
        let dialect = self.dialect().await?;
        let row = self.session.row(&dialect.has_tables()).await?;
        self.flag(&row, "ready")
    }

    /// Makes the tables that the migration keeps on a primary, for this server alone.
    pub async fn make_tables(&self, _permit: &Permit) -> Result<()> {
        let dialect = self.dialect().await?;
        let closed = self.status().await?.own.super_read_only == Some(true);
        let made = self.session.packet(&dialect.make_tables(closed)).await.map(|_| ());
        if made.is_err() && closed {
            // The packet ended before its last word.
            self.session.packet(dialect.close()).await?;
        }
        made
    }

    /// Opens the decision of a run on its target, and closes every older one; what fenced the target before, as the source
    /// of a run that is over, does so no more: else nobody could open it again who finds it closed after it was promoted.
    pub async fn open_decision(&self, permit: &Permit) -> Result<()> {
        let sql = self.dialect().await?.open_decision(permit.run());
        self.session.packet(&sql).await.map(|_| ())
    }

    /// Writes that this run is about to fence the source, and returns what the source wrote up to then.
    ///
    /// The fence's packet would write it too; written ahead, nothing that waits for a disk stands between a look at the
    /// chain and the fence.
    pub async fn announce_fence(&self, permit: &Permit) -> Result<String> {
        let dialect = self.dialect().await?;
        let sql = format!("{}; {}", dialect::announcement(&text(permit.run())), dialect.words().binlog_position);
        let row = self.session.row(&sql).await?;
        dialect.normal(self.field(&row, "position")?)
    }

    /// Fences the source: from the answer on, nothing but replication and named accounts can write. One packet.
    ///
    /// # Errors
    /// [`Error::Deadline`] where somebody's statement or table lock outlasts the limit; then nothing is fenced.
    pub async fn fence(&self, permit: &Permit) -> Result<Fenced> {
        let limit = self.settings.databases.deadlines.fence;
        let dialect = self.dialect().await?;
        let sql = dialect.fence(permit.run(), limit);
        let fenced = self.session.row(&sql);
        let fenced = if dialect.bounds_a_fence() { fenced.await } else { self.ended_after(limit, fenced).await };
        let row = fenced.map_err(|error| match error {
            Error::Deadline { .. } => Error::Deadline {
                what: format!("{}: the fence (a statement or a table lock of somebody held it up)", self.name),
                limit_ms: limit,
            },
            other => other,
        })?;
        let seen_at = event::steady();
        if self.field(&row, "state")? != "fenced" {
            return Err(Error::remote(&self.name, "the fence was lifted before it took; it stays open"));
        }
        if !self.read_only(&row)? {
            return Err(Error::remote(&self.name, "it is not read-only right after the fence"));
        }
        Ok(Fenced { position: dialect.normal(self.field(&row, "position")?)?, seen_at })
    }

    /// Wins the decision of a run for going back; what was decided before stands.
    ///
    /// # Errors
    /// [`Error::Committed`] where the promotion won.
    pub async fn decide_to_go_back(&self, _permit: &Permit, run: &str) -> Result<()> {
        let (name, sql) = (run, self.dialect_by(&self.rescue).await?.decide_to_go_back(run));
        let row = self.rescue.row(&sql).await?;
        match self.field(&row, "state")? {
            "promote" => Err(Error::Committed(format!("{} was promoted by run {name}", self.name))),
            _ => Ok(()),
        }
    }

    /// Lifts a run's fence, over the connection kept for it; one that is still on its way will not take. One packet;
    /// while another run fences the source it stays fenced. It opens in `domain`, where that is given: a restart may have
    /// left it in another, and what people write belongs in the site's.
    pub async fn unfence(&self, _permit: &Permit, run: &str, domain: Option<u32>) -> Result<()> {
        let first = domain.map_or_else(String::new, |domain| {
            format!("IF @@global.gtid_domain_id<>{domain} THEN {}; END IF;", self.settle_in(domain, Writers::Everybody))
        });
        let sql = self.dialect_by(&self.rescue).await?.unfence(run, &first);
        self.rescue.packet(&sql).await.map(|_| ())
    }

    /// Waits for a position, wins the decision and opens the target, all in one packet on the target.
    ///
    /// # Errors
    /// [`Error::Deadline`] where the position does not arrive; [`Error::Remote`] where going back had won.
    pub async fn promote(&self, permit: &Permit, position: &str) -> Result<Promoted> {
        let limit = self.settings.databases.deadlines.catch_up;
        let dialect = self.dialect().await?;
        let sql = dialect.promote(permit.run(), position, limit);
        let row = self.session.row(&sql).await?;
        let seen_at = event::steady();
        match (self.field(&row, "arrived")?, self.field(&row, "won")?, self.read_only(&row)?) {
            ("0", "1", false) => Ok(Promoted { position: dialect.normal(self.field(&row, "position")?)?, seen_at }),
            ("0", "0", _) => Err(Error::remote(&self.name, "the decision to go back was taken first; it stays closed")),
            ("0", _, _) => Err(Error::remote(&self.name, "it is still read-only right after the promotion")),
            (_, _, _) => Err(Error::Deadline {
                what: format!("{}: receiving everything up to {position}", self.name),
                limit_ms: limit,
            }),
        }
    }

    /// Closes a server again that a promotion had opened; only ever used before anybody could write to it.
    pub async fn close(&self, _permit: &Permit) -> Result<()> {
        let dialect = self.dialect_by(&self.rescue).await?;
        self.rescue.packet(dialect.close()).await.map(|_| ())
    }

    /// The connection for the way back, for tests of its race with the promotion.
    pub fn rescue(&self) -> &Session {
        &self.rescue
    }

    /// Waits for a statement of the session, and ends it over the connection for the way back when its time is over.
    async fn ended_after<T>(&self, limit_ms: u64, statement: impl Future<Output = Result<T>>) -> Result<T> {
        let mut statement = pin!(statement);
        tokio::select! {
            answer = &mut statement => return answer,
            () = tokio::time::sleep(Duration::from_millis(limit_ms)) => {}
        }
        self.rescue.packet(&format!("KILL QUERY {}", self.session.connection())).await?;
        statement.await
    }
}
