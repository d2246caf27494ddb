//! The fence, the way back from it, and the one row that decides.
//!
//! Invariant: the row `decision` of a run on the target goes one way, from `open` to `promote` or to `unfence`, by
//! compare-and-set; the target opens only in the packet that won `promote`, the source opens again only after
//! `unfence` was won, and only while no other run fences it. A fence that arrives after it was lifted does not take.
//! Both tables are local to their server: they are written past the binlog.

use super::quote::text;
use super::server::seconds;
use super::{SCHEMA, Server, Session};
use crate::error::{Error, Result};
use crate::event;
use crate::journal::Permit;
use serde::{Deserialize, Serialize};

/// What the fence saw in the act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fenced {
    /// Everything the source ever wrote.
    pub position: String,
    /// Seconds since the Unix epoch, on the controller's clock, when the fence was seen.
    pub seen_at: f64,
}

/// What the promotion saw in the act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promoted {
    /// The target's own position as it opened.
    pub position: String,
    /// Seconds since the Unix epoch, on the controller's clock, when the promotion was seen.
    pub seen_at: f64,
}

impl Server {
    /// Tells whether the tables that the migration keeps on a primary are there.
    pub async fn has_tables(&self) -> Result<bool> {
        let sql = format!(
            "SELECT COUNT(*) AS tables FROM information_schema.TABLES WHERE TABLE_SCHEMA='{SCHEMA}' \
             AND TABLE_NAME IN ('decision','fence')"
        );
        let row = self.session.row(&sql).await?;
        Ok(self.number::<u32>(&row, "tables")? == 2)
    }

    /// Makes the tables that the migration keeps on a primary, for this server alone.
    pub async fn make_tables(&self, _permit: &Permit) -> Result<()> {
        let sql = format!(
            "CREATE DATABASE IF NOT EXISTS {SCHEMA}; \
             CREATE TABLE IF NOT EXISTS {SCHEMA}.decision (run VARCHAR(64) PRIMARY KEY, state VARCHAR(16) NOT NULL, \
               position TEXT NOT NULL DEFAULT '', opened DATETIME(6) NOT NULL, decided DATETIME(6) NULL) ENGINE=InnoDB; \
             CREATE TABLE IF NOT EXISTS {SCHEMA}.fence (run VARCHAR(64) PRIMARY KEY, state VARCHAR(16) NOT NULL, \
               at DATETIME(6) NOT NULL) ENGINE=InnoDB"
        );
        self.session.packet(&sql).await.map(|_| ())
    }

    /// Opens the decision of a run on its target, and closes every older one.
    pub async fn open_decision(&self, permit: &Permit) -> Result<()> {
        let run = text(permit.run());
        let sql = format!(
            "UPDATE {SCHEMA}.decision SET state='unfence', decided=NOW(6) WHERE state='open' AND run<>{run}; \
             INSERT IGNORE INTO {SCHEMA}.decision (run, state, opened) VALUES ({run}, 'open', NOW(6))"
        );
        self.session.packet(&sql).await.map(|_| ())
    }

    /// Fences the source: from the answer on, nothing but replication and named accounts can write. One packet.
    ///
    /// # Errors
    /// [`Error::Deadline`] where somebody's statement or table lock outlasts the limit; then nothing is fenced.
    pub async fn fence(&self, permit: &Permit) -> Result<Fenced> {
        let limit = self.settings.databases.deadlines.fence;
        let sql = fencing(permit.run(), limit);
        let row = self.session.row(&sql).await.map_err(|error| match error {
            Error::Deadline { .. } => Error::Deadline {
                what: format!("{}: the fence (a statement or a table lock of somebody held it up)", self.name),
                limit_ms: limit,
            },
            other => other,
        })?;
        let seen_at = event::now();
        if self.field(&row, "state")? != "fenced" {
            return Err(Error::remote(&self.name, "the fence was lifted before it took; it stays open"));
        }
        if !self.read_only(&row)? {
            return Err(Error::remote(&self.name, "it is not read-only right after the fence"));
        }
        Ok(Fenced { position: self.field(&row, "position")?.to_owned(), seen_at })
    }

    /// Wins the decision for going back; what was decided before stands.
    ///
    /// # Errors
    /// [`Error::Committed`] where the promotion won.
    pub async fn decide_to_go_back(&self, permit: &Permit) -> Result<()> {
        let run = text(permit.run());
        let sql = format!(
            "UPDATE {SCHEMA}.decision SET state='unfence', decided=NOW(6) WHERE run={run} AND state='open'; \
             SELECT COALESCE((SELECT state FROM {SCHEMA}.decision WHERE run={run}), 'none') AS state"
        );
        let row = self.rescue.row(&sql).await?;
        match self.field(&row, "state")? {
            "promote" => Err(Error::Committed(format!("{} was promoted by run {}", self.name, permit.run()))),
            _ => Ok(()),
        }
    }

    /// Lifts this run's fence, over the connection kept for it; one that is still on its way will not take. One packet;
    /// while another run fences the source it stays fenced.
    pub async fn unfence(&self, permit: &Permit) -> Result<()> {
        let run = text(permit.run());
        let sql = format!(
            "BEGIN NOT ATOMIC \
               DECLARE came INT DEFAULT 0; \
               SELECT COUNT(*) INTO came FROM {SCHEMA}.fence WHERE run={run}; \
               INSERT INTO {SCHEMA}.fence (run, state, at) VALUES ({run}, 'lifted', NOW(6)) \
                 ON DUPLICATE KEY UPDATE state='lifted'; \
               IF came = 1 AND NOT {others} THEN SET GLOBAL read_only=0; END IF; \
             END",
            others = others(&run)
        );
        self.rescue.packet(&sql).await.map(|_| ())
    }

    /// Waits for a position, wins the decision and opens the target, all in one packet on the target.
    ///
    /// # Errors
    /// [`Error::Deadline`] where the position does not arrive; [`Error::Remote`] where going back had won.
    pub async fn promote(&self, permit: &Permit, position: &str) -> Result<Promoted> {
        let limit = self.settings.databases.deadlines.catch_up;
        let sql = promotion(permit.run(), position, limit);
        let row = self.session.row(&sql).await?;
        let seen_at = event::now();
        match (self.field(&row, "arrived")?, self.field(&row, "won")?, self.read_only(&row)?) {
            ("0", "1", false) => Ok(Promoted { position: self.field(&row, "position")?.to_owned(), seen_at }),
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
        self.rescue.packet("SET GLOBAL read_only=1").await.map(|_| ())
    }

    /// The connection for the way back, for tests of its race with the promotion.
    pub fn rescue(&self) -> &Session {
        &self.rescue
    }
}

/// Builds the fence's packet.
///
/// Two who meet in the middle end open: the fence looks again after it took, and an unfence writes before it opens.
pub fn fencing(run: &str, limit_ms: u64) -> String {
    let run = text(run);
    let lifted = format!("EXISTS (SELECT 1 FROM {SCHEMA}.fence WHERE run={run} AND state='lifted')");
    format!(
        "UPDATE {SCHEMA}.fence SET state='superseded' WHERE run<>{run} AND state='fenced'; \
         INSERT IGNORE INTO {SCHEMA}.fence (run, state, at) VALUES ({run}, 'fenced', NOW(6)); \
         SET STATEMENT max_statement_time={limit} FOR BEGIN NOT ATOMIC \
           IF NOT {lifted} THEN \
             SET GLOBAL read_only=1; \
             IF {lifted} AND NOT {others} THEN SET GLOBAL read_only=0; END IF; \
           END IF; \
         END; \
         SELECT @@global.read_only AS read_only, @@global.gtid_binlog_pos AS position, \
           (SELECT state FROM {SCHEMA}.fence WHERE run={run}) AS state",
        limit = seconds(limit_ms),
        others = others(&run)
    )
}

/// Asks whether another run fences the source.
fn others(run: &str) -> String {
    format!("EXISTS (SELECT 1 FROM {SCHEMA}.fence WHERE run<>{run} AND state='fenced')")
}

/// Builds the promotion's packet.
pub fn promotion(run: &str, position: &str, limit_ms: u64) -> String {
    format!(
        "BEGIN NOT ATOMIC \
           DECLARE arrived INT DEFAULT -1; DECLARE won INT DEFAULT 0; \
           SET arrived = MASTER_GTID_WAIT({position}, {limit}); \
           IF arrived = 0 THEN \
             UPDATE {SCHEMA}.decision SET state='promote', position={position}, decided=NOW(6) WHERE run={run} AND state='open'; \
             SELECT COUNT(*) INTO won FROM {SCHEMA}.decision WHERE run={run} AND state='promote'; \
             IF won = 1 THEN SET GLOBAL read_only=0; END IF; \
           END IF; \
           SELECT arrived, won, @@global.read_only AS read_only, @@global.gtid_binlog_pos AS position; \
         END",
        position = text(position),
        limit = seconds(limit_ms),
        run = text(run)
    )
}
