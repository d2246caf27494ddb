//! Who has an account, who reads the binlog, and what a database holds: for before and after the move.
//!
//! Invariant: what is dropped is named in full, user and host, as it was seen.

use super::Server;
use super::quote::text;
use crate::error::Result;
use crate::journal::Permit;
use std::collections::BTreeMap;

impl Server {
    /// Refuses writes from now on.
    pub async fn refuse_writes(&self, _permit: &Permit) -> Result<()> {
        self.session.packet(self.dialect().await?.words().close_by_hand).await.map(|_| ())
    }

    /// Lists the accounts of a user, as `user@host`.
    pub async fn accounts_of(&self, user: &str) -> Result<Vec<String>> {
        let sql = format!("SELECT CONCAT(User, '@', Host) AS account FROM mysql.user WHERE User = {}", text(user));
        let sets = self.session.packet(&sql).await?;
        sets.iter().flatten().map(|row| self.field(row, "account").map(str::to_owned)).collect()
    }

    /// Drops an account, named as `user@host`, here and on every replica; one that is gone is no error.
    pub async fn drop_account(&self, _permit: &Permit, account: &str) -> Result<()> {
        let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
        let sql = format!("SET SESSION sql_log_bin=1; DROP USER IF EXISTS {}@{}", text(user), text(host));
        let dropped = self.session.packet(&sql).await;
        // Whatever came of it, what this session does next is about this server alone again.
        self.session.packet("SET SESSION sql_log_bin=0").await?;
        dropped.map(|_| ())
    }

    /// Lists who reads the binlog now, as `user@host`.
    pub async fn binlog_readers(&self) -> Result<Vec<String>> {
        let sql = "SELECT CONCAT(USER, '@', LEFT(HOST, LENGTH(HOST) - LOCATE(':', REVERSE(HOST)))) AS reader \
                   FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
        let sets = self.session.packet(sql).await?;
        sets.iter().flatten().map(|row| self.field(row, "reader").map(str::to_owned)).collect()
    }

    /// Hashes the columns of every table of the site, by `database/table` as the engine names it.
    ///
    /// InnoDB's own tables are asked: those of the standard show only what the account may read.
    pub async fn definitions(&self) -> Result<BTreeMap<String, String>> {
        let (tables, columns) = self.dialect().await?.words().engine_tables;
        let sql = format!(
            "SELECT t.NAME AS name, MD5(GROUP_CONCAT(CONCAT_WS(',', c.NAME, c.MTYPE, c.PRTYPE, c.LEN) \
               ORDER BY c.POS, c.NAME SEPARATOR ';')) AS definition \
             FROM information_schema.{tables} AS t JOIN information_schema.{columns} AS c \
               ON c.TABLE_ID = t.TABLE_ID \
             WHERE t.NAME LIKE '%/%' AND t.NAME NOT LIKE '%/FTS\\_%' AND t.NAME NOT LIKE '%/#sql%' \
               AND SUBSTRING_INDEX(t.NAME, '/', 1) NOT IN ('mysql','sys','{}') GROUP BY t.NAME",
            super::SCHEMA
        );
        self.session.packet("SET SESSION group_concat_max_len=1048576").await?;
        let sets = self.session.packet(&sql).await?;
        sets.iter()
            .flatten()
            .map(|row| Ok((self.field(row, "name")?.to_owned(), self.field(row, "definition")?.to_owned())))
            .collect()
    }
}
