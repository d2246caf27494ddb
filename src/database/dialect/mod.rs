//! The dialect table: everything that MariaDB and MySQL say in different words, one row a method.
//!
//! Invariant: which column applies is found out by what the server can do, never by how it calls itself. What both
//! understand is not here.

mod mariadb;
mod mysql;

pub(super) use mariadb::PRIVILEGED;

use super::pinned::Pinning;
use super::{Record, SCHEMA, Session, Status};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Whom to follow, and as whom.
pub struct Source<'a> {
    pub address: IpAddr,
    pub port: u16,
    pub user: &'a str,
    pub password: &'a str,
    /// The authority, and whether the host's name must be in the certificate; nothing where the way is in clear.
    pub tls: Option<(&'a Path, bool)>,
}

/// The columns in which a server shows a replication channel.
pub struct Columns {
    pub channel: &'static str,
    pub host: &'static str,
    pub port: &'static str,
    pub server_id: &'static str,
    pub receiving: &'static str,
    pub applying: &'static str,
    pub tls: &'static str,
    /// The column with a replica's server id, where a source lists its replicas.
    pub replica: &'static str,
}

/// Statements without any variable part.
pub struct Words {
    /// The name of the family.
    pub family: &'static str,
    /// The oldest release that has every word of this column.
    pub oldest: (u32, u32, u32),
    /// One row of facts.
    pub facts: &'static str,
    pub channels: &'static str,
    pub replicas: &'static str,
    pub stop: &'static str,
    /// Ends the default channel, and forgets it.
    pub forget: &'static str,
    /// Everything that the server has, and what its own binlog has.
    pub position: &'static str,
    pub binlog_position: &'static str,
    /// What the binlog leaves out, among other things; the words of newer releases first.
    pub binlog_status: &'static [&'static str],
    /// What a marker's session asks for right after its write.
    pub last_written: &'static str,
    /// Accounts, as `account` and `proof`; and what they may, as `account` and `held`.
    pub logins: &'static str,
    /// Accounts that write past a fence, as `grantee`.
    pub bypassing: &'static str,
    /// Procedures that run with their definer's rights, as `name` and `definer`, where a fence goes by those.
    pub procedures: Option<&'static str>,
    /// What the migration's own account may do everywhere, as docs/what-it-needs.md grants it.
    pub needed: &'static [&'static str],
    /// How an administrator lets a fence fall, and opens a server, by hand.
    pub close_by_hand: &'static str,
    pub open_by_hand: &'static str,
    /// How an administrator ends a default channel by hand, and a delay.
    pub end_by_hand: &'static str,
    pub undelay_by_hand: &'static str,
    /// Semi-synchronous replication: whether it is on, and how long a commit may wait for it.
    pub semi_sync: &'static [(&'static str, &'static str)],
    /// The setting by which a server logs what it gets by replication.
    pub replica_updates: &'static str,
    /// What a server that was copied knows by its data of where it stands.
    pub copied: &'static str,
    /// Engines whose tables a copy of the running server holds as of one moment, quoted.
    pub copied_engines: &'static str,
    /// How many `bytes` a copy has to carry.
    pub size: &'static str,
    /// The plugin by which a running server copies itself, where that takes one.
    pub copies_by: Option<&'static str>,
    /// What the engine itself knows of its tables and of their columns.
    pub engine_tables: (&'static str, &'static str),
    pub columns: Columns,
}

/// What a setting of the server deserves to be told.
pub struct Remark {
    pub blocking: bool,
    pub found: String,
    pub mend: &'static str,
}

/// Transactions that only one server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errant {
    /// As the server writes them.
    pub gtids: String,
    pub harm: Harm,
}

/// What they will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Replication will stop at them.
    Stops,
    /// Replication will carry them everywhere once their server is the primary.
    Spreads,
    /// They stay where they are.
    Stays,
    /// As that, for they stand in the quarantine domain.
    Quarantined,
}

/// What only one family has to tell of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Who writes here: the server's UUID, where that is in its GTIDs.
    pub uuid: Option<String>,
    pub super_read_only: Option<bool>,
    pub gtid_mode: Option<String>,
    /// What its binlog no longer has.
    pub purged: Option<String>,
    pub gtid_strict_mode: Option<bool>,
    pub domain: Option<u32>,
}

/// One column of the table.
pub trait Dialect: Sync {
    fn words(&self) -> &'static Words;

    /// Tells whether the statement that fences ends by itself at the limit that [`Dialect::fence`] was given.
    fn bounds_a_fence(&self) -> bool;
    /// Tells whether a wait for what the server itself wrote ends.
    fn waits_for_its_own(&self) -> bool;
    /// Says what a source must have before a server with this position follows it; nothing where it needs nothing.
    fn source_needs(&self, position: &str, quarantine: u32) -> Result<Option<String>>;
    /// Tells whether a scheduled event may write past a fence.
    fn events_pass_a_fence(&self) -> bool;
    /// Tells whether the server itself keeps its role over a restart.
    fn keeps_its_role(&self) -> bool;

    /// Makes the tables that the migration keeps on a primary, and what else the packets below need; `closed` says that
    /// the server is read-only now.
    fn make_tables(&self, closed: bool) -> String;
    /// Asks whether all of it is there, as `ready`.
    fn has_tables(&self) -> String;
    fn open_decision(&self, run: &str) -> String;
    /// Decides for going back; what was decided before stands. Answers `state`.
    fn decide_to_go_back(&self, run: &str) -> String;
    /// Fences; answers `read_only`, `position` and `state`.
    fn fence(&self, run: &str, limit_ms: u64) -> String;
    /// Lifts a run's fence; before it opens the server it does `first` what a restart took, in this family's compound statements.
    fn unfence(&self, run: &str, first: &str) -> String;
    /// Waits, wins the decision and opens; answers `arrived`, `won`, `read_only` and `position`.
    fn promote(&self, run: &str, position: &str, limit_ms: u64) -> String;
    /// Closes a server that nobody has written to yet.
    fn close(&self) -> &'static str;
    /// Opens a target that won its promotion, where no other run fenced it since; answers `read_only`.
    fn reopen(&self, run: &str) -> String;
    /// Opens a server whose former primary is given up, and lifts every fence.
    fn open_alone(&self) -> String;
    /// Asks for what replication brought, applied or not, as `position`.
    fn received(&self) -> &'static str;
    /// How a snapshot and its position are had at once.
    fn pinning(&self) -> Pinning;
    /// Tells in which domain the site writes, by what a server has of it; nothing where there are none.
    fn site_domain(&self, status: &Status, quarantine: u32) -> Result<Option<u32>>;

    /// Waits for a position; answers `waited`, which is 0 where it came.
    fn wait(&self, position: &str, limit_ms: u64) -> String;
    /// Writes a position in the one way that can be compared, and tells whether it holds another.
    fn normal(&self, position: &str) -> Result<String>;
    fn holds(&self, position: &str, wanted: &str) -> Result<bool>;
    /// Lists what a server has that the one that writes has not, its own transactions left out: they may be on the way.
    fn errant(&self, status: &Status, writer: &Status, quarantine: u32) -> Result<Vec<Errant>>;
    /// Names what a fenced former primary wrote itself that its successor has not, where replication would stop at it.
    fn apart(&self, status: &Status, successor: &Status, quarantine: u32) -> Result<Option<String>>;
    /// Tells whether somebody wrote in the quarantine domain.
    fn quarantined(&self, status: &Status, quarantine: u32) -> Result<bool>;

    /// Says where a server at `ours` begins that follows one at `theirs`; nothing where it finds that out itself.
    ///
    /// What was done in the quarantine stays where it was done, so of that the source's word counts.
    fn begins_at(&self, ours: &str, theirs: &str, quarantine: u32) -> Result<Option<String>>;
    fn follow(&self, source: &Source, at: Option<&str>) -> String;
    /// Reads from a source over a channel of its own, and applies nothing; `at` is a row of [`Dialect::trial_from`].
    fn try_to_follow(&self, channel: &str, source: &Source, at: Option<&Record>) -> String;
    /// Asks the source from where a trial may read, where it must be told.
    fn trial_from(&self) -> Option<&'static str>;
    fn forget_channel(&self, channel: &str) -> String;

    /// Counts, as `busy`, the connections from some quoted addresses, none newer than `last`, that run a statement, ran
    /// one within `quiet`, or hold a transaction that wrote something.
    fn at_work(&self, nodes: &str, last: u64, quiet: Duration) -> String;
    /// Says where a copy stands, by its data and by what was logged as it was taken, and how it is told so where it must.
    fn stands(&self, copied: &str, logged: &str) -> Result<(String, Option<String>)>;
    /// Looks at what only this family has to set.
    fn remarks(&self, status: &Status) -> Vec<Remark>;

    /// How a person opens a primary, whatever closed it: what fences it is lifted, so that none that comes late takes, and
    /// it writes where the site writes, which one that booted closed does not.
    fn open_by_page(&self, domain: Option<u32>, scheduler: bool) -> String;
    /// How a person decides for going back, and sees who has decided.
    fn decide_by_hand(&self) -> String;
}

/// Finds the column for whoever answers a session.
///
/// # Errors
/// [`Error::Remote`] where it is neither family's, or cannot be asked.
pub async fn spoken(session: &Session, name: &str) -> Result<&'static dyn Dialect> {
    let probe = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
                 ('gtid_domain_id','super_read_only','gtid_mode','server_uuid')";
    let sets = session.packet(probe).await?;
    let known: Vec<String> = sets
        .iter()
        .flatten()
        .filter_map(|row| row.get("Variable_name").and_then(Option::as_deref).map(str::to_lowercase))
        .collect();
    let has = |variable: &str| known.iter().any(|name| name == variable);
    if has("gtid_domain_id") {
        Ok(&mariadb::MariaDb)
    } else if has("gtid_mode") && has("super_read_only") && has("server_uuid") {
        Ok(&mysql::MySql)
    } else {
        Err(Error::remote(name, "it has the settings neither of MariaDB (gtid_domain_id) nor of MySQL (gtid_mode)"))
    }
}

/// Counts the tables that the migration keeps on a primary.
pub(super) const TABLES: &str = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='saltext_migrate' \
                      AND TABLE_NAME IN ('decision','fence')";

/// What accounts may, in the words that both have; whoever says it appends the roles.
macro_rules! rights {
    ($roles:literal) => {
        concat!(
            "SELECT GRANTEE AS account, CONCAT(PRIVILEGE_TYPE,' ON *.*') AS held FROM information_schema.USER_PRIVILEGES \
               WHERE PRIVILEGE_TYPE <> 'USAGE' \
             UNION ALL SELECT GRANTEE, CONCAT(PRIVILEGE_TYPE,' ON ',TABLE_SCHEMA,'.*') \
               FROM information_schema.SCHEMA_PRIVILEGES \
             UNION ALL SELECT GRANTEE, CONCAT(PRIVILEGE_TYPE,' ON ',TABLE_SCHEMA,'.',TABLE_NAME) \
               FROM information_schema.TABLE_PRIVILEGES \
             UNION ALL SELECT GRANTEE, CONCAT(PRIVILEGE_TYPE,' ON ',TABLE_SCHEMA,'.',TABLE_NAME,'.',COLUMN_NAME) \
               FROM information_schema.COLUMN_PRIVILEGES \
             UNION ALL SELECT CONCAT(User,'@',Host), CONCAT('routine ',Proc_priv,' ON ',Db,'.',Routine_name) FROM mysql.procs_priv \
             UNION ALL ",
            $roles
        )
    };
}
use rights;

/// A connection's address without its port.
const HOST: &str = "LEFT(p.HOST, LENGTH(p.HOST) - LOCATE(':', REVERSE(p.HOST)))";

/// What a person types to decide, and to see who has.
const DECIDE_BY_HAND: (&str, &str) = (
    "SET SESSION sql_log_bin=0;\n",
    "UPDATE saltext_migrate.decision SET state='unfence', decided=NOW(6) WHERE state='open';\n\
     SELECT run, state FROM saltext_migrate.decision ORDER BY opened DESC LIMIT 1;",
);

fn tables() -> String {
    format!(
        "CREATE DATABASE IF NOT EXISTS {SCHEMA}; \
         CREATE TABLE IF NOT EXISTS {SCHEMA}.decision (run VARCHAR(64) PRIMARY KEY, state VARCHAR(16) NOT NULL, \
           position TEXT NOT NULL DEFAULT (''), opened DATETIME(6) NOT NULL, decided DATETIME(6) NULL) ENGINE=InnoDB; \
         CREATE TABLE IF NOT EXISTS {SCHEMA}.fence (run VARCHAR(64) PRIMARY KEY, state VARCHAR(16) NOT NULL, \
           at DATETIME(6) NOT NULL) ENGINE=InnoDB"
    )
}

/// Ends the fences of all runs before: of whoever starts anew with a server, none holds any more.
fn supersede(run: &str) -> String {
    format!("UPDATE {SCHEMA}.fence SET state='superseded' WHERE run<>{run} AND state='fenced'")
}

/// Writes the fence's row for a run; once it was lifted it stays so.
pub fn announcement(run: &str) -> String {
    format!(
        "{supersede}; \
         INSERT IGNORE INTO {SCHEMA}.fence (run, state, at) VALUES ({run}, 'fenced', NOW(6))",
        supersede = supersede(run)
    )
}

/// The line of the break-glass page that has events run again.
fn scheduled(scheduler: bool) -> &'static str {
    if scheduler { "\nSET GLOBAL event_scheduler=ON;" } else { "" }
}

/// Lifts every fence.
const LIFT_ALL: &str = "UPDATE saltext_migrate.fence SET state='lifted' WHERE state='fenced'";

/// Asks whether a run won its promotion, and no other fenced the server since.
fn still_won(run: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM {SCHEMA}.decision WHERE run={run} AND state='promote') \
         AND NOT EXISTS (SELECT 1 FROM {SCHEMA}.fence WHERE state='fenced')"
    )
}

/// Asks whether another run fences the source.
fn others(run: &str) -> String {
    format!("EXISTS (SELECT 1 FROM {SCHEMA}.fence WHERE run<>{run} AND state='fenced')")
}
