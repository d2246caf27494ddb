//! What checks ask a server, beyond its status; reads only.

use super::dialect::PRIVILEGED;
use super::quote::text;
use super::{SCHEMA, Server};
use crate::error::Result;
use crate::event;
use crate::journal::Permit;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Whose statements a server logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// It accepts writes, or is about to.
    Everybody,
    /// It is read-only: `FLUSH` is logged all the same, and whatever those write who may pass a fence.
    Privileged,
}

impl Server {
    /// Lists the accounts that could write past a fence, as `user@host`.
    pub async fn may_bypass_fence(&self) -> Result<Vec<String>> {
        let sets = self.session.packet(self.dialect().await?.words().bypassing).await?;
        let grantees =
            sets.iter().flatten().map(|row| self.field(row, "grantee").map(|grantee| grantee.replace('\'', "")));
        grantees.collect()
    }

    /// Lists procedures with which whoever may call them writes past a fence: their definer is one of these accounts.
    pub async fn bypassing_procedures(&self, accounts: &[String]) -> Result<Vec<String>> {
        let Some(sql) = self.dialect().await?.words().procedures else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for row in self.session.packet(sql).await?.iter().flatten() {
            let (name, definer) = (self.field(row, "name")?, self.field(row, "definer")?);
            if accounts.iter().any(|account| account == definer) {
                found.push(format!("{name} of {definer}"));
            }
        }
        Ok(found)
    }

    /// Lists what the migration's own account would need to be allowed everywhere, and is not.
    pub async fn not_allowed(&self) -> Result<Vec<&'static str>> {
        let needed = self.dialect().await?.words().needed;
        let sets = self.session.packet("SHOW GRANTS").await?;
        // One column, named after the account; roles that are on are in it.
        let everywhere: Vec<&str> = sets
            .iter()
            .flatten()
            .filter_map(|row| row.values().next()?.as_deref()?.strip_prefix("GRANT ")?.split_once(" ON *.* TO "))
            // MySQL leaves no room behind the commas between its newer rights.
            .flat_map(|(rights, _)| rights.split(',').map(str::trim))
            .collect();
        if everywhere.contains(&"ALL PRIVILEGES") {
            return Ok(Vec::new());
        }
        Ok(needed.iter().copied().filter(|right| !everywhere.contains(right)).collect())
    }

    /// Lists the prepared XA transactions: they survive the fence and hold their locks on the other side.
    pub async fn prepared_transactions(&self) -> Result<Vec<String>> {
        let sets = self.session.packet("XA RECOVER").await?;
        sets.iter().flatten().map(|row| self.field(row, "data").map(str::to_owned)).collect()
    }

    /// Lists statements and transactions that have run longer than some seconds, and would hold up a fence or be lost to it.
    pub async fn long_work(&self, seconds: u64) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT CONCAT('connection ', ID, ' of ', USER, ' (', COMMAND, ' for ', TIME, ' s)') AS work \
             FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Query','Execute') AND TIME >= {seconds} \
               AND USER <> 'system user' AND ID <> CONNECTION_ID() \
             UNION SELECT CONCAT('transaction of connection ', trx_mysql_thread_id, ' open since ', trx_started) \
             FROM information_schema.INNODB_TRX WHERE trx_started < NOW() - INTERVAL {seconds} SECOND \
               AND trx_mysql_thread_id <> CONNECTION_ID() AND trx_rows_modified > 0"
        );
        let sets = self.session.packet(&sql).await?;
        sets.iter().flatten().map(|row| self.field(row, "work").map(str::to_owned)).collect()
    }

    /// Lists the scheduled events that are enabled here.
    pub async fn events(&self) -> Result<Vec<String>> {
        let sql = "SELECT CONCAT(EVENT_SCHEMA, '.', EVENT_NAME) AS event FROM information_schema.EVENTS WHERE STATUS='ENABLED'";
        let sets = self.session.packet(sql).await?;
        sets.iter().flatten().map(|row| self.field(row, "event").map(str::to_owned)).collect()
    }

    /// Reads settings of the running server by name; one that it does not know is left out.
    pub async fn variables(&self, names: &[&str]) -> Result<BTreeMap<String, String>> {
        let list: Vec<String> = names.iter().map(|name| text(name)).collect();
        let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", list.join(", "));
        let sets = self.session.packet(&sql).await?;
        let pair = |row| Ok((self.field(row, "Variable_name")?.to_lowercase(), self.field(row, "Value")?.to_owned()));
        sets.iter().flatten().map(pair).collect()
    }

    /// Lists engines and ways to log in that are active, as `ARCHIVE (STORAGE ENGINE)`.
    pub async fn plugins(&self) -> Result<BTreeSet<String>> {
        let sql = "SELECT CONCAT(PLUGIN_NAME, ' (', PLUGIN_TYPE, ')') AS plugin FROM information_schema.PLUGINS \
                   WHERE PLUGIN_STATUS='ACTIVE' AND PLUGIN_TYPE IN ('STORAGE ENGINE','AUTHENTICATION')";
        let sets = self.session.packet(sql).await?;
        sets.iter().flatten().map(|row| self.field(row, "plugin").map(str::to_owned)).collect()
    }

    /// Lists the filters of the server's own binlog: what they leave out reaches nobody.
    pub async fn binlog_filters(&self) -> Result<Vec<String>> {
        let mut answer = Ok(Vec::new());
        for sql in self.dialect().await?.words().binlog_status {
            answer = self.session.packet(sql).await;
            if answer.is_ok() {
                break;
            }
        }
        let found = answer?.into_iter().flatten().flatten();
        let filters = found.filter(|(name, _)| matches!(name.as_str(), "Binlog_Do_DB" | "Binlog_Ignore_DB"));
        Ok(filters
            .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
            .map(|(name, value)| format!("{name}={value}"))
            .collect())
    }

    /// Tells how far the server's clock is ahead of the controller's, in seconds; half the way there is taken off.
    pub async fn clock_ahead(&self) -> Result<f64> {
        let sent = event::now();
        let row = self.session.row("SELECT UNIX_TIMESTAMP(SYSDATE(6)) AS now").await?;
        let answered = event::now();
        Ok(self.number::<f64>(&row, "now")? - f64::midpoint(sent, answered))
    }

    /// Counts the connections of each account that is connected now, replication and the tool's own left out.
    pub async fn connected(&self) -> Result<BTreeMap<String, u32>> {
        let ours = text(&self.settings.databases.accounts.admin.user);
        let sql = format!(
            "SELECT USER AS user, COUNT(*) AS connections FROM information_schema.PROCESSLIST \
             WHERE USER NOT IN ('system user', 'event_scheduler', {ours}) GROUP BY USER"
        );
        let sets = self.session.packet(&sql).await?;
        sets.iter()
            .flatten()
            .map(|row| Ok((self.field(row, "user")?.to_owned(), self.number(row, "connections")?)))
            .collect()
    }

    /// Lists the names of all accounts.
    pub async fn account_names(&self) -> Result<Vec<String>> {
        let sets = self.session.packet("SELECT DISTINCT User AS user FROM mysql.user WHERE User <> ''").await?;
        sets.iter().flatten().map(|row| self.field(row, "user").map(str::to_owned)).collect()
    }

    /// Returns the number of the newest connection.
    pub async fn last_connection(&self) -> Result<u64> {
        let row = self.session.row("SELECT MAX(ID) AS last FROM information_schema.PROCESSLIST").await?;
        self.number(&row, "last")
    }

    /// Counts the connections from some nodes, none newer than `last`, that run a statement, ran one within `quiet`, or
    /// hold a transaction that wrote something.
    pub async fn at_work(&self, nodes: &[IpAddr], last: u64, quiet: Duration) -> Result<u64> {
        let nodes: Vec<String> = nodes.iter().map(|node| text(&node.to_string())).collect();
        if nodes.is_empty() {
            return Ok(0);
        }
        let sql = self.dialect().await?.at_work(&nodes.join(", "), last, quiet);
        let row = self.session.row(&sql).await?;
        self.number(&row, "busy")
    }

    /// Lists the server ids of the replicas that read from here now.
    pub async fn replica_ids(&self) -> Result<Vec<u32>> {
        let words = self.dialect().await?.words();
        let sets = self.session.packet(words.replicas).await?;
        sets.iter().flatten().map(|row| self.number(row, words.columns.replica)).collect()
    }

    /// Tells whether the marker's table is there; that its account may write to it shows when the chain is timed.
    pub async fn has_marker_table(&self) -> Result<bool> {
        let sql = format!(
            "SELECT COUNT(*) AS tables FROM information_schema.TABLES WHERE TABLE_SCHEMA='{SCHEMA}' AND TABLE_NAME='marker'"
        );
        let row = self.session.row(&sql).await?;
        Ok(self.number::<u32>(&row, "tables")? == 1)
    }

    /// Starts or stops the event scheduler; `DISABLED` cannot be changed at run time and needs no change.
    pub async fn schedule_events(&self, _permit: &Permit, on: bool) -> Result<()> {
        let word = if on { "ON" } else { "OFF" };
        self.session.packet(&format!("SET GLOBAL event_scheduler={word}")).await.map(|_| ())
    }

    /// Sets the GTID domain of new sessions, and ends those that still have the other one and could write in it.
    pub async fn set_domain(&self, _permit: &Permit, domain: u32, writers: Writers) -> Result<()> {
        let sql = format!("BEGIN NOT ATOMIC {}; END", self.settle_in(domain, writers));
        self.session.packet(&sql).await.map(|_| ())
    }

    /// Writes the statements for that. In one packet, which the server ends though we die: whoever comes after us sees the
    /// domain, and not who began with another. A session that ended by itself in the meantime is as good.
    pub(super) fn settle_in(&self, domain: u32, writers: Writers) -> String {
        let ours = text(&self.settings.databases.accounts.admin.user);
        let replication = text(&self.settings.databases.accounts.replication.user);
        let which = match writers {
            Writers::Everybody => String::new(),
            Writers::Privileged => format!(" AND USER IN ({PRIVILEGED})"),
        };
        format!(
            "SET GLOBAL gtid_domain_id={domain}; \
             FOR one IN (SELECT ID AS id FROM information_schema.PROCESSLIST \
             WHERE USER NOT IN ('system user','event_scheduler',{ours},{replication}){which}) \
             DO BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; KILL one.id; END; END FOR"
        )
    }
}
