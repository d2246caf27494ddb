//! What a server itself holds that names hosts: accounts, definers, and the columns that the pillar names.
//!
//! Invariant: it reads only, and of the columns only the rows that hold any of the literals.

use super::quote::{name, text};
use super::server::Server;
use crate::error::Result;

/// How many rows of one column are read: more than that is a job for the application's own tools.
pub const ROWS: usize = 1_000;

impl Server {
    /// Reads every account's host and every definer.
    ///
    /// # Errors
    /// As [`super::Session::packet`].
    pub async fn literal_accounts(&self) -> Result<Vec<(String, String)>> {
        let sets = self
            .session
            .packet(
                "SELECT 'grants' AS place, CONCAT(User, '@', Host) AS holder FROM mysql.user \
                 UNION ALL SELECT CONCAT('grants/', Db), CONCAT(User, '@', Host) FROM mysql.db \
                 UNION ALL SELECT CONCAT('definers/', ROUTINE_SCHEMA, '.', ROUTINE_NAME), DEFINER FROM information_schema.ROUTINES \
                 UNION ALL SELECT CONCAT('definers/', TRIGGER_SCHEMA, '.', TRIGGER_NAME), DEFINER FROM information_schema.TRIGGERS \
                 UNION ALL SELECT CONCAT('definers/', EVENT_SCHEMA, '.', EVENT_NAME), DEFINER FROM information_schema.EVENTS \
                 UNION ALL SELECT CONCAT('definers/', TABLE_SCHEMA, '.', TABLE_NAME), DEFINER FROM information_schema.VIEWS",
            )
            .await?;
        sets.into_iter()
            .flatten()
            .map(|row| Ok((self.field(&row, "place")?.to_owned(), self.field(&row, "holder")?.to_owned())))
            .collect()
    }

    /// Reads the values of a column, named `database.table.column`, that hold any of some literals.
    ///
    /// # Errors
    /// As [`super::Session::packet`].
    pub async fn literal_values(&self, column: &str, literals: &[String]) -> Result<Vec<String>> {
        let parts: Vec<String> = column.split('.').map(name).collect();
        let [database, table, column] = parts.as_slice() else { return Ok(Vec::new()) };
        let any: Vec<String> =
            literals.iter().map(|literal| format!("INSTR({column}, {}) > 0", text(literal))).collect();
        let sql = format!(
            "SELECT CAST({column} AS CHAR) AS value FROM {database}.{table} WHERE {} LIMIT {ROWS}",
            any.join(" OR ")
        );
        let sets = self.session.packet(&sql).await?;
        sets.into_iter().flatten().map(|row| Ok(self.field(&row, "value")?.to_owned())).collect()
    }
}
